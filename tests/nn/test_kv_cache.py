"""The static cache: rows written in place, in the compute dtype or in 8 bits."""

from __future__ import annotations

import pytest
import torch

from songgen.nn.kv_cache import KVCache, bytes_per_position, quantize


def new(*, is_int8: bool, dtype: torch.dtype = torch.float32) -> KVCache:
    return KVCache(
        num_layers=2,
        num_rows=3,
        num_heads=2,
        capacity=8,
        head_dim=16,
        dtype=dtype,
        device=torch.device("cpu"),
        is_int8=is_int8,
    )


def heads(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3)) * 3


def test_8_bits_keep_each_head_vector_within_half_a_step_of_its_own_scale() -> None:
    x = heads(3, 2, 5, 16) * torch.tensor([1e-3, 1.0, 100.0, 1e4, 0.0])[:, None]
    levels, scales = quantize(x)
    assert levels.dtype == torch.int8 and scales.shape == (3, 2, 5)
    error = (levels.float() * scales[..., None] - x).abs()
    assert (error <= scales[..., None] * 0.501).all()
    assert int(levels.abs().amax()) == 127


@pytest.mark.parametrize("is_int8", [False, True])
def test_appended_and_written_positions_read_alike(is_int8: bool) -> None:
    k, v = heads(3, 2, 8, 16), heads(3, 2, 8, 16) + 1
    whole, steps = new(is_int8=is_int8).layers[1], new(is_int8=is_int8).layers[1]
    whole.write_(0, 0, k, v)
    for place in range(8):
        positions = torch.tensor([place, (place + 3) % 8, 7 - place])
        rows = torch.arange(3)
        steps.append_(positions, k[rows, :, positions], v[rows, :, positions])
    read = [cache.read(slice(1, 3), 6, torch.float32) for cache in (whole, steps)]
    for ours, theirs in zip(*read, strict=True):
        assert ours.shape == (2, 2, 6, 16)
        assert torch.equal(ours, theirs)


def test_layers_are_views_of_one_allocation() -> None:
    cache = new(is_int8=False)
    cache.layers[1].write_(2, 4, heads(1, 2, 3, 16), heads(1, 2, 3, 16))
    assert cache.keys[1, 2, :, 4:7].abs().sum() > 0
    assert cache.keys.count_nonzero() == 2 * 3 * 16


@pytest.mark.parametrize("is_int8", [False, True])
def test_a_row_is_copied_up_to_a_length(is_int8: bool) -> None:
    cache = new(is_int8=is_int8)
    for layer in cache.layers:
        layer.write_(0, 0, heads(1, 2, 8, 16), heads(1, 2, 8, 16))
    cache.copy_row_(0, 2, 5)
    assert torch.equal(cache.keys[:, 2, :, :5], cache.keys[:, 0, :, :5])
    assert not cache.keys[:, 2, :, 5:].any() and not cache.keys[:, 1].any()


@pytest.mark.parametrize(
    ("is_int8", "dtype", "expected"), [(False, torch.float16, 128), (True, torch.float16, 80)]
)
def test_bytes_are_those_that_are_allocated(is_int8: bool, dtype: torch.dtype, expected: int) -> None:
    cache = new(is_int8=is_int8, dtype=dtype)
    tensors = (cache.keys, cache.values, cache.key_scales, cache.value_scales)
    allocated = sum(tensor.numel() * tensor.itemsize for tensor in tensors if tensor is not None)
    assert bytes_per_position(2, 16, dtype, is_int8=is_int8) == expected
    assert allocated == expected * 2 * 3 * 8
