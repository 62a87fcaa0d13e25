"""Flow matching with given frames, as equations over named tensors (Lipman et al. 2023, arXiv:2210.02747).

A sample is carried from noise x0 at t = 0 to data x1 at t = 1 along x_t = (1 - (1 - sigma) t) x0 + t x1 by
Euler steps of a learnt velocity. Frames that are given ("context") are not solved for: before each step they
are set to their own x_t. Knows neither the network nor where the context comes from.

Also here: the running statistics that bring latents to zero mean and unit variance, as an explicit value.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

SIGMA_MIN = 1e-4

STATS_TRUSTED_FROM = 10
"""Below this many counts, mean 0 and deviation 1 are used instead of the statistics."""
STATS_FROZEN_FROM = 100_000
"""From this many counts on, statistics are no longer updated."""
STATS_FRAMES = 600
"""Frames of a window, from its start, that enter the statistics."""

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Samples `[B, W, Z]` and a time `[1]` to velocities `[B, W, Z]`."""


def interpolate(noise: Tensor, data: Tensor, time: Tensor) -> Tensor:
    """The path from noise to data, x_t = (1 - (1 - sigma) t) noise + t data."""
    return (1 - (1 - SIGMA_MIN) * time) * noise + time * data


def guide(null: Tensor, conditional: Tensor, guidance: float) -> Tensor:
    """Classifier-free guidance, v = null + guidance (conditional - null)."""
    return null + guidance * (conditional - null)


def euler_step(
    velocity: Velocity, x_BWZ: Tensor, path: tuple[Tensor, Tensor, Tensor], time: Tensor, step: Tensor
) -> Tensor:
    """One step of the solver, `[B, W, Z]`: a function of tensors of fixed shapes, which never waits for them.

    Args:
        x_BWZ: the sample at `time`.
        path: noise `[B, W, Z]`, context `[B, W, Z]` and `is_context` `[B, W, 1]`, as of `solve_euler`.
        time, step: the time and how far to go, scalars on the sample's device.
    """
    noise_BWZ, context_BWZ, is_context_BW1 = path
    x_BWZ = torch.where(is_context_BW1, interpolate(noise_BWZ, context_BWZ, time), x_BWZ)
    return x_BWZ + step * velocity(x_BWZ, time[None])


def solve_euler(
    velocity: Velocity, noise_BWZ: Tensor, context_BWZ: Tensor, is_context_BW1: Tensor, *, steps: int
) -> Tensor:
    """Carry noise to data in `steps` equal Euler steps, `[B, W, Z]`.

    Args:
        velocity: the field.
        noise_BWZ: the start, float32.
        context_BWZ: what is given; only read where `is_context_BW1`.
        is_context_BW1: bool. The result there is one step beyond the given path: paste the context over it.
        steps: >= 1.
    """
    if steps < 1:
        raise ValueError(f"{steps} solver steps; at least 1")
    times = torch.linspace(0, 1, steps + 1, device=noise_BWZ.device)
    path = (noise_BWZ, context_BWZ, is_context_BW1)
    x_BWZ = noise_BWZ
    for time, next_time in itertools.pairwise(times):
        x_BWZ = euler_step(velocity, x_BWZ, path, time, next_time - time)
    return x_BWZ


@dataclass(frozen=True)
class LatentStats:
    """Running sums over windows, per latent channel. Nothing here waits for a device.

    Args:
        counts: `[1]` float32, windows seen.
        sum_x: `[Z]` float32, sum of the windows' means.
        sum_x2: `[Z]` float32, sum of the windows' mean squares.
    """

    counts: Tensor
    sum_x: Tensor
    sum_x2: Tensor

    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation, `[Z]` each."""
        is_trusted = self.counts >= STATS_TRUSTED_FROM
        mean = self.sum_x / self.counts
        std = (self.sum_x2 / self.counts - mean.square()).clamp(min=0).sqrt()
        return torch.where(is_trusted, mean, 0.0), torch.where(is_trusted, std, 1.0)

    def updated(self, latents_WZ: Tensor) -> LatentStats:
        """With one more window, or unchanged from `STATS_FROZEN_FROM` counts on.

        As published: the statistics move at inference too. There they also leak from song to song; as a value
        they end with the song that they were made for.
        """
        is_frozen, head_WZ = self.counts >= STATS_FROZEN_FROM, latents_WZ[:STATS_FRAMES]
        return LatentStats(
            torch.where(is_frozen, self.counts, self.counts + 1),
            torch.where(is_frozen, self.sum_x, self.sum_x + head_WZ.mean(0)),
            torch.where(is_frozen, self.sum_x2, self.sum_x2 + head_WZ.square().mean(0)),
        )

    def normalise(self, latents_WZ: Tensor) -> Tensor:
        """To zero mean and unit variance."""
        mean, std = self.mean_and_std()
        return (latents_WZ - mean) * (1 / std.clamp(min=1e-12))

    def denormalise(self, latents_WZ: Tensor) -> Tensor:
        """Back to the VAE's scale."""
        mean, std = self.mean_and_std()
        return latents_WZ * std + mean
