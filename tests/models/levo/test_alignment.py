"""Times of lyrics from attention: the weights themselves, which heads count, and what comes of a song."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from songgen.models.base import Draft, Job
from songgen.models.levo import alignment
from songgen.models.levo.alignment import AlignmentOptions, align, expected_places, layer_attention, trusted
from songgen.models.levo.model import LevoModel
from songgen.models.levo.text import model_lyrics
from songgen.nn.llama import Llama, LlamaConfig, fuse_projections_
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

LYRICS = (
    "[intro-short] ; [verse] Walking down. Rain  falls. ; [inst-short] ; [chorus] Cafe\u0301.\u98ce"
    " ; [outro-short]"
)
LINES = [
    "[intro-short]",
    "[verse]",
    "Walking down.",
    "Rain falls.",
    "[inst-short]",
    "[chorus]",
    "Caf\u00e9.",
    "\u98ce",
]
LINES += ["[outro-short]"]


@pytest.fixture
def llama() -> Llama:
    torch.manual_seed(2)
    stack = Llama(LlamaConfig(16, 24, 2, 3, 10000.0, 40))
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return stack.requires_grad_(False)


def plain_weights(llama: Llama, x: Tensor) -> list[Tensor]:
    """All attention weights `[H, S, S]` of every layer, written out with the published names."""
    size, heads, width = x.shape[1], llama.config.num_heads, llama.config.head_dim
    angles = torch.arange(size)[:, None] / 10000.0 ** (torch.arange(0, width, 2) / width)
    cos, sin = torch.cat([angles, angles], 1).cos(), torch.cat([angles, angles], 1).sin()

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight

    def turn(x: Tensor) -> Tensor:
        return x * cos + torch.cat([-x[..., width // 2 :], x[..., : width // 2]], -1) * sin

    found, x = [], x[0]
    for layer in llama.layers:
        state = dict(layer.named_parameters())
        normed = norm(x, state["input_layernorm.weight"])
        q, k, v = (
            (normed @ state[f"self_attn.{name}_proj.weight"].T).view(size, heads, width).transpose(0, 1)
            for name in "qkv"
        )
        scores = turn(q) @ turn(k).transpose(1, 2) / width**0.5
        weights = scores.masked_fill(torch.ones(size, size).triu(1).bool(), float("-inf")).softmax(-1)
        found.append(weights)
        x = x + (weights @ v).transpose(0, 1).reshape(size, -1) @ state["self_attn.o_proj.weight"].T
        normed = norm(x, state["post_attention_layernorm.weight"])
        gate, up = (normed @ state[f"mlp.{name}_proj.weight"].T for name in ("gate", "up"))
        x = x + (torch.nn.functional.silu(gate) * up) @ state["mlp.down_proj.weight"].T
    return found


def test_weights_are_those_of_a_plain_stack(llama: Llama) -> None:
    x = torch.randn(1, 33, 16)
    expected = plain_weights(llama, x)
    everything = list(layer_attention(llama, x, first_query=0, keys=slice(0, 33)))
    assert len(everything) == 3
    for found, wanted in zip(everything, expected, strict=True):
        torch.testing.assert_close(found.sum(-1), torch.ones(2, 33))
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)
    fuse_projections_(llama)
    some = list(layer_attention(llama, x, first_query=20, keys=slice(3, 9), first_layer=1))
    assert len(some) == 2
    for found, wanted in zip(some, expected[1:], strict=True):
        torch.testing.assert_close(found, wanted[:, 20:, 3:9], atol=1e-5, rtol=0)


@pytest.mark.parametrize("pool", [1, 5])
def test_chunks_give_what_the_whole_gives(llama: Llama, pool: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 33, 16)
    options: dict[str, Any] = {"first_query": 4, "keys": slice(1, 5), "pool": pool}
    whole = list(layer_attention(llama, x, **options))
    assert whole[0].shape == (2, -(-29 // pool), 4)
    monkeypatch.setattr(alignment, "SCORE_BYTES", 4 * 2 * 33 * 10)
    for part, wanted in zip(layer_attention(llama, x, **options), whole, strict=True):
        torch.testing.assert_close(part, wanted, atol=1e-6, rtol=0)
    pooled = next(layer_attention(llama, x, first_query=4, keys=slice(1, 5)))[:, :pool].mean(1)
    torch.testing.assert_close(whole[0][:, 0], pooled, atol=1e-6, rtol=0)


def test_a_head_that_aligns_is_trusted_among_those_that_do_not() -> None:
    generator = torch.Generator().manual_seed(0)
    frames, tokens = 200, 60
    weights = torch.rand(8, frames, tokens, generator=generator) ** 8
    times = torch.arange(frames)[:, None]
    weights[3] += 3 * torch.exp(-(((torch.arange(tokens) - times * tokens / frames) / 2) ** 2))
    weights[5] += 3 * torch.exp(-(((torch.arange(tokens) - (frames - times) * tokens / frames) / 2) ** 2))
    weights[:, :, 7] += 5  # a token that everything attends to
    total, trust = trusted(weights)
    noise, no_trust = trusted(torch.cat([weights[:3], weights[6:]]))
    assert trust > 0.05 and no_trust < 0.002 and noise.shape == (frames, tokens)
    places = total.argmax(1)
    assert (places - times[:, 0] * tokens / frames).abs().median() < 3
    sinking, same = trusted(weights * torch.linspace(1, 0.3, frames)[None, :, None])
    torch.testing.assert_close(same, trust)
    assert (sinking.argmax(1) == places).all()


def job(model: LevoModel, name: str = "song", **options: Any) -> Job:
    request = SongRequest(idx=name, lyrics=options.pop("lyrics", LYRICS), **options)
    conditions = model.condition(request)
    return Job(name, request, 11, Sampling(), max_seconds=4.0, conditions=conditions, wants_timing=True)


def timed(model: LevoModel, *jobs: Job) -> list[Draft]:
    def given() -> Iterator[Job]:
        yield from jobs

    return list(model.compose(given()))


def check(draft: Draft, lines: list[str]) -> None:
    assert draft.timing is not None
    assert [line.text for line in draft.timing] == lines
    assert [line.is_section for line in draft.timing] == [line.startswith("[") for line in lines]
    starts = [line.start for line in draft.timing]
    assert starts == sorted(starts) and starts[0] == 0.0 and starts[-1] <= draft.tokens.shape[1] / 25


def test_a_song_of_noise_has_all_its_lines_in_order(tiny: LevoModel) -> None:
    (draft,) = timed(tiny, job(tiny))
    check(draft, LINES)


def test_times_do_not_depend_on_neighbours_and_nobody_else_pays(tiny: LevoModel) -> None:
    import dataclasses

    plain = dataclasses.replace(job(tiny, "plain"), wants_timing=False)
    first, second, third = timed(tiny, job(tiny), plain, job(tiny, "again"))
    assert second.timing is None and first.timing == third.timing
    assert (first.tokens == second.tokens).all()


def test_a_model_of_one_codebook(tmp_path_factory: pytest.TempPathFactory) -> None:
    from songgen.models.levo.loading import load
    from songgen.models.levo.tiny import ensure_tiny

    fast = load(ensure_tiny(tmp_path_factory.mktemp("fast"), "tiny-fast"), device="cpu", dtype="fp32")
    (draft,) = timed(fast, job(fast))
    check(draft, LINES)


def test_a_song_without_voice_has_no_times(tiny: LevoModel) -> None:
    alone, separated = timed(
        tiny, job(tiny, generate_type="bgm"), job(tiny, "b", generate_type="bgm", stems="separator")
    )
    assert alone.timing is None
    check(separated, LINES)


def test_lyrics_of_one_token_or_none_and_beyond_the_limit(
    tiny: LevoModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tag, nothing = timed(tiny, job(tiny, lyrics="[verse]"), job(tiny, "n", lyrics=" ; "))
    check(tag, ["[verse]"])
    assert nothing.timing == ()
    text = tiny.text.lyrics.token_spans(LYRICS)
    tokens = torch.zeros(3, 100, dtype=torch.int64)
    cut = (text[0], text[1][:20])  # as if the model had 20 positions for lyrics
    lines = align(tiny.parts.lelm.get(), job(tiny).conditions, tokens, cut, is_cut=False)
    assert [line.text for line in lines] == [*LINES[:3], "Rain falls.", *LINES[4:]]
    assert all(line.start == 4.0 for line in lines[3:])


def test_the_map_of_a_head_that_aligns_decides(tiny: LevoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """With one head of known alignment among noise, lines begin where it says, not where they are due."""
    text, spans = tiny.text.lyrics.token_spans(model_lyrics(LYRICS, bgm=False))
    frames, size = 750, len(spans)
    places = np.concatenate([np.ones(250), np.linspace(1, size - 1, 500)])

    def planted(*args: object, keys: slice, pool: int, **options: object) -> Iterator[Tensor]:
        assert keys.start == tiny.config.lyric_start and keys.stop - keys.start == size
        weights = torch.rand(4, frames, size, generator=torch.Generator().manual_seed(1)) ** 8
        weights[2] += torch.exp(-((torch.arange(size) - torch.tensor(places)[:, None]) ** 2)).float() * 5
        yield torch.stack([part.mean(1) for part in weights.split(pool, dim=1)], dim=1)

    monkeypatch.setattr(alignment, "layer_attention", planted)
    tokens = torch.zeros(3, frames, dtype=torch.int64)
    found = align(tiny.parts.lelm.get(), job(tiny).conditions, tokens, (text, spans), is_cut=False)
    monkeypatch.setattr(alignment, "attention_map", lambda *args: np.zeros((150, len(args[3])), np.float32))
    due = align(tiny.parts.lelm.get(), job(tiny).conditions, tokens, (text, spans), is_cut=False)
    errors, errors_due = [], []
    for line, estimate in zip(found[2:], due[2:], strict=True):
        place = text.index(line.text.split()[0])
        first = next(number for number, (_, stop) in enumerate(spans) if stop > place)
        planted_start = np.searchsorted(places, first) / 25
        errors.append(abs(line.start - planted_start))
        errors_due.append(abs(estimate.start - planted_start))
    assert max(errors) < 1 < 3 < max(errors_due)  # the three tokens between sections take 0.9 s


def test_what_is_read_is_the_prefix_and_the_song(tiny: LevoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The query of a frame is the column before the one that holds it, which chose its code."""
    seen: dict[str, Any] = {}

    def read(stack: Llama, inputs_1SD: Tensor, **options: Any) -> Iterator[Tensor]:
        seen.update(options, inputs=inputs_1SD)
        yield torch.ones(4, 20, 9)

    monkeypatch.setattr(alignment, "layer_attention", read)
    lelm, conditions = tiny.parts.lelm.get(), job(tiny).conditions
    tokens = torch.randint(0, 1024, (3, 100), generator=torch.Generator().manual_seed(2))
    alignment.attention_map(lelm, conditions, tokens, [1, 3, 8], AlignmentOptions())
    length, config = tiny.config.prefix_length, tiny.config
    assert (seen["first_query"], seen["first_layer"], seen["pool"]) == (length, 1, 5)
    assert seen["inputs"].shape == (1, length + 100, config.width)
    assert seen["inputs"][0, length:].equal(lelm.emb[0](torch.tensor([config.special, *tokens[0, :-1]])))
    lyrics = lelm.condition_provider.embed(conditions)["description"][0][0]
    assert seen["inputs"][0, seen["keys"]].equal(lyrics[:9])


