"""The Triton kernels against PyTorch's operations: on a GPU compiled, elsewhere in Triton's interpreter."""

from __future__ import annotations

import importlib
from types import ModuleType

import pytest
import torch

from songgen.nn import attention, step_ops
from songgen.nn.kv_cache import KVCache, LayerCache

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
DTYPES = [torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@pytest.fixture(scope="module")
def kernels() -> ModuleType:
    """The kernels; conftest.py has chosen the interpreter where there is no GPU."""
    return importlib.import_module("songgen.nn.triton_kernels")


def rows(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(*shape, generator=generator).to(DEVICE, dtype)


def cache_of(num_rows: int, heads: int, capacity: int, head_dim: int, **options: object) -> LayerCache:
    cache = KVCache(
        num_layers=1,
        num_rows=num_rows,
        num_heads=heads,
        capacity=capacity,
        head_dim=head_dim,
        device=DEVICE,
        **options,  # type: ignore[arg-type]
    )
    return cache.layers[0]


def close(got: torch.Tensor, wanted: torch.Tensor) -> None:
    tolerance = TOLERANCE[wanted.dtype]
    torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [64, 1536, 100])
@pytest.mark.parametrize("has_residual", [True, False])
def test_add_norm(kernels: ModuleType, dtype: torch.dtype, width: int, has_residual: bool) -> None:
    delta, weight = rows(4, width, dtype=dtype), rows(width, dtype=dtype)
    residual = rows(4, width, dtype=dtype) + 1 if has_residual else None
    wanted = step_ops.add_norm(delta, residual, weight, 1e-5)
    got = kernels.add_norm(delta, None if residual is None else residual.clone(), weight, 1e-5)
    close(got[0], wanted[0])
    close(got[1], wanted[1])  # the interpreter cuts bfloat16 where a GPU rounds


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", [160, 1024, 1500])
def test_gate(kernels: ModuleType, dtype: torch.dtype, width: int) -> None:
    gate_up = rows(4, 2 * width, dtype=dtype) * 4
    close(kernels.gate(gate_up), step_ops.gate(gate_up))


@pytest.mark.parametrize("is_int8", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [16, 128, 24])
def test_rotate_append(kernels: ModuleType, dtype: torch.dtype, head_dim: int, is_int8: bool) -> None:
    """Rotated queries, and the same keys and values at each row's own position and nowhere else."""
    qkv, angles = rows(4, 3, 2, head_dim, dtype=dtype), rows(4, head_dim // 2)
    cos, sin = (part.repeat(1, 2).to(dtype) for part in (angles.cos(), angles.sin()))
    positions = torch.tensor([0, 5, 31, 7], device=DEVICE)
    ours, theirs = (cache_of(4, 2, 32, head_dim, dtype=dtype, is_int8=is_int8) for _ in range(2))
    close(
        kernels.rotate_append(qkv, cos, sin, ours, positions),
        step_ops.rotate_append(qkv, cos, sin, theirs, positions),
    )
    if not is_int8:
        close(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)
        return
    assert ours.value_scales is not None and theirs.value_scales is not None
    torch.testing.assert_close(ours.value_scales, theirs.value_scales)
    assert int((ours.values.int() - theirs.values.int()).abs().max()) <= 1
    slack = 1 if dtype == torch.float32 else 2  # torch rounds the rotated keys more often
    assert int((ours.keys.int() - theirs.keys.int()).abs().max()) <= slack


def filled(dtype: torch.dtype, head_dim: int, *, is_int8: bool) -> LayerCache:
    """A full cache of 4 rows, 2 heads and 300 positions, with everything behind what is read far off."""
    cache = cache_of(4, 2, 300, head_dim, dtype=dtype, is_int8=is_int8)
    cache.write_(0, 0, rows(4, 2, 300, head_dim, dtype=dtype), rows(4, 2, 300, head_dim, dtype=dtype) + 1)
    return cache


@pytest.mark.parametrize("is_int8", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("head_dim", [16, 128, 24])
def test_attention(kernels: ModuleType, dtype: torch.dtype, head_dim: int, is_int8: bool) -> None:
    """Rows of very different lengths, one of them shorter than the number of programs that share it."""
    cache, q = filled(dtype, head_dim, is_int8=is_int8), rows(4, 2, head_dim, dtype=dtype)
    lengths = torch.tensor([1, 64, 300, 131], device=DEVICE)
    got = kernels.attend_step(q, cache, lengths, 300)
    close(got, attention.attend_step(q, cache, lengths, 300))
    close(kernels.attend_step(q, cache, lengths, 1), got)  # the window plays no part


def test_attention_reads_nothing_behind_a_rows_length(kernels: ModuleType) -> None:
    cache, q = filled(torch.float32, 16, is_int8=False), rows(4, 2, 16)
    lengths = torch.tensor([1, 64, 200, 131], device=DEVICE)
    before = kernels.attend_step(q, cache, lengths, 300)
    for row, length in enumerate(lengths.tolist()):
        cache.keys[row, :, length:], cache.values[row, :, length:] = float("nan"), float("nan")
    assert torch.equal(kernels.attend_step(q, cache, lengths, 300), before)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["flash", "triton", "sdpa"])
def test_every_backend_of_this_machine_gives_the_same(name: str) -> None:
    """Needs a CUDA GPU; a backend that cannot run there has told why."""
    if attention.backends(DEVICE)[name] is not None:
        pytest.fail(f"{name}: {attention.backends(DEVICE)[name]}")
    cache, q = filled(torch.float16, 128, is_int8=False), rows(4, 2, 128, dtype=torch.float16)
    lengths = torch.tensor([1, 64, 300, 131], device=DEVICE)
    close(
        step_ops.step_ops(name, DEVICE).attend(q, cache, lengths, 300),
        attention.attend_step(q, cache, lengths, 300),
    )
