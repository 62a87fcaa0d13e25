"""The form: the same request as a line of JSON Lines; the form that makes a recorded song again."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from fake_model import FakeModel

from songgen.requests import SongRequest, parse_request, read_requests
from songgen.runtime.sampling import Sampling, changed_sampling
from songgen.ui.form import (
    Form,
    editor_text,
    form_of,
    lyric_string,
    request_of,
    sampling_of,
    section_insert,
)

LYRICS = "[verse] Hello there. ; [chorus] Oh."
FULL = Form(
    lyrics="[verse] Hello there.\n[chorus] Oh.",
    descriptions="female, folk",
    style="Pop",
    generate_type="separate",
    stems="separator",
    takes=2,
    seed="9007199254740993",
    max_seconds="12",
    temperature="0.5",
    top_k=" 7",
    top_p=".25",
    cfg_coef="2.0",
)
LINE = {
    "idx": "a", "gt_lyric": LYRICS, "descriptions": "female, folk", "generate_type": "separate",
    "stems": "separator", "seed": 9007199254740993, "num_samples": 2, "max_seconds": 12,
    "auto_prompt_audio_type": "Pop", "temperature": 0.5, "top_k": 7, "top_p": 0.25, "cfg_coef": 2,
}  # fmt: skip


def plain(request: SongRequest) -> dict[str, Any]:
    return {
        item.name: getattr(request, item.name)
        for item in fields(SongRequest)
        if item.name not in ("source", "line")
    }


def test_a_form_is_the_request_of_the_same_line(tmp_path: Path) -> None:
    """Every key; a seed past 2**53, which a browser's numbers cannot hold, arrives whole."""
    file = tmp_path / "in.jsonl"
    file.write_text(json.dumps(LINE) + "\n")
    made = request_of(FULL, idx="a", seed=5)
    assert plain(made) == plain(read_requests(file).requests[0])
    assert dict(made.source) == LINE


def test_what_is_left_open_is_left_out() -> None:
    made = request_of(Form(lyrics=LYRICS), idx="a", seed=5)
    assert dict(made.source) == {
        "idx": "a", "gt_lyric": LYRICS, "generate_type": "mixed", "stems": "model", "seed": 5,
        "num_samples": 1,
    }  # fmt: skip


def test_a_clip_is_the_prompt() -> None:
    made = request_of(Form(lyrics=LYRICS, clip=Path("/x/a.wav")), idx="a", seed=5)
    assert made.prompt_audio_path == "/x/a.wav"


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"seed": "abc"}, {"seed": "abc"}),
        ({"seed": "-1"}, {"seed": -1}),
        ({"lyrics": " "}, {"gt_lyric": ""}),
        ({"takes": 0}, {"num_samples": 0}),
        ({"temperature": "-1"}, {"temperature": -1}),
        ({"top_k": "1.5"}, {"top_k": 1.5}),
        ({"top_p": "a lot"}, {"top_p": "a lot"}),
        ({"max_seconds": "0"}, {"max_seconds": 0}),
        ({"cfg_coef": "nan"}, {"cfg_coef": "nan"}),
        ({"clip": Path("/x/a.wav")}, {"prompt_audio_path": "/x/a.wav"}),
    ],
)
def test_a_bad_form_is_refused_in_the_words_of_a_bad_line(
    change: dict[str, Any], line: dict[str, Any]
) -> None:
    with pytest.raises(ValueError) as of_line:
        parse_request({**LINE, **line})
    with pytest.raises(ValueError) as of_form:
        request_of(replace(FULL, **change), idx="a", seed=5)
    assert str(of_form.value) == str(of_line.value)


@pytest.mark.parametrize(
    ("text", "lyrics"),
    [
        (FULL.lyrics, LYRICS),
        (LYRICS, LYRICS),
        ("[verse]\nHello there.\n\n[chorus]\r\nOh.\n", LYRICS),
        ("[verse] Hello there. ;\n[chorus] Oh.", LYRICS),
        ("[intro-short]\n[verse]\nA\nB", "[intro-short] ; [verse] A\nB"),
        ("", ""),
    ],
)
def test_the_editor_holds_a_section_a_line(text: str, lyrics: str) -> None:
    assert lyric_string(text) == lyrics
    assert lyric_string(editor_text(lyrics)) == lyrics


def test_section_buttons_leave_room_for_words() -> None:
    assert (section_insert("verse"), section_insert("intro-short")) == ("[verse] ", "[intro-short]")


def record(**keys: Any) -> dict[str, Any]:
    return {
        "idx": "a", "name": "a", "status": "ok", "identity": "f" * 64, "model": "fake", "request": {},
        "lyrics": LYRICS, "descriptions": "female", "generate_type": "bgm", "seed": 12,
        "max_seconds": 30.0, "paths": {"plot": "plots/a.png", "bgm": "audio/a_bgm.flac"},
        "sampling": vars(Sampling()), **keys,
    }  # fmt: skip


def test_a_record_is_the_form_that_makes_it_again() -> None:
    form, notes = form_of(record(request={"auto_prompt_audio_type": "Pop"}), FakeModel(), lambda path: None)
    assert notes == []
    assert form == Form(
        name="a", lyrics="[verse] Hello there.\n[chorus] Oh.", descriptions="female", style="Pop",
        generate_type="bgm", seed="12", max_seconds="30", format="flac",
    )  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"temperature": 0.5, "top_k": 9}, {"temperature": 0.9, "top_k": 50}])
def test_the_sampling_of_a_record_is_found_again(changes: dict[str, Any]) -> None:
    model = FakeModel()
    wanted = changed_sampling(model.sampling, changes)
    form, notes = form_of(record(sampling=vars(wanted)), model, lambda path: None)
    made = request_of(replace(form, generate_type="mixed"), idx="a", seed=1)
    own = {name: getattr(made, name) for name in ("temperature", "top_k", "top_p", "cfg_coef")}
    assert notes == []
    given = {name: value for name, value in own.items() if value is not None}
    assert replace(sampling_of(form, model), **given) == wanted


def test_what_cannot_be_made_again_is_said() -> None:
    sampling = vars(changed_sampling(Sampling(), {"penalty": 1.3}))
    odd = record(identity="0", model="other", sampling=sampling, request={"prompt_audio_path": "/x/a.wav"})
    form, notes = form_of(odd, FakeModel(), lambda path: None)
    assert form.clip is None
    assert notes == [
        "it was made by other, this page runs fake: another song",
        "its clip a.wav is no longer here: upload it again",
        "it was made with sampling.penalty=1.3, which this page cannot set",
    ]
    kept, notes = form_of(
        record(request={"prompt_audio_path": "/x/a.wav"}), FakeModel(), lambda path: Path(path)
    )
    assert (kept.clip, notes) == (Path("/x/a.wav"), [])
