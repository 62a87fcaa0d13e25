"""Separation of a prompt into vocals and accompaniment with HTDemucs (Rouard et al. 2023, arXiv:2211.08553).

The network is that of the `demucs` package (imported when one is built); how a clip is cut into chunks,
shifted and put together again is the published system's, with the shift given by the caller instead of drawn.
Knows nothing of tokens.
"""

from __future__ import annotations

import ast
import fractions
import inspect
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.nn import functional as F

from songgen.runtime.checkpoint import UNPICKLE_ERRORS, build, load_strictly, read_tensors, unpickle

SHIFT_SECONDS = 0.5
CHUNK_OVERLAP = 0.25
PEAK_MARGIN = 1.01
PCM_STEPS = 32768
PUBLISHED_SHIFT_OFFSET = 19090
"""The offset that the published scripts draw for their first prompt."""

PUBLISHED_OPTIONS: Mapping[str, Any] = {
    "sources": ["drums", "bass", "other", "vocal"],
    "segment": fractions.Fraction(39, 5),
    "multi_freqs": [],
    "dconv_mode": 3,
    "bottom_channels": 512,
}
"""Options of the published network that differ from the package's defaults and matter in inference."""

SEPARATOR_WEIGHTS, SEPARATOR_CONFIG = (f"third_party/demucs/ckpt/htdemucs.{end}" for end in ("pth", "yaml"))
"""Of LeVo's shared files, which have the separator for all families."""

VOCAL_NAMES = ("vocal", "vocals")


class _NetworkClass:
    """Stands for the network class named in a pickled package, so that nothing is built from it."""


@dataclass(frozen=True)
class _Chunk:
    """A stretch of a clip: which clip, how many of its samples the network's input holds, and from where."""

    clip: int
    length: int
    left: int
    input_CN: Tensor


