"""What the page says of a model without listening: its files, the songs it learned from, how long it took."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from songgen.models.levo.checkpoint import tensor_shapes
from songgen.train.curves import LINES, read_losses
from songgen.train.truth import FRAME_RATE

if TYPE_CHECKING:
    from songgen.train.dataset import SongStore

WEIGHTS = (".pt", ".safetensors", ".ckpt")


def model_facts(folder: Path) -> dict[str, Any]:
    """Files of a checkpoint with their bytes, and the numbers in those that hold weights."""
    files = []
    for path in sorted(item for item in folder.rglob("*") if item.is_file()):
        entry: dict[str, Any] = {"file": path.relative_to(folder).as_posix(), "bytes": path.stat().st_size}
        if path.suffix in WEIGHTS and "prompt" not in path.name:
            entry["numbers"] = _numbers(path)
        files.append(entry)
    return {"name": folder.name, "files": files, "bytes": sum(entry["bytes"] for entry in files)}


def _numbers(path: Path) -> int:
    total = 0
    for shape in tensor_shapes(path).values():
        count = 1
        for size in shape:
            count *= size
        total += count
    return total


def data_facts(store: SongStore) -> dict[str, Any]:
    """Songs and hours that were trained on and held out."""
    facts: dict[str, Any] = {}
    for name, indices in (("train", store.train_indices), ("held_out", store.held_out_indices)):
        frames = sum(store.truth(index).num_frames for index in indices)
        facts[name] = {"songs": len(indices), "hours": round(frames / FRAME_RATE / 3600, 3)}
    return facts


def training_facts(work: Path) -> list[dict[str, Any]]:
    """For each stage with a log: steps, seconds, the last loss and the last held-out measurements."""
    stages = []
    for path in sorted(work.glob(f"*/{LINES}")):
        lines = read_losses(path)
        if not lines:
            continue
        last: dict[str, float] = {}
        for line in lines:
            last |= line
        held_out = {name.removeprefix("held_out/"): v for name, v in last.items() if "held_out/" in name}
        stages.append(
            {
                "stage": path.parent.name,
                "steps": int(last["step"]),
                "seconds": last["seconds"],
                "loss": last.get("loss"),
                "held_out": held_out,
            }
        )
    return stages
