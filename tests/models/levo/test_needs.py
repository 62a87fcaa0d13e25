"""Bytes of the published models, and what fits which card."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from songgen.models.catalog import CatalogEntry, entries
from songgen.models.levo.checkpoint import TEXT_TABLES, build_lelm, read_lm_tensors
from songgen.models.levo.config import LevoConfig
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.model import LevoModel
from songgen.models.levo.needs import needs_of, slot_bytes
from songgen.models.levo.random_model import codec_numel, published_config
from songgen.nn.kv_cache import bytes_per_position
from songgen.runtime.checkpoint import build
from songgen.runtime.memory import CUDA_CONTEXT, GB, MemoryPlan, Needs, plan_memory


def entry_of(name: str) -> CatalogEntry:
    return next(entry for entry in entries() if entry.name == f"songgeneration_{name}")


def shapes_of(entry: CatalogEntry, config: LevoConfig) -> dict[str, tuple[int, ...]]:
    rows = {name: int(entry.sizes[name]) for name in ("lyric_rows", "description_rows")}
    lelm = build(lambda: LeLM(config, **rows))
    return {name: tuple(tensor.shape) for name, tensor in lelm.state_dict().items()}


def position_bytes(config: LevoConfig, *, is_int8: bool = False) -> int:
    """Of one layer's cache, in fp16 or 8 bits."""
    head_dim = config.llama().head_dim
    return bytes_per_position(config.num_heads, head_dim, torch.float16, is_int8=is_int8)


def needs(name: str, seconds: float | None = None) -> Needs:
    """In fp16 on a GPU."""
    entry = entry_of(name)
    config = published_config(entry.sizes, entry.max_seconds)
    return needs_of(
        config,
        shapes_of(entry, config),
        codec_numel=codec_numel(config.num_codebooks),
        max_frames=config.num_frames(seconds),
        item=2,
        position_bytes=position_bytes(config),
        device=torch.device("cuda"),
    )


def plan(of: Needs, card_gb: float, mode: str = "auto") -> MemoryPlan:
    """On a card of so many GB that nobody else uses."""
    return plan_memory(of, mode=mode, batch=None, free=int(card_gb * GB) - CUDA_CONTEXT, largest_batch=8)


def test_base_fits_10_gb_with_one_stage_at_a_time() -> None:
    needed = needs("base")
    assert needed.composer / GB == pytest.approx(4.5, abs=0.1)  # 5.7 in all: the rest is text tables, unused
    assert needed.slot / GB == pytest.approx(2.26, abs=0.01)
    assert needed.renderer / GB == pytest.approx(3.3, abs=0.1)
    found = plan(needed, 10)
    assert (found.residency, found.batch, found.resident_layers) == ("low", 1, None)
    assert found.needed / GB == pytest.approx(6.9, abs=0.1)
    assert plan(needed, 15).residency == "full"


def test_base_full_fits_12_gb_with_one_stage_at_a_time() -> None:
    found = plan(needs("base_full"), 12)
    assert (found.residency, found.batch, found.resident_layers) == ("low", 1, None)
    assert found.needed / GB == pytest.approx(8.6, abs=0.1)


def test_large_fits_16_gb_with_40_of_its_48_layers_on_the_gpu() -> None:
    """Published: 22 GB. Whole, with 16-bit caches, it takes 15.2 GB, and 14.3 can be planned with."""
    needed = needs("large")
    assert needed.low(1) / GB == pytest.approx(15.2, abs=0.1)
    found = plan(needed, 16)
    assert (found.residency, found.batch, found.resident_layers) == ("low", 1, 40)
    assert plan(needed, 22).residency == "low" and plan(needed, 22).resident_layers is None


@pytest.mark.parametrize("name", ["large", "v2_large"])
def test_large_fits_16_gb_whole_with_8_bit_caches_or_shorter_songs(name: str) -> None:
    entry = entry_of(name)
    config = published_config(entry.sizes, entry.max_seconds)
    shapes = shapes_of(entry, config)
    small = needs_of(
        config,
        shapes,
        codec_numel=codec_numel(config.num_codebooks),
        max_frames=config.max_frames,
        item=2,
        position_bytes=position_bytes(config, is_int8=True),
        device=torch.device("cuda"),
    )
    assert small.slot / needs(name).slot == pytest.approx(0.516, abs=0.001)
    for of in (small, needs(name, seconds=180)):
        assert (plan(of, 16).residency, plan(of, 16).resident_layers) == ("low", None)


def test_what_cannot_run_on_a_small_card_says_so() -> None:
    with pytest.raises(
        ValueError, match=r"not enough memory: about .* GB needed with memory=low, 5\.5 GB free"
    ):
        plan(needs("large"), 6)


def test_a_slot_is_what_the_caches_take(tiny: LevoModel) -> None:
    state = tiny.parts.lelm.get().new_state(2, capacity=300)
    taken = sum(cache.keys.nbytes + cache.values.nbytes for cache in state.caches)
    position = bytes_per_position(tiny.config.num_heads, 16, torch.float32)
    assert slot_bytes(tiny.config, 300, position) == taken


def test_the_composer_is_what_lies_on_the_device(tiny: LevoModel) -> None:
    lelm = tiny.parts.lelm.get()
    state = lelm.state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    sizes = {name: tensor.nbytes for name, tensor in state.items()}
    options = {"max_frames": 25, "item": 4, "position_bytes": 1}
    on_cpu = needs_of(tiny.config, shapes, codec_numel=0, device=torch.device("cpu"), **options)
    assert on_cpu.composer == sum(sizes.values()) and on_cpu.layer == 0
    on_gpu = needs_of(tiny.config, shapes, codec_numel=7, device=torch.device("cuda"), **options)
    assert on_gpu.composer == sum(size for name, size in sizes.items() if name not in TEXT_TABLES)
    assert (on_cpu.renderer, on_gpu.renderer) == (0, 28)
    layer = sum(tensor.nbytes for tensor in next(iter(lelm.transformer.model.layers)).parameters())
    assert (on_gpu.layer, on_gpu.num_layers, on_gpu.seconds) == (layer, tiny.config.num_layers + 2, 1.0)


def test_only_what_is_planned_to_lie_on_the_device_is_put_there(tiny_folder: Path, tiny: LevoModel) -> None:
    """On the meta device instead of a GPU: the text tables and the streamed layers never touch it."""
    path = tiny_folder / "model.pt"
    lelm = build_lelm(
        tiny.config,
        read_lm_tensors(path),
        source=path,
        dtype=torch.float32,
        device=torch.device("meta"),
        resident_layers=tiny.config.num_layers + tiny.config.num_layers_sub - 3,
    )
    placed = {name: tensor.device.type for name, tensor in lelm.state_dict().items()}
    assert {name for name, kind in placed.items() if kind == "cpu"} == set(TEXT_TABLES)
    assert lelm.condition_provider.device.type == "meta"
    assert all(getattr(stack.layers, "is_streamed", False) for stack in lelm.stacks)
