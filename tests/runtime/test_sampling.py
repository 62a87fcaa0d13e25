"""Sampling rules, row by row."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from songgen.runtime.sampling import (
    DiffusionSampling,
    Sampling,
    SamplingRows,
    changed_sampling,
    choose,
    draw,
    guide,
    kept_probabilities,
    penalize,
    penalize_frequency,
    read_sampling,
)

CPU = torch.device("cpu")
VOCABULARY = 12


def rows_of(*settings: Sampling) -> SamplingRows:
    return SamplingRows.of(settings, CPU)


def logits(num_songs: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(num_songs, 3, VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 2


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("temperature", -0.1, "0 (argmax) or more"),
        ("top_k", -1, "0 (off) or more"),
        ("top_p", 1.5, "0 (off) to 1"),
        ("cfg_coef", float("nan"), "a finite number"),
        ("penalty", 0.0, "more than 0"),
        ("window", -2, "0 or more"),
        ("frequency_penalty", -1, "0 (off) or more"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: float, allowed: str) -> None:
    with pytest.raises(ValueError, match=rf"sampling\.{name} is .*; it must be ") as caught:
        Sampling(**{name: value})
    assert allowed in str(caught.value)


def test_guidance_of_one_is_the_conditional() -> None:
    conditional, null = logits(seed=1), logits(seed=2)
    torch.testing.assert_close(guide(conditional, null, torch.tensor([1.0])), conditional)
    torch.testing.assert_close(guide(conditional, null, torch.tensor([0.0])), null)


def test_penalty_divides_by_presence_and_spares_the_end() -> None:
    values = torch.tensor([[[2.0, -2.0, 3.0, 4.0]]])
    recent = torch.tensor([[[0, 0, 1, 3, 4]]])  # id 0 twice; 3 is EOS and 4 SPECIAL in a vocabulary of 4
    got = penalize(values, recent, torch.tensor([2.0]))
    assert got.tolist() == [[[1.0, -1.0, 3.0, 4.0]]]


def test_top_k_keeps_k_of_the_first_codebook_and_one_of_the_others() -> None:
    kept = kept_probabilities(logits(), rows_of(Sampling(top_k=4)))[0]
    assert (kept > 0).sum(-1).tolist() == [4, 1, 1]
    torch.testing.assert_close(kept.sum(-1), torch.ones(3))


def test_ties_at_the_k_th_place_are_kept() -> None:
    values = torch.zeros(1, 3, VOCABULARY)
    assert (kept_probabilities(values, rows_of(Sampling(top_k=1))) > 0).sum(-1).tolist() == [[VOCABULARY] * 3]


def test_top_k_beyond_the_vocabulary_keeps_all() -> None:
    assert (kept_probabilities(logits(), rows_of(Sampling(top_k=5000)))[0, 0] > 0).all()


def test_without_top_k_all_codebooks_are_drawn_from_all_ids() -> None:
    assert (kept_probabilities(logits(), rows_of(Sampling(top_k=0))) > 0).all()


def test_nucleus_wins_over_top_k_in_all_codebooks() -> None:
    values = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(1, 3, 4)
    kept = kept_probabilities(values, rows_of(Sampling(temperature=1.0, top_p=0.6, top_k=1)))
    torch.testing.assert_close(kept[0], torch.tensor([0.625, 0.375, 0, 0]).expand(3, 4))


def test_songs_with_different_settings_do_not_touch_each_other() -> None:
    settings = [
        Sampling(top_k=3),
        Sampling(top_p=0.5),
        Sampling(top_k=0, temperature=1.3),
        Sampling(temperature=0),
    ]
    values = logits(len(settings))
    uniforms = torch.rand(len(settings), 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    together = choose(values, uniforms, rows_of(*settings))
    for place, one in enumerate(settings):
        alone = choose(values[place : place + 1], uniforms[place : place + 1], rows_of(one))
        assert torch.equal(alone[0], together[place])


def test_temperature_zero_is_argmax() -> None:
    values = logits()
    got = choose(values, torch.zeros(1, 3, dtype=torch.float64), rows_of(Sampling(temperature=0)))
    assert torch.equal(got, values.argmax(-1))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 1, exclude_max=True))
def test_draw_never_takes_an_impossible_id(weights: list[float], uniform: float) -> None:
    probabilities = torch.tensor(weights, dtype=torch.float32)
    if probabilities.sum() <= 0:
        return
    token = draw(
        (probabilities / probabilities.sum())[None, None], torch.tensor([[uniform]], dtype=torch.float64)
    )
    assert probabilities[int(token)] > 0


def test_draw_follows_the_distribution() -> None:
    probabilities = torch.tensor([0.1, 0.0, 0.6, 0.3])
    grid = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    counts = torch.bincount(draw(probabilities.expand(1000, 1, 4), grid[:, None]).flatten(), minlength=4)
    assert counts.tolist() == [100, 0, 600, 300]


@pytest.mark.parametrize("setting", [{"top_k": 3}, {"top_p": 0.7}, {"top_k": 0}])
def test_banned_ids_are_never_drawn(setting: dict[str, Any]) -> None:
    values = logits(200)
    values[:, 0, [0, 5, 7]] = float("-inf")
    uniforms = torch.rand(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    tokens = choose(values, uniforms, SamplingRows.of([Sampling(**setting)] * 200, CPU))
    assert not set(tokens[:, 0].tolist()) & {0, 5, 7}


def test_frequency_penalty_counts_every_time() -> None:
    values, counts = torch.zeros(1, 1, 4), torch.tensor([[[0.0, 1.0, 3.0, 0.0]]])
    assert penalize_frequency(values, counts, torch.tensor([0.2]))[0, 0].tolist() == pytest.approx(
        [0, -0.2, -0.6, 0]
    )


def test_a_models_sampling_with_changes() -> None:
    own = Sampling(cfg_coef=1.8, frequency_penalty=0.2)
    assert changed_sampling(own, {"top_k": 7}) == Sampling(cfg_coef=1.8, frequency_penalty=0.2, top_k=7)
    assert changed_sampling(own, Sampling()) == Sampling()
    with pytest.raises(ValueError, match=r"sampling\.topk is not known; there are temperature, top_k"):
        changed_sampling(own, {"topk": 7})


@pytest.mark.parametrize(
    ("name", "value"),
    [("diffusion_steps", 0), ("diffusion_temperature", -0.1), ("diffusion_cfg_coef", float("nan"))],
)
def test_settings_of_a_diffusion_have_ranges_too(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"sampling\.{name} is {value}; it must be"):
        DiffusionSampling(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"sampling\.top_k is -1"):
        DiffusionSampling(top_k=-1)


def test_guidance_of_a_diffusion_is_that_of_the_tokens_unless_told() -> None:
    assert DiffusionSampling(cfg_coef=1.7).diffusion_guidance == 1.7
    assert DiffusionSampling(cfg_coef=1.7, diffusion_cfg_coef=1.2).diffusion_guidance == 1.2


def test_settings_of_a_diffusion_are_only_for_models_that_have_one() -> None:
    own = DiffusionSampling(diffusion_steps=9)
    assert changed_sampling(own, {"diffusion_steps": 4}) == DiffusionSampling(diffusion_steps=4)
    assert changed_sampling(own, Sampling(top_k=3)) == DiffusionSampling(top_k=3, diffusion_steps=9)
    with pytest.raises(ValueError, match=r"sampling\.diffusion_steps is not known; there are temperature"):
        changed_sampling(Sampling(), {"diffusion_steps": 4})
    with pytest.raises(ValueError, match=r"sampling\.diffusion_\w+ is not known"):
        changed_sampling(Sampling(), own)


def test_kept_settings_are_read_back() -> None:
    for sampling in (Sampling(top_k=3), DiffusionSampling(diffusion_cfg_coef=2.0)):
        assert read_sampling(asdict(sampling)) == sampling
