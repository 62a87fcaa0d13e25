"""From a checkpoint's folder to a model: find the files, compare sizes, plan the memory, load the parts."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from songgen.models.base import RunSettings
from songgen.models.levo.checkpoint import (
    DESCRIPTION_TABLE,
    LYRIC_TABLE,
    CodecParts,
    LanguageModelFiles,
    build_lelm,
    codec_numel,
    load_audio_tokenizer,
    load_codec,
)
from songgen.models.levo.codec import choose_codec_dtype
from songgen.models.levo.condition import TextConditioner
from songgen.models.levo.config import LevoConfig, language_model_folder, read_config
from songgen.models.levo.encode import DUAL_TRACKS, MIXED_TRACKS
from songgen.models.levo.locate import CheckpointFiles, find_checkpoint, find_runtime_file, runtime_places
from songgen.models.levo.model import LevoModel, Parts
from songgen.models.levo.needs import Shapes, needs_of
from songgen.models.levo.prompt_encoder import PromptNetworks
from songgen.models.levo.prompt_library import load_library
from songgen.models.parts import Loaded, digest_of
from songgen.models.separation import SEPARATOR_CONFIG, SEPARATOR_WEIGHTS, Separator, load_separator
from songgen.nn.attention import choose_attention
from songgen.nn.kv_cache import bytes_per_position
from songgen.nn.oobleck import OobleckConfig
from songgen.runtime.device import (
    choose_device,
    choose_dtype,
    choose_threads,
    compute_float32_exactly,
    make_current,
)
from songgen.runtime.memory import MemoryPlan, Needs, free_to_plan, plan_memory

logger = logging.getLogger(__name__)

KV_CACHES = ("auto", "int8")
LARGEST_BATCH = {"cpu": 1, "mps": 1, "cuda": 8}
"""Songs at once, at most, where the user leaves it open."""

PROMPT_LIBRARY = "tools/new_auto_prompt.pt"
SAFE_PROMPT_LIBRARY = "tools/new_auto_prompt.safetensors"
"""songgen's own form of the same, taken where a checkpoint's folder has it."""


@dataclass(frozen=True)
class LevoFiles:
    """The files of a checkpoint and where it finds the shared ones."""

    checkpoint: CheckpointFiles
    runtime_dir: Path | None

    @property
    def places(self) -> tuple[Path, ...]:
        """Folders that runtime files are looked for in."""
        return runtime_places(checkpoint=self.checkpoint.folder, runtime_dir=self.runtime_dir)

    def language_model(self, config: LevoConfig) -> LanguageModelFiles:
        """The language model's files. Raises FileNotFoundError."""
        if config.files.language_model is not None:
            places = [self.checkpoint.folder, *self.places]
            return LanguageModelFiles(language_model_folder(config.files.language_model, places))
        if self.checkpoint.weights is None:
            raise FileNotFoundError(f"{self.checkpoint.folder}: no model.pt or model.safetensors in it")
        return LanguageModelFiles(self.checkpoint.weights)

    def prompt_library(self) -> Path:
        """The file of the library. Raises FileNotFoundError."""
        own = self.checkpoint.folder / SAFE_PROMPT_LIBRARY
        return own if own.is_file() else self.find(PROMPT_LIBRARY)

    def find(self, relative: str) -> Path:
        """A runtime file. Raises FileNotFoundError that lists the places and the way to get it."""
        return find_runtime_file(relative, checkpoint=self.checkpoint.folder, runtime_dir=self.runtime_dir)


def load(
    folder: Path,
    *,
    runtime_dir: Path | None = None,
    announce: Callable[[str], None] = lambda summary: None,
    **options: Any,
) -> LevoModel:
    """Load a checkpoint's folder. Files are found, memory is planned and the plan is announced before any
    weights are read.

    Args:
        runtime_dir, announce, options: as of `songgen.models.catalog.load_model`.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a setting, or a file that does not fit.
    """
    settings = RunSettings(**options)
    if settings.kv_cache not in KV_CACHES:
        raise ValueError(f"kv_cache is {settings.kv_cache!r}; it must be one of {', '.join(KV_CACHES)}")
    where = choose_device(settings.device)
    precision = choose_dtype(settings.dtype, where)
    codec_precision = choose_codec_dtype(settings.codec_dtype, where)
    is_int8 = settings.kv_cache == "int8"
    attention = choose_attention(settings.attention, where, precision, is_int8=is_int8)
    make_current(where)
    compute_float32_exactly()
    files = LevoFiles(find_checkpoint(folder), runtime_dir)
    config = read_config(files.checkpoint.config, search=files.places)
    shapes = _language_model_shapes(files.language_model(config))
    text = TextConditioner.load(config, files.find(config.files.tokenizer), shapes[DESCRIPTION_TABLE][0])
    _check_phonemes(config, text, shapes)
    torch.set_num_threads(choose_threads(settings.threads, sum(map(math.prod, shapes.values()))))
    needs = needs_of_files(
        config, files, shapes, settings.max_seconds, dtype=precision, device=where, is_int8=is_int8
    )
    plan = _plan(needs, settings, where)
    parts = _parts(config, files, plan, dtype=precision, codec_dtype=codec_precision, device=where)
    model = LevoModel(
        files.checkpoint.folder.name,
        config,
        text,
        plan,
        parts,
        device=where,
        dtype=precision,
        codec_dtype=codec_precision,
        identity=_identity(config, files),
        attention=attention,
        kv_cache=settings.kv_cache,
        max_seconds=settings.max_seconds,
    )
    _announce(model, announce)
    parts.lelm.get()
    if plan.residency == "full":
        parts.codec.get()
    return model


