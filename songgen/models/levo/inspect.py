"""Looking at a LeVo checkpoint without loading it: are its files there and whole, and would it fit."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch

from songgen.models.inspection import FoundFile, Inspection
from songgen.models.levo.config import LevoConfig, read_config
from songgen.models.levo.loading import (
    LARGEST_BATCH,
    PROMPT_LIBRARY,
    SAFE_PROMPT_LIBRARY,
    SEPARATOR_CONFIG,
    SEPARATOR_WEIGHTS,
    LevoFiles,
    needs_of_files,
)
from songgen.models.levo.locate import find_checkpoint
from songgen.models.levo.needs import needs_of
from songgen.models.levo.random_model import codec_numel, empty_lelm
from songgen.nn.kv_cache import bytes_per_position
from songgen.runtime.memory import MemoryPlan, Needs, plan_memory
from songgen.runtime.whole_files import fault_of

CLIPS, STEMS, STYLES = "prompt_audio_path", "prompt_audio_path and stems=separator", "auto_prompt_audio_type"
"""What the files are for without which songs can still be made."""


def inspect(
    folder: Path,
    *,
    runtime_dir: Path | None,
    device: torch.device,
    dtype: torch.dtype,
    memory: str,
    batch: int | None,
    free: int,
) -> Inspection:
    """Look for every file of a checkpoint, and plan its memory as `load` would.

    Args:
        runtime_dir, memory, batch: as of `songgen.models.catalog.load_model`.
        free: bytes that the device has.
    """
    try:
        files = LevoFiles(find_checkpoint(folder), runtime_dir)
        config = read_config(files.checkpoint.config, search=files.places)
        weights = files.language_model(config).paths
    except (FileNotFoundError, ValueError) as error:
        return Inspection(folder, problems=(str(error),))
    own = [FoundFile(path.name, path, *_state(path)) for path in (files.checkpoint.config, *weights)]
    found = Inspection(folder, (*own, *_shared(config, files)))
    if found.faults:
        return found
    try:
        plan = _plan(config, files, device, dtype, memory=memory, batch=batch, free=free)
    except ValueError as error:
        return Inspection(folder, found.files, problems=(str(error),))
    return Inspection(folder, found.files, plan)


def needs_of_sizes(
    sizes: Mapping[str, float], max_seconds: float, *, dtype: torch.dtype, device: torch.device
) -> Needs:
    """What a published model will need, by the catalogue alone.

    Args:
        sizes: of the language model, as in the catalogue.
    """
    config, shapes = _published_shapes(tuple(sizes.items()), max_seconds)
    return needs_of(
        config,
        shapes,
        codec_numel=codec_numel(config.num_codebooks),
        max_frames=config.max_frames,
        item=dtype.itemsize,
        position_bytes=bytes_per_position(config.num_heads, config.llama().head_dim, dtype),
        device=device,
    )


@cache
def _published_shapes(
    sizes: tuple[tuple[str, float], ...], max_seconds: float
) -> tuple[LevoConfig, dict[str, tuple[int, ...]]]:
    """Configuration and tensor shapes of a published language model, built once without memory."""
    lelm = empty_lelm(dict(sizes), max_seconds)
    return lelm.config, {name: tuple(tensor.shape) for name, tensor in lelm.state_dict().items()}


def _shared(config: LevoConfig, files: LevoFiles) -> list[FoundFile]:
    names = config.files
    needed = [names.tokenizer, names.codec, names.vae_config, names.vae_model]
    prompts = [(names.mixed_codec, CLIPS)] if names.mixed_codec and config.num_codebooks > 1 else []
    if config.own.separator:
        prompts += [(SEPARATOR_WEIGHTS, STEMS), (SEPARATOR_CONFIG, STEMS)]
    has_own = (files.checkpoint.folder / SAFE_PROMPT_LIBRARY).is_file()
    prompts.append((SAFE_PROMPT_LIBRARY if has_own else PROMPT_LIBRARY, STYLES))
    return [_look(files, name) for name in needed] + [_look(files, name, why) for name, why in prompts]


def _look(files: LevoFiles, name: str, only_for: str = "") -> FoundFile:
    try:
        path = files.find(name)
    except (FileNotFoundError, ValueError) as error:
        return FoundFile(
            name, None, fault=str(error).splitlines()[0].removeprefix(f"{name} "), only_for=only_for
        )
    return FoundFile(name, path, *_state(path), only_for)


def _state(path: Path) -> tuple[int, str | None]:
    """Bytes of a file or of the files of a folder, and the first fault among them."""
    items = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
    faults = [(item, fault_of(item)) for item in items]
    told = [fault if item == path else f"{item.name} is {fault}" for item, fault in faults if fault]
    return sum(item.stat().st_size for item in items if item.is_file()), told[0] if told else None


def _plan(
    config: LevoConfig,
    files: LevoFiles,
    device: torch.device,
    dtype: torch.dtype,
    *,
    memory: str,
    batch: int | None,
    free: int,
) -> MemoryPlan:
    shapes = files.language_model(config).shapes()
    return plan_memory(
        needs_of_files(config, files, shapes, None, dtype=dtype, device=device, is_int8=False),
        mode=memory,
        batch=batch,
        free=free,
        largest_batch=LARGEST_BATCH[device.type],
    )
