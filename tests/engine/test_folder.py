"""A run into a folder, and one that is stopped: the model makes the next song as if nothing had been."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fake_model import FakeModel

from songgen.engine.folder import Stopped, make_songs
from songgen.engine.journal import Journal
from songgen.engine.run import Run
from songgen.engine.settings import Output, Settings
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

if TYPE_CHECKING:
    from songgen.models.levo.model import LevoModel

LYRICS = "[verse] One line of words."


def make(
    model: Any, folder: Path, *names: str, stop_at: tuple[str, str] | None = None, **options: Any
) -> None:
    def report(stage: str, name: str, fraction: float) -> None:
        if (stage, name) == stop_at:
            raise Stopped

    settings = Settings(sampling=Sampling(), seed=7, memory=model.memory, **options)
    requests = [SongRequest(idx=name, lyrics=LYRICS, seed=3, generate_type="separate") for name in names]
    with Journal(Output(folder), "in") as journal:
        run = Run(model, settings, report=report, is_done=lambda plan: journal.is_done(plan, model))
        for _ in make_songs(run, requests, journal):
            pass


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "audio").glob("*")}


@pytest.mark.parametrize("stage", ["compose", "render"])
@pytest.mark.parametrize("memory", ["full", "low"])
def test_a_stopped_run_keeps_what_was_finished_and_frees_the_model(
    tmp_path: Path, stage: str, memory: Any
) -> None:
    """A run that ends by itself leaves the prompt's networks unloaded, and in low memory every stage."""
    model = FakeModel(memory=memory)
    with pytest.raises(Stopped):
        make(model, tmp_path, "a", "b", "c", stop_at=(stage, "b"))
    released = ["condition"] if memory == "full" else ["condition", "compose", "render"]
    assert model.names("release")[-len(released) :] == released
    made = {name.partition("_")[0].removesuffix(".wav") for name in files(tmp_path)}
    # in low memory a whole group is composed before any of it is rendered
    assert made == (set() if (memory, stage) == ("low", "compose") else {"a"})
    make(model, tmp_path, "a", "b", "c")
    assert len(files(tmp_path)) == 9


@pytest.mark.parametrize("stage", ["compose", "render"])
def test_the_song_after_a_stopped_one_is_the_same_to_the_byte(
    tmp_path: Path, tiny: LevoModel, stage: str
) -> None:
    make(tiny, tmp_path / "fresh", "a", max_seconds=2.0)
    with pytest.raises(Stopped):
        make(tiny, tmp_path / "after", "b", stop_at=(stage, "b"), max_seconds=3.0)
    assert files(tmp_path / "after") == {}
    make(tiny, tmp_path / "after", "a", max_seconds=2.0)
    assert files(tmp_path / "after") == files(tmp_path / "fresh")
