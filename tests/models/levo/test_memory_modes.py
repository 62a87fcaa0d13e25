"""Memory decides where songs are made and how many at once, never which tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import songgen
from songgen.engine.run import Run
from songgen.engine.settings import Settings
from songgen.models.base import Draft, Report, Song
from songgen.models.levo.checkpoint import TEXT_TABLES, build_lelm, read_lm_tensors
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.loading import load
from songgen.models.levo.model import LevoModel, Loaded
from songgen.models.levo.slots import LelmSlots
from songgen.requests import SongRequest
from songgen.runtime.memory import GB

LYRICS = ("[verse] One.", "[verse] Two and three.", "[intro-short] ; [verse] La.")


def requests(count: int, **options: Any) -> list[SongRequest]:
    return [SongRequest(idx=f"s{number}", lyrics=LYRICS[number % 3], **options) for number in range(count)]


def unrendered(drafts: Iterator[Draft], report: Report) -> Iterator[Song]:
    return (Song(draft) for draft in drafts)


def tokens(model: LevoModel, count: int = 4) -> dict[str, list[list[int]]]:
    """Of some songs as a run makes them, without rendering."""
    settings = Settings(sampling=model.sampling, seed=3, max_seconds=0.4, memory=model.memory)
    found = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "render", unrendered)
        for outcome in Run(model, settings).songs(requests(count)):
            assert outcome.song is not None, outcome.failure
            found[outcome.name] = outcome.song.draft.tokens.tolist()
    return found


@pytest.fixture(scope="module")
def expected(tiny_folder: Path) -> dict[str, list[list[int]]]:
    return tokens(load(tiny_folder, device="cpu", memory="full", batch=4))


def lelm_of(folder: Path, tiny: LevoModel, resident: int | None) -> LeLM:
    path = folder / "model.pt"
    return build_lelm(
        tiny.config,
        read_lm_tensors(path),
        source=path,
        dtype=torch.float32,
        device=torch.device("cpu"),
        resident_layers=resident,
    )


@torch.inference_mode()
@pytest.mark.parametrize("resident", [0, 2])
def test_streamed_layers_compute_the_same_bits(tiny_folder: Path, tiny: LevoModel, resident: int) -> None:
    """A prefix and steps behind it: every pass of three and of two layers through two buffers."""
    streamed = lelm_of(tiny_folder, tiny, resident)
    assert all(getattr(stack.layers, "is_streamed", False) for stack in streamed.stacks)
    conditions = tiny.condition(requests(1)[0])
    ids_BK = torch.full((2, 3), tiny.config.special)

    def logits(lelm: LeLM) -> list[torch.Tensor]:
        slots = LelmSlots(lelm, 2)
        for slot in (0, 1):
            slots.prefill(slot, conditions)
        window = tiny.config.prefix_length + 64
        return [slots.step(ids_BK, torch.full((2,), at), window)[0] for at in range(3)]

    for one, other in zip(logits(streamed), logits(tiny.parts.lelm.get()), strict=True):
        assert torch.equal(one, other)


def test_a_checkpoint_that_does_not_fit_is_streamed_on_a_run(
    tiny_folder: Path, expected: dict[str, list[list[int]]], monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The whole road from the plan to the songs, with the CPU taken for a GPU that is too small."""
    from songgen.models.levo import loading, needs

    counted = needs.needs_of

    def as_on_a_gpu(*args: Any, **options: Any) -> Any:
        found = counted(*args, **{**options, "device": torch.device("cuda")})
        # room for what cannot be streamed, two buffers and one layer more
        room = found.low(1) - 2 * found.layer if found.compose(1) > found.render(1) else 0
        assert room
        monkeypatch.setattr(loading, "free_to_plan", lambda device, limit: int(room / 0.92) + 2)
        return found

    monkeypatch.setattr(needs, "render_work", lambda windows, rows: 0)
    monkeypatch.setattr(loading, "needs_of", as_on_a_gpu)
    said: list[str] = []
    model = load(tiny_folder, device="cpu", max_seconds=0.4, announce=said.append)
    assert (model.memory, model.plan.batch, model.plan.resident_layers) == ("low", 1, 1)
    assert said == [model.summary] and said[0].endswith("; 4 of 5 layers are streamed from CPU memory")
    assert "4 of its 5 layers are copied to the GPU at every step, which is slow" in caplog.text
    assert tokens(model, 1) == {"s0": expected["s0"]}


