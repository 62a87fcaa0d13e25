"""From a model's files to a model: read its yaml, plan the memory, load the parts."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from songgen.models.base import RunSettings
from songgen.models.parts import Loaded, digest_of
from songgen.models.runtime_files import find_shared, places_of
from songgen.models.separation import SEPARATOR_CONFIG, SEPARATOR_WEIGHTS, Separator, load_separator
from songgen.models.songbloom.checkpoint import (
    WeightFiles,
    build_network,
    load_vae,
    read_vae_config,
    read_vae_tensors,
)
from songgen.models.songbloom.compose import ComposeOptions
from songgen.models.songbloom.config import FRAME_RATE, SongBloomConfig, read_config
from songgen.models.songbloom.locate import ModelFiles, find_model
from songgen.models.songbloom.lora import PUBLISHED_ALPHA, LoraOptions
from songgen.models.songbloom.model import Parts, SongBloomModel
from songgen.models.songbloom.network import SongBloomNetwork
from songgen.models.songbloom.render import VAE_ROWS
from songgen.models.songbloom.text import SongBloomText
from songgen.nn.attention import choose_attention
from songgen.nn.kv_cache import bytes_per_position
from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.runtime.checkpoint import build
from songgen.runtime.device import (
    choose_device,
    choose_dtype,
    choose_threads,
    compute_float32_exactly,
    make_current,
)
from songgen.runtime.memory import Needs, free_to_plan, plan_memory, slot_step

logger = logging.getLogger(__name__)

KV_CACHES = ("auto", "int8")
LARGEST_BATCH = {"cpu": 1, "mps": 1, "cuda": 8}
"""Songs at once, at most, where the user leaves it open."""

CHUNK_WORK = 750_000_000
"""Bytes of working memory for a chunk of the published VAE."""

PUBLISHED_CHANNELS = 128
SEPARATOR_FOLDER, FETCH_SEPARATOR = "runtime", "songgen fetch runtime"
"""The separator is among LeVo's shared files."""


@dataclass(frozen=True)
class FineTuning:
    """A fine-tuned checkpoint in the place of the published weights.

    Args:
        checkpoint: the file: a Lightning checkpoint or bare weights, with or without low-rank adapters.
        lora: what is said of the adapters.
        is_lora_given: whether it was the user's word, so that a file without adapters is refused.
    """

    checkpoint: Path
    lora: LoraOptions = field(default_factory=LoraOptions)
    is_lora_given: bool = False


def fine_tuning_of(
    checkpoint: Path | None, *, alpha: float | None, rank: int | None, targets: str | None
) -> FineTuning | None:
    """Fine-tuning as settings give it; targets are separated by commas.

    Raises:
        ValueError: adapters are described, but no checkpoint is named.
    """
    given = {"alpha": alpha, "rank": rank, "targets": targets}
    named = {name: value for name, value in given.items() if value is not None}
    if checkpoint is None:
        for name, value in named.items():
            raise ValueError(
                f"lora.{name}={value} has no effect without checkpoint=FILE, which has the adapters"
            )
        return None
    split = (
        None if targets is None else tuple(target.strip() for target in targets.split(",") if target.strip())
    )
    lora = LoraOptions(PUBLISHED_ALPHA if alpha is None else alpha, rank, split)
    return FineTuning(checkpoint, lora, is_lora_given=bool(named))


def load(
    path: Path,
    *,
    runtime_dir: Path | None = None,
    fine_tuning: FineTuning | None = None,
    announce: Callable[[str], None] = lambda summary: None,
    **options: Any,
) -> SongBloomModel:
    """Load a model. Files are found, memory is planned and the plan is announced before any weights are read.

    Args:
        path: its folder, its yaml or its weights.
        runtime_dir, announce, options: as of `songgen.models.catalog.load_model`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a setting, or a file that does not fit.
    """
    settings = RunSettings(**options)
    if settings.kv_cache not in KV_CACHES:
        raise ValueError(f"kv_cache is {settings.kv_cache!r}; it must be one of {', '.join(KV_CACHES)}")
    where, is_int8 = choose_device(settings.device), settings.kv_cache == "int8"
    precision = _choose_precision(settings, where)
    attention = choose_attention(settings.attention, where, precision, is_int8=is_int8)
    make_current(where)
    compute_float32_exactly()
    files = find_model(path, runtime_dir=runtime_dir)
    config = read_config(files.config, search=files.places)
    weights = _weight_files(files, config, fine_tuning)
    vae_config = read_vae_config(files.find(config.files["vae_config"]), config)
    torch.set_num_threads(choose_threads(settings.threads, num_parameters(config)))
    max_blocks = _max_blocks(config, settings.max_seconds)
    needs = needs_of(config, vae_config, max_blocks, precision, is_int8=is_int8, device=where)
    largest = LARGEST_BATCH[where.type]
    plan = plan_memory(
        needs,
        mode=settings.memory,
        batch=settings.batch,
        free=free_to_plan(where, settings.gpu_memory),
        largest_batch=min(largest, settings.num_songs or largest),
    )
    model = SongBloomModel(
        files.name,
        config,
        plan,
        _parts(files, config, weights, vae_config, precision=precision, device=where),
        device=where,
        dtype=precision,
        identity=_identity(files, config, weights),
        options=ComposeOptions(plan.batch, max_blocks, attention, settings.kv_cache),
    )
    announce(model.summary)
    model.parts.network.get()
    if plan.residency == "full":
        model.parts.decoder.get()
    return model


