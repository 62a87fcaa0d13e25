"""`songgen render`: audio from saved tokens, without composing again.

songgen render output/tokens model=tiny output.dir=again [generate_type=separate] [key=value ...]
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from songgen.commands.progress import Progress
from songgen.commands.songs import Tally, check_output, help_on, load, split_words
from songgen.config import RenderConfig, render_config
from songgen.config_tree import describe

RECORDS_NAME = "render"
"""Of the record file: OUT/jsonl/render.jsonl."""


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns 0 if all songs are there, 1 if some failed.

    Raises:
        ValueError, OSError: nothing could start.
    """
    if any(word in ("-h", "--help") for word in argv):
        _parser().print_help()
        return 0
    settings, paths = split_words(argv)
    config = render_config(settings)
    if config.verbose:
        logging.getLogger("songgen").setLevel(logging.DEBUG)
    check_output(config.output)
    files = token_files(paths)
    return _render(config, files)


def token_files(paths: Sequence[Path]) -> list[Path]:
    """The token files of some files and folders, each once.

    Raises:
        FileNotFoundError: one of them does not exist.
        ValueError: there are none.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder")
        found = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
        if not found:
            raise ValueError(f"{path}: holds no *.safetensors")
        files += found
    if not files:
        raise ValueError("no tokens are given: songgen render TOKENS... with files or folders of them")
    return list(dict.fromkeys(files))


def _render(config: RenderConfig, files: Sequence[Path]) -> int:
    from songgen.engine.journal import Journal
    from songgen.engine.run import Run, record_all
    from songgen.engine.settings import Settings
    from songgen.runtime.sampling import Sampling

    tally = Tally()
    with Journal(config.output, RECORDS_NAME, resume=config.resume) as journal:
        model = load(config.loading)
        settings = Settings(sampling=Sampling(), seed=0, memory=model.memory)
        with Progress(len(files), ("render",), sys.stderr) as progress:
            run = Run(model, settings, report=progress, is_done=lambda plan: journal.is_done(plan, model))
            outcomes = run.renders(files, config.generate_type)
            tally.follow(record_all(outcomes, journal, model, None), progress)
        tally.show(config.output, journal.path)
    return tally.status


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="songgen render",
        usage="songgen render TOKENS... model=MODEL [output.dir=OUT] [key=value ...]",
        description="Make audio from the tokens that `songgen generate output.tokens=true` kept. "
        "TOKENS are files or folders of them.",
        epilog=f"settings and their defaults:\n{help_on(describe('render'))}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
