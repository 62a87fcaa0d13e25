"""songgen's own section of a config.yaml: what is understood, what is refused, and how."""

from __future__ import annotations

from typing import Any

import pytest

from songgen.models.levo.own_keys import OwnKeys, own_keys
from songgen.runtime.sampling import Sampling


def test_a_published_config_has_none_of_it() -> None:
    assert own_keys({"lm": {}}) == own_keys({"songgen": None}) == OwnKeys()


def test_all_keys_are_read() -> None:
    section = {
        "estimator_heads": 4,
        "solver": {"steps": 1, "guidance": 1},
        "lyric_text": "phonemes",
        "sampling": {"top_k": 50, "temperature": 1},
        "separator": False,
        "languages": ["en"],
    }
    own = own_keys({"songgen": section})
    assert (own.estimator_heads, own.lyric_text, own.separator, own.languages) == (
        4,
        "phonemes",
        False,
        ("en",),
    )
    assert own.solver == {"steps": 1, "guidance": 1}
    assert own.sampling_over(Sampling(cfg_coef=3.0)) == Sampling(cfg_coef=3.0, top_k=50, temperature=1)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ([1], r"songgen is \[1\], and must be a table"),
        ({"lyrics_text": "phonemes"}, "songgen has no key 'lyrics_text'; did you mean lyric_text?"),
        ({"zebra": 1}, "songgen has no key 'zebra'; it knows estimator_heads, solver, lyric_text"),
        ({"estimator_heads": 0}, "songgen.estimator_heads is 0, and must be a whole number above 0"),
        ({"solver": 1}, "songgen.solver is 1, and must be a table such as"),
        ({"solver": {"step": 1}}, "songgen.solver has no key 'step'; did you mean steps?"),
        ({"solver": {"steps": 0}}, "songgen.solver.steps is 0, and must be a whole number above 0"),
        ({"solver": {"guidance": 0.5}}, "songgen.solver.guidance is 0.5, and must be a number from 1 on"),
        ({"solver": {"guidance": True}}, "songgen.solver.guidance is True, and must be a number from 1 on"),
        ({"lyric_text": "letters"}, "lyric_text is 'letters', and must be one of published, phonemes"),
        ({"fill_windows": 1}, "fill_windows is 1, and must be true or false"),
        ({"separator": "no"}, "separator is 'no', and must be true or false"),
        ({"languages": ["tlh"]}, r"languages is \['tlh'\], and must be a list of some of en"),
        ({"sampling": 3}, "sampling is 3, and must be a table"),
        ({"sampling": {"topk": 3}}, "songgen.sampling has no key 'topk'; did you mean top_k?"),
        ({"sampling": {"top_k": 0.5}}, "sampling.top_k is 0.5, and must be a whole number"),
        ({"sampling": {"temperature": "hot"}}, "sampling.temperature is 'hot', and must be a number"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(section: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        own_keys({"songgen": section})


def test_sampling_out_of_range_is_refused_by_name() -> None:
    own = own_keys({"songgen": {"sampling": {"top_p": 2.0}}})
    with pytest.raises(ValueError, match=r"songgen.sampling: .*top_p"):
        own.sampling_over(Sampling())
