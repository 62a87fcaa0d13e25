"""Windowed-sinc resampling with the arithmetic of torchaudio's `sinc_interp_hann` (width 6, rolloff 0.99).

The published systems resample with it in front of their encoders, so its rounding decides which tokens a
quiet clip gets. Two evaluations of one formula are in use: the kernel kept as a buffer in checkpoints was
computed in float64, the kernel of a resampling on the fly in float32. Knows nothing of files or models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LOWPASS_WIDTH = 6
ROLLOFF = 0.99
MAX_KERNEL_VALUES = 1 << 22


def _reduced(source_rate: int, target_rate: int) -> tuple[int, int, float, int]:
    """Both rates over their gcd, the cutoff in that unit, and the half width in source samples."""
    if source_rate <= 0 or target_rate <= 0:
        raise ValueError(f"sample rates must be positive, got {source_rate} and {target_rate}")
    gcd = math.gcd(source_rate, target_rate)
    source, target = source_rate // gcd, target_rate // gcd
    cutoff = min(source, target) * ROLLOFF
    return source, target, cutoff, math.ceil(LOWPASS_WIDTH * source / cutoff)


def kernel_values(source_rate: int, target_rate: int) -> int:
    """How many values `sinc_kernel` would hold; rates without a common divisor need enormous kernels."""
    source, target, _, width = _reduced(source_rate, target_rate)
    return target * (2 * width + source)


def sinc_kernel(source_rate: int, target_rate: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The filter bank: one windowed sinc per output phase.

    With source o and target n after division by their gcd, cutoff b = 0.99 min(o, n), half width
    w = ceil(6 o / b) and u = clamp(b ((i - w) / o - p / n), -6, 6), row p holds
    sinc(u) cos^2(pi u / 12) b / o for i = 0 ... 2w + o - 1.

    Args:
        source_rate, target_rate: Hz, positive.
        dtype: precision of the evaluation. float64 gives the kernel stored in checkpoints, float32 the one
            that is computed on the fly; they differ by up to 6e-6 of full scale in the resampled signal.

    Returns:
        `[n, 1, 2w + o]` float32 on the CPU.
    """
    source, target, cutoff, width = _reduced(source_rate, target_rate)
    cpu = torch.device("cpu")
    taps = torch.arange(-width, width + source, dtype=dtype, device=cpu) / source
    phases = torch.arange(0, -target, -1, dtype=dtype, device=cpu) / target
    position = ((phases[:, None, None] + taps[None, None]) * cutoff).clamp(-LOWPASS_WIDTH, LOWPASS_WIDTH)
    window = torch.cos(position * math.pi / LOWPASS_WIDTH / 2) ** 2
    angle = position * math.pi
    sinc = torch.where(angle == 0, torch.ones_like(angle), torch.sin(angle) / angle)
    return (sinc * (window * (cutoff / source))).to(torch.float32)


def _filter(signal: Tensor, kernel: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """Apply a filter bank to `[..., N]`; the result has ceil(N target / source) samples."""
    source, target, _, width = _reduced(source_rate, target_rate)
    length = signal.shape[-1]
    flat = F.pad(signal.reshape(-1, 1, length), (width, width + source))
    phases = F.conv1d(flat, kernel, stride=source)
    wanted = -(-target * length // source)
    return phases.transpose(1, 2).reshape(*signal.shape[:-1], -1)[..., :wanted]


def resample(signal: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """Resample on the fly: the kernel is evaluated in float32.

    Args:
        signal: `[..., N]` float32.
        source_rate, target_rate: Hz. Equal rates return the signal itself.

    Returns:
        `[..., ceil(N target_rate / source_rate)]`.

    Raises:
        ValueError: the rates have so little in common that the kernel would not fit (`MAX_KERNEL_VALUES`).
    """
    if source_rate == target_rate:
        return signal
    if kernel_values(source_rate, target_rate) > MAX_KERNEL_VALUES:
        raise ValueError(f"no filter bank of usable size leads from {source_rate} Hz to {target_rate} Hz")
    kernel = sinc_kernel(source_rate, target_rate, torch.float32).to(signal)
    return _filter(signal, kernel, source_rate, target_rate)


def resample_pieces(pieces: Iterable[Tensor], source_rate: int, target_rate: int) -> Iterator[Tensor]:
    """Resample a signal that comes in consecutive pieces, in memory that does not grow with it.

    Args:
        pieces: `[..., n]` float32, of any lengths.
        source_rate, target_rate: Hz.

    Yields:
        Pieces `[..., m]` that, put together, are `resample` of the whole.

    Raises:
        ValueError: as `resample`.
    """
    source, target, _, width = _reduced(source_rate, target_rate)
    margin = -(-width // source)  # in units of `source` samples, which become `target` samples
    held: Tensor | None = None
    done = 0  # units of `held` that have been resampled
    for piece in pieces:
        held = piece if held is None else torch.cat([held, piece], dim=-1)
        ready = held.shape[-1] // source - margin
        if ready <= done:
            continue
        resampled = resample(held[..., : (ready + margin) * source], source_rate, target_rate)
        yield resampled[..., done * target : ready * target]
        first = max(0, ready - margin)
        held, done = held[..., first * source :], ready - first
    if held is not None:
        yield resample(held, source_rate, target_rate)[..., done * target :]


class Resampler(nn.Module):
    """A fixed pair of rates whose kernel is a buffer, as checkpoints keep it (evaluated in float64)."""

    kernel: Tensor

    def __init__(self, source_rate: int, target_rate: int) -> None:
        super().__init__()
        self.source_rate, self.target_rate = source_rate, target_rate
        kernel = sinc_kernel(source_rate, target_rate)
        self.register_buffer("kernel", kernel.to(torch.empty(0).device))

    def forward(self, signal: Tensor) -> Tensor:
        """`[..., N]` at the source rate -> `[..., ceil(N target / source)]` at the target rate."""
        return _filter(signal, self.kernel, self.source_rate, self.target_rate)
