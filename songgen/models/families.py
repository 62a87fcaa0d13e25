"""The model families, and the way into the code of each: which one a checkpoint is of, and what it can do.

A family's code is imported when it is needed; nothing here is known but the families' names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from songgen.models.levo import locate as levo
from songgen.models.songbloom import locate as songbloom

if TYPE_CHECKING:  # they need torch: listing and fetching do not
    import torch

    from songgen.models.base import SongModel
    from songgen.models.inspection import Inspection
    from songgen.runtime.memory import Needs

NANO = "nano"
"""The built-in model that sings: trained by `songgen train`, its files part of the package."""

NOISE = ("tiny", "tiny-fast", "tiny-songbloom")
"""The built-in models of seeded random weights in the published layouts. They make noise, not music."""

BUILT_IN = (NANO, *NOISE)
"""The models that are never downloaded."""

NANO_FOLDER = Path(__file__).resolve().parents[1] / NANO


def has_built_in(name: str) -> bool:
    """Whether a built-in model can be had: `nano` needs its files, the others are made when asked for."""
    return name != NANO or levo.is_checkpoint(NANO_FOLDER)


def describe_built_in(name: str) -> str:
    """A built-in model in a few words, for lists."""
    if name != NANO:
        return "built in (noise, not music)"
    return "built in (sings)" if has_built_in(name) else "built in, but its weights are not in this copy"


def family_of(path: Path) -> str | None:
    """The family of a checkpoint's folder or file, None if it is none."""
    if levo.is_checkpoint(path):
        return "levo"
    return "songbloom" if songbloom.is_checkpoint(path) else None


def make_built_in(name: str) -> Path:
    """The folder of a built-in model, made if it is not there; `name` is one of `BUILT_IN`.

    Raises:
        FileNotFoundError: this copy of songgen is without the weights of `nano`.
    """
    if name == NANO:
        if not has_built_in(name):
            raise FileNotFoundError(
                f"{NANO} is not in this copy of songgen: {NANO_FOLDER} holds no weights. Make it with "
                f"`songgen train all out={NANO_FOLDER}`; `tiny` runs without weights, and makes noise"
            )
        return NANO_FOLDER
    if name == "tiny-songbloom":
        from songgen.models.songbloom.tiny import ensure_tiny as ensure_tiny_songbloom

        return ensure_tiny_songbloom()
    from songgen.models.levo.tiny import ensure_tiny

    return ensure_tiny(name=name)


def load_checkpoint(
    folder: Path, checkpoint: Path | None, lora: Mapping[str, Any], **settings: Any
) -> SongModel:
    """Load a checkpoint.

    Args:
        folder: its folder or file.
        checkpoint: fine-tuned weights in the place of the published ones, or None.
        lora: what is said of low-rank adapters in it: `alpha`, `rank`, `targets`.
        settings: as of `songgen.models.catalog.load_model`.

    Raises:
        FileNotFoundError, ValueError: as there.
    """
    if family_of(folder) == "songbloom":
        from songgen.models.songbloom.loading import fine_tuning_of
        from songgen.models.songbloom.loading import load as load_songbloom

        return load_songbloom(folder, fine_tuning=fine_tuning_of(checkpoint, **lora), **settings)
    from songgen.models.levo.loading import load

    given = {"checkpoint": checkpoint, **{f"lora.{name}": value for name, value in lora.items()}}
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name}={value}: fine-tuned checkpoints are read for SongBloom models only")
    return load(folder, **settings)


def inspect_checkpoint(folder: Path, **settings: Any) -> Inspection:
    """Look at a checkpoint without loading it; settings as of `songgen.models.catalog.inspect_model`."""
    if family_of(folder) == "songbloom":
        from songgen.models.songbloom.inspect import inspect as inspect_songbloom

        return inspect_songbloom(folder, **settings)
    from songgen.models.levo.inspect import inspect

    return inspect(folder, **settings)


def needs_of_sizes(
    family: str, sizes: Mapping[str, float], max_seconds: float, *, dtype: torch.dtype, device: torch.device
) -> Needs:
    """The memory that a model will need, by the sizes and the longest song of its catalogue entry."""
    if family == "songbloom":
        from songgen.models.songbloom.inspect import needs_of_sizes as needs_of_songbloom

        return needs_of_songbloom(sizes, max_seconds, dtype=dtype, device=device)
    from songgen.models.levo.inspect import needs_of_sizes as needs_of_levo

    return needs_of_levo(sizes, max_seconds, dtype=dtype, device=device)
