"""The Euler solver and the latents' statistics."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from songgen.nn.flow_matching import SIGMA_MIN, LatentStats, guide, interpolate, solve_euler


def test_path_runs_from_noise_to_data() -> None:
    """At t = 1 a trace of noise, sigma, remains."""
    noise, data = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    assert torch.equal(interpolate(noise, data, torch.tensor(0.0)), noise)
    torch.testing.assert_close(interpolate(noise, data, torch.tensor(1.0)), data + SIGMA_MIN * noise)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_straight_flow_is_solved_exactly(steps: int) -> None:
    """With the true velocity of a straight path, any number of steps arrives."""
    noise, data = torch.randn(2, 5, 4), torch.randn(2, 5, 4)
    nothing = torch.zeros(2, 5, 1, dtype=torch.bool)
    got = solve_euler(
        lambda x, time: data - (1 - SIGMA_MIN) * noise, noise, torch.zeros_like(noise), nothing, steps=steps
    )
    torch.testing.assert_close(got, data + SIGMA_MIN * noise, rtol=1e-5, atol=1e-5)


def test_given_frames_follow_their_own_path() -> None:
    """The network must see the context's x_t in every step, whatever it said about these frames before."""
    noise, context = torch.randn(1, 6, 3), torch.randn(1, 6, 3)
    given = (torch.arange(6) < 2)[None, :, None]
    seen: list[tuple[Tensor, float]] = []

    def velocity(x: Tensor, time: Tensor) -> Tensor:
        seen.append((x.clone(), float(time)))
        return torch.full_like(x, 7.0)

    solve_euler(velocity, noise, context, given, steps=4)
    assert [time for _, time in seen] == pytest.approx([0, 0.25, 0.5, 0.75])
    for x, time in seen:
        torch.testing.assert_close(x[:, :2], interpolate(noise, context, torch.tensor(time))[:, :2])
        torch.testing.assert_close(x[:, 2:], noise[:, 2:] + 7 * time)


def test_no_steps_are_refused() -> None:
    """Zero steps would return noise as music."""
    noise = torch.zeros(1, 2, 3)
    with pytest.raises(ValueError, match="0 solver steps; at least 1"):
        solve_euler(lambda x, time: x, noise, noise, noise[..., :1].bool(), steps=0)


def test_guidance_goes_from_null_through_conditional() -> None:
    """The two rows swapped would guide away from the song."""
    null, conditional = torch.tensor([1.0]), torch.tensor([3.0])
    assert [guide(null, conditional, strength).item() for strength in (0, 1, 1.5)] == [1, 3, 4]


def stats(counts: float) -> LatentStats:
    return LatentStats(torch.tensor([counts]), torch.full((2,), 3 * counts), torch.full((2,), 13 * counts))


def test_mean_and_deviation() -> None:
    """Mean 3 and mean square 13 are deviation 2."""
    mean, std = stats(100).mean_and_std()
    assert mean.tolist() == pytest.approx([3, 3]) and std.tolist() == pytest.approx([2, 2])


@pytest.mark.parametrize(("counts", "expected"), [(9, (0, 1)), (10, (3, 2))])
def test_few_counts_are_not_trusted(counts: float, expected: tuple[float, float]) -> None:
    """Below ten counts the statistics are those of a standard normal, as published."""
    mean, std = stats(counts).mean_and_std()
    assert (mean[0].item(), std[0].item()) == pytest.approx(expected)


def test_update_reads_the_first_600_frames_and_leaves_the_old_value_alone() -> None:
    """An update in place would leak from song to song."""
    before, window = stats(50), torch.randn(1000, 2)
    after = before.updated(window)
    assert before.counts.item() == 50 and after.counts.item() == 51
    torch.testing.assert_close(after.sum_x, before.sum_x + window[:600].mean(0))
    torch.testing.assert_close(after.sum_x2, before.sum_x2 + window[:600].square().mean(0))


def test_statistics_of_a_trained_checkpoint_are_frozen() -> None:
    """From 100000 counts on, windows must not change them."""
    trained = stats(100_000)
    after = trained.updated(torch.randn(1000, 2))
    for name in ("counts", "sum_x", "sum_x2"):
        assert torch.equal(getattr(after, name), getattr(trained, name))


def test_no_counts_at_all_stay_finite() -> None:
    """Means over nothing must not reach the latents."""
    latents = torch.randn(20, 2)
    assert torch.equal(stats(0).normalise(latents), latents)


def test_the_solver_never_waits_for_its_device() -> None:
    """A tensor without data fails on whatever would read one back: `.item()`, `if tensor`, `.cpu()`."""
    with torch.device("meta"):
        noise, mask = torch.zeros(2, 30, 3), torch.ones(2, 30, 1, dtype=torch.bool)
        statistics = LatentStats(torch.zeros(1), torch.zeros(3), torch.zeros(3)).updated(noise[0])
        solved = solve_euler(lambda x, time: x * time, noise, noise, mask, steps=3)
        assert statistics.denormalise(statistics.normalise(solved)).shape == noise.shape


def test_normalising_is_undone() -> None:
    """Context that is normalised and pasted back must come out as it went in."""
    latents = torch.randn(20, 2)
    torch.testing.assert_close(stats(100).denormalise(stats(100).normalise(latents)), latents)


def test_a_constant_channel_stays_finite() -> None:
    """Rounding can make the variance of a constant channel negative."""
    constant = LatentStats(torch.tensor([10.0]), torch.full((2,), 30.0), torch.full((2,), 89.9999))
    assert constant.normalise(torch.full((4, 2), 3.0)).isfinite().all()
