"""The stages of training in their order, and running one of them for a while.

Each is resumable: a call does what is left of it, or what fits in the time, and says whether it is done.
The stages that are trained differ in a row of `TRAINED`; those that write data for others are functions.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from songgen.train.loop import CHECKPOINT, train
from songgen.train.recipe import Recipe

DONE, NOT_DONE = True, False


@dataclass(frozen=True)
class Run:
    """What a stage is given.

    Args:
        data: the folder of synthetic songs.
        work: the folder of checkpoints and of what stages write for others.
        out: where the finished model goes.
        recipe: the settings of all stages.
        device: where networks are trained.
        workers: processes that make songs.
        deadline: `time.monotonic()` at which to stop; None for no limit.
    """

    data: Path
    work: Path
    out: Path
    recipe: Recipe
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    workers: int = 1
    deadline: float | None = None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline, at least 0; None without one."""
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())


@dataclass(frozen=True)
class Trained:
    """A stage that trains a network.

    Args:
        module: the module with its settings and `make_stage`.
        settings: the name of its settings dataclass.
        section: of the recipe.
    """

    module: str
    settings: str
    section: str


TRAINED = {
    "vae": Trained("songgen.train.vae", "VaeSettings", "vae"),
    "tokens-mixed": Trained("songgen.train.tokens", "TokensSettings", "tokens-mixed"),
    "tokens-dual": Trained("songgen.train.tokens", "TokensSettings", "tokens-dual"),
    "flow": Trained("songgen.train.flow", "FlowSettings", "flow"),
    "lm": Trained("songgen.train.lm", "LmSettings", "lm"),
    "lm-dual": Trained("songgen.train.lm", "LmSettings", "lm-dual"),
    "recogniser": Trained("songgen.train.report.recogniser", "RecogniserSettings", "recogniser"),
}


def train_stage(name: str, run: Run) -> bool:
    """Train a stage as far as the time allows; returns whether all its steps are made."""
    entry = TRAINED[name]
    module = importlib.import_module(entry.module)
    settings = run.recipe.settings(entry.section, getattr(module, entry.settings))
    loop = run.recipe.loop(entry.section, max_seconds=run.seconds_left)
    folder = run.work / name
    if steps_made(folder) >= loop.steps:
        return DONE
    stage = module.make_stage(run.data, run.work, settings, loop)
    stage.to(run.device)
    train(stage, loop, folder)
    return steps_made(folder) >= loop.steps


def steps_made(folder: Path) -> int:
    """Steps of the checkpoint in a folder; -1 without one."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return -1
    return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["step"])


def _synth(run: Run) -> bool:
    from songgen.train.synth.dataset_writer import SynthSettings, synthesise

    settings = run.recipe.settings("synth", SynthSettings)
    return synthesise(run.data, settings, workers=run.workers, seconds=run.seconds_left)


def _latents(run: Run) -> bool:
    from songgen.train.vae import VaeSettings, write_latents

    return write_latents(
        run.data, run.work, run.recipe.settings("vae", VaeSettings), seconds=run.seconds_left
    )


def _codes(run: Run) -> bool:
    from songgen.train.tokens import TokensSettings, write_codes

    settings = run.recipe.settings("tokens-dual", TokensSettings)
    return write_codes(run.data, run.work, settings, seconds=run.seconds_left)


def _export(run: Run) -> bool:
    from songgen.train.export import export

    export(run.work, run.out, run.recipe, data=run.data)
    return DONE


def _report(run: Run) -> bool:
    from songgen.train.report.page import ReportSettings, make_report

    make_report(run.data, run.work, run.out, run.recipe.settings("report", ReportSettings))
    return DONE


WRITERS: Mapping[str, Callable[[Run], bool]] = {
    "synth": _synth,
    "latents": _latents,
    "codes": _codes,
    "export": _export,
    "report": _report,
}

STAGES: Mapping[str, str] = {
    "synth": "make songs: lyrics, composition, voice and band, with all that is true of them",
    "vae": "train the autoencoder: audio to latents and back",
    "tokens-mixed": "train the encoder that finds the mixed tokens",
    "tokens-dual": "train the encoder of the vocal and bgm tokens, and the codebook of the latter",
    "latents": "write the latents of all songs",
    "codes": "write the tokens of all songs, for flow and lm-dual",
    "flow": "train the network from tokens to latents",
    "lm": "train the language model on mixed tokens",
    "lm-dual": "train its second transformer on vocal and bgm tokens, the first one frozen",
    "recogniser": "train the phoneme recogniser that the report listens with",
    "export": "write the checkpoint in the published layout",
    "report": "measure it on held-out songs",
}
"""In the order in which one needs another."""


def run_stage(name: str, run: Run) -> bool:
    """Do what is left of a stage, or what fits in the time. Returns whether it is done."""
    return train_stage(name, run) if name in TRAINED else WRITERS[name](run)


def run_all(run: Run, on_stage: Callable[[str, bool], Any] = lambda name, is_done: None) -> bool:
    """All stages in order until one is not done in time. Returns whether all are done."""
    for name in STAGES:
        is_done = run_stage(name, run)
        on_stage(name, is_done)
        if not is_done or run.seconds_left == 0.0:
            return is_done and name == list(STAGES)[-1]
    return DONE
