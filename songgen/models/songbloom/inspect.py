"""Looking at a SongBloom model without loading it: are its files there and whole, and would it fit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from songgen.models.inspection import FoundFile, Inspection
from songgen.models.separation import SEPARATOR_CONFIG, SEPARATOR_WEIGHTS
from songgen.models.songbloom.checkpoint import read_vae_config
from songgen.models.songbloom.config import SongBloomConfig, read_config
from songgen.models.songbloom.loading import LARGEST_BATCH, find_separator_file, needs_of
from songgen.models.songbloom.locate import ModelFiles, find_model
from songgen.models.songbloom.text import published_vocabulary
from songgen.nn.oobleck import OobleckConfig
from songgen.runtime.memory import Needs, plan_memory
from songgen.runtime.sampling import DiffusionSampling
from songgen.runtime.whole_files import fault_of

STEMS = "stems=separator"
"""What the separator's files are for."""


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
    """Look for every file of a model, and plan its memory as `load` would.

    Args:
        folder: the model's, or its yaml.
        runtime_dir, memory, batch: as of `songgen.models.catalog.load_model`.
        free: bytes that the device has.
    """
    try:
        files = find_model(folder, runtime_dir=runtime_dir)
        config = read_config(files.config, search=files.places)
    except (FileNotFoundError, ValueError) as error:
        return Inspection(folder, problems=(str(error),))
    found = Inspection(folder, tuple(_look_at_all(files, config)))
    if found.faults:
        return found
    try:
        vae = read_vae_config(files.find(config.files["vae_config"]), config)
        needs = needs_of(config, vae, config.max_blocks, dtype, is_int8=False, device=device)
        largest = LARGEST_BATCH[device.type]
        plan = plan_memory(needs, mode=memory, batch=batch, free=free, largest_batch=largest)
    except ValueError as error:
        return Inspection(folder, found.files, problems=(str(error),))
    return Inspection(folder, found.files, plan)


def needs_of_sizes(
    sizes: Mapping[str, float], max_seconds: float, *, dtype: torch.dtype, device: torch.device
) -> Needs:
    """What a published model will need, by the catalogue alone.

    Args:
        sizes: as in the catalogue, under the names of the yaml.
        max_seconds: the yaml's `max_dur`.
    """
    config = SongBloomConfig(
        width=int(sizes["dim"]),
        ffn_dim=4 * int(sizes["dim"]),
        num_heads=int(sizes["num_heads"]),
        num_layers=int(sizes["lm_layers"]),
        num_diffusion_layers=int(sizes["diff_layers"]),
        rope_theta=float(sizes["rotary_base_val"]),
        num_codes=int(sizes["num_pitch"]),
        block_size=int(sizes["block_size"]),
        latent_dim=int(sizes["latent_dim"]),
        time_features=int(sizes["timestep_features_dim"]),
        prompt_positions=int(sizes["prompt_max_len"]),
        lyric_positions=int(sizes["lyric_max_len"]),
        max_sentences=int(sizes["max_sentence_per_structure"]),
        vocabulary=published_vocabulary(),
        max_duration=max_seconds,
        sample_rate=OobleckConfig.sample_rate,
        sampling=DiffusionSampling(),
    )
    return needs_of(config, OobleckConfig(), config.max_blocks, dtype, is_int8=False, device=device)


def _look_at_all(files: ModelFiles, config: SongBloomConfig) -> list[FoundFile]:
    own = [_state(files.config.name, files.config)]
    weights = files.weights
    missing = FoundFile(f"{files.name}.pt", None, fault="not beside its yaml")
    own.append(missing if weights is None else _state(weights.name, weights))
    shared = [_look(files, config.files[name]) for name in ("vae_config", "vae_weights")]
    return [*own, *shared, *(_look(files, name, STEMS) for name in (SEPARATOR_WEIGHTS, SEPARATOR_CONFIG))]


def _look(files: ModelFiles, name: str, only_for: str = "") -> FoundFile:
    try:
        path = find_separator_file(files, name) if only_for else files.find(name)
    except (FileNotFoundError, ValueError) as error:
        fault = str(error).splitlines()[0].removeprefix(f"{name} ")
        return FoundFile(name, None, fault=fault, only_for=only_for)
    return _state(name, path, only_for)


def _state(name: str, path: Path, only_for: str = "") -> FoundFile:
    return FoundFile(name, path, path.stat().st_size, fault_of(path), only_for)
