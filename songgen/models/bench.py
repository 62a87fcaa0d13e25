"""The road from a name to what `songgen bench` measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from songgen.models.base import RunSettings
from songgen.models.catalog import built_in_folder, explain_unknown, find_entry, load_model
from songgen.models.levo.bench import BenchModel
from songgen.models.levo.bench_loading import bench_checkpoint, bench_random
from songgen.models.levo.model import LevoModel


def load_bench(
    name_or_path: str,
    *,
    weights: Literal["checkpoint", "random"],
    layers: int | None = None,
    runtime_dir: Path | None = None,
    **options: Any,
) -> BenchModel:
    """What `songgen bench` measures: a checkpoint, or random weights of a published model's sizes.

    Args:
        layers: of each transformer of random weights, at most; None for all.
        options: fields of `RunSettings` that have to do with speed: device, dtype, codec_dtype, attention,
            kv_cache, threads.

    Raises:
        FileNotFoundError, ValueError: as `load_model`; a model of another family.
    """
    if weights == "checkpoint" or built_in_folder(name_or_path) is not None:
        if layers is not None:
            raise ValueError(f"layers={layers} has no effect on a checkpoint: its layers are in its files")
        model = load_model(name_or_path, runtime_dir=runtime_dir, memory="full", batch=1, **options)
        if not isinstance(model, LevoModel):
            raise ValueError(f"{name_or_path}: songgen bench measures models of the LeVo family only")
        return bench_checkpoint(model)
    entry = find_entry(name_or_path)
    if entry is None:
        raise ValueError(explain_unknown(name_or_path))
    if entry.family != "levo":
        raise ValueError(f"{name_or_path}: songgen bench measures models of the LeVo family only")
    fewer = {name: min(size, layers or size) for name, size in entry.sizes.items() if "num_layers" in name}
    return bench_random({**entry.sizes, **fewer}, entry.max_seconds, RunSettings(**options))