def test_the_plan_is_announced_before_any_weights_are_read(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    read = Loaded.get

    def get(part: Loaded[Any]) -> Any:
        events.append("read")
        return read(part)

    monkeypatch.setattr(Loaded, "get", get)
    load(tiny_folder, device="cpu", memory="full", announce=events.append)
    assert events[0].startswith("tiny (v2) on cpu, float32, attention=sdpa; memory=full: about ")
    assert "language model 0.0, its work 0.0, caches 0.0 for 1 song of up to 60 s, and codec 0." in events[0]
    assert events[1:] == ["read", "read"]


def test_memory_is_set_aside_for_the_longest_song_of_the_run_only(tiny_folder: Path, tiny: LevoModel) -> None:
    short = load(tiny_folder, device="cpu", max_seconds=2.5)
    assert (short.max_seconds, short.max_frames, short.plan.needs.seconds) == (2.5, 62, 2.48)
    assert short.plan.needs.slot < tiny.plan.needs.slot
    assert tiny.max_frames == tiny.config.max_frames
    longer = load(tiny_folder, device="cpu", max_seconds=600)  # more than it can: its own limit
    assert (longer.max_seconds, longer.max_frames) == (60, tiny.max_frames)


def test_a_song_longer_than_the_model_was_loaded_for_fails_alone(tiny_folder: Path) -> None:
    model = songgen.load(tiny_folder, device="cpu", max_seconds=0.5)
    lines = [
        {"idx": "a", "gt_lyric": "[verse] La.", "max_seconds": 1},
        {"idx": "b", "gt_lyric": "[verse] La."},
    ]
    failed, made = model.generate(lines, seed=1, on_error="yield")
    assert isinstance(failed, songgen.FailedSong) and isinstance(made, songgen.GeneratedSong)
    assert (
        failed.error == "ValueError: max_seconds=1 is more than tiny can make as it was loaded: at most 0.5"
    )
    assert made.tokens.shape == (3, 12)


def test_a_batch_is_no_larger_than_the_run(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("songgen.models.levo.loading.LARGEST_BATCH", {"cpu": 8})
    assert load(tiny_folder, device="cpu", num_songs=3).batch == 3
    assert load(tiny_folder, device="cpu", num_songs=30).batch == 8
    assert load(tiny_folder, device="cpu", num_songs=3, batch=4).batch == 4  # the user's word


def test_a_smaller_gpu_cannot_be_simulated_without_one(tiny_folder: Path, caplog: Any) -> None:
    load(tiny_folder, device="cpu", gpu_memory=10 * GB)
    assert "gpu_memory=10 GB has no effect: this runs on cpu" in caplog.text


@pytest.mark.parametrize("memory", ["full", "low"])
def test_a_batch_out_of_memory_writes_the_same_tokens_in_halves(
    tiny_folder: Path,
    expected: dict[str, list[list[int]]],
    memory: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: Any,
) -> None:
    """It fails where memory does: at a step, with caches allocated and a song of the batch half written."""
    model = load(tiny_folder, device="cpu", batch=4, memory=memory)
    step, composed = LelmSlots.step, []

    def cramped(self: LelmSlots, ids_BK: Any, column_B: Any, window: int) -> Any:
        if ids_BK.shape[0] > 2 and int(column_B.max()) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(self, ids_BK, column_B, window)

    monkeypatch.setattr(LelmSlots, "step", cramped)
    made = model.compose

    def counted(jobs: Iterator[Any], report: Any) -> Iterator[Any]:
        for draft in made(jobs, report):
            composed.append(draft.job.name)
            yield draft

    monkeypatch.setattr(model, "compose", counted)
    assert tokens(model) == expected
    assert model.batch == 2 and model.plan.needed == model.plan.needs.of(model.memory, 2)
    assert sorted(composed) == [f"s{number}" for number in range(4)]  # none twice
    assert "compose ran out of memory with 4 at once, going on with 2" in caplog.text


def test_one_song_out_of_memory_says_what_would_help(
    tiny: LevoModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Any:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(LelmSlots, "step", fail)
    settings = Settings(sampling=tiny.sampling, seed=3, max_seconds=0.4)
    (outcome,) = Run(tiny, settings).songs(requests(1))
    assert outcome.failure is not None
    assert outcome.failure.error == (
        "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory; "
        "memory=low, dtype=fp16 or bf16, kv_cache=int8 and a smaller max_seconds need less"
    )


def test_prompts_are_encoded_with_the_device_to_themselves_in_low_memory(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The language model was loaded first and stayed there beside the separator and the encoders."""
    model = load(tiny_folder, device="cpu", memory="low")
    seen: list[bool] = []
    monkeypatch.setattr(model._prompts, "prepare", lambda paths: seen.append(model.parts.lelm.is_loaded))
    model.prepare(requests(1))
    assert seen == [] and model.parts.lelm.is_loaded
    model.prepare([replace(requests(1)[0], prompt_audio_path="clip.wav")])
    assert seen == [False]


def test_text_tables_stay_in_cpu_memory_and_their_rows_follow_the_rest(
    tiny_folder: Path, tiny: LevoModel
) -> None:
    """The meta device stands for a GPU, to which only the rows that were looked up go."""
    lelm = lelm_of(tiny_folder, tiny, None)
    embedder = lelm.condition_provider
    assert {f"condition_provider.{name}" for name, _ in embedder.named_parameters()} >= set(TEXT_TABLES)
    conditions = tiny.condition(requests(1)[0])
    first, _ = embedder.prefix(conditions)
    for module in (embedder.conditioners["prompt_audio"], embedder.conditioners["description"].structure_emb):
        module.to("meta")
    assert embedder.device.type == "meta"
    moved, _ = embedder.prefix(conditions)
    assert moved.device.type == "meta" and moved.shape == first.shape
