"""The desk: what is checked before a form waits, and that a song can be made again to the byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_audio import music
from fake_model import FakeModel

from songgen.audio import Audio, write_audio
from songgen.config import ui_config
from songgen.ui.desk import Desk
from songgen.ui.form import Form

if TYPE_CHECKING:
    from songgen.models.levo.model import LevoModel

LYRICS = "[verse] One line of words."


@pytest.fixture
def desk_of(tmp_path: Path) -> Iterator[Callable[..., Desk]]:
    """Makes desks and closes them."""
    desks: list[Desk] = []

    def make(model: Any, *settings: str) -> Desk:
        (tmp_path / "page").mkdir(exist_ok=True)
        config = ui_config(["model=x", f"output.dir={tmp_path / 'out'}", *settings])
        desks.append(Desk(model, config, tmp_path / "page"))
        return desks[-1]

    yield make
    for desk in desks:
        desk.close()


def made(desk: Desk, form: Form) -> str:
    """The name of a form's first song, made."""
    view = desk.queue.wait(desk.add(form).view.number, 120)
    assert view.state == "made", view.error
    return view.made[0]


def test_the_findings_are_those_of_songgen_check(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of(FakeModel())
    assert desk.findings(Form()) == []
    form = Form(lyrics="[verse] No period\n[Refrain] Oh.", descriptions="loud, female,pop", max_seconds="1")
    found = desk.findings(form)
    assert {"final-period", "over-max-seconds"} <= {finding.rule for finding in found}
    assert found[-1].field == "descriptions"
    mended = desk.mended(form)
    assert (mended.lyrics, mended.descriptions) == ("[verse] No period.\n[chorus] Oh.", "loud, female, pop")
    assert not [finding for finding in desk.findings(mended) if finding.safe]
    music_alone = desk.mended(replace(form, generate_type="bgm"))
    assert music_alone.lyrics == form.lyrics  # not read, not touched


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (Form(), "gt_lyric is empty: only with generate_type bgm"),
        (Form(lyrics=LYRICS, seed="x"), 'seed is "x": it must be a whole number'),
        (Form(lyrics=LYRICS, name="../up"), "holds a path separator: the song would leave the output folder"),
        (Form(lyrics=LYRICS, name=".up"), "begins with a dot"),
        (Form(lyrics=LYRICS, clip=Path("/etc/passwd")), "the clip is not an upload of this page"),
        (Form(lyrics=LYRICS, sampling="best"), "sampling=best: must be one of"),
        (Form(lyrics=LYRICS, takes=0), "num_samples is 0: it must be a whole number from 1"),
    ],
)
def test_a_bad_form_never_waits(desk_of: Callable[..., Desk], form: Form, message: str) -> None:
    desk = desk_of(FakeModel())
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        desk.add(form)
    assert desk.queue.views() == []


def test_a_clip_and_a_style_exclude_each_other(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of(FakeModel())
    clip = desk.uploads.folder / "a.wav"
    write_audio(clip, Audio(music(0.2), 48000))
    with pytest.raises(ValueError, match="are given together: keep one"):
        desk.add(Form(lyrics=LYRICS, clip=clip, style="Pop"))
    name = made(desk, Form(lyrics=LYRICS, clip=clip))
    form, notes = desk.again(name)
    assert notes == [] and form.clip is not None and form.clip.parent == desk.uploads.clips


def test_the_form_starts_with_the_settings(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of(FakeModel(), "output.format=flac", "output.bits=24", "stems=separator")
    assert desk.empty_form() == Form(format="flac", stems="separator")
    name = made(desk, replace(desk.empty_form(), lyrics=LYRICS))
    assert desk.song(name).stems["mixed"].name == "song.flac"
    assert desk.song(made(desk, Form(lyrics=LYRICS, format="ogg"))).stems["mixed"].name == "song-2.ogg"


def test_strict_lyrics_are_refused_as_on_the_command_line(desk_of: Callable[..., Desk]) -> None:
    desk = desk_of(FakeModel(), "lyrics=strict")
    view = desk.queue.wait(desk.add(Form(lyrics="[verse] No period")).view.number, 20)
    assert view.state == "failed" and "lyrics=strict refuses this text" in view.error


def test_only_the_built_in_models_are_noise(desk_of: Callable[..., Desk]) -> None:
    assert desk_of(FakeModel(name="tiny")).is_noise and desk_of(FakeModel(name="tiny-fast")).is_noise
    assert not desk_of(FakeModel(name="nano")).is_noise
    assert not desk_of(FakeModel()).is_noise


def test_a_song_that_is_not_there(desk_of: Callable[..., Desk]) -> None:
    with pytest.raises(ValueError, match=r"\.\./a: there is no such song"):
        desk_of(FakeModel()).again("../a")


def test_again_with_this_seed_is_the_same_audio(desk_of: Callable[..., Desk], tiny: LevoModel) -> None:
    """Of one of several takes too, with sampling of its own, and a text that was mended."""
    desk = desk_of(tiny)
    form = Form(
        lyrics="[verse] No period", descriptions="folk, my own, female", style="Pop", takes=2,
        generate_type="vocal", max_seconds="1", temperature="0.7", sampling="lowmem",
    )  # fmt: skip
    view = desk.queue.wait(desk.add(form).view.number, 120)
    assert (view.state, view.made) == ("made", ("song_s0", "song_s1"))
    first = desk.song("song_s1")
    same, notes = desk.again("song_s1")
    assert notes == [] and same.takes == 1
    second = desk.song(made(desk, same))
    assert second.name == "song-2" and second.record["seed"] == first.record["seed"]
    for stem, file in first.stems.items():
        assert second.stems[stem].read_bytes() == file.read_bytes()
    other = desk.song("song_s0")
    assert other.stems["vocal"].read_bytes() != first.stems["vocal"].read_bytes()
