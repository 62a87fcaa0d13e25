"""What is measured: a loaded checkpoint, or random weights of a published model's sizes."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from songgen.models.base import RunSettings
from songgen.models.levo.bench import BenchModel
from songgen.models.levo.checkpoint import CodecParts
from songgen.models.levo.codec import choose_codec_dtype
from songgen.models.levo.model import LevoModel, Loaded
from songgen.models.levo.random_model import num_parameters, random_codec, random_lelm
from songgen.nn.attention import choose_attention
from songgen.runtime.device import (
    choose_device,
    choose_dtype,
    choose_threads,
    compute_float32_exactly,
    make_current,
)
from songgen.runtime.measure import copy_bandwidth
from songgen.runtime.memory import GB, USABLE, free_bytes


def bench_checkpoint(model: LevoModel) -> BenchModel:
    """A loaded model, ready to be measured as it runs."""
    device, options = torch.device(model.device), model.compose_options
    return BenchModel(
        model.parts.lelm.get(),
        model.parts.codec.get,
        device,
        options.attention,
        options.kv_cache,
        copy_bandwidth(device),
    )


def bench_random(sizes: Mapping[str, float], max_seconds: float, settings: RunSettings) -> BenchModel:
    """Random weights at the catalogue's sizes, made where they run.

    Raises:
        ValueError: a setting, or weights that do not fit into memory.
    """
    where = choose_device(settings.device)
    precision, kv_cache = choose_dtype(settings.dtype, where), settings.kv_cache
    codec_precision = choose_codec_dtype(settings.codec_dtype, where)
    backend = choose_attention(settings.attention, where, precision, is_int8=kv_cache == "int8")
    make_current(where)
    compute_float32_exactly()
    count = num_parameters(sizes, max_seconds)
    needed, free = count * precision.itemsize, free_bytes(where)
    if needed > USABLE * free:
        raise ValueError(
            f"not enough memory: {needed / GB:.1f} GB for the language model alone, {free / GB:.1f} GB free; "
            "dtype=bf16 halves the weights of fp32"
        )
    torch.set_num_threads(choose_threads(settings.threads, count))
    lelm = random_lelm(sizes, max_seconds, dtype=precision, device=where)
    codec: Loaded[CodecParts] = Loaded(
        lambda: random_codec(lelm.config.num_codebooks, dtype=codec_precision, device=where)
    )
    return BenchModel(lelm, codec.get, where, backend, kv_cache, copy_bandwidth(where))
