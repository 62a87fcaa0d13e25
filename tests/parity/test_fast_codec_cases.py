"""The recorded cases of v2-fast's codec, and what they must notice."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from parity_cases import RUNNERS, Case, fast_codec
from parity_cases.codec import check_all, decode_case, load_codec, load_vae
from parity_cases.encode import build_tokenizer

from songgen.models.levo.encode import MIXED_TRACKS
from songgen.models.levo.prompt import Prompt, codec_prompt


@pytest.fixture(scope="module")
def case(parity_root: Path) -> Case:
    return Case(parity_root / "levo_fast/code2sound_1rvq_prompt")


@pytest.mark.parametrize(
    ("name", "count"), [("code2sound_1rvq", 11), ("code2sound_1rvq_prompt", 26)], ids=["plain", "prompt"]
)
def test_recorded_case_of_the_single_track_codec(parity_root: Path, name: str, count: int) -> None:
    case = Case(parity_root / "levo_fast" / name)
    with torch.inference_mode():
        checks = list(RUNNERS[case.kind](case))
    assert len(checks) == count
    assert not [check.line() for check in checks if not check.ok]


def test_every_recorded_tensor_is_compared(parity_root: Path) -> None:
    """A tensor under a name that no runner knows must fail, not pass unseen."""
    case = Case(parity_root / "levo_fast/code2sound_1rvq")
    case.meta["sub"] = {"short": case.subs["short"]}
    case.expected["short.step3.colour"] = torch.zeros(3)
    with torch.inference_mode():
        checks = list(fast_codec.run_single_track(case))
    assert [check.name for check in checks if not check.ok] == ["short.step3.colour"]


def test_the_published_codes_of_a_mono_prompt_are_not_ours(case: Case) -> None:
    """The note says which recorded codes come from a wrong path, and how many differ."""
    tokenizer = build_tokenizer(case.tensors("weights"), MIXED_TRACKS, case.folder)
    name = "lm_prompt.pmono7"
    with torch.inference_mode():
        codes, differing = fast_codec.check_language_model_codes(case, name, case.subs[name], tokenizer)
    assert codes.ok and differing.ok
    assert differing.note.startswith("148 of songgen's codes differ, as recorded")


@pytest.mark.parametrize(("sub", "limit"), [("p10", 2e-5), ("short", 2e-5)])
def test_chunked_decoding_is_the_recorded_whole_one(case: Case, sub: str, limit: float) -> None:
    """generate.py decodes windows whole, songgen in chunks: at the published strides the same audio."""
    inputs, expected = case.inputs, case.expected_of(sub)
    with torch.inference_mode():
        codec, vae = (
            load_codec(case, case.tensors("weights")),
            load_vae(case, "vae_config.json", case.tensors("vae_weights")),
        )
        mixed = build_tokenizer(case.tensors("weights"), MIXED_TRACKS, case.folder)
        prompt = fast_codec.prompt_of_case(case, case.subs[sub], mixed)
        assert isinstance(prompt, Prompt)
        start = codec_prompt(prompt, "mixed", vae=vae, noise_ZT=inputs[f"{sub}.vae_noise"][0])
        chunked = Case(case.folder)
        chunked.meta["chunked"] = True
        got = decode_case(codec, vae, chunked, sub, codes_KT=inputs[f"{sub}.tokens"][0], prompt=start)
    (check,) = check_all(sub, got, {"wav": expected["wav"]}, limit)
    assert check.ok, check.line()