def _max_blocks(config: SongBloomConfig, max_seconds: float | None) -> int:
    """Blocks of the longest song that is planned for."""
    if max_seconds is None:
        return config.max_blocks
    return min(config.max_blocks, config.num_blocks(int(round(max_seconds * FRAME_RATE, 6))))


def _choose_precision(settings: RunSettings, device: torch.device) -> torch.dtype:
    """bfloat16 on CUDA unless told: the model was trained in it, and float16 is too narrow for it."""
    precision = choose_dtype(settings.dtype, device, half=torch.bfloat16)
    if settings.codec_dtype != "auto":
        logger.warning("codec_dtype has no effect on SongBloom: its renderer is a VAE alone, in float32")
    if precision == torch.float16:
        logger.warning("dtype=fp16 is narrow for SongBloom, which was trained in bf16; bf16 is as fast")
    if device.type == "mps" and precision != torch.float32:
        logger.warning("on mps the published program runs in fp32 only; dtype=fp32 is safe")
    return precision


def _weight_files(files: ModelFiles, config: SongBloomConfig, fine_tuning: FineTuning | None) -> WeightFiles:
    """Where the weights are. Raises FileNotFoundError."""
    if fine_tuning is not None and not fine_tuning.checkpoint.is_file():
        raise FileNotFoundError(f"checkpoint={fine_tuning.checkpoint}: no such file")
    weights = WeightFiles(
        published=files.weights,
        fine_tuned=None if fine_tuning is None else fine_tuning.checkpoint,
        vae=files.find(config.files["vae_weights"]),
        lora=LoraOptions() if fine_tuning is None else fine_tuning.lora,
        needs_adapters=fine_tuning is not None and fine_tuning.is_lora_given,
    )
    if files.weights is None and fine_tuning is None:
        raise FileNotFoundError(
            f"{files.config}: its weights, {files.name}.pt or {files.name}.safetensors, are not beside it"
        )
    return weights


def _parts(
    files: ModelFiles,
    config: SongBloomConfig,
    weights: WeightFiles,
    vae_config: OobleckConfig,
    *,
    precision: torch.dtype,
    device: torch.device,
) -> Parts:
    """The parts of a model, each loaded when first used."""

    def make_network() -> SongBloomNetwork:
        tensors = weights.read()
        return build_network(config, tensors, source=weights.source, dtype=precision, device=device)

    def make_vae(has_encoder: bool) -> OobleckVAE:
        tensors, source = read_vae_tensors(weights)
        return load_vae(vae_config, tensors, source=source, device=device, has_encoder=has_encoder)

    def make_separator() -> Separator:
        found = [find_separator_file(files, name) for name in (SEPARATOR_WEIGHTS, SEPARATOR_CONFIG)]
        return load_separator(*found, device=device)

    return Parts(
        network=Loaded(make_network),
        encoder=Loaded(lambda: make_vae(True)),
        decoder=Loaded(lambda: make_vae(False)),
        text=Loaded(lambda: SongBloomText(config.vocabulary)),
        separator=Loaded(make_separator),
    )


def find_separator_file(files: ModelFiles, name: str) -> Path:
    """A file of the separator, beside the model or among LeVo's shared files. Raises FileNotFoundError."""
    places = [*files.places, *places_of(files.config.parent, SEPARATOR_FOLDER, files.runtime_dir)]
    return find_shared(name, places, fetch=FETCH_SEPARATOR)


def num_parameters(config: SongBloomConfig) -> int:
    """Of both transformers and what is around them."""
    return _numel(build(lambda: SongBloomNetwork(config)))


def needs_of(
    config: SongBloomConfig,
    vae: OobleckConfig,
    max_blocks: int,
    dtype: torch.dtype,
    *,
    is_int8: bool,
    device: torch.device,
) -> Needs:
    """Bytes of each part. A slot is two rows of keys and values.

    Args:
        max_blocks: of the longest song of the run.
        dtype: of the networks, and of the cache unless `is_int8`.
    """
    positions = config.prefix_length + max_blocks * config.block_positions
    per_position = bytes_per_position(config.num_heads, config.llama().head_dim, dtype, is_int8=is_int8)
    prefill = 4 * config.ffn_dim * dtype.itemsize + 4 * config.width * torch.float32.itemsize
    decoder = build(lambda: OobleckVAE(vae, has_encoder=False))
    return Needs(
        composer=num_parameters(config) * dtype.itemsize,
        renderer=_numel(decoder) * torch.float32.itemsize,
        slot=2 * config.num_layers * positions * per_position,
        render_work=VAE_ROWS[device.type] * CHUNK_WORK * vae.channels // PUBLISHED_CHANNELS,
        compose_work=config.prefix_length * prefill,
        slot_step=slot_step(device),
        num_layers=config.num_layers,
        seconds=max_blocks * config.block_size / FRAME_RATE,
    )


def _numel(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _identity(files: ModelFiles, config: SongBloomConfig, weights: WeightFiles) -> str:
    """A digest of what decides a song: the files, the vocabulary, and the strength of adapters."""
    paths = [files.config, files.find(config.files["vae_config"]), *weights.paths]
    facts = f"{digest_of(paths)} {config.vocabulary} {weights.lora.alpha}"
    return hashlib.sha256(facts.encode()).hexdigest()
