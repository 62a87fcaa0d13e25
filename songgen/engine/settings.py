"""What a run decides for all its songs, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from songgen.audio import AudioFormat, check_bits
from songgen.request_keys import StemSource
from songgen.requests import GenerateType

if TYPE_CHECKING:  # keeps the command line free of torch until a model is loaded
    from songgen.runtime.sampling import Sampling

LyricsPolicy = Literal["fix", "strict", "asis"]
Keep = Literal["all", "best"]
Memory = Literal["full", "low"]


@dataclass(frozen=True)
class Settings:
    """How the songs of a run are made, where a request does not say otherwise.

    Args:
        sampling: how tokens are chosen.
        seed: the run's seed, 0 ... 2**63 - 1; seeds of songs that have none are derived from it.
        generate_type: the stems to make.
        stems: whether the model makes stems, or a separator from the finished mix.
        lyrics: what to do with text that the linter finds fault with.
        max_seconds: longest song, None for the model's own limit.
        memory: `low` composes and renders group by group, with only one stage of the model loaded.
        group: songs in such a group.
        timing: whether models shall say when the lines of the lyrics begin.
        keep: of a request's several takes, all or the one that `takes.py` calls the best.
    """

    sampling: Sampling
    seed: int
    generate_type: GenerateType = "mixed"
    stems: StemSource = "model"
    lyrics: LyricsPolicy = "fix"
    max_seconds: float | None = None
    memory: Memory = "full"
    group: int = 32
    timing: bool = False
    keep: Keep = "all"


@dataclass(frozen=True)
class Engine:
    """Where the chain runs.

    Args:
        kind: `local` in this process, `ray` on the workers of a Ray cluster.
        address: of a running cluster, None to start one of this machine for the run.
        workers: processes that each hold the model, None for one on each GPU, or without GPUs one on each
            machine.
    """

    kind: Literal["local", "ray"] = "local"
    address: str | None = None
    workers: int | None = None


@dataclass(frozen=True)
class Output:
    """Where songs go and in what form.

    Args:
        dir: folder that gets `audio/`, `jsonl/`, `tokens/`, `plots/` and `lrc/`.
        format: audio file format.
        bits: width of a sample, None for the format's default.
        tokens: whether the tokens of each song are kept too.
        plot: whether a picture of each song is drawn too.
        lrc: whether its lyrics are written with the times at which they begin, where these are known.

    Raises:
        ValueError: the format has no such width.
    """

    dir: Path
    format: AudioFormat = "wav"
    bits: int | None = None
    tokens: bool = False
    plot: bool = False
    lrc: bool = False

    def __post_init__(self) -> None:
        check_bits(self.format, self.bits)
