"""LeLM in its slots: heads and tails with one transformer, shared null prefixes, 8 bits, steps as graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from songgen.models.base import Job, LmScore
from songgen.models.levo.checkpoint import build_lelm, read_lm_tensors
from songgen.models.levo.compose import ComposeOptions, Composer, draft_of, layout_of, task_of
from songgen.models.levo.condition import TextConditioner
from songgen.models.levo.conditions import StylePrompt
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.model import LevoModel
from songgen.models.levo.pattern import frame_mask
from songgen.models.levo.slots import LelmSlots
from songgen.nn.step_ops import TORCH_OPS
from songgen.requests import SongRequest
from songgen.runtime.decode import CHECK_EVERY, Decoded, RunningSlot, SlotDecoder
from songgen.runtime.sampling import Sampling

CPU = torch.device("cpu")
DELAY = 50
"""Two looks at the slots; the published 250 take five times as long to test."""


class EndingSlots(LelmSlots):
    """Slots whose songs end in some codebook at some column: `ends` is song number -> (codebook, frame)."""

    def __init__(
        self, lelm: LeLM, num_slots: int, ends: Mapping[int, tuple[int, int]], **options: Any
    ) -> None:
        super().__init__(lelm, num_slots, **options)
        self.ends, self.songs = ends, [-1] * num_slots

    def prefill(self, slot: int, conditions: object) -> None:
        super().prefill(slot, conditions)
        self.songs[slot] = int(conditions.notes["song"])  # type: ignore[attr-defined]

    def step(self, ids_BK: Tensor, column_B: Tensor, window: int) -> tuple[Tensor, Tensor]:
        conditional, null = super().step(ids_BK, column_B, window)
        eos = self._lelm.config.eos
        for slot, song in enumerate(self.songs):
            codebook, frame = self.ends.get(song, (0, -1))
            delay = self._lelm.config.delays[codebook]
            if int(column_B[slot]) == frame + delay:
                conditional[slot, codebook, eos] = null[slot, codebook, eos] = 1e4
        return conditional, null


class PlainSlots(EndingSlots):
    """Every step through both transformers, as published."""

    def arrange(self, slots: Sequence[RunningSlot]) -> Mapping[int, int]:
        return {}


@dataclass(frozen=True)
class Small:
    """The tiny language model behind a prefix of a few positions."""

    lelm: LeLM
    text: TextConditioner

    def job(self, song: int, frames: int, description: str | None = "pop") -> Job:
        lyrics = ("[verse] One. ; [chorus] Two.", "[intro-short] ; [verse] La.")[song % 2]
        style = StylePrompt(notes={"song": song})
        conditions = self.text.of_request(lyrics, description, bgm=description is None, prompt=style)
        request = SongRequest(idx=f"song{song}", lyrics=lyrics)
        return Job(request.idx, request, song, Sampling(), frames / 25 + 0.01, conditions)


@pytest.fixture(scope="module")
def small(tiny: LevoModel, tiny_folder: Path) -> Small:
    config = replace(
        tiny.config,
        lyric_positions=24,
        description_positions=8,
        prompt_frames=10,
        prompt_positions=12,
        delays=(0, DELAY, DELAY),
    )
    path = tiny_folder / "model.pt"
    lelm = build_lelm(config, read_lm_tensors(path), source=path, dtype=torch.float32, device=CPU)
    return Small(lelm, replace(tiny.text, config=config))


def decode(
    small: Small,
    kind: type[EndingSlots],
    songs: Mapping[int, int],
    ends: Mapping[int, tuple[int, int]],
    num_slots: int = 2,
) -> tuple[dict[str, list[list[int]]], SlotDecoder[Job]]:
    """Trimmed columns of songs (number -> frames), cut at the earliest end."""
    config = small.lelm.config
    slots = kind(small.lelm, num_slots, ends)
    decoder: SlotDecoder[Job] = SlotDecoder(slots, layout_of(config), num_slots, device=CPU)
    tasks = (task_of(small.job(song, frames), config) for song, frames in songs.items())
    found = {}
    with torch.inference_mode():
        for done in decoder.run(tasks):
            end = min([done.num_frames, *(frame for at, (_, frame) in ends.items() if done.label.seed == at)])
            cut = [
                row[1 + delay :][:end].tolist()
                for row, delay in zip(done.columns, config.delays, strict=True)
            ]
            found[done.label.name] = cut
    return found, decoder


CASES: dict[str, tuple[dict[int, int], dict[int, tuple[int, int]]]] = {
    "shorter than a check": ({0: 10}, {}),
    "ends within the head": ({0: 30}, {}),
    "as long as the delay": ({0: DELAY}, {}),
    "longer": ({0: 90}, {}),
    "first codebook ends within the head": ({0: 120}, {0: (0, 33)}),
    "first codebook ends at once": ({0: 120}, {0: (0, 0)}),
    "first codebook ends behind the head": ({0: 120}, {0: (0, 70)}),
    "another codebook ends": ({0: 120}, {0: (2, 20)}),
    "another codebook ends in the tail": ({0: 80}, {0: (1, 60)}),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_one_transformer_where_one_is_enough_gives_the_same_tokens(small: Small, name: str) -> None:
    songs, ends = CASES[name]
    short, decoder = decode(small, EndingSlots, songs, ends)
    plain, reference = decode(small, PlainSlots, songs, ends)
    assert short == plain
    assert decoder.num_steps <= reference.num_steps


def whole_pass_score(small: Small, done: Decoded[Job], num_frames: int) -> list[float]:
    """The mean log-probability of a song's kept codes, from one pass over the prefix and all columns."""
    lelm, config = small.lelm, small.lelm.config
    prefix, prefix_sub = lelm.condition_provider.prefix(done.label.conditions)
    first, second = lelm.embed_codes(done.columns.expand(2, -1, -1))
    assert prefix_sub is not None and second is not None
    with torch.inference_mode():
        whole = lelm.prompt(
            torch.cat([prefix, first], 1), torch.cat([prefix_sub, second], 1), lelm.new_state(2)
        )
    log_probs = whole.logits[:, :, prefix.shape[1] : -1].log_softmax(-1)
    targets = done.columns[:, 1:, None].clamp(max=config.eos).expand(2, -1, -1, -1)
    mask_KS = frame_mask(num_frames, config.delays)[:, 1:]
    found = log_probs.gather(-1, targets)[..., 0][:, :, : mask_KS.shape[1]][:, mask_KS]
    means: list[float] = found.double().mean(1).tolist()
    return means


