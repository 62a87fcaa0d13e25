"""About when the lines of the lyrics are sung: LeLM's own attention over its lyric prefix.

A finished song is read once more by transformer 1, all its columns known, without guidance; the steps that
wrote it give no attention weights. The weights of each column over the lyric tokens, of the upper layers,
make a map of frames and tokens, through which dynamic time warping finds a path. How well a head aligns is
not known beforehand: each counts by how far its weights move on through the text with time, and by how
narrow they are. Where attention tells nothing, the lengths estimated from the text decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from songgen.lrc import LyricLine, TimedLine, lyric_lines
from songgen.lyrics import scan_lyrics
from songgen.models.levo.conditions import LevoConditions
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.pattern import to_sequence
from songgen.models.levo.warping import Floats, smooth, starts_of, warp
from songgen.nn.attention import attend_prompt
from songgen.nn.llama import Llama, LlamaLayer
from songgen.nn.step_ops import rotate
from songgen.text_length import estimate_seconds

EPSILON = 1e-6
TRUST_FLOOR = 0.02
"""Trust of all heads together below which they count less and less, and estimated lengths decide: a head that
aligns has about 0.1, those of random weights 0.001 or less."""

SCORE_BYTES = 64 * 2**20
"""Of the float32 scores of all heads that are held at once."""

HEADS_AT_ONCE = 4
"""Heads whose maps are weighed together, which takes about six times the memory of their maps."""


@dataclass(frozen=True)
class AlignmentOptions:
    """How attention becomes a path. The defaults are reasoned, not fitted: no trained weights were at hand.

    Args:
        first_layer: the lowest layer that counts, as a share of the stack, 0 ... 1. Alignment is a matter of
            content, which upper layers attend by.
        pool: frames that make one of the map; 5 are 0.2 s.
        median: width of the median filter over time, in frames of the map, odd.
        prior: what a frame of the map loses for being off the estimated place by the song's length, in
            standard deviations of attention; it grows with the square of the distance.
    """

    first_layer: float = 0.5
    pool: int = 5
    median: int = 3
    prior: float = 2.0


DEFAULTS = AlignmentOptions()


def layer_attention(
    llama: Llama, inputs_1SD: Tensor, *, first_query: int, keys: slice, pool: int = 1, first_layer: int = 0
) -> Iterator[Tensor]:
    """Attention weights of a stack over known inputs, layer by layer, from layer `first_layer` on.

    Softmax in float32 over all that a position sees, of which `keys` are kept; computed for as many positions
    at once as `SCORE_BYTES` allows.

    Args:
        inputs_1SD: one row.
        first_query: the first position whose weights are wanted; all behind it are.
        keys: positions whose weights are kept.
        pool: positions whose weights are averaged; the last ones may be fewer.

    Yields:
        `[H, ceil((S - first_query) / pool), keys]` float32.
    """
    length = inputs_1SD.shape[1]
    rope = llama.rotary_table().at(slice(0, length))
    x, config = inputs_1SD, llama.config
    chunk = max(1, SCORE_BYTES // (4 * config.num_heads * length * pool)) * pool
    for index, layer in enumerate(llama.layers):
        assert isinstance(layer, LlamaLayer)
        qkv = layer.self_attn.qkv(layer.input_layernorm(x))
        q, k, v = rearrange(qkv, "b s three h e -> three b h s e")
        q, k = rotate(q, *rope), rotate(k, *rope)
        if index >= first_layer:
            starts = range(first_query, length, chunk)
            parts = [_weights(q[0], k[0], slice(start, start + chunk), keys, pool) for start in starts]
            yield torch.cat(parts, dim=1)
        if index + 1 < len(llama.layers):
            x = x + layer.self_attn.o_proj(rearrange(attend_prompt(q, k, v), "b h s e -> b s (h e)"))
            normed = layer.post_attention_layernorm(x)
            x = x + torch.cat([layer.mlp(part) for part in normed.split(chunk, dim=1)], dim=1)


def _weights(q_HSE: Tensor, k_HSE: Tensor, queries: slice, keys: slice, pool: int) -> Tensor:
    """The pooled weights of some query positions over some key positions, `[H, n, keys]`."""
    q = q_HSE[:, queries]
    last = queries.start + q.shape[1]
    scores = torch.matmul(q, k_HSE[:, :last].transpose(1, 2)).float() * q.shape[-1] ** -0.5
    unseen = torch.ones(q.shape[1], last, dtype=torch.bool, device=q.device).triu(queries.start + 1)
    weights = scores.masked_fill_(unseen, float("-inf")).softmax(-1)[:, :, keys]
    return torch.stack([part.mean(1) for part in weights.split(pool, dim=1)], dim=1)


def trusted(weights_HTL: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's heads made one: the sum of their maps, each by its trust, and the sum of trust.

    A map is normalised frame by frame, as weights sink while a song goes on, and then over time, token by
    token, so that tokens which all frames attend to say nothing. Frames that attend to the text less than
    most (played, not sung) count less. A head's trust is the square of the product
    of two numbers of 0 ... 1: the squared correlation, if positive, of time and the mean place of its weights
    above average, and 1 - their entropy / ln L.

    Args:
        weights_HTL: L >= 2 tokens.
    """
    num_frames, num_tokens = weights_HTL.shape[1:]
    mass_HT1 = weights_HTL.sum(-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    own_HTL = weights_HTL / mass_HT1
    mean, std = own_HTL.mean(1, keepdim=True), own_HTL.std(1, keepdim=True, correction=0)
    normed = (own_HTL - mean) / (std + EPSILON)
    shares = normed.clamp(min=0)
    shares = shares / (shares.sum(-1, keepdim=True) + EPSILON)
    places_HT = shares @ torch.arange(num_tokens, dtype=shares.dtype, device=shares.device)
    places_HT = places_HT - places_HT.mean(1, keepdim=True)
    times_T = torch.arange(num_frames, dtype=shares.dtype, device=shares.device)
    times_T = times_T - times_T.mean()
    spread_H = places_HT.square().sum(1) * times_T.square().sum()
    order_H = (places_HT @ times_T).clamp(min=0).square() / (spread_H + EPSILON)
    entropy_H = -(shares * (shares + EPSILON).log()).sum(-1).mean(1) / np.log(num_tokens)
    trust_H = (order_H * (1 - entropy_H).clamp(min=0, max=1)).square()
    counted = normed * (mass_HT1 / mass_HT1.median(1, keepdim=True).values).clamp(max=1)
    return torch.einsum("h,htl->tl", trust_H, counted), trust_H.sum()


def attention_map(
    lelm: LeLM, conditions: LevoConditions, tokens_KT: Tensor, own: Sequence[int], options: AlignmentOptions
) -> Floats:
    """How much more than on average each pooled frame attends to each lyric token, in standard deviations.

    Args:
        tokens_KT: the song's codes.
        own: numbers of the lyric tokens to look at, L >= 2, in order; the start token is 0.

    Returns:
        `[ceil(T / pool), L]`, near zero if no head moves on through the text.
    """
    config, stack = lelm.config, lelm.stacks[0]
    delay, num_frames = config.delays[0], tokens_KT.shape[1]
    columns_S = to_sequence(tokens_KT, config.delays, config.special)[0, : num_frames + delay]
    prefix_1PD = lelm.condition_provider.prefix(conditions)[0][:1]
    codes_1SD = lelm.emb[0](columns_S.to(prefix_1PD.device))[None]
    layers = layer_attention(
        stack,
        torch.cat([prefix_1PD, codes_1SD], dim=1),
        first_query=prefix_1PD.shape[1] + delay,  # the column before the one that holds frame 0
        keys=slice(config.lyric_start, config.lyric_start + own[-1] + 1),
        pool=options.pool,
        first_layer=min(int(options.first_layer * len(stack.layers)), len(stack.layers) - 1),
    )
    total: Tensor | float = 0.0
    trust: Tensor | float = TRUST_FLOOR
    for weights_HTL in layers:
        for heads_HTL in weights_HTL[:, :, list(own)].split(HEADS_AT_ONCE):
            more, more_trust = trusted(heads_HTL)
            total, trust = total + more, trust + more_trust
    assert isinstance(total, Tensor)
    return (total / trust).cpu().numpy()


def expected_places(text: str, spans: Sequence[tuple[int, int]], seconds: float, *, is_cut: bool) -> Floats:
    """When each token is due by the estimated lengths of the sections, as a share of the song, `[L]`.

    A cut song is not expected to hold all of its text: values may then exceed 1.
    """
    blocks = [block for block in scan_lyrics(text) if block.tag or block.text_end > block.text_start]
    lengths = [estimate_seconds(text[block.start : block.end]) for block in blocks]
    total = sum(lengths)
    scale = max(1 / seconds, 1 / total) if is_cut and total else 1 / max(total, EPSILON)
    due_N = np.interp(
        np.arange(len(text) + 1),
        [block.start for block in blocks] + [len(text)],
        np.concatenate([[0.0], np.cumsum(lengths)]) * scale,
    )
    return due_N[[start for start, _ in spans]].astype(np.float32)


def time_lines(
    lines: Sequence[LyricLine], spans: Sequence[tuple[int, int]], times_L: Sequence[float], end: float
) -> tuple[TimedLine, ...]:
    """Each line at the time of its first token; `end` is that of lines whose tokens were cut off.

    Times are rounded to a hundredth and do not decrease.
    """
    timed, earliest = [], 0.0
    for line in lines:
        own = (time for (_, stop), time in zip(spans, times_L, strict=True) if stop > line.start)
        earliest = max(earliest, min(next(own, end), end))
        timed.append(TimedLine(round(earliest, 2), line.text, line.is_section))
    return tuple(timed)


@torch.inference_mode()
def align(
    lelm: LeLM,
    conditions: LevoConditions,
    tokens_KT: Tensor,
    spans: tuple[str, Sequence[tuple[int, int]]],
    *,
    is_cut: bool,
    options: AlignmentOptions = DEFAULTS,
) -> tuple[TimedLine, ...]:
    """About when the tags and sentences of a song's lyrics begin, in order, 0 ... the song's length.

    Lines that a cut song does not come to, and those beyond the model's lyric tokens, are at its end.

    Args:
        conditions: those that the song was composed with.
        tokens_KT: its codes, T >= 1.
        spans: its lyrics as the model got them, and where their tokens lie (`TextTokenizer.token_spans`).
        is_cut: whether the song ended at its longest length and not by itself.
    """
    text, places = spans
    places = places[: lelm.config.lyric_positions]
    lines = lyric_lines(text)
    own = [
        number
        for number, (start, stop) in enumerate(places)
        if any(start < line.end and stop > line.start for line in lines)
    ]
    seconds = tokens_KT.shape[1] / lelm.config.frame_rate
    if len(own) < 2:  # at most one line: it begins with the song
        return time_lines(lines, (), (), 0.0)
    scores_TL = smooth(attention_map(lelm, conditions, tokens_KT, own, options), options.median)
    kept = [places[number] for number in own]
    due_L = expected_places(text, kept, seconds, is_cut=is_cut)
    middles_T = (np.arange(len(scores_TL), dtype=np.float32) + 0.5) / len(scores_TL)
    early_TL = np.maximum(due_L[None] - middles_T[:, None], 0)
    late_TL = np.maximum(middles_T[:, None] - np.append(due_L[1:], np.inf)[None], 0)
    scores_TL = scores_TL - options.prior * np.square(early_TL + late_TL)
    starts_L = starts_of(warp(scores_TL, ends_at_last=not is_cut), len(own))
    step = options.pool / lelm.config.frame_rate
    return time_lines(lines, kept, [min(start * step, seconds) for start in starts_L.tolist()], seconds)
