"""Block-wise composing on the tiny model: a song alone and in company, lengths, ends, precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from songgen.models.base import Draft, Job
from songgen.models.songbloom.checkpoint import MODEL, build_network
from songgen.models.songbloom.compose import ComposeOptions, Composer, seeded_noise
from songgen.models.songbloom.condition import SongBloomConditions
from songgen.models.songbloom.model import SongBloomModel
from songgen.models.songbloom.network import SongBloomNetwork
from songgen.requests import SongRequest
from songgen.runtime.checkpoint import read_tensors
from songgen.runtime.noise import seeded_normal
from songgen.runtime.sampling import DiffusionSampling

CPU = torch.device("cpu")
BLOCK_SECONDS = 0.64


@pytest.fixture(scope="module")
def network(tiny_songbloom: SongBloomModel) -> SongBloomNetwork:
    return tiny_songbloom.parts.network.get()


def sampling(**changes: Any) -> DiffusionSampling:
    return replace(DiffusionSampling(top_k=50, diffusion_steps=2), **changes)


def job(number: int, *, seconds: float = 2.0, **changes: Any) -> Job:
    """A song of some lyrics and, of every second number, a prompt."""
    prompt_TZ = seeded_normal(number, "test prompt", 40, 16) if number % 2 else None
    conditions = SongBloomConditions((1, 40 + number, 50, 9, 60), prompt_TZ)
    request = SongRequest(idx=f"song{number}", lyrics="")
    return Job(request.idx, request, number, sampling(**changes), seconds, conditions)


def jobs(count: int) -> Iterator[Job]:
    """Songs of several lengths."""
    return (job(number, seconds=(2.0, 0.7, 3.3)[number % 3]) for number in range(count))


def compose(
    network: SongBloomNetwork, some: Iterator[Job], batch: int = 1, **options: Any
) -> dict[str, Draft]:
    drafts = Composer(network, ComposeOptions(batch, **options)).compose(some)
    return {draft.job.name: draft for draft in drafts}


def each_alone(network: SongBloomNetwork, some: Iterator[Job]) -> dict[str, Draft]:
    return {name: draft for one in some for name, draft in compose(network, iter([one])).items()}


def latents_of(draft: Draft) -> Tensor:
    assert draft.latents is not None
    return draft.latents


def assert_same(first: dict[str, Draft], second: dict[str, Draft]) -> None:
    assert first.keys() == second.keys()
    for name, draft in first.items():
        assert torch.equal(draft.tokens, second[name].tokens), name
        assert torch.equal(latents_of(draft), latents_of(second[name])), name
        assert draft.stopped == second[name].stopped


@pytest.fixture(scope="module")
def alone(network: SongBloomNetwork) -> dict[str, Draft]:
    """Five songs, each made alone."""
    return each_alone(network, jobs(5))


@pytest.mark.parametrize("batch", [2, 3, 4])
def test_a_song_does_not_depend_on_its_neighbours(
    network: SongBloomNetwork, alone: dict[str, Draft], batch: int
) -> None:
    """Alone, beside others, in a slot that another song left: to the last bit."""
    assert_same(alone, compose(network, jobs(5), batch))


def test_a_composer_that_is_used_again_gives_the_same(network: SongBloomNetwork) -> None:
    composer = Composer(network, ComposeOptions(2))
    first = {draft.job.name: draft for draft in composer.compose(jobs(3))}
    broken_off = composer.compose(jobs(3))
    next(broken_off)
    broken_off.close()
    again = {draft.job.name: draft for draft in composer.compose(jobs(3))}
    assert_same(first, again)


def test_settings_of_the_diffusion_may_differ_within_a_batch(network: SongBloomNetwork) -> None:
    some = [job(0, diffusion_steps=3), job(1, diffusion_temperature=1.0), job(2, diffusion_cfg_coef=3.0)]
    alone = each_alone(network, iter(some))
    assert_same(alone, compose(network, iter(some), 3))
    plain = compose(network, iter([job(2)]))["song2"]
    assert not torch.equal(latents_of(plain), latents_of(alone["song2"]))


def test_diffusing_all_slots_at_once_is_the_same(network: SongBloomNetwork, alone: dict[str, Draft]) -> None:
    """As on a GPU: one pass over all slots, idle ones too, instead of one a slot."""
    composer = Composer(network, ComposeOptions(3))
    composer.slots._is_apart = False
    for draft in composer.compose(jobs(5)):
        expected = alone[draft.job.name]
        assert torch.equal(draft.tokens, expected.tokens)
        torch.testing.assert_close(latents_of(draft), latents_of(expected), rtol=1e-4, atol=1e-4)


def test_the_seed_decides_a_song(network: SongBloomNetwork) -> None:
    first, other = job(0), replace(job(0), seed=9)
    assert_same(compose(network, iter([first])), compose(network, iter([first])))
    assert not torch.equal(
        compose(network, iter([first]))["song0"].tokens, compose(network, iter([other]))["song0"].tokens
    )


@pytest.mark.parametrize(("seconds", "frames"), [(0.01, 1), (0.64, 16), (0.68, 17), (2.0, 50), (1.16, 29)])
def test_a_song_is_as_long_as_asked_for(network: SongBloomNetwork, seconds: float, frames: int) -> None:
    """Blocks are whole inside, as published; what is beyond the limit is cut."""
    draft = compose(network, iter([job(1, seconds=seconds)]))["song1"]
    assert draft.tokens.shape == (1, frames) and latents_of(draft).shape == (16, frames)
    assert draft.stopped == "length"
    assert int(draft.tokens.max()) < network.config.eos


def test_a_longer_song_begins_like_a_shorter_one(network: SongBloomNetwork) -> None:
    short, long = (compose(network, iter([job(1, seconds=seconds)]))["song1"] for seconds in (1.28, 2.56))
    assert torch.equal(long.tokens[:, :32], short.tokens)
    assert torch.equal(latents_of(long)[:, :32], latents_of(short))


def test_the_caches_may_be_sized_for_shorter_songs(network: SongBloomNetwork) -> None:
    assert_same(compose(network, jobs(2)), compose(network, jobs(2), max_blocks=6))
    draft = compose(network, iter([job(1, seconds=9.0)]), max_blocks=2)["song1"]
    assert draft.tokens.shape[1] == 32


EosBias = Callable[[float], SongBloomNetwork]


@pytest.fixture(scope="module")
def with_eos(tiny_songbloom: SongBloomModel, tiny_songbloom_folder: Path) -> EosBias:
    """The tiny networks with another readiness to end."""

    def build(bias: float) -> SongBloomNetwork:
        tensors = read_tensors(tiny_songbloom_folder / "tiny-songbloom.safetensors")
        tensors[MODEL + "skeleton_classifier.2.bias"][-1] = bias
        return build_network(tiny_songbloom.config, tensors, source="test", dtype=torch.float32, device=CPU)

    return build


def test_an_eos_drops_its_block_and_ends_the_song(with_eos: EosBias) -> None:
    """As published; the song keeps the blocks before, which are those of a song that was not ended."""
    eager = with_eos(3.0)
    songs = [replace(job(1, seconds=4.0), seed=seed) for seed in range(5)]
    made = [draft for song in songs for draft in compose(eager, iter([song])).values()]
    drafts = [draft for draft in made if draft.stopped == "eos"]
    assert all(draft.tokens.shape[1] % 16 == 0 for draft in drafts)
    assert any(draft.tokens.shape[1] > 0 for draft in drafts)
    assert all(int(draft.tokens.max()) < 256 for draft in drafts if draft.tokens.numel())
    kept = max(drafts, key=lambda draft: draft.tokens.shape[1])
    shorter = replace(kept.job, max_seconds=kept.tokens.shape[1] / 25)
    again = compose(eager, iter([shorter]))["song1"]
    assert torch.equal(again.tokens, kept.tokens) and again.stopped == "length"


def test_an_eos_in_the_first_block_leaves_nothing(with_eos: EosBias) -> None:
    """The published program returns a block of zeros, whose decoding fails; here the song is empty, and the
    engine says so."""
    draft = compose(with_eos(60.0), iter([job(1)]))["song1"]
    assert draft.tokens.shape == (1, 0) and latents_of(draft).shape == (16, 0)
    assert draft.stopped == "eos"


def test_ended_songs_leave_their_slots_to_others(with_eos: EosBias) -> None:
    eager = with_eos(3.0)
    some = [replace(job(number, seconds=3.2), seed=number) for number in range(5)]
    alone = each_alone(eager, iter(some))
    assert {draft.stopped for draft in alone.values()} == {"eos", "length"}
    assert_same(alone, compose(eager, iter(some), 3))


def test_greedy_songs_do_not_depend_on_uniform_numbers(network: SongBloomNetwork) -> None:
    noise = seeded_noise(network.config)

    def tokens(seed: int) -> Tensor:
        composer = Composer(network, ComposeOptions(1), noise=lambda one, block: noise(job(1), block))
        greedy = replace(job(1, temperature=0.0), seed=seed)
        return next(composer.compose(iter([greedy]))).tokens

    assert torch.equal(tokens(1), tokens(2))


def test_the_first_block_knows_no_repetition_penalty(network: SongBloomNetwork) -> None:
    """As published; from the second block on it does."""
    plain, penal = (
        compose(network, iter([job(1, seconds=2.56, penalty=penalty)]))["song1"].tokens
        for penalty in (1.0, 9.0)
    )
    assert torch.equal(plain[:, :16], penal[:, :16])
    assert not torch.equal(plain[:, 16:], penal[:, 16:])


def test_an_8_bit_cache_is_near(network: SongBloomNetwork) -> None:
    exact, near = (
        compose(network, iter([job(1, seconds=0.64)]), kv_cache=kind)["song1"] for kind in ("auto", "int8")
    )
    assert near.tokens.shape == exact.tokens.shape
    assert torch.isfinite(latents_of(near)).all()


def test_half_precision_keeps_the_angles_in_float32(
    tiny_songbloom: SongBloomModel, tiny_songbloom_folder: Path
) -> None:
    """The published program rounds rotary frequencies with the weights, and is lost far into a song."""
    tensors = read_tensors(tiny_songbloom_folder / "tiny-songbloom.safetensors")
    half = build_network(tiny_songbloom.config, tensors, source="test", dtype=torch.bfloat16, device=CPU)
    exact = tiny_songbloom.parts.network.get().ar_transformer.rotary_table()
    rounded = half.ar_transformer.rotary_table()
    assert rounded.cos.dtype == torch.bfloat16
    assert float((rounded.cos.float() - exact.cos).abs().max()) < 0.005
    draft = compose(half, iter([job(1)]))["song1"]
    assert draft.tokens.shape == (1, 50) and latents_of(draft).dtype == torch.float32


def test_numbers_that_are_not_finite_are_said(network: SongBloomNetwork) -> None:
    composer = Composer(
        network, ComposeOptions(1), noise=lambda one, block: torch.full((16, 16), float("nan"))
    )
    with pytest.raises(ValueError, match="not finite: its weights are damaged, dtype is too narrow"):
        next(composer.compose(iter([job(1)])))
    composer = Composer(network, ComposeOptions(1), on_logits=lambda logits: logits * float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        next(composer.compose(iter([job(1)])))


def test_progress_is_reported_block_by_block(network: SongBloomNetwork) -> None:
    seen: list[tuple[str, str, float]] = []
    composer = Composer(network, ComposeOptions(1))
    list(composer.compose(iter([job(1, seconds=2 * BLOCK_SECONDS)]), lambda *facts: seen.append(facts)))
    assert seen == [("compose", "song1", 0.5), ("compose", "song1", 1.0)]