@pytest.mark.parametrize("name", sorted(set(CASES) - {"first codebook ends at once"}))
def test_the_score_is_that_of_a_whole_pass_over_the_kept_codes(small: Small, name: str) -> None:
    """Heads, tails and skipped columns; codes of a codebook behind the end of another do not count."""
    songs, ends = CASES[name]
    config = small.lelm.config
    decoder: SlotDecoder[Job] = SlotDecoder(
        EndingSlots(small.lelm, 2, ends), layout_of(config), 2, device=CPU
    )
    tasks = [task_of(small.job(song, frames), config) for song, frames in songs.items()]
    with torch.inference_mode():
        decoded = list(decoder.run(iter(tasks)))
    for done in decoded:
        draft = draft_of(done, config)
        length = min([songs[draft.job.seed], *(frame for _, frame in ends.values())])
        assert draft.tokens.shape[1] == length and draft.lm_score is not None
        got = [draft.lm_score.conditional, draft.lm_score.null]
        assert got == pytest.approx(whole_pass_score(small, done, length), abs=1e-4)
        assert abs(draft.lm_score.difference) > 1e-4


def test_scores_do_not_depend_on_neighbours_or_slots(small: Small) -> None:
    jobs = [small.job(song, frames) for song, frames in enumerate((30, 120, 60, 90, 10))]

    def scores(order: list[Job], batch: int) -> dict[str, LmScore | None]:
        drafts = Composer(small.lelm, ComposeOptions(batch)).compose(iter(order))
        return {draft.job.name: draft.lm_score for draft in drafts}

    alone = scores(jobs, 1)
    assert alone == scores(jobs, 2) == scores(jobs[::-1], 4)
    assert len(set(alone.values())) == len(jobs)


def test_a_song_shorter_than_the_head_skips_what_is_known(small: Small) -> None:
    """20 frames: 20 columns of codebook 0, then straight to the column where the stems begin."""
    _, decoder = decode(small, EndingSlots, {0: 20}, {})
    _, reference = decode(small, PlainSlots, {0: 20}, {})
    assert (decoder.num_steps, reference.num_steps) == (2 * CHECK_EVERY, 3 * CHECK_EVERY)


def test_heads_and_tails_do_not_depend_on_neighbours(small: Small) -> None:
    """Songs in all phases beside each other, more songs than slots, in two orders."""
    songs = {0: 30, 1: 120, 2: 90, 3: 120, 4: 10}
    ends = {1: (0, 70), 3: (0, 33)}
    alone: dict[str, list[list[int]]] = {}
    for song, frames in songs.items():
        alone |= decode(small, EndingSlots, {song: frames}, ends)[0]
    for order in (songs, dict(reversed(songs.items()))):
        assert decode(small, EndingSlots, order, ends, num_slots=4)[0] == alone


