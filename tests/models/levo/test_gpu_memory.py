"""What only a GPU can show: memory that really runs out, and peaks that stay under the plan."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from songgen.engine.outcome import Outcome
from songgen.engine.run import Run
from songgen.engine.settings import Settings
from songgen.models.base import Draft, Report, Song
from songgen.models.levo.loading import load
from songgen.models.levo.model import LevoModel
from songgen.nn.llama import Llama, LlamaConfig
from songgen.requests import SongRequest
from songgen.runtime.memory import GB, free_bytes, limit_memory
from songgen.runtime.offload import stream_layers_, streamed_positions

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
GPU = torch.device("cuda")
MB = 10**6


def outcomes(model: LevoModel, count: int) -> list[Outcome]:
    settings = Settings(sampling=model.sampling, seed=3, max_seconds=1, memory=model.memory)
    songs = [SongRequest(idx=f"s{number}", lyrics="[verse] La la.") for number in range(count)]
    return list(Run(model, settings).songs(songs))


def tokens(made: list[Outcome]) -> dict[str, list[list[int]]]:
    return {outcome.name: outcome.song.draft.tokens.tolist() for outcome in made if outcome.song}


def unrendered(drafts: Iterator[Draft], report: Report) -> Iterator[Song]:
    return (Song(draft) for draft in drafts)


def test_a_batch_that_really_runs_out_of_memory_is_halved(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """Memory shrinks after the plan was made: caches of 64 slots fit no more, those of 32 do."""
    model = load(tiny_folder, device="cuda", dtype="fp32", batch=64)
    monkeypatch.setattr(model, "render", unrendered)
    total = torch.cuda.get_device_properties(GPU).total_memory
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved(GPU) + model.plan.needs.caches(40)
    torch.cuda.set_per_process_memory_fraction(room / total, GPU)
    try:
        made = outcomes(model, 12)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    assert len(tokens(made)) == 12, [outcome.failure for outcome in made]
    assert model.batch < 64 and "compose ran out of memory with 64 at once" in caplog.text


@pytest.mark.parametrize("memory", ["full", "low"])
@pytest.mark.parametrize("batch", [1, 4])
def test_the_peak_stays_under_the_plan(tiny_folder: Path, memory: str, batch: int) -> None:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated(GPU)
    torch.cuda.reset_peak_memory_stats(GPU)
    model = load(tiny_folder, device="cuda", memory=memory, batch=batch, max_seconds=1)
    assert len(tokens(outcomes(model, 4))) == 4
    assert torch.cuda.max_memory_allocated(GPU) - before <= model.plan.needed


def test_a_simulated_card_has_no_more_than_its_size() -> None:
    try:
        limit_memory(GPU, 2 * GB)
        assert free_bytes(GPU, 2 * GB) <= 1.5 * GB
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(2 * GB, dtype=torch.uint8, device=GPU)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
    with pytest.raises(ValueError, match=r"gpu_memory is 0\.4 GB, but a process takes about 0\.5 GB"):
        limit_memory(GPU, 4 * GB // 10)


@torch.inference_mode()
def test_layers_streamed_to_a_gpu_compute_the_same_bits_in_the_memory_of_two() -> None:
    """Layers of 25 MB, so that copies and steps really overlap; forty steps without a stop."""
    config = LlamaConfig(
        width=1024, ffn_dim=2816, num_heads=8, num_layers=6, rope_theta=1e4, num_positions=64
    )
    weights = Llama(config).requires_grad_(False).half().state_dict()
    layer = sum(tensor.nbytes for name, tensor in weights.items() if name.startswith("layers.0."))

    def run(resident: int | None) -> tuple[list[torch.Tensor], int]:
        torch.cuda.empty_cache()
        stack = Llama(config).requires_grad_(False).half()
        stack.load_state_dict(weights)
        positions = streamed_positions(6, resident)
        for index, one in enumerate(list(stack.layers)):
            one.to("cpu" if index in positions else GPU)
        stack.norm.to(GPU)
        before = torch.cuda.memory_allocated(GPU)
        stream_layers_([stack], positions, GPU)
        taken = torch.cuda.memory_allocated(GPU) - before
        cache, rope = stack.new_cache(2, 64), stack.rotary_table()
        x = torch.randn(2, 44, 1024, generator=torch.Generator().manual_seed(1)).half().to(GPU)
        found = [stack.prompt(x[:, :4], rope, cache)]
        for position in range(4, 44):
            at = torch.full((2,), position, device=GPU)
            found.append(stack.step(x[:, position], rope, cache, at, window=64))
        return [tensor.cpu() for tensor in found], taken

    expected, _ = run(None)
    for resident in (0, 3):
        streamed, taken = run(resident)
        assert all(torch.equal(one, other) for one, other in zip(expected, streamed, strict=True))
        assert taken <= 2 * layer + MB


def test_text_tables_are_not_on_the_gpu(tiny_folder: Path) -> None:
    lelm = load(tiny_folder, device="cuda").parts.lelm.get()
    kinds = {name: tensor.device.type for name, tensor in lelm.state_dict().items()}
    assert {name for name, kind in kinds.items() if kind == "cpu"} == {
        f"condition_provider.conditioners.{name}.output_proj.weight" for name in ("description", "type_info")
    }
