"""The report's page: what it says of numbers, and a whole report of a random model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from songgen.audio import Audio, write_audio
from songgen.english import PHONEMES
from songgen.models.levo.tiny import ensure_tiny
from songgen.train.curves import LossLog
from songgen.train.loop import CHECKPOINT
from songgen.train.report.facts import training_facts
from songgen.train.report.listener import Listener, ListenerConfig
from songgen.train.report.markdown import page_of, shown, verdicts, with_interval
from songgen.train.report.measured import Aim
from songgen.train.report.page import ReportSettings, make_report
from songgen.train.report.pitch import Scale
from songgen.train.report.plots import Shown, draw_curves, draw_pitch, draw_songs
from songgen.train.report.resynthesis import load_codec_halves
from songgen.train.truth import Key, SongTruth, Span

WORDS = "[verse] Hello world. Stay."


def row(measure: str, source: str, value: float, low: float | None = None, high: float | None = None) -> dict:
    return {"measure": measure, "source": source, "value": value, "low": low, "high": high, "songs": 9}


def report(**changes: object) -> dict:
    facts = {
        "model": {"name": "nano", "files": [{"file": "model.pt", "bytes": 5_000_000, "numbers": 4_200_000}],
                  "bytes": 5_000_000},
        "data": {"train": {"songs": 100, "hours": 2.0}, "held_out": {"songs": 3, "hours": 0.05}},
        "training": [{"stage": "lm", "steps": 7, "seconds": 600, "loss": 1.5, "held_out": {"loss": 1.75}}],
        "settings": {"num_resynthesised": 3, "takes": 1},
        "measured": {"songs": 9, "longest_seconds": 23.5}, "pace": None, "failures": [], "songs": [],
        "summary": [
            row("per", "true", 0.05, 0.04, 0.06),
            row("per", "generated", 0.41, 0.3, 0.5),
            row("in_scale", "generated", 0.93, 0.9, 0.95),
            row("mel_vocal", "vae", 3.14),
        ],
    }  # fmt: skip
    return facts | changes


def test_the_page_says_what_was_reached_and_what_was_missed() -> None:
    page = page_of(report())
    lines = [line for line in page.splitlines() if "reached" in line or "missed" in line]
    per = {line.split("|")[2].strip(): line for line in lines if "phoneme error rate" in line}
    assert per["true stems"].endswith("| at most 10.0 % | 5.0 % (4.0 to 6.0) | 9 | reached |")
    assert per["generated"].endswith("| at most 35.0 % | 41.0 % (30.0 to 50.0) | 9 | **missed** |")
    (scale,) = (line for line in lines if "best-fitting scale" in line)
    assert scale.endswith("| at least 90 % | 93 % (90 to 95) | 9 | reached |")
    failed = page.split("## What failed")[1].split("##")[0]
    assert "41.0 %" in failed and "at most 35.0 %" in failed and "93 %" not in failed


def test_the_page_has_sizes_data_and_training() -> None:
    page = page_of(
        report(pace={"songs": 4, "song_seconds": 100.0, "wall_seconds": 50.0, "threads": 1, "batch": 4})
    )
    assert "| `model.pt` | 5.00 | 4.20 M |" in page
    assert "100 songs (2.0 hours)" in page
    assert "| lm | 7 | 10 | 1.5 | loss 1.75 |" in page
    assert "0.50 s a second of song" in page
    assert "9 held-out songs of at most 24 s, 1 take(s) of each; 3 of them went" in page
    assert "| mel distance of the vocal | 3.1 dB, n 9 |" in page


def test_a_page_of_nothing_says_so() -> None:
    page = page_of(
        report(model=None, training=[], summary=[], failures=["words could not be measured: no file"])
    )
    assert page.count("**not measured**") == 3
    assert "* words could not be measured: no file" in page
    assert "No pictures were drawn." in page
    done = report(summary=[row("per", "true", 0.05)])
    assert "No aim that was measured was missed." in page_of(done)


def test_values_are_shown_in_their_units() -> None:
    assert shown("per", 0.1234) == "12.3 %"
    assert shown("mel_mixed", 5.04) == "5.0 dB"
    assert shown("beat", 0.5) == "0.50"
    assert with_interval(row("pitch_cents", "true", 4.2)) == "4 cents"
    assert [is_reached for *_, is_reached in verdicts(report()["summary"])] == [True, False, True]
    assert Aim(0.5, True).is_reached(0.5) and Aim(0.5, False).is_reached(0.5)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="num_songs is 0; it must be at least 1"):
        ReportSettings(num_songs=0)


def write_song(folder: Path, number: int) -> None:
    """Two seconds of a tone that says two words, over a lower one."""
    times = np.arange(2 * 48000) / 48000
    vocal, band = (0.1 * np.sin(2 * np.pi * hertz * times) for hertz in (440.0, 110.0))
    path = folder / "songs" / f"{number:06}.flac"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, Audio(np.stack([vocal, vocal, band, band]).astype(np.float32), 48000), "flac")
    phonemes = tuple(
        Span(symbol, 0.2 * place, 0.2 * place + 0.2) for place, symbol in enumerate(PHONEMES[:5])
    )
    truth = SongTruth(
        seed=number, num_frames=50, lyrics=WORDS, descriptions="female, pop, the bpm is 120", voice="female",
        genre="pop", mood="happy", bpm=120, key=Key(9, "major"), sections=(Span("verse", 0.0, 2.0),),
        words=(Span("hello", 0.0, 0.5), Span("world", 0.5, 1.0)), phonemes=phonemes, notes=(), chords=(),
        beats=(0.0, 0.5), drums=(), f0_hz=(440.0,) * 50,
    )  # fmt: skip
    path.with_suffix(".json").write_text(truth.to_json())


def write_recogniser(work: Path) -> None:
    folder = work / "recogniser"
    folder.mkdir(parents=True)
    network = Listener(ListenerConfig(dim=8, num_blocks=1, taps=3, widening=2))
    torch.save({"module": network.state_dict(), "ema": {}, "step": 3}, folder / CHECKPOINT)
    log = LossLog(folder)
    log.write(2, 60.0, {"loss": 2.0})
    log.write(3, 90.0, {"loss": 1.0})
    log.write(3, 90.0, {"held_out/per": 0.5})


def test_a_whole_report_of_a_random_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("songgen.train.report.generation.LONGEST_MORE", 0.0)
    for number in (0, 1):
        write_song(tmp_path / "data", number)
    work = tmp_path / "work"
    write_recogniser(work)
    settings = ReportSettings(num_songs=1, num_resynthesised=1, batch=1, page=str(tmp_path / "docs/NANO.md"))
    path = make_report(tmp_path / "data", work, ensure_tiny(), settings)
    found = json.loads(path.read_text())
    assert found["failures"] == []
    measured = {(row["measure"], row["source"]) for row in found["summary"]}
    assert {("per", source) for source in ("true", "vae", "resynthesised", "generated")} <= measured
    assert {("mel_bgm", "resynthesised"), ("band_in_vocal", "vae"), ("ended", "generated")} <= measured
    assert found["pace"]["songs"] == 1 and found["data"]["train"]["songs"] == 1
    for page in (tmp_path / "docs/NANO.md", work / "report/NANO.md"):
        text = page.read_text()
        for name in found["pictures"]:
            assert f"]({name})" in text
            picture = page.parent / name
            assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 150_000


def test_what_is_missing_is_said_and_the_rest_measured(tmp_path: Path) -> None:
    write_song(tmp_path / "data", 40)
    found = json.loads(
        make_report(
            tmp_path / "data", tmp_path / "work", tmp_path / "none", ReportSettings(longest_seconds=1.5)
        ).read_text()
    )
    assert found["failures"] == [
        "words could not be measured: WORK/recogniser/checkpoint.pt: no such file; train it first "
        "(songgen train recogniser)",
        "only the true stems were measured, the model cannot be loaded: MODEL/config.yaml: no such file",
    ]
    assert {row["source"] for row in found["summary"]} == {"true"}
    assert found["measured"] == {"songs": 1, "longest_seconds": 2.0}
    assert found["model"] is None and found["training"] == []
    write_song(tmp_path / "all_trained", 1)
    with pytest.raises(ValueError, match=r"all_trained: no song is held out"):
        make_report(tmp_path / "all_trained", tmp_path / "work", tmp_path / "none", ReportSettings())
    with pytest.raises(FileNotFoundError):
        make_report(tmp_path / "no_data", tmp_path / "work", tmp_path / "none", ReportSettings())


def test_a_codec_without_a_mixed_tokenizer_is_refused(tmp_path: Path) -> None:
    text = (ensure_tiny() / "config.yaml").read_text().replace("audio_tokenizer_checkpoint:", "unused_name:")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ValueError, match="names no audio_tokenizer_checkpoint"):
        load_codec_halves(tmp_path, tmp_path)


def test_stages_without_logs_draw_nothing(tmp_path: Path) -> None:
    assert training_facts(tmp_path) == []
    assert not draw_curves(tmp_path, tmp_path / "losses.png")
    assert not (tmp_path / "losses.png").exists()


def test_pictures_are_small_even_of_noise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    noise = Audio(0.1 * rng.standard_normal((2, 10 * 48000)).astype(np.float32), 48000)
    words = [(0.1 * place, "word") for place in range(200)]
    draw_songs([Shown("noise", {"vocal": noise, "bgm": noise}, words)], tmp_path / "songs.png")
    draw_pitch([("a", np.full(90, 60.0), Scale(0, "major")), ("b", np.zeros(9), Scale(0, "minor"))],
               tmp_path / "pitch.png")  # fmt: skip
    for name in ("songs.png", "pitch.png"):
        assert 500 < (tmp_path / name).stat().st_size < 150_000
