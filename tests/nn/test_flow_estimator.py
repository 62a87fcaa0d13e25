"""The velocity network."""

from __future__ import annotations

import copy

import pytest
import torch

from songgen.nn.flow_estimator import EstimatorConfig, FlowEstimator, attend, rotary_table

SMALL = EstimatorConfig(width=24, inner_dim=40, num_heads=2, num_layers=2, num_positions=50)


@pytest.fixture
def estimator() -> FlowEstimator:
    torch.manual_seed(2)
    estimator = FlowEstimator(SMALL).requires_grad_(False).eval()
    for parameter in estimator.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    return estimator


def test_rows_are_independent(estimator: FlowEstimator) -> None:
    """A song's velocity must not depend on the songs beside it."""
    frames, times = torch.randn(3, 30, 24), torch.tensor([0.0, 0.3, 0.9])
    together = estimator(frames, times)
    for row in range(3):
        alone = estimator(frames[row : row + 1], times[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-5)


def test_one_time_for_all_rows(estimator: FlowEstimator) -> None:
    """The solver hands one time for the batch; it must mean that time in every row."""
    frames = torch.randn(3, 8, 24)
    torch.testing.assert_close(
        estimator(frames, torch.tensor([0.4])), estimator(frames, torch.full((3,), 0.4)), rtol=1e-6, atol=1e-6
    )


def test_only_the_last_channels(estimator: FlowEstimator) -> None:
    """What the solver skips must not change what it uses; nor may rotary angles made beforehand."""
    frames, time = torch.randn(2, 8, 24), torch.tensor([0.4])
    some = estimator(frames, time, rope=estimator.rotary_table(50), num_outputs=5)
    torch.testing.assert_close(some, estimator(frames, time)[..., -5:], rtol=1e-6, atol=1e-6)


def test_every_frame_sees_every_other(estimator: FlowEstimator) -> None:
    """A causal mask here would be silent and wrong."""
    frames, time = torch.randn(1, 8, 24), torch.tensor([0.4])
    before = estimator(frames, time)
    frames[:, -1] = torch.randn(24)
    after = estimator(frames, time)
    assert ((after - before).abs().amax(-1) > 1e-4).all()


def test_time_and_place_matter(estimator: FlowEstimator) -> None:
    """A network that loses its time or positions still returns plausible numbers."""
    frames = torch.randn(1, 1, 24).expand(1, 6, 24)
    early, late = estimator(frames, torch.tensor([0.1])), estimator(frames, torch.tensor([0.9]))
    assert (early - late).abs().max() > 1e-3
    assert (early[:, 0] - early[:, 1]).abs().max() > 1e-3


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float16, 1e-2), (torch.bfloat16, 8e-2)])
def test_half_precision_weights_stay_close_to_float32(
    estimator: FlowEstimator, dtype: torch.dtype, limit: float
) -> None:
    """Half precision is for the products: the residual stream, beyond float16's range here, is float32."""
    frames, time = torch.randn(2, 20, 24), torch.tensor([0.7])
    frames[:, :, 3] = 1e5
    exact = estimator(frames, time)
    half = estimator.to(dtype)(frames, time)
    assert half.dtype == torch.float32
    assert half.isfinite().all()
    assert (half - exact).abs().max() < limit * exact.abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_products_alone_in_half_precision_are_closer(estimator: FlowEstimator, dtype: torch.dtype) -> None:
    """Norms, tables, time and the last projection cost nothing in float32, and their rounding is heard."""
    frames, time = torch.randn(2, 20, 24), torch.tensor([0.7])
    exact = estimator(frames, time)
    products = copy.deepcopy(estimator)
    products.convert_products_(dtype)
    error = (products(frames, time) - exact).square().mean()
    assert 0 < error < 0.25 * (estimator.to(dtype)(frames, time) - exact).square().mean()


def test_heads_filled_up_with_zeros_attend_alike() -> None:
    """A GPU's fused kernels want a head width of a multiple of 8; the published one is 110."""
    q, k, v = torch.randn(3, 2, 4, 30, 11)
    filled = attend(q, k, v, multiple=8)
    assert filled.shape == q.shape
    torch.testing.assert_close(filled, attend(q, k, v, multiple=1), rtol=1e-5, atol=1e-6)


def test_rotary_angles_depend_on_the_distance_only() -> None:
    """q at m times k at n must turn by m - n."""
    table = rotary_table(40, 12, torch.device("cpu"))
    assert table.shape == (40, 6)
    torch.testing.assert_close(
        table[30] * table[20].conj(), table[17] * table[7].conj(), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(table[1, 0].angle(), torch.tensor(1.0))


def test_width_must_fit_the_heads() -> None:
    """Rotary pairs need heads of even width."""
    with pytest.raises(ValueError, match="width 24 is not divisible into 5 heads of even width"):
        EstimatorConfig(width=24, num_heads=5)
