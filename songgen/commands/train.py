"""`songgen train`: makes a small model that sings, from nothing, stage by stage.

songgen train STAGE [recipe=nano-cpu] [data=DIR] [work=DIR] [out=DIR] [max_seconds=N] [stage.key=value ...]

STAGE is one of those that --help lists, or `all`. A stage goes on where it was broken off.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from songgen.config_keys import ConfigError, did_you_mean
from songgen.config_tree import choices_of, train_tree
from songgen.train.recipe import Recipe, typed, with_overrides

ALL_DONE, TIME_IS_UP = 0, 1
EXIT_STATUS = "exit status: 0 done, 1 time is up (the same command goes on), 2 nothing could start"


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `songgen train` beside the recipe.

    Args:
        data, work, out: folders of the songs, of checkpoints and what stages hand on, and of the model.
        device: auto, cpu, mps, cuda or cuda:N.
        threads: CPU threads of a stage that trains.
        workers: processes that make songs.
        max_seconds: stop after about so long; None for no limit.
        verbose: log more.
    """

    data: Path
    work: Path
    out: Path
    device: str
    threads: int
    workers: int
    max_seconds: float | None
    verbose: bool


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns 0 if the stage is done, 1 if there was no time for all of it.

    Raises:
        ValueError, OSError: nothing could start.
    """
    from songgen.train.stages import STAGES, run_all, run_stage

    arguments = _parser(STAGES).parse_args(list(argv))
    config, recipe = read_settings(arguments.settings)
    logging.getLogger("songgen").setLevel(logging.DEBUG if config.verbose else logging.INFO)
    run = _make_run(config, recipe)
    if arguments.stage == "all":
        is_done = run_all(run, _say)
    else:
        is_done = run_stage(arguments.stage, run)
        _say(arguments.stage, is_done)
    return ALL_DONE if is_done else TIME_IS_UP


def _say(name: str, is_done: bool) -> None:
    print(f"{name}: done" if is_done else f"{name}: time is up; the same command goes on", flush=True)


def _make_run(config: TrainConfig, recipe: Recipe) -> Any:
    import torch

    from songgen.runtime.device import choose_device
    from songgen.train.stages import Run

    torch.set_num_threads(config.threads)
    deadline = None if config.max_seconds is None else time.monotonic() + config.max_seconds
    return Run(
        data=config.data,
        work=config.work,
        out=config.out,
        recipe=recipe,
        device=choose_device(config.device),
        workers=config.workers,
        deadline=deadline,
    )


def read_settings(words: Sequence[str]) -> tuple[TrainConfig, Recipe]:
    """The settings that some `key=value` words give, over those of the files.

    Raises:
        ConfigError: a word that is no setting, or a value that is not allowed.
    """
    given: dict[str, Any] = {}
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or key.startswith("-"):
            raise ConfigError(f"{word}: settings are written key=value")
        given[key.strip()] = _plain(value)
    name = str(given.pop("recipe", "nano-cpu"))
    if name not in choices_of("recipe"):
        allowed = choices_of("recipe")
        near = did_you_mean(name, allowed)
        raise ConfigError(f"recipe={name}: must be one of {', '.join(allowed)}{near}")
    tree = train_tree(name)
    sections = tree.pop("recipe")
    own = {key: given.pop(key) for key in list(given) if key in tree}
    known = [field.name for field in fields(TrainConfig)]
    for key in given:
        if "." not in key and key not in sections:
            near = did_you_mean(key, [*known, *sections])
            raise ConfigError(f"{key} is not a setting of `songgen train`{near}")
    config = typed("train", TrainConfig, {**tree, **own})
    return config, Recipe(with_overrides(sections, given))


def _plain(value: str) -> Any:
    """A value as YAML reads it, but 1e-3 is a number."""
    try:
        return float(value) if "e" in value.lower() else yaml.safe_load(value)
    except (ValueError, yaml.YAMLError):
        return value


def _parser(stages: Mapping[str, str]) -> argparse.ArgumentParser:
    width = max(map(len, stages))
    lines = "\n".join(f"  {name.ljust(width)}  {doc}" for name, doc in stages.items())
    parser = argparse.ArgumentParser(
        prog="songgen train",
        usage="songgen train STAGE [key=value ...]",
        description="Make a small model that sings, from nothing. A stage goes on where it was broken off.",
        epilog=f"stages, in their order, or `all`:\n{lines}\n\nsettings: configs/train.yaml; of the stages: "
        f"configs/recipe/ (recipe={', '.join(choices_of('recipe'))}), as stage.key=value\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("stage", choices=(*stages, "all"), metavar="STAGE", help=argparse.SUPPRESS)
    parser.add_argument("settings", nargs="*", metavar="key=value", help=argparse.SUPPRESS)
    return parser
