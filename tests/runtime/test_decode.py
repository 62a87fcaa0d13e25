"""The decoding loop, over a model whose logits are a function of a song's seed and column."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import pytest
import torch

from songgen.runtime.decode import CHECK_EVERY, Decoded, RunningSlot, SlotDecoder, Task
from songgen.runtime.sampling import Sampling
from songgen.runtime.slots import Layout, uniforms_of

EOS = 20
LAYOUT = Layout(delays=(0, 3, 3), eos=EOS, max_frames=80)


class ScriptedModel:
    """Logits depend on the song (its conditions) and on the column fed; a song ends where its script says."""

    prefix_length = 10
    capacity = 10 + LAYOUT.num_columns
    window_step, captures, variant = 64, True, None

    def __init__(self, num_slots: int) -> None:
        self.songs: list[tuple[int, int]] = [(0, 10**6)] * num_slots
        self.prefills: list[int] = []

    def prefill(self, slot: int, conditions: object) -> None:
        assert isinstance(conditions, tuple)
        self.songs[slot] = conditions
        self.prefills.append(slot)

    def arrange(self, slots: Sequence[RunningSlot]) -> Mapping[int, int]:
        return {}

    def tensors(self) -> list[torch.Tensor]:
        return []

    def step(
        self, ids_BK: torch.Tensor, column_B: torch.Tensor, window: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert self.prefix_length + int(column_B.max()) < window <= self.capacity
        logits = torch.zeros(len(self.songs), 3, EOS + 1)
        for slot, (song, end) in enumerate(self.songs):
            column = int(column_B[slot])
            generator = torch.Generator().manual_seed(1000 * song + column + int(ids_BK[slot].sum()))
            logits[slot] = torch.randn(3, EOS + 1, generator=generator)
            logits[slot, :, EOS] = -100.0
            for row, delay in enumerate(LAYOUT.delays):
                if column - delay >= end:
                    logits[slot, row, EOS] = 100.0
        return logits, torch.zeros_like(logits)


def task(song: int, *, end: int = 10**6, frames: int = 60, seed: int = 7, **sampling: float) -> Task[int]:
    settings = Sampling(**{"cfg_coef": 1.0, **sampling})  # type: ignore[arg-type]
    return Task(song, (song, end), torch.tensor([], dtype=torch.int64), frames, settings, seed)


def decode(tasks: list[Task[int]], slots: int = 2, **options: object) -> dict[int, Decoded[int]]:
    decoder: SlotDecoder[int] = SlotDecoder(
        ScriptedModel(slots),
        LAYOUT,
        slots,
        device=torch.device("cpu"),
        **options,  # type: ignore[arg-type]
    )
    return {done.label: done for done in decoder.run(iter(tasks))}


def test_a_song_that_never_ends_has_all_frames_in_the_delay_pattern() -> None:
    columns = decode([task(1)])[1].columns
    assert columns.shape == (3, 1 + 60 + 3)
    frames = torch.arange(columns.shape[1]) - 1 - torch.tensor(LAYOUT.delays)[:, None]
    assert torch.equal(columns == LAYOUT.special, (frames < 0) | (frames >= 60))


def test_an_ended_row_is_special_behind_its_eos() -> None:
    columns = decode([task(1, end=20)], stop_early=False)[1].columns
    for row, delay in enumerate(LAYOUT.delays):
        assert int(columns[row, 1 + delay + 20]) == EOS
        assert (columns[row, 1 + delay + 21 :] == LAYOUT.special).all()


def test_stopping_early_keeps_every_frame_before_the_end() -> None:
    """A row that ends first ends the song, because all rows are cut there; the others need not be run out."""
    early, late = (decode([task(5, end=33)], stop_early=stop)[5].columns for stop in (True, False))
    for row, delay in enumerate(LAYOUT.delays):
        assert torch.equal(early[row, : 1 + delay + 33], late[row, : 1 + delay + 33])


@pytest.mark.parametrize("slots", [1, 2, 3, 5])
def test_songs_do_not_depend_on_slots_neighbours_or_order(slots: int) -> None:
    """Different ends and lengths, more songs than slots: every song equals the one decoded alone."""
    tasks = [
        task(song, end=end, frames=frames, seed=song)
        for song, (end, frames) in enumerate([(5, 60), (10**6, 30), (26, 60), (40, 41), (0, 60), (10**6, 80)])
    ]
    alone = {one.label: decode([one], 1)[one.label].columns for one in tasks}
    for order in (tasks, tasks[::-1]):
        together = decode(order, slots)
        assert together.keys() == alone.keys()
        assert all(torch.equal(together[name].columns, alone[name]) for name in alone)


def test_a_free_slot_is_refilled_while_others_run() -> None:
    taken: list[int] = []

    def tasks() -> Iterator[Task[int]]:
        for song, end in enumerate([0, 10**6, 10**6]):
            taken.append(song)
            yield task(song, end=end, frames=80)

    decoder: SlotDecoder[int] = SlotDecoder(ScriptedModel(2), LAYOUT, 2, device=torch.device("cpu"))
    results = decoder.run(tasks())
    assert next(results).label == 0
    assert taken == [0, 1]  # the third is asked for when the next steps are due, not before
    assert next(results).label == 1
    assert taken == [0, 1, 2]


def test_same_seed_same_song_other_seed_other_song() -> None:
    first, again, other = (decode([task(1, seed=seed)])[1].columns for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_shorter_limit_gives_the_beginning_of_the_longer_song() -> None:
    long, short = decode([task(1, frames=60)])[1].columns, decode([task(1, frames=30)])[1].columns
    assert torch.equal(short[0, :31], long[0, :31])


def test_uniform_numbers_do_not_depend_on_the_length() -> None:
    assert torch.equal(uniforms_of(5, 3, 10), uniforms_of(5, 3, 100)[:10])


def test_penalty_and_greedy_apply_per_song() -> None:
    greedy = decode([task(1, temperature=0)])[1].columns
    penalized = decode([task(1, temperature=0, penalty=50.0)])[1].columns
    neighbour = decode([task(1, temperature=0), task(2, temperature=0, penalty=50.0, window=5)])[1].columns
    assert not torch.equal(greedy, penalized)
    assert torch.equal(greedy, neighbour)


def test_banned_ids_never_appear_in_the_first_row() -> None:
    plain = task(1, frames=80)
    banned = Task(1, plain.conditions, torch.arange(0, EOS - 2), 80, plain.sampling, plain.seed)
    columns = decode([banned])[1].columns
    assert set(columns[0, 1:81].tolist()) <= {EOS - 2, EOS - 1}
    assert len(set(columns[1, 4:84].tolist())) > 2


def test_progress_is_reported_up_to_one() -> None:
    seen: list[tuple[int, float]] = []
    decode([task(1, frames=80)], on_progress=lambda song, fraction: seen.append((song, fraction)))
    assert seen[0] == (1, CHECK_EVERY / 83)
    assert seen[-1] == (1, 1.0)
    assert [fraction for _, fraction in seen] == sorted(fraction for _, fraction in seen)


@pytest.mark.parametrize("frames", [0, 81])
def test_a_length_that_the_model_cannot_hold_is_refused(frames: int) -> None:
    with pytest.raises(ValueError, match=f"a song of {frames} frames; the model takes 1 ... 80"):
        decode([task(1, frames=frames)])


def test_frequency_penalty_is_of_the_whole_song_and_of_its_own_song() -> None:
    """With a penalty far above the spread of the logits a row takes every id before it repeats one."""
    strong = {"temperature": 0, "penalty": 1.0, "window": 0, "frequency_penalty": 50.0}
    alone = decode([task(1, **strong)])[1].columns
    assert sorted(alone[0, 1 : 1 + EOS].tolist()) == list(range(EOS))
    beside = decode([task(2, temperature=0), task(1, **strong), task(3)], slots=3)[1].columns
    assert torch.equal(alone, beside)


def test_guidance_on_log_probabilities_draws_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """It shifts all logits of a row alike."""
    monkeypatch.setitem(globals(), "LAYOUT", replace(LAYOUT, guides_log_probs=True))
    unpenalised = decode([task(1, penalty=1.0)])[1].columns
    monkeypatch.setitem(globals(), "LAYOUT", replace(LAYOUT, guides_log_probs=False))
    assert torch.equal(decode([task(1, penalty=1.0)])[1].columns, unpenalised)


def test_log_probabilities_are_of_the_codes_alone_and_before_guidance() -> None:
    """Null logits are all 0, so each code has -log V by them, whatever the settings."""
    (done,) = decode([task(1, end=20, cfg_coef=3.0, penalty=2.0, temperature=0.5)]).values()
    is_code_KS = done.columns < EOS
    assert done.log_probs.shape == (2, *done.columns.shape) and done.log_probs.dtype == torch.float32
    assert (done.log_probs[:, ~is_code_KS] == 0).all()
    torch.testing.assert_close(
        done.log_probs[1, is_code_KS], torch.full((int(is_code_KS.sum()),), -math.log(EOS + 1))
    )
    expected = ScriptedModel(1)
    expected.prefill(0, (1, 20))
    for column in range(10):
        logits, _ = expected.step(done.columns[None, :, column], torch.tensor([column]), expected.capacity)
        code = int(done.columns[0, column + 1])
        assert done.log_probs[0, 0, column + 1] == logits[0, 0].log_softmax(-1)[code]


def test_a_refilled_slot_forgets_the_log_probabilities_before_it() -> None:
    songs = [task(1, frames=60), task(2, frames=20)]
    alone = decode(songs[1:], slots=1)[2]
    assert torch.equal(decode(songs, slots=1)[2].log_probs, alone.log_probs)
