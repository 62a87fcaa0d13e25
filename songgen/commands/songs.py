"""What the commands that make songs have in common: following a run to its end, and saying how it went."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from songgen.commands.progress import Progress
from songgen.config import Loading
from songgen.engine.settings import Output

if TYPE_CHECKING:
    from songgen.engine.outcome import Outcome
    from songgen.models.base import SongModel

ALL_MADE, SOME_FAILED, CANNOT_START = 0, 1, 2
MOST_ERRORS = 50
"""Errors that the summary lists; all are in the records."""


@dataclass
class Tally:
    """How the songs of a run ended."""

    made: int = 0
    skipped: int = 0
    passed_over: int = 0
    errors: list[str] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    @property
    def status(self) -> int:
        """The exit status."""
        return SOME_FAILED if self.errors else ALL_MADE

    def follow(self, ended: Iterator[tuple[Outcome, Mapping[str, Any] | None]], progress: Progress) -> None:
        """Take a run to its end."""
        for outcome, record in ended:
            progress.end(outcome.name, record)
            if record is None:
                self.skipped += 1
            elif record.get("kept") is False:
                self.passed_over += 1
            elif record["status"] == "ok":
                self.made += 1
            else:
                self.errors.append(f"{outcome.name}: {record['stage']}: {record['error']}")

    def show(self, output: Output, records: Path) -> None:
        """Print how many songs were made, what failed, and where everything is."""
        seconds = time.monotonic() - self.start
        counts = [f"{self.made} made"]
        counts += [f"{self.skipped} there already"] if self.skipped else []
        counts += [f"{self.passed_over} not kept"] if self.passed_over else []
        counts += [f"{len(self.errors)} failed"] if self.errors else []
        print(f"Songs: {', '.join(counts)}, in {seconds:.1f} s")
        for error in self.errors[:MOST_ERRORS]:
            print("  failed: " + " ".join(error.split()))
        if len(self.errors) > MOST_ERRORS:
            print(f"  and {len(self.errors) - MOST_ERRORS} more, see the records")
        if self.made or self.skipped:
            print(f"Audio:   {output.dir / 'audio'}")
            if output.tokens:
                print(f"Tokens:  {output.dir / 'tokens'}")
            if output.plot:
                print(f"Plots:   {output.dir / 'plots'}")
            if output.lrc and (output.dir / "lrc").is_dir():  # no song need have one
                print(f"Lyrics:  {output.dir / 'lrc'}")
        print(f"Records: {records}")


def check_output(output: Output) -> None:
    """Refuse before anything is loaded what could only fail after a song is made. Raises ValueError."""
    if output.plot:
        from songgen.engine.picture import require_matplotlib

        require_matplotlib()


def loader(
    loading: Loading, *, max_seconds: float | None = None, num_songs: int | None = None
) -> Callable[..., SongModel]:
    """What loads the model of a run, here or in another process.

    Args:
        max_seconds: longest song of the run, None for the model's limit.
        num_songs: songs of the run.
    """
    from songgen.models.catalog import load_model

    options = asdict(loading)
    return partial(load_model, options.pop("model"), **options, max_seconds=max_seconds, num_songs=num_songs)


def load(loading: Loading, *, max_seconds: float | None = None, num_songs: int | None = None) -> SongModel:
    """Load the model of a run, saying which and how it will use memory before its weights are read."""

    def announce(summary: str) -> None:
        print(f"Model: {summary}", file=sys.stderr, flush=True)

    return loader(loading, max_seconds=max_seconds, num_songs=num_songs)(announce=announce)


def run_line(model: Path | str) -> str:
    """The command that makes the sample songs with a model, as it is typed here."""
    name = shlex.quote(str(model))
    if Path("generate.sh").is_file():
        return f"sh generate.sh {name} sample/lyrics.jsonl output"
    return f"songgen generate model={name} input=lyrics.jsonl output.dir=output"


def split_words(words: Sequence[str]) -> tuple[list[str], list[Path]]:
    """The settings and paths of a command line: a word is a setting if it looks like one and is no file."""
    is_setting = {word: word.startswith("-") or ("=" in word and not Path(word).exists()) for word in words}
    return [word for word in words if is_setting[word]], [
        Path(word) for word in words if not is_setting[word]
    ]


def help_on(settings: Sequence[tuple[str, str, str]]) -> str:
    """The settings as lines of help: key=default, and what it does."""
    width = max(len(f"{key}={default}") for key, default, _ in settings)
    return "\n".join(f"  {f'{key}={default}'.ljust(width)}  {doc}" for key, default, doc in settings)
