"""How far a run is: a bar per stage on a terminal, plain lines anywhere else."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, TextIO

from tqdm import tqdm

BAR = "{desc:<8}{percentage:3.0f}%|{bar:30}| {n:.1f}/{total:.0f} [{elapsed}<{remaining}]"
QUIET_SECONDS = 30.0
"""Between two lines on songs that are under way, where there are no bars."""


class Progress:
    """A `Report` that shows what it is told; a context manager.

    Args:
        total: songs in the run.
        stages: the stages to show.
        stream: where to write, as a rule standard error.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        total: int,
        stages: Sequence[str],
        stream: TextIO,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total = total
        self.ended = 0
        self._stages = (*stages, "songs")
        self._stream, self._clock = stream, clock
        self._done: dict[tuple[str, str], float] = {}
        self._bars: dict[str, tqdm[Any]] = {}
        self._open = ExitStack()
        self._spoken = clock()

    def __enter__(self) -> Progress:
        if self._stream.isatty():
            size = shutil.get_terminal_size()  # tqdm shows nothing where a terminal says 0
            for row, stage in enumerate(self._stages):
                bar = tqdm(
                    total=self.total,
                    desc=stage,
                    file=self._stream,
                    position=row,
                    bar_format=BAR,
                    ncols=size.columns,
                    nrows=size.lines,
                )
                self._bars[stage] = self._open.enter_context(bar)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def __call__(self, stage: str, name: str, fraction: float) -> None:
        """A song's progress in a stage, 0 ... 1; what goes back is passed over."""
        gain = fraction - self._done.get((stage, name), 0.0)
        if gain <= 0 or stage not in self._stages:
            return
        self._done[stage, name] = fraction
        if stage in self._bars:
            self._bars[stage].update(gain)
        elif not self._bars and fraction < 1 and self._clock() - self._spoken >= QUIET_SECONDS:
            self._say(f"{stage} {name}: {fraction:.0%}")

    def end(self, name: str, record: Mapping[str, Any] | None) -> None:
        """A song ended; `record` is None if it was there already."""
        self.ended += 1
        for stage in self._stages:
            self(stage, name, 1.0)
            self._done.pop((stage, name))
        line = f"[{self.ended}/{self.total}] {name}: {_in_words(record)}"
        if not self._bars:
            self._say(line)
        elif record is not None and record["status"] == "failed":
            tqdm.write(line, file=self._stream)

    def _say(self, line: str) -> None:
        self._spoken = self._clock()
        print(line, file=self._stream, flush=True)


def _in_words(record: Mapping[str, Any] | None) -> str:
    if record is None:
        return "there already"
    if record["status"] == "failed":
        return f"failed: {record['error']}"
    if record.get("kept") is False:
        return f"not kept: another take scored higher than its {record['lm_score']['difference']:.3f}"
    took = ", ".join(
        f"{stage} {seconds:.1f} s" for stage, seconds in record["seconds"].items() if seconds >= 0.05
    )
    return f"{record['duration']:.1f} s of audio" + (f" ({took})" if took else "")
