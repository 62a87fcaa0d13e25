"""The step's operations as Triton kernels for CUDA GPUs: norm, rotary write, gate and split-KV attention.

The functions have the signatures and meaning of `step_ops.py` and `attention.attend_step`. Arithmetic is in
float32, rounded where a value is stored. Attention follows flash decoding (Dao et al. 2023): the positions
that a row has written are shared out evenly among several programs, whose partial softmaxes are merged; so
its cost grows with what is written, row by row, and an 8-bit cache is read as 8 bits.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from songgen.nn.kv_cache import INT8_LEVELS, SMALLEST_SCALE, LayerCache

BLOCK_POSITIONS = 64
MOST_SPLITS = 32
PROGRAMS_PER_PROCESSOR = 4
"""Programs that attention aims at, over the multiprocessors of the GPU."""
GATE_BLOCK = 1024


@triton.jit
def _add_norm_kernel(  # type: ignore[no-untyped-def]
    delta, residual, weight, normed, width, eps, HAS_RESIDUAL: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < width
    place = row * width + columns
    x = tl.load(delta + place, mask=inside, other=0.0)
    if HAS_RESIDUAL:
        before = tl.load(residual + place, mask=inside, other=0.0)
        x = (before.to(tl.float32) + x.to(tl.float32)).to(x.dtype)
        tl.store(residual + place, x, mask=inside)
    x32 = x.to(tl.float32)
    scaled = x32 * tl.rsqrt(tl.sum(x32 * x32, 0) / width + eps)
    gain = tl.load(weight + columns, mask=inside, other=0.0)
    result = gain.to(tl.float32) * scaled.to(x.dtype).to(tl.float32)
    tl.store(normed + place, result.to(x.dtype), mask=inside)


@triton.jit
def _gate_kernel(gate_up, gated, width, BLOCK: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    first = tl.load(gate_up + row * 2 * width + columns, mask=inside, other=0.0)
    second = tl.load(gate_up + row * 2 * width + width + columns, mask=inside, other=0.0)
    x = first.to(tl.float32)
    silu = (x / (1.0 + tl.exp(-x))).to(first.dtype)
    result = silu.to(tl.float32) * second.to(tl.float32)
    tl.store(gated + row * width + columns, result.to(first.dtype), mask=inside)


@triton.jit
def _store_head(  # type: ignore[no-untyped-def]
    low, high, target, scales, vector, HALF, inside, half, IS_INT8: tl.constexpr, LEVELS, SMALLEST
):
    """Store the two halves of head vector number `vector`, in 8 bits with its scale if wanted."""
    place = target + vector * 2 * HALF + half
    if IS_INT8:
        largest = tl.maximum(tl.max(tl.abs(low), 0), tl.max(tl.abs(high), 0))
        scale = tl.maximum(largest, SMALLEST) / LEVELS
        tl.store(scales + vector, scale)
        tl.store(place, tl.floor(low / scale + 0.5).to(tl.int8), mask=inside)
        tl.store(place + HALF, tl.floor(high / scale + 0.5).to(tl.int8), mask=inside)
    else:
        tl.store(place, low.to(target.dtype.element_ty), mask=inside)
        tl.store(place + HALF, high.to(target.dtype.element_ty), mask=inside)


@triton.jit
def _rotate_append_kernel(  # type: ignore[no-untyped-def]
    qkv,
    cos,
    sin,
    positions,
    queries,
    keys,
    values,
    key_scales,
    value_scales,
    num_heads,
    capacity,
    HALF,
    LEVELS,
    SMALLEST,
    IS_INT8: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    half = tl.arange(0, BLOCK)
    inside = half < HALF
    width = num_heads * 2 * HALF
    angle = row * 2 * HALF + half
    c = tl.load(cos + angle, mask=inside, other=0.0).to(tl.float32)
    s = tl.load(sin + angle, mask=inside, other=0.0).to(tl.float32)
    source = qkv + row * 3 * width + head * 2 * HALF + half
    q1 = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    q2 = tl.load(source + HALF, mask=inside, other=0.0).to(tl.float32)
    k1 = tl.load(source + width, mask=inside, other=0.0).to(tl.float32)
    k2 = tl.load(source + width + HALF, mask=inside, other=0.0).to(tl.float32)
    v1 = tl.load(source + 2 * width, mask=inside, other=0.0).to(tl.float32)
    v2 = tl.load(source + 2 * width + HALF, mask=inside, other=0.0).to(tl.float32)
    turned = queries + row * width + head * 2 * HALF + half
    tl.store(turned, (q1 * c - q2 * s).to(queries.dtype.element_ty), mask=inside)
    tl.store(turned + HALF, (q2 * c + q1 * s).to(queries.dtype.element_ty), mask=inside)
    vector = (row * num_heads + head) * capacity + tl.load(positions + row)
    turned1 = (k1 * c - k2 * s).to(qkv.dtype.element_ty).to(tl.float32)
    turned2 = (k2 * c + k1 * s).to(qkv.dtype.element_ty).to(tl.float32)
    _store_head(turned1, turned2, keys, key_scales, vector, HALF, inside, half, IS_INT8, LEVELS, SMALLEST)
    _store_head(v1, v2, values, value_scales, vector, HALF, inside, half, IS_INT8, LEVELS, SMALLEST)


@triton.jit
def _attend_part_kernel(  # type: ignore[no-untyped-def]
    queries,
    keys,
    values,
    key_scales,
    value_scales,
    lengths,
    partial,
    largest,
    total,
    num_heads,
    capacity,
    head_dim,
    scale,
    SPLITS: tl.constexpr,
    IS_INT8: tl.constexpr,
    POSITIONS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    pair, split = tl.program_id(0).to(tl.int64), tl.program_id(1)
    length = tl.load(lengths + pair // num_heads)
    share = tl.cdiv(tl.cdiv(length, SPLITS), POSITIONS) * POSITIONS
    start = share * split
    stop = tl.minimum(start + share, length)
    columns, offsets = tl.arange(0, BLOCK), tl.arange(0, POSITIONS)
    inside = columns < head_dim
    query = tl.load(queries + pair * head_dim + columns, mask=inside, other=0.0).to(tl.float32) * scale
    peak = tl.full((), -float("inf"), tl.float32)
    mass = tl.full((), 0.0, tl.float32)
    mixed = tl.zeros((BLOCK,), tl.float32)
    for first in range(start, stop, POSITIONS):
        places = first + offsets
        written = places < stop
        vectors = pair * capacity + places
        tile = vectors[:, None] * head_dim + columns[None, :]
        mask = written[:, None] & inside[None, :]
        k = tl.load(keys + tile, mask=mask, other=0.0).to(tl.float32)
        scores = tl.sum(k * query[None, :], 1)
        if IS_INT8:
            scores *= tl.load(key_scales + vectors, mask=written, other=0.0)
        scores = tl.where(written, scores, -float("inf"))
        higher = tl.maximum(peak, tl.max(scores, 0))
        weights = tl.exp(scores - higher)
        fade = tl.exp(peak - higher)
        mass = mass * fade + tl.sum(weights, 0)
        if IS_INT8:
            weights *= tl.load(value_scales + vectors, mask=written, other=0.0)
        v = tl.load(values + tile, mask=mask, other=0.0).to(tl.float32)
        mixed = mixed * fade + tl.sum(weights[:, None] * v, 0)
        peak = higher
    place = pair * SPLITS + split
    tl.store(partial + place * head_dim + columns, mixed, mask=inside)
    tl.store(largest + place, peak)
    tl.store(total + place, mass)


@triton.jit
def _attend_merge_kernel(  # type: ignore[no-untyped-def]
    partial, largest, total, attended, head_dim, SPLITS: tl.constexpr, BLOCK: tl.constexpr
):
    pair = tl.program_id(0).to(tl.int64)
    splits, columns = tl.arange(0, SPLITS), tl.arange(0, BLOCK)
    inside = columns < head_dim
    peaks = tl.load(largest + pair * SPLITS + splits)
    weights = tl.exp(peaks - tl.max(peaks, 0))
    mass = tl.sum(weights * tl.load(total + pair * SPLITS + splits), 0)
    tile = (pair * SPLITS + splits)[:, None] * head_dim + columns[None, :]
    parts = tl.load(partial + tile, mask=inside[None, :], other=0.0)
    result = tl.sum(parts * weights[:, None], 0) / mass
    tl.store(attended + pair * head_dim + columns, result.to(attended.dtype.element_ty), mask=inside)


def add_norm(
    delta_BD: Tensor, residual_BD: Tensor | None, weight_D: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """`step_ops.add_norm`; the residual stream is updated in place."""
    rows, width = delta_BD.shape
    normed_BD = torch.empty_like(delta_BD)
    stream_BD = delta_BD if residual_BD is None else residual_BD
    block = triton.next_power_of_2(width)
    _add_norm_kernel[(rows,)](
        delta_BD,
        stream_BD,
        weight_D,
        normed_BD,
        width,
        eps,
        HAS_RESIDUAL=residual_BD is not None,
        BLOCK=block,
        num_warps=min(8, max(1, block // 256)),
    )
    return normed_BD, stream_BD


def gate(gate_up_BF: Tensor) -> Tensor:
    """`step_ops.gate`."""
    rows, width = gate_up_BF.shape[0], gate_up_BF.shape[1] // 2
    gated_BF = gate_up_BF.new_empty(rows, width)
    block = min(GATE_BLOCK, triton.next_power_of_2(width))
    _gate_kernel[(rows, triton.cdiv(width, block))](gate_up_BF, gated_BF, width, BLOCK=block)
    return gated_BF


def rotate_append(
    qkv_B3HE: Tensor, cos_BE: Tensor, sin_BE: Tensor, cache: LayerCache, positions_B: Tensor
) -> Tensor:
    """`step_ops.rotate_append`."""
    rows, _, heads, head_dim = qkv_B3HE.shape
    q_BHE = qkv_B3HE.new_empty(rows, heads, head_dim)
    _rotate_append_kernel[(rows, heads)](
        qkv_B3HE,
        cos_BE,
        sin_BE,
        positions_B,
        q_BHE,
        *_stored(cache),
        heads,
        cache.keys.shape[2],
        head_dim // 2,
        INT8_LEVELS,
        SMALLEST_SCALE,
        IS_INT8=cache.key_scales is not None,
        BLOCK=triton.next_power_of_2(head_dim // 2),
        num_warps=1,
    )
    return q_BHE


def attend_step(q_BHE: Tensor, cache: LayerCache, lengths_B: Tensor, window: int) -> Tensor:
    """`attention.attend_step` over what each row has written; the window is not needed."""
    rows, heads, head_dim = q_BHE.shape
    splits = _num_splits(rows * heads, q_BHE.device)
    partial = q_BHE.new_empty(rows * heads, splits, head_dim, dtype=torch.float32)
    largest, total = (q_BHE.new_empty(rows * heads, splits, dtype=torch.float32) for _ in range(2))
    block = triton.next_power_of_2(head_dim)
    _attend_part_kernel[(rows * heads, splits)](
        q_BHE,
        *_stored(cache),
        lengths_B,
        partial,
        largest,
        total,
        heads,
        cache.keys.shape[2],
        head_dim,
        head_dim**-0.5,
        SPLITS=splits,
        IS_INT8=cache.key_scales is not None,
        POSITIONS=BLOCK_POSITIONS,
        BLOCK=block,
        num_warps=4,
    )
    attended_BHE = torch.empty_like(q_BHE)
    _attend_merge_kernel[(rows * heads,)](
        partial, largest, total, attended_BHE, head_dim, SPLITS=splits, BLOCK=block, num_warps=1
    )
    return attended_BHE


def _stored(cache: LayerCache) -> tuple[Any, ...]:
    """Keys, values and their scales as kernel arguments, which all lie row by row without gaps."""
    assert cache.keys.is_contiguous() and cache.values.is_contiguous()
    if cache.key_scales is None:  # not read: any pointer will do
        return cache.keys, cache.values, cache.keys, cache.values
    return cache.keys, cache.values, cache.key_scales, cache.value_scales


def _num_splits(num_pairs: int, device: torch.device) -> int:
    """Programs per row and head: enough to fill the GPU, a power of 2."""
    if device.type != "cuda":  # the interpreter
        return 4
    wanted = PROGRAMS_PER_PROCESSOR * torch.cuda.get_device_properties(device).multi_processor_count
    return min(MOST_SPLITS, triton.next_power_of_2(-(-wanted // num_pairs)))
