"""Attention that is told where to look: one head of a layer follows the lyrics as they are sung.

Alignment of text and song is what a language model learns last when only codes are its teachers. The truth
knows it; a loss on the weights of a few heads (as the guided attention of speech synthesis, Tachibana et al.
2017, arXiv:1710.08969, but with known places) has it learnt early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from songgen.nn.llama import Llama, LlamaLayer, RotaryTable
from songgen.nn.step_ops import rotate
from songgen.train.lm_songs import NOWHERE

NEIGHBOUR = 0.3
"""What attention to the token before or behind the right one counts."""
FLOOR = 1e-6


@dataclass(frozen=True)
class Guide:
    """One head that is guided.

    Args:
        layer, head: which.
        ahead: columns between a query and the one whose place it shall find: 1 for the one that it predicts,
            0 for its own.
        is_next: whether it shall find the place that is sung after that one.
    """

    layer: int
    head: int
    ahead: int = 1
    is_next: bool = False


class Projections:
    """Queries and keys of some layers of a stack, kept during a forward pass."""

    def __init__(self) -> None:
        self.q: dict[int, Tensor] = {}
        self.k: dict[int, Tensor] = {}

    @contextmanager
    def of(self, llama: Llama, layers: set[int]) -> Iterator[Projections]:
        """Keep those of a pass within the block, `[B, S, D]` before rotation."""
        handles = []
        for number in layers:
            layer = llama.layers[number]
            assert isinstance(layer, LlamaLayer)
            for kept, projection in ((self.q, layer.self_attn.q_proj), (self.k, layer.self_attn.k_proj)):
                assert projection is not None, "guides need a stack whose projections are not fused"
                handles.append(projection.register_forward_hook(_keep(kept, number)))
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def weights(self, llama: Llama, guide: Guide, rope: RotaryTable, first_query: int, keys: slice) -> Tensor:
        """Attention weights of the guided head, of the positions from `first_query` on over some keys.

        Returns:
            `[B, S - first_query, keys]` float32; softmax over all that a position sees.
        """
        width = llama.config.head_dim
        own = slice(guide.head * width, (guide.head + 1) * width)
        q, k = self.q[guide.layer][..., own], self.k[guide.layer][..., own]
        length = q.shape[1]
        cos, sin = rope.at(slice(0, length))
        q, k = rotate(q, cos, sin)[:, first_query:], rotate(k, cos, sin)
        scores = torch.matmul(q, k.transpose(1, 2)).float() * width**-0.5
        unseen = torch.ones(scores.shape[1:], dtype=torch.bool, device=q.device).triu(first_query + 1)
        return scores.masked_fill(unseen, float("-inf")).softmax(-1)[..., keys]


def _keep(kept: dict[int, Tensor], number: int) -> Callable[[nn.Module, object, Tensor], None]:
    def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
        kept[number] = output

    return hook


def ahead_of(places_BS: Tensor, ahead: int, num_queries: int) -> Tensor:
    """The place that each column's query shall find, `[B, num_queries]`, `NOWHERE` for none."""
    return places_BS[:, ahead : ahead + num_queries]


def guide_loss(weights_BSL: Tensor, places_BS: Tensor) -> Tensor:
    """The mean of -log of the weight on the right token; its neighbours count `NEIGHBOUR`."""
    padded = nn.functional.pad(weights_BSL, (1, 1))
    index = places_BS.clamp(min=0)[..., None]
    near = padded.gather(-1, index) + padded.gather(-1, index + 2)
    found = padded.gather(-1, index + 1) + NEIGHBOUR * near
    losses = -(found[..., 0] + FLOOR).log()
    is_told = (places_BS != NOWHERE).float()
    return (losses * is_told).sum() / is_told.sum().clamp(min=1)


def guide_hits(weights_BSL: Tensor, places_BS: Tensor) -> tuple[int, int]:
    """How many columns look most at the right token or a neighbour, and of how many."""
    is_told = places_BS != NOWHERE
    near = (weights_BSL.argmax(-1) - places_BS).abs() <= 1
    return int((near & is_told).sum()), int(is_told.sum())
