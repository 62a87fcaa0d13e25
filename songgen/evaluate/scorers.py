"""Learned scorers of other projects, each run as a program by a Python that holds it.

Audiobox Aesthetics (Tjandra et al. 2025) is a package; SongEval (Yao et al. 2025) is a checkout with an
`eval.py`. Their pins need not fit songgen's. What is absent gives a reason, never a number.
"""

from __future__ import annotations

import importlib.util
import json
import math
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from songgen.evaluate.drivers import run_audiobox
from songgen.evaluate.measures import AUDIOBOX, SONGEVAL, NotMeasured

Scores = dict[str, float]
TAIL_LINES = 3
AUDIOBOX_KEYS = dict(zip(AUDIOBOX, ("CE", "CU", "PC", "PQ"), strict=True))
SONGEVAL_KEYS = {name: name.removeprefix("songeval_") for name in SONGEVAL}


class Scorer(Protocol):
    """Scores many songs at once."""

    @property
    def name(self) -> str:
        """What reports call it."""
        ...

    @property
    def measures(self) -> Sequence[str]:
        """The measures that it gives."""
        ...

    def score(self, paths: Sequence[Path]) -> list[Scores | str]:
        """Of each song its scores by measure, or the reason for having none.

        Raises:
            NotMeasured: the scorer cannot run at all.
        """
        ...


@dataclass(frozen=True)
class Audiobox:
    """Audiobox Aesthetics.

    Args:
        python: the interpreter that has `audiobox_aesthetics`; None for songgen's own.
        checkpoint: its weights; None for the package's way (its cache, or a download).
    """

    python: Path | None = None
    checkpoint: Path | None = None
    name: str = "Audiobox Aesthetics"
    measures: Sequence[str] = AUDIOBOX

    def score(self, paths: Sequence[Path]) -> list[Scores | str]:
        """See `Scorer`."""
        if self.python is None and importlib.util.find_spec("audiobox_aesthetics") is None:
            raise NotMeasured(
                "audiobox_aesthetics is not installed here: name a Python that has it, audiobox.python=PATH"
            )
        if self.checkpoint is not None and not self.checkpoint.is_file():
            raise NotMeasured(f"audiobox.checkpoint={self.checkpoint}: no such file")
        checkpoint = str(self.checkpoint.absolute()) if self.checkpoint else None
        task = {"paths": [str(path.absolute()) for path in paths], "checkpoint": checkpoint}
        command = [_interpreter(self.python), str(Path(run_audiobox.__file__).absolute())]
        printed = _run(command, self.name, given=json.dumps(task))
        lines = [
            line.removeprefix(run_audiobox.MARK)
            for line in printed.splitlines()
            if line.startswith(run_audiobox.MARK)
        ]
        if len(lines) != len(paths):
            raise NotMeasured(f"{self.name} gave {len(lines)} scores for {len(paths)} songs")
        return [_read(json.loads(line), AUDIOBOX_KEYS, self.name) for line in lines]


@dataclass(frozen=True)
class SongEval:
    """SongEval: `eval.py -i LIST -o FOLDER` of its checkout, which writes `result.json`.

    Args:
        dir: the checkout, with `eval.py` and its weights; None if there is none.
        python: the interpreter that has what it needs; None for songgen's own.
    """

    dir: Path | None = None
    python: Path | None = None
    name: str = "SongEval"
    measures: Sequence[str] = SONGEVAL

    def score(self, paths: Sequence[Path]) -> list[Scores | str]:
        """See `Scorer`."""
        if self.dir is None:
            raise NotMeasured("SongEval's checkout is not named: songeval.dir=PATH")
        if not (self.dir / "eval.py").is_file():
            raise NotMeasured(f"songeval.dir={self.dir}: holds no eval.py")
        with tempfile.TemporaryDirectory(prefix="songgen-songeval-") as place:
            links = _links(paths, Path(place))
            songs = Path(place) / "songs.txt"
            songs.write_text("".join(f"{link}\n" for link in links), encoding="utf-8")
            out = Path(place) / "out"
            out.mkdir()
            command = [_interpreter(self.python), "eval.py", "-i", str(songs), "-o", str(out)]
            _run(command, self.name, folder=self.dir.absolute())
            found = _result(out / "result.json")
        return [_read(found.get(link.stem), SONGEVAL_KEYS, self.name) for link in links]


def _links(paths: Sequence[Path], place: Path) -> list[Path]:
    """The songs under names that are plain and differ: `result.json` has them by file name without suffix."""
    links = [place / f"song{number:06d}{path.suffix}" for number, path in enumerate(paths)]
    for link, path in zip(links, paths, strict=True):
        link.symlink_to(path.absolute())
    return links


def _result(path: Path) -> Mapping[str, object]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NotMeasured(f"SongEval wrote no result.json that can be read: {error}") from None
    if not isinstance(found, dict):
        raise NotMeasured("SongEval's result.json is not one JSON object")
    return found


def _interpreter(python: Path | None) -> str:
    """The Python to run, absolute where it can be found: a scorer may run in another folder."""
    if python is None:
        return sys.executable
    found = shutil.which(python)
    return str(Path(found).absolute()) if found else str(python)


def _run(command: Sequence[str], name: str, *, given: str = "", folder: Path | None = None) -> str:
    """What a program printed.

    Raises:
        NotMeasured: it cannot be started, or failed; the message ends with its last lines.
    """
    try:
        done = subprocess.run(
            command,
            input=given,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise NotMeasured(f"{name}: {command[0]} cannot be run: {error.strerror}") from None
    if done.returncode:
        tail = " | ".join(done.stderr.strip().splitlines()[-TAIL_LINES:]) or "it printed no reason"
        raise NotMeasured(f"{name} failed with status {done.returncode}: {tail}")
    return done.stdout


def _read(entry: object, keys: Mapping[str, str], name: str) -> Scores | str:
    """The scores of a song by measure, from keys of any case; a reason if one is missing or no number."""
    if not isinstance(entry, dict):
        return f"{name} gave no scores for it"
    if "error" in entry:
        return f"{name}: {entry['error']}"
    values = {str(key).lower(): value for key, value in entry.items()}
    scores: Scores = {}
    for measure, key in keys.items():
        value = values.get(key.lower())
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            return f"{name} gave no {key} for it"
        scores[measure] = float(value)
    return scores
