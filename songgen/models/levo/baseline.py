"""A plain loop of the same language model, to measure against: what is usually written first, and published.

One song at a time, its conditional and null row as a batch of two; every column through both transformers;
keys and values grow by concatenation; separate projections; PyTorch's attention; no graph. It computes what
songgen computes. Nothing but the benchmark and its tests uses it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from songgen.models.levo.conditions import LevoConditions
from songgen.models.levo.lelm import LeLM
from songgen.nn.llama import Llama, LlamaLayer
from songgen.nn.step_ops import rms_norm, rotate
from songgen.runtime.sampling import (
    Sampling,
    SamplingRows,
    guide,
    kept_probabilities,
    penalize,
    penalize_frequency,
)


class GrowingCache:
    """Keys and values of one transformer, which grow with every column."""

    def __init__(self) -> None:
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def extended(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values of a layer, the new ones last."""
        if layer in self.layers:
            k, v = (torch.cat(pair, dim=2) for pair in zip(self.layers[layer], (k, v), strict=True))
        self.layers[layer] = k, v
        return k, v


def forward(stack: Llama, x_BSD: Tensor, cache: GrowingCache, start: int) -> Tensor:
    """Run S positions from `start` on through a transformer: `[B, S, D]`, after the final norm."""
    table = stack.rotary_table()
    cos, sin = table.at(slice(start, start + x_BSD.shape[1]))
    heads, x = stack.config.num_heads, x_BSD
    for index, layer in enumerate(stack.layers):
        assert isinstance(layer, LlamaLayer)
        normed = rms_norm(x, layer.input_layernorm.weight, layer.input_layernorm.eps)
        q, k, v = (
            functional.linear(normed, weight).unflatten(-1, (heads, -1)).transpose(1, 2)
            for weight in _parts(layer.self_attn.qkv_proj, 3)
        )
        k, v = cache.extended(index, rotate(k, cos, sin), v)
        attended = functional.scaled_dot_product_attention(rotate(q, cos, sin), k, v, is_causal=start == 0)
        x = x + layer.self_attn.o_proj(attended.transpose(1, 2).flatten(2))
        normed = rms_norm(x, layer.post_attention_layernorm.weight, layer.post_attention_layernorm.eps)
        gate, up = (functional.linear(normed, weight) for weight in _parts(layer.mlp.gate_up_proj, 2))
        x = x + layer.mlp.down_proj(functional.silu(gate) * up)
    return rms_norm(x, stack.norm.weight, stack.norm.eps)


def _parts(joined: torch.nn.Linear | None, count: int) -> tuple[Tensor, ...]:
    """The separate projections of a joined one."""
    assert joined is not None, "the language model is as loaded, its projections joined"
    return joined.weight.chunk(count)


@torch.inference_mode()
def compose_plainly(
    lelm: LeLM, conditions: LevoConditions, num_frames: int, sampling: Sampling, seed: int
) -> Tensor:
    """The delayed columns `[K, S]` of one song, which runs to its limit whatever is drawn.

    Args:
        seed: of `torch.multinomial`, whose draws are not those of songgen; with temperature 0 columns are
        equal.
    """
    config, device = lelm.config, lelm.condition_provider.device
    generator = torch.Generator(device).manual_seed(seed)
    rows = SamplingRows.of([sampling], device)
    caches = [GrowingCache() for _ in lelm.stacks]
    inputs, inputs_sub = lelm.condition_provider.prefix(conditions)
    columns_KS = torch.full((config.num_codebooks, 1), config.special, device=device)
    delays_K, start = torch.tensor(config.delays, device=device), 0
    while True:
        hidden = forward(lelm.stacks[0], inputs, caches[0], start)
        bridged = lelm.bridge(inputs_sub, hidden)
        hidden_sub = None if bridged is None else forward(lelm.stacks[1], bridged, caches[1], start)
        if start:
            tokens_K = _choose(lelm, hidden, hidden_sub, columns_KS, (conditions, sampling, rows, generator))
            frames_K = columns_KS.shape[1] - 1 - delays_K
            tokens_K = torch.where((frames_K >= 0) & (frames_K < num_frames), tokens_K, config.special)
            columns_KS = torch.cat([columns_KS, tokens_K[:, None]], dim=1)
            if columns_KS.shape[1] == 1 + num_frames + max(config.delays):
                return columns_KS
        start += inputs.shape[1]
        inputs, inputs_sub = lelm.embed_codes(columns_KS[:, -1:].expand(2, -1, -1))


Choice = tuple[LevoConditions, Sampling, SamplingRows, torch.Generator]


def _choose(
    lelm: LeLM, hidden: Tensor, hidden_sub: Tensor | None, columns_KS: Tensor, choice: Choice
) -> Tensor:
    """The next column `[K]`."""
    conditions, sampling, rows, generator = choice
    logits = [lelm.logits_first(hidden[:, -1])]
    if hidden_sub is not None:
        logits += lelm.logits_stems(hidden_sub[:, -1])
    rows_BKV = torch.stack(logits, dim=1)
    if lelm.config.num_codebooks == 1:  # guidance on log-probabilities
        rows_BKV = rows_BKV.log_softmax(-1)
    guided = guide(rows_BKV[:1], rows_BKV[1:], rows.cfg_coef)
    past_BKS = columns_KS[None, :, 1:]
    if sampling.window and past_BKS.shape[2]:
        guided = penalize(guided, past_BKS[..., -sampling.window :], rows.penalty)
    if sampling.frequency_penalty:
        counts = torch.zeros(*guided.shape[:2], lelm.config.special + 1, device=guided.device)
        counts.scatter_add_(2, past_BKS, torch.ones_like(past_BKS, dtype=torch.float32))
        guided = penalize_frequency(guided, counts[..., : guided.shape[2]], rows.frequency_penalty)
    guided[:, 0, conditions.banned.to(guided.device)] = float("-inf")
    if sampling.temperature == 0:
        return guided[0].argmax(-1)
    return torch.multinomial(kept_probabilities(guided, rows)[0], 1, generator=generator)[:, 0]
