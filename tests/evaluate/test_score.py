"""A song to its row: every measure, and a reason where there is none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fake_audio import music
from safetensors.torch import save_file

from songgen.audio import Audio, write_audio
from songgen.evaluate.measures import AUDIOBOX, MEASURES, NotMeasured
from songgen.evaluate.rows import Row
from songgen.evaluate.score import Tools, add_scores, score_song
from songgen.evaluate.songs import FinishedSong
from songgen.evaluate.transcripts import Given, Transcript
from songgen.requests import SongRequest

RATE = 48000


def letters(text: str, language: str) -> list[str]:
    """A pronunciation that spells."""
    return [c for c in text if c != " "]


TOOLS = Tools(letters)


@pytest.fixture
def song(tmp_path: Path) -> FinishedSong:
    """A song of 5 s with all that a record can hold."""
    write_audio(tmp_path / "a.wav", Audio(music(5.0), RATE))
    write_audio(tmp_path / "prompt.wav", Audio(music(2.0, 44100), 44100))
    loop = torch.tensor([[0] * 125, list(range(125)), [*range(75), *([1, 2, 3, 4, 5] * 10)]])
    save_file({"tokens": loop.to(torch.int32)}, tmp_path / "a.safetensors")
    request = SongRequest(
        "a",
        "[verse] ab cd.",
        "pop, the bpm is 90",
        max_seconds=10.0,
        prompt_audio_path=str(tmp_path / "prompt.wav"),
    )
    record = {
        "name": "a",
        "status": "ok",
        "model": "tiny",
        "stopped": "eos",
        "duration": 5.0,
        "frames": 125,
        "lm_score": {"conditional": -3.5, "null": -4.0, "difference": 0.5},
    }
    return FinishedSong("a", {"mixed": tmp_path / "a.wav"}, tmp_path / "a.safetensors", record, request)


def heard(text: str) -> Tools:
    return replace(TOOLS, listener=Given({"a": Transcript(text, "an ear")}, Path("heard.jsonl")))


def test_a_song_with_everything_has_every_measure_but_those_of_other_scorers(song: FinishedSong) -> None:
    row = score_song(song, heard("ab cx"))
    assert row.error is None
    assert set(MEASURES) - set(row.measures) == {
        n for n in MEASURES if n.startswith(("audiobox", "songeval"))
    }
    found = row.measures
    assert (found["duration_seconds"], found["duration_ratio"], found["ended"]) == (5.0, 0.5, 1.0)
    assert found["token_loop_fraction"] == 1.0 and found["token_loop_seconds"] == 5.0
    assert found["token_entropy_bits"] == pytest.approx((0 + np.log2(125) + 5.6) / 3, abs=0.3)
    assert found["prompt_similarity"] > 0.95 and found["per"] == 0.25
    assert (found["lm_score_conditional"], found["lm_score_difference"]) == (-3.5, 0.5)
    assert row.details["per"]["asr"] == "an ear" and row.details["per"]["stem"] == "mixed"
    assert row.details["asked_bpm"] == 90.0
    assert row.details["tokens"]["loops"][2] == {"covered": 50, "longest": 50, "period": 5}


def test_the_line_of_a_row_has_all_measures_in_order(song: FinishedSong) -> None:
    line = score_song(song, TOOLS).as_dict()
    assert list(line) == ["name", "model", "status", "stem", "measures", "missing", "details"]
    assert list(line["measures"]) == list(MEASURES) and line["measures"]["per"] is None
    assert line["missing"]["per"].startswith("no transcript: give transcripts=FILE, or asr.program=")


def missing(song: FinishedSong, name: str, tools: Tools = TOOLS) -> str:
    return score_song(song, tools).missing[name]


def without(song: FinishedSong, key: str) -> FinishedSong:
    return replace(song, record={name: value for name, value in song.record.items() if name != key})


def asked(song: FinishedSong, **keys: Any) -> FinishedSong:
    assert song.request is not None
    return replace(song, request=replace(song.request, **keys))


def test_what_is_not_known_is_a_reason(song: FinishedSong, tmp_path: Path) -> None:
    bare = replace(song, record={}, request=None, tokens=None)
    row = score_song(bare, TOOLS)
    assert row.missing["duration_ratio"] == "no length was asked for"
    assert row.missing["ended"] == "no record says how the song ended"
    assert row.missing["tempo_correct"] == "no tempo was asked for"
    assert row.missing["token_loop_seconds"] == "its tokens were not kept (output.tokens=true keeps them)"
    assert row.missing["prompt_similarity"] == "it has no prompt"
    assert row.missing["lm_score_null"] == "its record holds no lm_score"
    assert row.missing["per"].startswith("its lyrics are not known: requests=FILE names them")
    assert row.measures["loudness_lufs"] < 0
    drawn = asked(song, prompt_audio_path=None, auto_prompt_audio_type="Pop")
    assert missing(drawn, "prompt_similarity") == "its prompt is one of the model's library"
    torn = replace(song, record={**song.record, "lm_score": {"null": -1.0}})
    assert missing(torn, "lm_score_null") == (
        "its lm_score does not hold numbers for conditional, null, difference"
    )
    odd = replace(
        song, record={**song.record, "lm_score": dict.fromkeys(("conditional", "null", "difference"), np.inf)}
    )
    assert missing(odd, "lm_score_null") == "came out as inf"
    save_file({"other": torch.ones(1)}, tmp_path / "a.safetensors")
    assert "has no key `tokens`" in missing(song, "token_entropy_bits")


def test_the_asked_length_is_the_requests_or_the_runs(song: FinishedSong) -> None:
    run = replace(asked(song, max_seconds=None), record={**song.record, "max_seconds": 4.0})
    assert score_song(run, TOOLS).measures["duration_ratio"] == 1.25


def test_a_short_song_has_no_tempo_and_so_none_that_is_right(song: FinishedSong, tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", Audio(music(1.0), RATE))
    row = score_song(song, TOOLS)
    assert row.missing["tempo_bpm"] == row.missing["tempo_correct"] == "shorter than 4 s"


def test_a_prompt_is_looked_for_where_the_user_says(song: FinishedSong, tmp_path: Path) -> None:
    far = asked(song, prompt_audio_path="clips/prompt.wav")
    assert missing(far, "prompt_similarity") == (
        "its prompt clips/prompt.wav was not found: prompts=FOLDER says where prompts are"
    )
    row = score_song(far, replace(TOOLS, prompts=tmp_path))
    assert row.details["prompt"] == str(tmp_path / "prompt.wav")
    (tmp_path / "prompt.wav").write_text("no audio")
    assert "cannot be read as audio" in missing(song, "prompt_similarity")


def test_words_are_heard_in_the_vocal_stem_if_there_is_one(song: FinishedSong, tmp_path: Path) -> None:
    class Ear:
        def listen(self, name: str, audio: Path, language: str) -> Transcript:
            return Transcript("ab cd", f"{audio.name} {language}")

    both = replace(song, stems={**song.stems, "vocal": tmp_path / "a_vocal.wav"})
    found = score_song(both, replace(TOOLS, listener=Ear())).details["per"]
    assert (found["asr"], found["stem"], found["errors"]) == ("a_vocal.wav en", "vocal", 0)


def test_the_language_is_the_settings_else_the_requests_else_read_off(song: FinishedSong) -> None:
    tools = heard("ab cd")
    told = asked(song, source={"language": "zh-CN"})
    assert score_song(told, tools).details["per"]["language"] == "zh"
    assert score_song(told, replace(tools, language="en")).details["per"]["language"] == "en"
    spanish = asked(song, source={"language": "es"})
    assert missing(spanish, "per", tools).startswith("the lyrics are in 'es'")
    assert missing(spanish, "per", replace(tools, listener=Given({}, Path("h")))).startswith(
        "the lyrics are in"
    )
    assert missing(song, "per", replace(tools, listener=Given({}, Path("h")))) == "h holds no transcript of a"


def test_songs_without_words_have_no_error_rate(song: FinishedSong) -> None:
    assert missing(asked(song, lyrics="[intro-short]"), "per", heard("x")) == "it has no words to sing"
    alone = replace(song, stems={"bgm": song.stems["mixed"]})
    assert missing(alone, "per", heard("x")) == "it has no words to sing"


@pytest.mark.parametrize("content", [b"RIFF no audio", b""])
def test_a_broken_file_is_a_failed_row(song: FinishedSong, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    line = score_song(song, TOOLS).as_dict()
    assert line["status"] == "failed" and "a.wav: cannot be read as audio" in line["error"]
    assert "measures" not in line


def test_other_songs_that_cannot_be_scored(song: FinishedSong, tmp_path: Path) -> None:
    (tmp_path / "a.wav").unlink()
    assert str(score_song(song, TOOLS).error).endswith("a.wav: no such file")
    assert score_song(replace(song, stems={}), TOOLS).error == "its record names no audio"
    failed = replace(song, record={"status": "failed", "stage": "compose", "error": "too long"})
    assert score_song(failed, TOOLS).error == "was not made: compose: too long"
    samples = music(1.0)
    samples[0, 5] = np.nan
    import soundfile

    soundfile.write(tmp_path / "a.wav", samples.T, RATE, subtype="FLOAT")
    assert str(score_song(song, TOOLS).error).endswith("holds samples that are not finite (NaN or infinity)")


class Judge:
    """A scorer that knows one song."""

    name, measures = "Judge", AUDIOBOX

    def score(self, paths: list[Path]) -> list[dict[str, float] | str]:
        if not paths[0].exists():
            raise NotMeasured("Judge is out")
        return [dict.fromkeys(AUDIOBOX, 5.0) if path.stem == "a" else "too odd" for path in paths]


def test_a_scorer_fills_the_rows_of_songs_that_could_be_read(song: FinishedSong, tmp_path: Path) -> None:
    other = replace(song, name="b", stems={"mixed": tmp_path / "b.wav"})
    rows = [Row("x", "-", error="broken"), Row("a", "-"), Row("b", "-")]
    assert add_scores(rows, [song, song, other], Judge()) is None
    assert rows[0].measures == {} and rows[1].measures == dict.fromkeys(AUDIOBOX, 5.0)
    assert rows[2].missing == dict.fromkeys(AUDIOBOX, "too odd")
    assert add_scores(rows[:1], [song], Judge()) == "there was no song to score"
    song.stems["mixed"].unlink()
    rows = [Row("a", "-")]
    assert add_scores(rows, [song], Judge()) == "Judge is out"
    assert rows[0].missing == dict.fromkeys(AUDIOBOX, "Judge is out")
