"""Sampling settings and the arithmetic that turns logits into tokens.

Every function works row by row on static shapes and never waits for the device. The rules are those of the
published system, peculiarities included: codebooks above the first are argmax under top-k, and the repetition
penalty divides negative logits too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Args:
        temperature: >= 0; 0 means argmax.
        top_k: keep the k most likely ids of codebook 0 (ties kept), the others being argmax; 0 keeps all ids.
        top_p: nucleus sampling of all codebooks when > 0, at most 1; wins over top_k.
        cfg_coef: guidance, logits = null + (conditional - null) * cfg_coef.
        penalty: > 0; ids seen in the window have their logit divided by this.
        window: columns that the repetition penalty looks back, >= 0.
        frequency_penalty: >= 0; taken off a logit for every time that its id occurred in the song so far.

    Raises:
        ValueError: a value is out of range.
    """

    temperature: float = 0.8
    top_k: int = 5000
    top_p: float = 0.0
    cfg_coef: float = 1.5
    penalty: float = 1.1
    window: int = 50
    frequency_penalty: float = 0.0

    def __post_init__(self) -> None:
        ranges = {
            "temperature": (self.temperature >= 0, "0 (argmax) or more"),
            "top_k": (self.top_k >= 0, "0 (off) or more"),
            "top_p": (0 <= self.top_p <= 1, "0 (off) to 1"),
            "cfg_coef": (True, "a finite number"),
            "penalty": (self.penalty > 0, "more than 0"),
            "window": (self.window >= 0, "0 or more"),
            "frequency_penalty": (self.frequency_penalty >= 0, "0 (off) or more"),
        }
        _check_ranges(self, ranges)


@dataclass(frozen=True)
class DiffusionSampling(Sampling):
    """How tokens are chosen and latents diffused, in turn.

    Args:
        diffusion_steps: solver steps of a block, >= 1.
        diffusion_temperature: >= 0; where the noise enters the path (`nn/rectified_flow.py`), 1 for its
            start.
        diffusion_cfg_coef: guidance of the diffusion; None for `cfg_coef`.
    """

    diffusion_steps: int = 36
    diffusion_temperature: float = 0.95
    diffusion_cfg_coef: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        ranges = {
            "diffusion_steps": (self.diffusion_steps >= 1, "1 or more"),
            "diffusion_temperature": (self.diffusion_temperature >= 0, "0 or more"),
            "diffusion_cfg_coef": (True, "a finite number"),
        }
        _check_ranges(self, ranges)

    @property
    def diffusion_guidance(self) -> float:
        """The guidance of the diffusion: its own, or that of the tokens."""
        return self.cfg_coef if self.diffusion_cfg_coef is None else self.diffusion_cfg_coef


def _check_ranges(sampling: Sampling, ranges: Mapping[str, tuple[bool, str]]) -> None:
    """Raise ValueError for a field that is out of its range or not finite."""
    for name, (is_fine, allowed) in ranges.items():
        value = getattr(sampling, name)
        if not (is_fine and (value is None or math.isfinite(value))):
            raise ValueError(f"sampling.{name} is {value}; it must be {allowed}")


def read_sampling(values: Mapping[str, Any]) -> Sampling:
    """The settings whose fields were kept as a mapping.

    Raises:
        TypeError: an unknown field.
        ValueError: a value is out of range.
    """
    has_diffusion = any(name.startswith("diffusion_") for name in values)
    return DiffusionSampling(**values) if has_diffusion else Sampling(**values)


def changed_sampling(sampling: Sampling, changes: Mapping[str, Any] | Sampling) -> Sampling:
    """A model's sampling with some fields changed, or another in its place.

    Raises:
        ValueError: a field that this model's sampling does not have, or a value out of range.
    """
    if isinstance(changes, Sampling):
        changes = {field.name: getattr(changes, field.name) for field in fields(changes)}
    known = [field.name for field in fields(sampling)]
    for name in changes:
        if name not in known:
            raise ValueError(f"sampling.{name} is not known; there are {', '.join(known)}")
    return replace(sampling, **changes)


@dataclass(frozen=True)
class SamplingRows:
    """The settings of B songs as tensors, each `[B]`, and what the host knows of them as a whole.

    Args:
        longest_window: the largest window of all songs.
        has_nucleus: whether any song uses top-p.
        has_frequency_penalty: whether any song has one.
    """

    temperature: Tensor
    top_k: Tensor
    top_p: Tensor
    cfg_coef: Tensor
    penalty: Tensor
    window: Tensor
    frequency_penalty: Tensor
    longest_window: int
    has_nucleus: bool
    has_frequency_penalty: bool

    @classmethod
    def of(cls, songs: Sequence[Sampling], device: torch.device) -> SamplingRows:
        """Gather the settings of B songs."""

        def column(name: str, dtype: torch.dtype) -> Tensor:
            return torch.tensor([getattr(song, name) for song in songs], dtype=dtype, device=device)

        return cls(
            temperature=column("temperature", torch.float32),
            top_k=column("top_k", torch.int64),
            top_p=column("top_p", torch.float32),
            cfg_coef=column("cfg_coef", torch.float32),
            penalty=column("penalty", torch.float32),
            window=column("window", torch.int64),
            frequency_penalty=column("frequency_penalty", torch.float32),
            longest_window=max(song.window for song in songs),
            has_nucleus=any(song.top_p > 0 for song in songs),
            has_frequency_penalty=any(song.frequency_penalty > 0 for song in songs),
        )

    @property
    def tensors(self) -> list[Tensor]:
        """All columns."""
        return [getattr(self, field.name) for field in fields(Sampling)]

    def updated_(self, songs: Sequence[Sampling]) -> SamplingRows:
        """Other settings in the same tensors, which are written in place."""
        new = SamplingRows.of(songs, self.temperature.device)
        for old_column, column in zip(self.tensors, new.tensors, strict=True):
            old_column.copy_(column)
        return replace(new, **{field.name: getattr(self, field.name) for field in fields(Sampling)})