def test_a_transformer_that_no_slot_needs_is_not_run(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """90 frames: 50 steps of transformer 1 alone, 50 of both (the end is seen at 100), 50 of 2 alone."""
    calls: Counter[str] = Counter()

    def count(name: str) -> None:
        whole = getattr(LeLM, name)

        def counted(self: LeLM, *args: Any, **options: Any) -> Any:
            calls[name] += 1
            return whole(self, *args, **options)

        monkeypatch.setattr(LeLM, name, counted)

    for name in ("step_first", "step_second", "logits_first", "logits_stems"):
        count(name)
    _, decoder = decode(small, EndingSlots, {0: 90}, {})
    assert decoder.num_steps == 150  # 140, at the next look
    assert calls == {"step_first": 100, "logits_first": 100, "step_second": 100, "logits_stems": 100}


def test_the_null_prefix_is_computed_once(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four songs in two slots: four conditional rows and one null row; another null text is another one."""
    whole, rows = LeLM.prefill, []

    def recorded(self: LeLM, prefix: Tensor, sub: Tensor | None, state: Any, row: int) -> None:
        rows.append(row)
        whole(self, prefix, sub, state, row)

    monkeypatch.setattr(LeLM, "prefill", recorded)
    decode(small, EndingSlots, {0: 10, 1: 10, 2: 10, 3: 10}, {})
    assert sorted(rows) == [0, 0, 1, 2, 2]
    rows.clear()
    slots = LelmSlots(small.lelm, 2)
    with torch.inference_mode():
        for slot, description in enumerate(("pop", None)):
            slots.prefill(slot, small.job(0, 10, description).conditions)
    assert rows == [0, 1, 2, 3]


def test_a_composer_that_was_broken_off_starts_afresh(small: Small) -> None:
    composer = Composer(small.lelm, ComposeOptions(1))
    jobs = [small.job(0, 30), small.job(1, 120)]
    (expected, *_) = [draft.tokens.tolist() for draft in composer.compose(iter(jobs[:1]))]
    broken = composer.compose(iter(jobs[1:]), report=_raise)
    with pytest.raises(KeyboardInterrupt):
        next(broken)
    assert [draft.tokens.tolist() for draft in composer.compose(iter(jobs[:1]))] == [expected]


def _raise(stage: str, name: str, fraction: float) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("frames", [20, 120])
def test_songs_of_an_8_bit_cache_do_not_depend_on_neighbours(small: Small, frames: int) -> None:
    options = {"kv_cache": "int8"}
    alone = list(Composer(small.lelm, ComposeOptions(1, **options)).compose(iter([small.job(1, frames)])))
    jobs = [small.job(0, 40), small.job(1, frames), small.job(2, 30)]
    together = list(Composer(small.lelm, ComposeOptions(2, **options)).compose(iter(jobs)))
    assert next(draft for draft in together if draft.job.seed == 1).tokens.equal(alone[0].tokens)


def test_logits_of_an_8_bit_cache_are_near(small: Small) -> None:
    """Random weights: within 2 % of the spread of the logits, and not equal."""
    found = []
    for is_int8 in (False, True):
        slots = LelmSlots(small.lelm, 2, is_int8=is_int8)
        with torch.inference_mode():
            slots.prefill(0, small.job(0, 60).conditions)
            ids = torch.full((2, 3), small.lelm.config.special)
            found.append(slots.step(ids, torch.zeros(2, dtype=torch.int64), slots.capacity)[0][0])
    error = (found[1] - found[0]).abs().max() / found[0].std()
    assert 0 < float(error) < 0.02


class Tape(TorchDispatchMode):
    """Records the operations of a step and plays them again on the same tensors, as a CUDA graph does."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert "_local_scalar_dense" not in str(func), "the host waits for the device inside a step"
        out = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, out))
        return out

    def replay(self) -> None:
        for func, args, kwargs, out in self.calls:
            again = func(*args, **kwargs)
            for old, new in zip(_tensors(out), _tensors(again), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [item for item in value if isinstance(item, Tensor)] if isinstance(value, tuple | list) else []


def test_a_step_is_a_function_of_its_tensors(small: Small) -> None:
    """Graph against eager, without a GPU: one step recorded operation by operation and played 24 times."""

    def started() -> SlotDecoder[Job]:
        config = small.lelm.config
        slots = LelmSlots(small.lelm, 2, ops=replace(TORCH_OPS, window_step=None))
        decoder: SlotDecoder[Job] = SlotDecoder(slots, layout_of(config), 2, device=CPU)
        tasks: Iterator[Any] = iter([task_of(small.job(song, 400), config) for song in (0, 1)])
        assert decoder.begin(tasks)
        return decoder

    with torch.no_grad():
        eager, taped = started(), started()
        for _ in range(CHECK_EVERY):
            eager.step()
        taped.step()
        with Tape() as tape:
            taped._advance()
        for _ in range(CHECK_EVERY - 2):
            tape.replay()
    assert torch.equal(eager._state.columns_BKS, taped._state.columns_BKS)
    assert torch.equal(eager._state.log_probs_B2KS, taped._state.log_probs_B2KS)
    assert (eager._state.log_probs_B2KS[:, :, 0, 1:CHECK_EVERY] < 0).all()
    assert eager._state.column_B.tolist() == taped._state.column_B.tolist() == [CHECK_EVERY] * 2
