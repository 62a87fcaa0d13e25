"""Looking at a LeVo checkpoint without loading it: are its files there and whole, and would it fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from songgen.models.inspection import FoundFile, Inspection
from songgen.models.levo.config import CONDITION_NAMES, FAST_SAMPLING, FileNames, LevoConfig, read_config
from songgen.models.levo.loading import (
    LARGEST_BATCH,
    PROMPT_LIBRARY,
    SEPARATOR_CONFIG,
    SEPARATOR_WEIGHTS,
    LevoFiles,
    codec_bytes,
    needs_of,
)
from songgen.models.levo.locate import find_checkpoint
from songgen.runtime.memory import MemoryPlan, Needs, plan_memory
from songgen.runtime.sampling import Sampling
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
    found = Inspection(folder, (*own, *_shared(config.files, files, config.num_codebooks)))
    if found.faults:
        return found
    try:
        plan = _plan(config, files, device, dtype, memory=memory, batch=batch, free=free)
    except ValueError as error:
        return Inspection(folder, found.files, problems=(str(error),))
    return Inspection(folder, found.files, plan)


def needs_of_sizes(
    sizes: Mapping[str, float],
    max_seconds: float,
    num_parameters: int,
    renderer_bytes: int,
    *,
    dtype: torch.dtype,
) -> Needs:
    """What a published model will need, by the catalogue alone.

    Args:
        sizes: of the language model, as in the catalogue.
        renderer_bytes: codec and VAE.
    """
    config = published_config(sizes, max_seconds)
    return needs_of(config, num_parameters * dtype.itemsize, renderer_bytes, dtype)


def published_config(sizes: Mapping[str, float], max_seconds: float) -> LevoConfig:
    """A published model's configuration: the catalogue's sizes, the constants that all have, and no files."""
    is_dual = sizes["num_layers_sub"] > 0
    return LevoConfig(
        width=int(sizes["dim"]),
        ffn_dim=int(sizes["intermediate_size"]),
        num_heads=int(sizes["num_heads"]),
        num_layers=int(sizes["num_layers"]),
        num_layers_sub=int(sizes["num_layers_sub"]),
        rope_theta=sizes["rope_theta"],
        rope_theta_sub=sizes["rope_theta_sub"],
        code_size=16384,
        delays=(0, 250, 250) if is_dual else (0,),
        max_seconds=max_seconds,
        frame_rate=25,
        sample_rate=48000,
        prompt_frames=250,
        prompt_positions=252,
        lyric_positions=int(sizes["lyric_max_len"]),
        description_positions=int(sizes["description_max_len"]),
        prefix_order=CONDITION_NAMES,
        structure_tags=(),
        sampling=Sampling() if is_dual else FAST_SAMPLING,
        files=FileNames("", "", "", "", None),
    )


def _shared(names: FileNames, files: LevoFiles, num_codebooks: int) -> list[FoundFile]:
    needed = [names.tokenizer, names.codec, names.vae_config, names.vae_model]
    prompts = [(names.mixed_codec, CLIPS)] if names.mixed_codec and num_codebooks > 1 else []
    prompts += [(SEPARATOR_WEIGHTS, STEMS), (SEPARATOR_CONFIG, STEMS), (PROMPT_LIBRARY, STYLES)]
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
    lm_bytes = dtype.itemsize * sum(torch.Size(shape).numel() for shape in shapes.values())
    return plan_memory(
        needs_of(config, lm_bytes, codec_bytes(config, files), dtype),
        mode=memory,
        batch=batch,
        free=free,
        largest_batch=LARGEST_BATCH[device.type],
    )