def guide(conditional_BKV: Tensor, null_BKV: Tensor, cfg_coef_B: Tensor) -> Tensor:
    """Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598): null + (conditional - null) *
    coef."""
    return null_BKV + (conditional_BKV - null_BKV) * cfg_coef_B[:, None, None]


def penalize(logits_BKV: Tensor, recent_BKW: Tensor, penalty_B: Tensor) -> Tensor:
    """Divide the logit of every id that occurs in the recent columns of its codebook.

    As published: by presence, not by count; negative logits are divided too; ids from V - 1 on (EOS, SPECIAL)
    are exempt.

    Args:
        recent_BKW: int64 ids, any id >= V - 1 standing for none.
    """
    num_codes = logits_BKV.shape[-1] - 1
    seen = torch.zeros_like(logits_BKV, dtype=torch.bool).scatter_(-1, recent_BKW.clamp(max=num_codes), True)
    seen[..., num_codes] = False
    return torch.where(seen, logits_BKV / penalty_B[:, None, None], logits_BKV)


def penalize_frequency(logits_BKV: Tensor, counts_BKV: Tensor, penalty_B: Tensor) -> Tensor:
    """Take `penalty` off a logit for every time that its id occurred (OpenAI's frequency penalty)."""
    return logits_BKV - penalty_B[:, None, None] * counts_BKV


def kept_probabilities(logits_BKV: Tensor, rows: SamplingRows) -> Tensor:
    """The distribution that a token is drawn from, `[B, K, V]` in vocabulary order, each row summing to 1.

    top_p > 0: in every codebook, the sorted ids while the mass before them is <= top_p. Otherwise top_k > 0:
    ids at least as likely as the k-th of codebook 0, and as the first of the others. Otherwise all ids.
    """
    temperature = torch.where(rows.temperature > 0, rows.temperature, 1.0)
    probabilities = (logits_BKV / temperature[:, None, None]).softmax(-1)
    kept = probabilities * _within_top_k(probabilities, rows)
    if rows.has_nucleus:
        nucleus = probabilities * _within_top_p(probabilities, rows)
        kept = torch.where(rows.top_p[:, None, None] > 0, nucleus, kept)
    return kept / kept.sum(-1, keepdim=True)


def _within_top_k(probabilities_BKV: Tensor, rows: SamplingRows) -> Tensor:
    size = probabilities_BKV.shape[-1]
    first_BV = probabilities_BKV[:, 0]
    ranked_BV = first_BV.sort(-1, descending=True).values
    is_on_B1 = (rows.top_k > 0)[:, None]
    kth_B1 = ranked_BV.gather(1, (rows.top_k.clamp(1, size) - 1)[:, None])
    threshold_first = torch.where(is_on_B1, kth_B1, 0.0)[:, None]
    threshold_others = torch.where(is_on_B1[:, None], probabilities_BKV[:, 1:].amax(-1, keepdim=True), 0.0)
    return probabilities_BKV >= torch.cat([threshold_first, threshold_others], dim=1)


def _within_top_p(probabilities_BKV: Tensor, rows: SamplingRows) -> Tensor:
    ranked, order = probabilities_BKV.sort(-1, descending=True)
    before = ranked.cumsum(-1) - ranked
    return torch.zeros_like(ranked, dtype=torch.bool).scatter_(-1, order, before <= rows.top_p[:, None, None])


def draw(probabilities_BKV: Tensor, uniforms_BK: Tensor) -> Tensor:
    """Inverse-CDF sampling: the first id whose cumulative mass exceeds the uniform number.

    Args:
        uniforms_BK: float64 (float32 where a device has no other) in 0 <= u < 1.

    Returns:
        int64 `[B, K]`; never an id of zero probability.
    """
    cumulative = probabilities_BKV.to(uniforms_BK.dtype).cumsum(-1)
    total = cumulative[..., -1]
    target = torch.minimum(uniforms_BK * total, torch.nextafter(total, torch.zeros_like(total)))
    return torch.searchsorted(cumulative, target.unsqueeze(-1), right=True).squeeze(-1)


def choose(logits_BKV: Tensor, uniforms_BK: Tensor, rows: SamplingRows) -> Tensor:
    """One token per song and codebook: drawn, or argmax where the temperature is 0; int64 `[B, K]`."""
    drawn = draw(kept_probabilities(logits_BKV, rows), uniforms_BK)
    return torch.where(rows.temperature[:, None] > 0, drawn, logits_BKV.argmax(-1))
