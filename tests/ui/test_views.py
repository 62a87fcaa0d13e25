"""The parts of the page that are HTML of our own: what they say, and that they hold no one else's HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from songgen.linter import TextRules, lint_lyrics
from songgen.ui import views
from songgen.ui.history import PastSong
from songgen.ui.pace import Progress
from songgen.ui.queue import View

EVIL = "<script>alert('x')</script>\"'"


def view(**changes: Any) -> View:
    values = {
        "number": 3, "idx": "a", "num_songs": 1, "state": "waiting", "is_cancelled": False, "made": (),
        "error": "", "progress": None, **changes,
    }  # fmt: skip
    return View(**values)


def past(name: str = "a", **keys: Any) -> PastSong:
    record = {
        "lyrics": "[verse] Oh.", "seed": 7, "model": "tiny", "device": "cpu", "duration": 65.0,
        "finished": "2026-01-02T03:04:05.678Z", "stopped": "eos", "clipped": 2,
        "sampling": {"temperature": 0.8}, "seconds": {"compose": 1.25}, **keys,
    }  # fmt: skip
    return PastSong(name, record, {"mixed": Path(f"/o u/audio/{name}.wav")})


@pytest.mark.parametrize(
    "shown",
    [
        views.header(EVIL, Path(EVIL)),
        views.noise_notice(EVIL),
        views.message(EVIL, "bad"),
        views.queue([view(idx=EVIL, error=EVIL)]),
        views.history([past(EVIL, seed=EVIL)], None),
        views.details(past(EVIL, lyrics=EVIL, descriptions=EVIL, request={"auto_prompt_audio_type": EVIL})),
        views.findings(lint_lyrics(f"[verse] {EVIL}", TextRules()), is_empty=False),
    ],
)
def test_what_users_write_is_text(shown: str) -> None:
    assert "<script" not in shown and "('x')" not in shown and "\"'" not in shown


def test_findings_say_where_why_and_how() -> None:
    found = lint_lyrics("[verse] No period\n[refrain] Oh.", TextRules())
    shown = views.findings(found, is_empty=False)
    assert "1 [verse]" in shown and "the last sentence has no period" in shown
    assert "<code>[verse] No period.</code>" in shown
    assert "sg-warning" in shown
    assert "Nothing here will hurt the song." in views.findings([], is_empty=False)
    assert "Write some lyrics" in views.findings([], is_empty=True)


def test_the_queue_shows_stage_and_time_left() -> None:
    shown = views.queue([view(state="making", progress=Progress("compose", 0.43, 0.3, 125.0))])
    assert "composing 43%, about 2:05 min left" in shown and "width:30%" in shown
    assert 'data-act="cancel" data-of="3"' in shown
    shown = views.queue([view(state="making", progress=Progress("prepare", 0.0, 0.0, None))])
    assert "preparing" in shown and "left" not in shown
    shown = views.queue([view(state="making", is_cancelled=True)])
    assert "cancelling at the next step" in shown and "data-act" not in shown
    assert "Nothing is being made" in views.queue([])


def test_the_queue_puts_what_ended_last() -> None:
    entries = [
        view(idx="old", state="made"),
        view(idx="bad", state="failed", error="render: no"),
        view(idx="new"),
    ]
    shown = views.queue(entries)
    assert shown.index("<b>new") < shown.index("<b>bad") < shown.index("<b>old")
    assert "render: no" in shown and shown.count("data-act") == 1


def test_a_song_shows_its_settings_and_files() -> None:
    song = past(request={"prompt_audio_path": "/somewhere/secret/a.ogg"})
    shown = views.details(song)
    for words in ("[verse] Oh.", "tiny on cpu", "temperature 0.8", "the model ended it; 2 samples clipped"):
        assert words in shown
    assert "compose 1.25 s" in shown and "a clip, a.ogg" in shown and "secret" not in shown
    assert 'href="gradio_api/file=/o%20u/audio/a.wav" download="a.wav"' in shown
    listing = views.history([song], "a")
    assert "1:05 min, Song, seed 7, 2026-01-02 03:04 UTC" in listing and 'aria-current="true"' in listing
    assert "No songs in this folder yet" in views.history([], None)
    assert "and 10 older ones" in views.history([past(f"a{number}") for number in range(210)], None)
