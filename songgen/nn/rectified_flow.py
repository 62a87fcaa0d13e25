"""The sampler of a rectified flow (Liu et al. 2023, arXiv:2209.03003) with the "temperature" of SongBloom.

Data is at t = 0 and noise at t = 1; a learnt velocity carries a sample from one to the other by Euler steps.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

Velocity = Callable[[Tensor, int], Tensor]
"""A sample and the number of the step to the velocity at `flow_times(steps)[number]`."""


def flow_times(steps: int) -> Tensor:
    """The times 1 ... 0 of so many steps, `[steps + 1]` float32.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"{steps} diffusion steps; at least 1")
    return torch.linspace(1, 0, steps + 1, dtype=torch.float32)


def sample_flow(velocity: Velocity, noise: Tensor, *, steps: int, temperature: float) -> Tensor:
    """Carry noise to data.

    As published: below a temperature of 1 the path starts from zeros, and in the step that passes t =
    temperature it jumps: x0 = x - v (not x - t v), then x = (1 - t') x0 + t' noise.

    Args:
        noise: float32 of any shape.
        steps: >= 1.
        temperature: >= 0; 1 or more is plain Euler from the noise.

    Returns:
        As `noise`.
    """
    times = flow_times(steps)
    limit = float(torch.tensor(temperature, dtype=torch.float32))
    x = noise if temperature >= 1 else torch.zeros_like(noise)
    for number, (time, following) in enumerate(itertools.pairwise(times.tolist())):
        v = velocity(x, number)
        if time > limit >= following:
            x = (1 - following) * (x - v) + following * noise
        else:
            x = x + (following - time) * v
    return x
