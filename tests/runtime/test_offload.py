"""Streamed layers: the same numbers as resident ones, with two layers' worth of device memory."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn

from songgen.nn.llama import Llama, LlamaConfig
from songgen.runtime.offload import LayerStream, StreamedLayers, stream_layers_, streamed_positions

CPU = torch.device("cpu")
CONFIG = LlamaConfig(width=16, ffn_dim=24, num_heads=2, num_layers=5, rope_theta=1e4, num_positions=32)


def stack(seed: int, num_layers: int = 5) -> Llama:
    torch.manual_seed(seed)
    config = LlamaConfig(**{**vars(CONFIG), "num_layers": num_layers})
    return Llama(config).requires_grad_(False).eval()


@torch.inference_mode()
def run(stacks: list[Llama]) -> list[torch.Tensor]:
    """A prompt of four positions and three steps through each stack in turn, as a model of two would."""
    x = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))
    found = []
    caches = [(one.new_cache(2, 32), one.rotary_table()) for one in stacks]
    for one, (cache, rope) in zip(stacks, caches, strict=True):
        found.append(one.prompt(x[:, :4], rope, cache))
    for position in range(4, 7):
        for one, (cache, rope) in zip(stacks, caches, strict=True):
            found.append(one.step(x[:, position], rope, cache, torch.full((2,), position), window=32))
    return found


@pytest.mark.parametrize("resident", [0, 1, 2, 4, 5, 6, 7])
def test_streamed_layers_compute_the_same_bits(resident: int) -> None:
    plain, streamed = ([stack(1), stack(2, 2)] for _ in range(2))
    stream_layers_(streamed, streamed_positions(7, resident), CPU)
    for one, other in zip(run(plain), run(streamed), strict=True):
        assert torch.equal(one, other)
    assert all(len(one.layers) == len(other.layers) for one, other in zip(plain, streamed, strict=True))
    assert all(getattr(one.layers, "is_streamed", False) == (resident < 7) for one in streamed)


def test_layers_may_hold_anything_in_any_precision() -> None:
    """Fused projections, 8-bit weights with scales, a lone bias: a layer is what its state says."""

    class Odd(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            generator = torch.Generator().manual_seed(seed)
            whole = torch.randint(-128, 127, (3, 5), dtype=torch.int8, generator=generator)
            self.whole = nn.Parameter(whole, requires_grad=False)
            self.narrow = nn.Parameter(torch.randn(7, generator=generator).bfloat16(), requires_grad=False)
            self.register_buffer("scale", torch.randn(1, generator=generator))

    kept, given = ([Odd(seed) for seed in range(4)] for _ in range(2))
    stream = LayerStream(given, CPU)
    for number in (0, 1, 2, 3, 0, 3, 3, 1, 0):  # in turn, round again, and out of turn
        found = stream.fetch(number).state_dict()
        for name, tensor in kept[number].state_dict().items():
            assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor)


def test_the_device_holds_two_layers_of_the_streamed_ones() -> None:
    """What the stream was given keeps no weights; their only copies are the packed ones."""
    given = stack(1)
    size = sum(tensor.nbytes for tensor in given.layers[0].parameters())
    layers = list(given.layers)
    stream_layers_([given], streamed_positions(5, 2), CPU)
    streamed = [layer for layer in layers if next(layer.parameters()).is_meta]
    assert len(streamed) == 3
    layers.clear()
    gc.collect()
    assert isinstance(given.layers, StreamedLayers)
    assert sum(tensor.nbytes for tensor in given.layers.parameters()) == 2 * size
    buffers = given.layers._stream._buffers
    assert len(buffers) == 2 and all(buffer.block_N.nbytes <= size + 9 * 256 for buffer in buffers)


def test_what_is_streamed_is_spread_evenly() -> None:
    assert streamed_positions(48, None) == streamed_positions(48, 48) == frozenset()
    assert streamed_positions(12, 9) == {0, 4, 8}
    assert streamed_positions(7, 0) == set(range(7))
    assert len(streamed_positions(48, 37)) == 11
