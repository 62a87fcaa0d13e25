"""The `songgen` command: finds the subcommand, sets up logging, turns what went wrong into an exit status."""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import sys
from collections.abc import Sequence

import songgen

COMMANDS = {
    "generate": "make songs from a file of requests",
    "render": "make audio from saved tokens",
    "evaluate": "score folders of songs",
    "ui": "serve a page that makes songs, on this machine",
    "check": "find what in the lyrics and descriptions will hurt, and mend it",
    "models": "list the models",
    "fetch": "download a published model",
    "bench": "measure how fast a model runs here, also without its weights",
    "train": "make a small model that sings, from nothing",
    "plot": "draw songs: waveform, spectrogram, about where the sections lie",
    "doctor": "what this machine can run, what is missing, and the line to type",
}
CANNOT_START, INTERRUPTED = 2, 130

GPU_MEMORY = "SONGGEN_GPU_MEMORY"
"""Environment variable: the setting `gpu_memory` of the commands that load a model."""
LOAD_A_MODEL = ("generate", "render")


class BarHandler(logging.Handler):
    """Writes log lines to standard error without tearing progress bars."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line."""
        from tqdm import tqdm

        tqdm.write(self.format(record), file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status.

    0: done; 1: some songs failed or text is to be mended; 2: nothing could start; 130: interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    command, rest = _command(words)
    _set_up_logging()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read by Ray, where it is used: no calls home
    try:
        words = [*_settings_of_environment(command), *rest]
        return int(importlib.import_module(f"songgen.commands.{command}").main(words))
    except KeyboardInterrupt:
        print("\nsonggen: interrupted; the same command goes on from here", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone: `songgen models | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CANNOT_START
    except (ValueError, OSError, RuntimeError, ImportError) as error:
        logging.getLogger("songgen").debug("the error in full", exc_info=True)
        message = (
            str(error)
            if isinstance(error, ValueError | FileNotFoundError)
            else f"{type(error).__name__}: {error}"
        )
        print(f"songgen: {message}", file=sys.stderr)
        return CANNOT_START


def _command(words: list[str]) -> tuple[str, list[str]]:
    """The subcommand and its words; prints help and exits where there is none."""
    width = max(len(name) for name in COMMANDS)
    lines = "\n".join(f"  {name.ljust(width)}  {doc}" for name, doc in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="songgen",
        usage="songgen COMMAND [...]",
        description="Run the open lyrics-to-song models.",
        epilog=f"commands:\n{lines}\n\n`songgen COMMAND --help` says more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"songgen {songgen.__version__}")
    parser.add_argument("command", choices=tuple(COMMANDS), help=argparse.SUPPRESS)
    first = words[:1] or ["--help"]
    return parser.parse_args(first).command, words[1:]


def _settings_of_environment(command: str) -> list[str]:
    """Settings that environment variables stand for; those of the command line come later and win.

    Raises:
        ValueError: a variable has a value that is not allowed.
    """
    value = os.environ.get(GPU_MEMORY, "").strip()
    if not value or command not in LOAD_A_MODEL:
        return []
    from songgen.config_keys import KEYS

    try:
        KEYS["gpu_memory"].read(value)
    except ValueError as error:
        raise ValueError(f"{GPU_MEMORY}={value}: must be {error}") from error
    return [f"gpu_memory={value}"]


def _set_up_logging() -> None:
    handler = BarHandler()
    handler.setFormatter(logging.Formatter("songgen: %(levelname)s: %(message)s"))
    logger = logging.getLogger("songgen")
    logger.handlers = [handler]
    logger.propagate = False
    logger.setLevel(logging.WARNING)


if __name__ == "__main__":
    sys.exit(main())