def test_where_attention_says_nothing_the_estimated_lengths_decide(
    tiny: LevoModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alignment, "attention_map", lambda *args: np.zeros((500, len(args[3])), np.float32))
    text = "[intro-short] ; [verse] one two three four five six. ; [outro-short]"
    spans = tiny.text.lyrics.token_spans(text)
    tokens = torch.zeros(3, 2500, dtype=torch.int64)
    found = align(tiny.parts.lelm.get(), job(tiny).conditions, tokens, spans, is_cut=False)
    starts = {line.text: line.start for line in found}
    scale = 100 / (5 + 3 + 5)
    assert abs(starts["[verse]"] - 5 * scale) < 1 and abs(starts["[outro-short]"] - 8 * scale) < 1


def test_expected_places() -> None:
    text = "[intro-short] ; [verse] one two three four five six."
    spans = [(0, 13), (16, 23), (38, 41)]
    due = expected_places(text, spans, 100.0, is_cut=False)
    assert due[0] == 0 and due[1] == pytest.approx(5 / 8) and 5 / 8 < due[2] < 1
    cut = expected_places(text, spans, 4.0, is_cut=True)
    assert cut[1] == pytest.approx(5 / 4)
    assert expected_places("[verse]", [(0, 7)], 4.0, is_cut=True).tolist() == [0.0]


def test_token_spans_are_those_of_the_text(tiny: LevoModel) -> None:
    text, spans = tiny.text.lyrics.token_spans(LYRICS)
    assert "\u00e9" in text and "\u0301" not in text
    ids = tiny.text.lyrics.encode(LYRICS)
    assert len(spans) == len(ids) and spans[0] == (0, 0)
    assert text[slice(*spans[1])] == "[intro-short]"
    assert [text[start:stop] for start, stop in spans if text[start:stop] == "\u98ce"] == ["\u98ce"] * 3
    assert max(stop for _, stop in spans) == len(text)


def test_options_are_free_to_choose(tiny: LevoModel) -> None:
    spans = tiny.text.lyrics.token_spans(LYRICS)
    tokens = torch.randint(0, 1024, (3, 101), generator=torch.Generator().manual_seed(2))
    lelm, conditions = tiny.parts.lelm.get(), job(tiny).conditions
    found = [
        align(lelm, conditions, tokens, spans, is_cut=False, options=AlignmentOptions(**options))
        for options in ({}, {"first_layer": 1.0}, {"pool": 1, "median": 1}, {"prior": 1000.0})
    ]
    assert all(len(lines) == len(LINES) for lines in found) and found[3] != found[0]