class _Seams:
    """The chunks of one clip on their way to stems, averaged with triangular weights where they overlap.

    Args:
        skip: samples at the beginning that belong to the shift, not to the clip.
        mean, deviation: of the clip, by which its chunks were normalised.
    """

    def __init__(self, segment: int, skip: int, mean: Tensor, deviation: Tensor) -> None:
        rising = torch.arange(1, segment // 2 + 1)
        falling = torch.arange(segment - segment // 2, 0, -1)
        triangle = torch.cat([rising, falling]).float()
        self.triangle = triangle / triangle.max()
        self.skip, self.mean, self.deviation = skip, mean, deviation
        self.total: Tensor | None = None
        self.weight = torch.zeros(0)

    def add(self, chunk: _Chunk, output_SCN: Tensor, stride: int) -> Tensor:
        """Add the next chunk; returns the stretch `[S, C, n]` that none after it reaches."""
        weight = self.triangle[: chunk.length].clone()
        total_SCN = weight * output_SCN[..., chunk.left : chunk.left + chunk.length]
        if self.total is not None:
            tail = self.weight.shape[0]
            total_SCN[..., :tail] += self.total
            weight[:tail] += self.weight
        self.total, self.weight = total_SCN[..., stride:].clone(), weight[stride:]
        done_SCN = (total_SCN[..., :stride] / weight[:stride])[..., self.skip :]
        self.skip = max(0, self.skip - stride)
        return done_SCN * self.deviation + self.mean


class Separator:
    """HTDemucs and the published way of running it over a clip."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()
        facts: Any = network
        self.sample_rate = int(facts.samplerate)
        self.sources: tuple[str, ...] = tuple(facts.sources)
        self.segment = int(facts.segment * facts.samplerate)
        self.stride = int((1 - CHUNK_OVERLAP) * self.segment)
        self.max_shift = int(SHIFT_SECONDS * self.sample_rate)

    @property
    def vocal(self) -> int:
        """Index of the vocal stem. Raises ValueError if the network has none."""
        for name in VOCAL_NAMES:
            if name in self.sources:
                return self.sources.index(name)
        raise ValueError(f"the separator knows no vocals, only {', '.join(self.sources)}")

    def forward(self, clips_BCN: Tensor) -> Tensor:
        """The bare network: clips `[B, 2, N]` of at most one segment -> stems `[B, S, 2, N]` on the CPU."""
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            stems: Tensor = self.network(clips_BCN.to(device, torch.float32)).cpu()
        return stems

    def separate(
        self,
        mixtures: Sequence[Tensor],
        offsets: Sequence[int],
        *,
        rows: int = 1,
    ) -> list[Tensor]:
        """Separate clips into stems.

        Args:
            mixtures: stereo `[2, N]`, N >= 2, at `sample_rate`.
            offsets: for each clip the random shift, 0 ... `max_shift` (published: drawn anew for every clip).
            rows: chunks run at once.

        Returns:
            Stems `[S, 2, N]` float32 on the CPU, one per clip.

        Raises:
            ValueError: an offset out of range.
        """
        stretches: list[list[Tensor]] = [[] for _ in mixtures]
        for clip, stretch_SCN in self.stretches(mixtures, offsets, rows=rows):
            stretches[clip].append(stretch_SCN)
        return [torch.cat(of_clip, dim=-1) for of_clip in stretches]

    def stretches(
        self,
        mixtures: Sequence[Tensor],
        offsets: Sequence[int],
        *,
        rows: int = 1,
    ) -> Iterator[tuple[int, Tensor]]:
        """`separate` stretch by stretch, in memory that does not grow with the clips: yields (number of the
        clip, its next stretch `[S, 2, n]`)."""
        for offset in offsets:
            if not 0 <= offset <= self.max_shift:
                raise ValueError(f"shift offset {offset} is not within 0 ... {self.max_shift}")
        scales = [_mean_and_deviation(mixture_CN) for mixture_CN in mixtures]
        seams = [
            _Seams(self.segment, self.max_shift - offset, *scale)
            for offset, scale in zip(offsets, scales, strict=True)
        ]
        chunks = (
            chunk
            for clip, (mixture_CN, offset) in enumerate(zip(mixtures, offsets, strict=True))
            for chunk in self._chunks(clip, mixture_CN, scales[clip], offset)
        )
        while batch := list(itertools.islice(chunks, rows)):
            outputs = self.forward(torch.stack([chunk.input_CN for chunk in batch]))
            for chunk, output_SCN in zip(batch, outputs, strict=True):
                yield chunk.clip, seams[chunk.clip].add(chunk, output_SCN, self.stride)

    def _chunks(
        self,
        clip: int,
        mixture_CN: Tensor,
        scale: tuple[Tensor, Tensor],
        offset: int,
    ) -> Iterator[_Chunk]:
        """Chunks of a clip in the order of time.

        The clip stands between `max_shift` zeros on both sides; the shifted clip begins `offset` into the
        zeros ahead and ends with the clip. A short last chunk is filled to a segment with what lies around
        it.
        """
        mean, deviation = scale
        shifted = mixture_CN.shape[-1] + self.max_shift - offset
        for start in range(0, shifted, self.stride):
            length = min(self.segment, shifted - start)
            left = (self.segment - length) // 2
            first = offset + start - left - self.max_shift  # in the clip
            window_CN = mixture_CN[:, max(0, first) : max(0, first + self.segment)].cpu()
            before = min(self.segment, max(0, -first))
            after = self.segment - before - window_CN.shape[-1]
            input_CN = F.pad((window_CN - mean) / deviation, (before, after))
            yield _Chunk(clip, length, left, input_CN)


def _mean_and_deviation(mixture_CN: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (unbiased) deviation of the mono mix, by which a clip is normalised; 1 for a constant clip."""
    mono_N = mixture_CN.mean(0).cpu()
    deviation = mono_N.std()
    return mono_N.mean(), torch.where(deviation > 0, deviation, torch.ones(()))


def as_pcm16(stem_CN: Tensor) -> Tensor:
    """A stem as the published system saves it: scaled down if its peak exceeds 1 / 1.01, in steps of 1 /
    32768.

    Returns:
        int16 `[C, N]`.
    """
    scaled = stem_CN / torch.clamp(PEAK_MARGIN * stem_CN.abs().max(), min=1.0)
    return (scaled * PCM_STEPS).round().clamp(-PCM_STEPS, PCM_STEPS - 1).to(torch.int16)


def build_network(options: Mapping[str, Any]) -> nn.Module:
    """HTDemucs without weights. Build it on the meta device to save time and memory.

    Raises:
        ValueError: the `demucs` package is not installed, or an option that its network does not have.
    """
    try:
        from demucs.htdemucs import HTDemucs
    except ImportError as error:
        raise ValueError(
            "prompt audio needs the demucs package: pip install --no-deps 'demucs>=4.1,<5' "
            f"and pip install julius ({error})"
        ) from error
    known = inspect.signature(HTDemucs).parameters
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"the separator's network has no option {', '.join(sorted(unknown))}")
    network: nn.Module = HTDemucs(**options)
    return network


def load_separator(
    weights: Path, config: Path | None = None, *, device: torch.device | None = None
) -> Separator:
    """Load HTDemucs from the published runtime's files (`htdemucs.pth`, `htdemucs.yaml`).

    The weights may be a state dict (safetensors or pickle) or a demucs package, which holds class, options
    and state; pickles are opened with `weights_only=True` (see `_read_package`). A package's own options win
    over the yaml's, and these over the published ones.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file cannot be read or does not fit the network.
    """
    options = dict(PUBLISHED_OPTIONS)
    if config is not None:
        options.update(read_options(config))
    package = _read_package(weights)
    if package is None:
        tensors = read_tensors(weights)
    else:
        options.update(package["kwargs"])
        tensors = package["state"]
    try:
        network = build(lambda: build_network(options))
    except TypeError as error:
        raise ValueError(f"{config or weights}: not options of a separator: {error}") from error
    load_strictly(network, tensors, source=weights, dtype=torch.float32, device=device or torch.device("cpu"))
    return Separator(network)


def read_options(config: Path) -> dict[str, Any]:
    """Constructor options in a separator's yaml: at the top, or below `kwargs` or a single other key.

    Values may be written as Python literals or fractions (`"39/5"`). A demucs bag (`models: [...]`) holds
    none.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not yaml, or not a table.
    """
    if not config.is_file():
        raise FileNotFoundError(f"{config}: no such file")
    try:
        content = yaml.safe_load(config.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{config}: cannot be read as yaml: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{config}: must hold a table of options")
    if "models" in content:
        return {}
    if isinstance(content.get("kwargs"), dict):
        content = content["kwargs"]
    elif len(content) == 1 and isinstance(only := next(iter(content.values())), dict):
        content = only.get("kwargs", only)
    try:
        return {str(name): option_value(name, value) for name, value in content.items()}
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"{config}: segment {content['segment']!r} is no number of seconds") from None


def option_value(name: str, value: Any) -> Any:
    """An option from its written form. Bare words stay words; `segment` is a fraction of seconds."""
    if name == "segment":
        return fractions.Fraction(str(value))
    if not isinstance(value, str):
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value


def _read_package(path: Path) -> dict[str, Any] | None:
    """A demucs package (`klass`, `args`, `kwargs`, `state`), or None if the file is something else.

    Packages name the network's class, which plain `weights_only` loading refuses. Names that end with
    `.HTDemucs` are allowed and mapped to an empty class of ours, so nothing is imported or built from the
    file; fractions (of the `segment` option) are allowed as they are; any other name is an error.

    Raises:
        ValueError: the package names other things, or lacks a part.
    """
    if path.suffix == ".safetensors" or not path.is_file():
        return None
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except UNPICKLE_ERRORS:
        return None  # not a zip archive: the plain road says what is wrong with it
    networks = [name for name in names if name.endswith(".HTDemucs")]
    others = sorted(set(names) - set(networks) - {"fractions.Fraction"})
    if others:
        raise ValueError(f"{path}: refused, as it holds more than weights: {', '.join(others)}")
    allowed: list[Any] = [(_NetworkClass, name) for name in networks]
    with torch.serialization.safe_globals([*allowed, fractions.Fraction]):
        content = unpickle(path)
    if not isinstance(content, dict) or "klass" not in content:
        return None
    if not isinstance(content.get("state"), dict) or not isinstance(content.get("kwargs"), dict):
        raise ValueError(f"{path}: a separator package without `state` and `kwargs`")
    if content.get("args"):
        raise ValueError(f"{path}: a separator package with positional options; only named ones are read")
    return content
