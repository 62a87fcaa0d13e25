"""The sampler of a rectified flow."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from songgen.nn.rectified_flow import flow_times, sample_flow

NOISE = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))


def test_times_go_from_noise_to_data() -> None:
    assert flow_times(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert flow_times(4).dtype == torch.float32
    with pytest.raises(ValueError, match="0 diffusion steps; at least 1"):
        flow_times(0)


@pytest.mark.parametrize("steps", [1, 5, 36])
def test_a_straight_path_leads_to_the_data(steps: int) -> None:
    """With v = noise - data the path is straight, and any number of steps ends at the data."""
    data = torch.full_like(NOISE, 0.5)
    found = sample_flow(lambda x, number: NOISE - data, NOISE, steps=steps, temperature=1.0)
    torch.testing.assert_close(found, data)


def test_steps_are_numbered_and_start_from_noise_or_zeros() -> None:
    seen: list[tuple[int, Tensor]] = []

    def velocity(x: Tensor, number: int) -> Tensor:
        seen.append((number, x))
        return torch.zeros_like(x)

    sample_flow(velocity, NOISE, steps=3, temperature=1.0)
    assert [number for number, _ in seen] == [0, 1, 2]
    assert torch.equal(seen[0][1], NOISE)
    seen.clear()
    sample_flow(velocity, NOISE, steps=3, temperature=0.9)
    assert not seen[0][1].any()


def test_the_temperature_is_where_the_noise_enters() -> None:
    """The step that passes it jumps to (1 - t) x0 + t noise, with x0 = x - v whatever the time (sic)."""
    visited: list[Tensor] = []

    def velocity(x: Tensor, number: int) -> Tensor:
        visited.append(x)
        return torch.full_like(x, float(number + 1))

    found = sample_flow(velocity, NOISE, steps=4, temperature=0.6)
    torch.testing.assert_close(visited[1], torch.full_like(NOISE, -0.25))
    jumped = 0.5 * (visited[1] - 2) + 0.5 * NOISE
    torch.testing.assert_close(visited[2], jumped)
    torch.testing.assert_close(found, jumped - 0.25 * 3 - 0.25 * 4)


def test_a_temperature_of_a_step_belongs_to_the_step_before_it() -> None:
    """Compared in float32: 0.6 of 5 steps is a little above 0.6 in doubles."""
    ends = [sample_flow(lambda x, number: x * 0, NOISE, steps=5, temperature=t) for t in (0.6, 0.61)]
    torch.testing.assert_close(ends[0], 0.6 * NOISE)
    torch.testing.assert_close(ends[1], 0.6 * NOISE)
