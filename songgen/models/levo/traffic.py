"""Bytes that composing songs reads: the floor that memory bandwidth sets."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from songgen.models.levo.lelm import LeLM
from songgen.nn.kv_cache import bytes_per_position
from songgen.runtime.decode import CHECK_EVERY


@dataclass(frozen=True)
class Traffic:
    """Bytes read by the steps of `batch` equal songs that run side by side.

    Args:
        ours: with heads and tails through one transformer, as songgen steps.
        plain: with both transformers at every column, as published.
        steps: of ours. `plain_steps`: of the other.
    """

    ours: float
    plain: float
    steps: int
    plain_steps: int


def weight_bytes(module: nn.Module) -> int:
    """Bytes of a module's weights, each read once."""
    return sum(parameter.numel() * parameter.itemsize for parameter in module.parameters())


def traffic_of(lelm: LeLM, num_frames: int, batch: int, *, is_int8: bool = False) -> Traffic:
    """Bytes of the weights of each step, and of the keys and values that each row has written.

    Embedding rows, activations, prefixes and passes over many positions are left out: they are small.
    """
    config, (first, *second) = lelm.config, lelm.stacks
    per_position = (
        2
        * batch
        * bytes_per_position(
            config.num_heads, config.llama().head_dim, first.norm.weight.dtype, is_int8=is_int8
        )
    )

    def bytes_of(layers: int, weights: int, start: int, stop: int) -> float:
        """The steps that feed columns `start` ... `stop` - 1 to one transformer."""
        mean_length = config.prefix_length + (start + stop + 1) / 2
        return max(0, stop - start) * (weights + layers * per_position * mean_length)

    weights = weight_bytes(first) + weight_bytes(lelm.transformer.lm_head)
    last = num_frames + max(config.delays)
    if not second:
        read = bytes_of(config.num_layers, weights, 0, last)
        return Traffic(read, read, last, last)
    weights_sub = sum(weight_bytes(module) for module in (*second, lelm.mlp, lelm.linears))
    head = max(config.delays) // CHECK_EVERY * CHECK_EVERY
    seen = min(-(-num_frames // CHECK_EVERY) * CHECK_EVERY, last)  # the end of codebook 0, at the next look
    ours = bytes_of(config.num_layers, weights, 0, seen)
    ours += bytes_of(config.num_layers_sub, weights_sub, head, last)
    plain = bytes_of(config.num_layers, weights, 0, last)
    plain += bytes_of(config.num_layers_sub, weights_sub, 0, last)
    steps = last if seen >= head else seen + last - head
    return Traffic(ours, plain, steps, last)