def _plan(needs: Needs, settings: RunSettings, device: torch.device) -> MemoryPlan:
    largest = LARGEST_BATCH[device.type]
    return plan_memory(
        needs,
        mode=settings.memory,
        batch=settings.batch,
        free=free_to_plan(device, settings.gpu_memory),
        largest_batch=min(largest, settings.num_songs or largest),
    )


def _language_model_shapes(files: LanguageModelFiles) -> Shapes:
    """Shapes of the language model's tensors. Raises ValueError if it is not LeVo's."""
    shapes = files.shapes()
    if DESCRIPTION_TABLE not in shapes:
        raise ValueError(f"{files.path}: no tensor {DESCRIPTION_TABLE}; is this a LeVo language model?")
    return shapes


def _check_phonemes(config: LevoConfig, text: TextConditioner, shapes: Shapes) -> None:
    """Raise ValueError if a model of phonemes has other rows than songgen has phonemes."""
    rows = shapes.get(LYRIC_TABLE, (0,))[0]
    if config.own.lyric_text == "phonemes" and rows != text.lyrics.num_rows:
        raise ValueError(
            f"{LYRIC_TABLE} has {rows} rows; lyric_text: phonemes needs {text.lyrics.num_rows}, the special "
            f"tokens, {len(config.structure_tags)} structure tags, the phonemes and the line end"
        )


def _announce(model: LevoModel, announce: Callable[[str], None]) -> None:
    announce(model.summary)
    plan = model.plan
    if plan.streamed_layers:
        logger.warning(
            "the language model does not fit: %d of its %d layers are copied to the GPU at every step, which "
            "is slow; shorter songs (max_seconds) or kv_cache=int8 need less",
            plan.streamed_layers,
            plan.needs.num_layers,
        )


def _parts(
    config: LevoConfig,
    files: LevoFiles,
    plan: MemoryPlan,
    *,
    dtype: torch.dtype,
    codec_dtype: torch.dtype,
    device: torch.device,
) -> Parts:
    """The parts of a model, each loaded when first used. Files of prompts are looked for only then."""
    language_model, names = files.language_model(config), config.files
    codec_file = files.find(names.codec)
    make_codec = _codec_maker(config, files, dtype=codec_dtype, device=device)

    def mixed_name() -> str:
        if names.mixed_codec is None:
            raise ValueError("this checkpoint's config.yaml names no audio_tokenizer_checkpoint for prompts")
        return names.mixed_codec

    def make_separator() -> Separator:
        return load_separator(files.find(SEPARATOR_WEIGHTS), files.find(SEPARATOR_CONFIG), device=device)

    separator = Loaded(make_separator)
    is_split = config.num_codebooks > 1 and config.own.separator

    def make_prompt_networks() -> PromptNetworks:
        mixed = load_audio_tokenizer(files.find(mixed_name()), MIXED_TRACKS, device)
        if not is_split:
            return PromptNetworks(None, mixed, None)
        return PromptNetworks(separator.get(), mixed, load_audio_tokenizer(codec_file, DUAL_TRACKS, device))

    def prompt_files() -> list[Path]:
        return [files.find(name) for name in ([SEPARATOR_WEIGHTS] if is_split else []) + [mixed_name()]]

    return Parts(
        lelm=Loaded(
            lambda: build_lelm(
                config,
                language_model.read(config.special),
                source=language_model.path,
                dtype=dtype,
                device=device,
                resident_layers=plan.resident_layers,
            )
        ),
        codec=Loaded(make_codec),
        separator=separator,
        prompt_networks=Loaded(make_prompt_networks),
        prompt_library=Loaded(lambda: load_library(files.prompt_library())),
        encoder_identity=Loaded(lambda: digest_of(prompt_files())),
        library_identity=Loaded(lambda: digest_of([files.prompt_library()])),
    )


def _codec_maker(
    config: LevoConfig, files: LevoFiles, *, dtype: torch.dtype, device: torch.device
) -> Callable[[], CodecParts]:
    """What loads codec and VAE; their files are found, and the VAE's sizes read, now."""
    codec_file, vae_file = files.find(config.files.codec), files.find(config.files.vae_model)
    vae_json = files.find(config.files.vae_config)
    try:
        vae_config = OobleckConfig.from_json_dict(json.loads(vae_json.read_text("utf-8")))
    except ValueError as error:
        raise ValueError(f"{vae_json}: {error}") from None
    return lambda: load_codec(
        codec_file,
        vae_file,
        vae_config,
        num_heads=config.own.estimator_heads,
        solver=config.own.solver,
        needs_encoder=config.own.separator or config.num_codebooks == 1,
        dtype=dtype,
        device=device,
    )


def needs_of_files(
    config: LevoConfig,
    files: LevoFiles,
    language_model: Shapes,
    max_seconds: float | None,
    *,
    dtype: torch.dtype,
    device: torch.device,
    is_int8: bool,
) -> Needs:
    """Bytes of each part on a device, for songs of at most `max_seconds`."""
    codec_file, vae_file = files.find(config.files.codec), files.find(config.files.vae_model)
    return needs_of(
        config,
        language_model,
        codec_numel=codec_numel(codec_file, vae_file, config.own.estimator_heads),
        max_frames=config.num_frames(max_seconds),
        item=dtype.itemsize,
        position_bytes=bytes_per_position(config.num_heads, config.llama().head_dim, dtype, is_int8=is_int8),
        device=device,
    )


def _identity(config: LevoConfig, files: LevoFiles) -> str:
    """A digest of the files that decide a song."""
    names = (config.files.codec, config.files.vae_config, config.files.vae_model)
    weights = files.language_model(config).paths
    return digest_of([files.checkpoint.config, *weights, *map(files.find, names)])
