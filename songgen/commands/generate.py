"""`songgen generate`: songs from a file of requests.

songgen generate model=tiny input=sample/lyrics.jsonl output.dir=output [key=value ...]
songgen generate --multirun ... sampling.temperature=0.7,0.8,0.9     (a run for each value: see `sweep.py`)
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from songgen.commands.progress import Progress
from songgen.commands.songs import CANNOT_START, Tally, check_output, help_on, load, loader
from songgen.config import GenerateConfig, generate_config
from songgen.config_tree import describe
from songgen.requests import RequestFile, SongRequest, read_requests

if TYPE_CHECKING:
    from songgen.engine.journal import Journal
    from songgen.engine.run import Run
    from songgen.models.base import ModelFacts

logger = logging.getLogger(__name__)

EXAMPLE = "songgen generate model=tiny input=sample/lyrics.jsonl output.dir=output"
MULTIRUN = ("--multirun", "-m")
EXIT_STATUS = "exit status: 0 all songs made, 1 some failed, 2 nothing could start, 130 interrupted"


SWEEP = (
    "--multirun (-m): a run for each combination of the values that are given with commas, such as\n"
    "sampling.temperature=0.7,0.9, each in its own folder of output.dir; hydra/launcher=... says where"
)


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns 0 if all songs are there, 1 if some failed, 2 if nothing could start.

    Raises:
        ValueError, OSError: nothing could start.
    """
    if any(word in ("-h", "--help") for word in argv):
        _parser().print_help()
        return 0
    if any(word in MULTIRUN for word in argv):
        from songgen.commands.sweep import sweep

        return sweep([word for word in argv if word not in MULTIRUN])
    config = generate_config(argv)
    if config.verbose:
        logging.getLogger("songgen").setLevel(logging.DEBUG)
    check_output(config.output)
    requests = read_requests(
        config.input, default_generate_type=config.generate_type, default_num_samples=config.num_samples
    )
    if not requests.requests and not requests.bad_lines:
        raise ValueError(f"{config.input}: holds no requests")
    if requests.bad_lines and config.on_error == "stop":
        for bad in requests.bad_lines:
            print(f"songgen: {bad}", file=sys.stderr)
        print("songgen: nothing was started, as on_error=stop", file=sys.stderr)
        return CANNOT_START
    return _generate(config, requests)


def _generate(config: GenerateConfig, requests: RequestFile) -> int:
    from songgen.engine.journal import Journal

    tally = Tally()
    with Journal(config.output, config.input.stem, resume=config.resume) as journal:
        for bad in requests.bad_lines:
            journal.write_bad_line(bad, config.loading.model)
            tally.errors.append(str(bad))
        if requests.requests:
            _make_songs(config, requests, journal, tally)
        tally.show(config.output, journal.path)
    return tally.status


def _make_songs(config: GenerateConfig, requests: RequestFile, journal: Journal, tally: Tally) -> None:
    from songgen.engine.folder import make_songs
    from songgen.engine.plan import seconds_limit
    from songgen.engine.settings import Settings
    from songgen.runtime.sampling import changed_sampling

    total = sum(request.num_samples for request in requests.requests)
    with ExitStack() as opened:
        model, start = _engine(config, requests.requests, opened)
        settings = Settings(
            sampling=changed_sampling(model.sampling, config.sampling),
            seed=journal.run_seed(config.seed),
            generate_type=config.generate_type,
            stems=config.stems,
            lyrics=config.lyrics,
            max_seconds=seconds_limit(config.max_seconds, model),
            memory=model.memory,
            timing=config.output.lrc,
            keep=config.keep,
        )
        progress = opened.enter_context(Progress(total, ("compose", "render"), sys.stderr))
        run = start(settings, report=progress, is_done=lambda plan: journal.is_done(plan, model))
        tally.follow(make_songs(run, requests.requests, journal), progress)


def longest_song(requests: Sequence[SongRequest], max_seconds: float | None) -> float | None:
    """The longest that any song of a run may get, seconds; None if one has no limit but the model's.

    Args:
        max_seconds: of requests that have no limit of their own.
    """
    limits = [request.max_seconds or max_seconds for request in requests]
    known = [limit for limit in limits if limit is not None]
    return max(known) if known and len(known) == len(limits) else None


def _engine(
    config: GenerateConfig, requests: Sequence[SongRequest], opened: ExitStack
) -> tuple[ModelFacts, Callable[..., Run]]:
    """The model's facts, and what starts a run of it: in this process, or on the workers of a cluster."""
    from songgen.engine.run import Run

    sizes: dict[str, Any] = {
        "max_seconds": longest_song(requests, config.max_seconds),
        "num_songs": sum(request.num_samples for request in requests),
    }
    if config.engine.kind == "local":
        model = load(config.loading, **sizes)
        return model, partial(Run, model)
    from songgen.engine.cluster import Cluster
    from songgen.engine.spread import SpreadRun

    workers = Cluster(config.engine, loader(config.loading, **sizes), device=config.loading.device)
    cluster = opened.enter_context(workers)
    print(f"Model: {cluster.model.summary}; workers: {len(cluster.seats)}", file=sys.stderr)
    return cluster.model, partial(SpreadRun, cluster)


def _parser() -> argparse.ArgumentParser:
    settings = help_on(describe("generate"))
    return argparse.ArgumentParser(
        prog="songgen generate",
        usage="songgen generate [--multirun] model=MODEL input=FILE.jsonl [output.dir=OUT] [key=value ...]",
        description="Make songs from a file of requests, one JSON object a line.",
        epilog=f"settings and their defaults:\n{settings}\n\n{SWEEP}\n\n{EXIT_STATUS}\nexample: {EXAMPLE}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
