"""From a block's sketch to its latents: guidance around the sampler of `nn/rectified_flow.py`."""

from __future__ import annotations

import torch
from torch import Tensor

from songgen.models.songbloom.network import BlockContext, SongBloomNetwork
from songgen.nn.llama import RotaryTable
from songgen.nn.rectified_flow import sample_flow


def diffuse_block(
    network: SongBloomNetwork,
    context: BlockContext,
    noise_BTZ: Tensor,
    rope: RotaryTable,
    *,
    times_ND: Tensor,
    cfg_coef_B: Tensor,
    temperature: float,
) -> Tensor:
    """The latents of one block of B songs, `[B, T, Z]` float32.

    Args:
        context: of the songs; its hidden vectors `[2 B, D]` are those of both rows of each, conditional
            first.
        noise_BTZ: standard normal, float32.
        rope: of `network.diffusion_rope`.
        times_ND: `embed_times` of the `flow_times`, one row a step and the end.
        cfg_coef_B: float32, strength of guidance.
        temperature: see `sample_flow`.
    """
    steps = times_ND.shape[0] - 1
    guidance = network.config.guidance
    conditional = BlockContext(context.hidden_BD[0::2], context.sketch_BTD, context.history_BTZ)

    def sample(context: BlockContext, coef_B: Tensor | None) -> Tensor:
        def velocity(x_BTZ: Tensor, number: int) -> Tensor:
            if coef_B is None:
                return network.velocity(x_BTZ, times_ND[number], context, rope)
            doubled = network.velocity(torch.cat([x_BTZ, x_BTZ]), times_ND[number], context, rope)
            guided, null = doubled.chunk(2)
            return guide(guided, null, coef_B)

        return sample_flow(velocity, noise_BTZ, steps=steps, temperature=temperature)

    if guidance == "none":
        return sample(conditional, None)
    if guidance == "h":
        return sample(with_null(conditional), cfg_coef_B)
    null = BlockContext(context.hidden_BD[1::2], context.sketch_BTD, context.history_BTZ)
    return guide(sample(conditional, None), sample(null, None), cfg_coef_B)


def guide(conditional_BTZ: Tensor, null_BTZ: Tensor, coef_B: Tensor) -> Tensor:
    """null + (conditional - null) * coef."""
    return null_BTZ + (conditional_BTZ - null_BTZ) * coef_B[:, None, None]


def with_null(context: BlockContext) -> BlockContext:
    """B rows, and B more without hidden vector and sketch, but with the same history."""
    hidden, sketch, history = context.hidden_BD, context.sketch_BTD, context.history_BTZ
    return BlockContext(
        torch.cat([hidden, torch.zeros_like(hidden)]),
        torch.cat([sketch, torch.zeros_like(sketch)]),
        torch.cat([history, history]),
    )
