"""Streaming layers: weights stay in CPU memory and pass through two device buffers while the model runs.

Each streamed layer is packed into one block of (on CUDA pinned) CPU memory. While one buffer's layer
computes, the next layer is copied into the other on a stream of its own, over all stacks of a model and round
again, so that the copying never rests. What is computed does not change. Knows nothing of what a layer does.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from songgen.runtime.memory import STREAM_BUFFERS

ALIGNMENT = 256
"""Bytes: where tensors begin in a packed layer, as allocators of GPUs place them."""


def streamed_positions(num_layers: int, resident: int | None) -> frozenset[int]:
    """The layers of 0 ... num_layers - 1 to stream so that `resident` stay, spread evenly; None: all stay."""
    num_streamed = 0 if resident is None else num_layers - resident
    assert 0 <= num_streamed <= num_layers, f"{resident} of {num_layers} layers"
    return frozenset(number * num_layers // num_streamed for number in range(num_streamed))


def stream_layers_(stacks: Sequence[nn.Module], positions: Collection[int], device: torch.device) -> None:
    """Replace the layers of some stacks by ones of which those at `positions` are streamed.

    Args:
        stacks: each runs its submodule `layers` in order, by iterating over it.
        positions: counted over all stacks, in the order that they run. These layers must be alike, on the CPU
            and with their weights as they are to run (projections fused); they lose their weights to the
            stream. The other layers are on `device` already.
    """
    if not positions:
        return
    layers = [layer for stack in stacks for layer in _layers(stack)]
    stream = LayerStream([layers[position] for position in sorted(positions)], device)
    numbers = {position: number for number, position in enumerate(sorted(positions))}
    first = 0
    for stack in stacks:
        own = _layers(stack)
        places = [numbers.get(first + index) for index in range(len(own))]
        stack.register_module("layers", StreamedLayers(own, places, stream))
        first += len(own)


def _layers(stack: nn.Module) -> list[nn.Module]:
    layers = stack.get_submodule("layers")
    assert isinstance(layers, nn.ModuleList)
    return list(layers)


class StreamedLayers(nn.Module):
    """The layers of a stack, in order: iterating hands out each when its weights are in place.

    A layer is to be used before the next is asked for.

    Args:
        layers: of which those that are streamed are empty.
        places: per layer its number in the stream, None if it stays on the device.
    """

    is_streamed = True
    """For what cannot run over changing buffers, such as a captured graph."""

    def __init__(
        self, layers: Sequence[nn.Module], places: Sequence[int | None], stream: LayerStream
    ) -> None:
        super().__init__()
        pairs = list(zip(layers, places, strict=True))
        self.resident = nn.ModuleList(layer for layer, place in pairs if place is None)
        self._places, self._stream = tuple(places), stream

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[nn.Module]:
        resident = iter(self.resident)
        for place in self._places:
            yield next(resident) if place is None else self._stream.fetch(place)


@dataclass(frozen=True)
class _Cell:
    """Where a tensor lies in a packed layer, bytes."""

    name: str
    dtype: torch.dtype
    shape: torch.Size
    start: int
    stop: int

    def of(self, block_N: Tensor) -> Tensor:
        """The tensor in a block."""
        return block_N[self.start : self.stop].view(self.dtype).view(self.shape)


def _cells(layer: nn.Module) -> tuple[_Cell, ...]:
    cells, start = [], 0
    for name, tensor in layer.state_dict().items():
        stop = start + tensor.numel() * tensor.element_size()
        cells.append(_Cell(name, tensor.dtype, tensor.shape, start, stop))
        start = -(-stop // ALIGNMENT) * ALIGNMENT
    return tuple(cells)


class _Buffer:
    """Device memory for one layer, and a layer whose weights lie in it."""

    def __init__(self, shell: nn.Module, cells: tuple[_Cell, ...], device: torch.device) -> None:
        self.block_N = torch.empty(cells[-1].stop, dtype=torch.uint8, device=device)
        self.layer = copy.deepcopy(shell)
        self.layer.load_state_dict({cell.name: cell.of(self.block_N) for cell in cells}, assign=True)
        self.layer.requires_grad_(False).eval()
        self.holds: int | None = None
        self.is_filled = torch.cuda.Event() if device.type == "cuda" else None


class LayerStream:
    """Layers in CPU memory, fetched one after the other, the next being copied meanwhile.

    Args:
        layers: alike in names, shapes and dtypes; they lose their weights.
    """

    def __init__(self, layers: Sequence[nn.Module], device: torch.device) -> None:
        cells = _cells(layers[0])
        self._blocks = [_pack_(layer, cells, pinned=device.type == "cuda") for layer in layers]
        self._buffers = [_Buffer(layers[0], cells, device) for _ in range(STREAM_BUFFERS)]
        self._device = device
        self._copying = torch.cuda.Stream(device) if device.type == "cuda" else None
        if self._copying is not None:
            for buffer in self._buffers:  # freed only when copies into it are over
                buffer.block_N.record_stream(self._copying)

    def fetch(self, number: int) -> nn.Module:
        """The layer of that number with its weights in place, until another one is fetched."""
        buffer = next((buffer for buffer in self._buffers if buffer.holds == number), self._buffers[0])
        if buffer.holds != number:
            self._fill(buffer, number)
        if buffer.is_filled is not None:
            torch.cuda.current_stream(self._device).wait_event(buffer.is_filled)
        following = (number + 1) % len(self._blocks)
        if all(other.holds != following for other in self._buffers):
            self._fill(next(other for other in self._buffers if other is not buffer), following)
        return buffer.layer

    def _fill(self, buffer: _Buffer, number: int) -> None:
        """Copy a layer's weights into a buffer, behind the work that has been given to the device so far."""
        buffer.holds = number
        if self._copying is None or buffer.is_filled is None:
            buffer.block_N.copy_(self._blocks[number])
            return
        self._copying.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._copying):
            buffer.block_N.copy_(self._blocks[number], non_blocking=True)
            buffer.is_filled.record(self._copying)


def _pack_(layer: nn.Module, cells: tuple[_Cell, ...], *, pinned: bool) -> Tensor:
    """All weights of a layer in one block of bytes on the CPU; leaves the layer without them."""
    assert _cells(layer) == cells, "streamed layers must be alike"
    block_N = torch.empty(cells[-1].stop, dtype=torch.uint8, pin_memory=pinned)
    weights = layer.state_dict()
    for cell in cells:
        cell.of(block_N).copy_(weights[cell.name])
    layer.to("meta")
    return block_N
