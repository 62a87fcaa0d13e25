"""How many bytes a LeVo model takes on its device, from the shapes of its tensors alone."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from songgen.models.levo.checkpoint import TEXT_TABLES, layer_position, unused_lm_shapes
from songgen.models.levo.config import LevoConfig
from songgen.models.levo.render import SONG_AUDIO, VAE_ROWS, WINDOWS, render_work
from songgen.runtime.memory import Needs, slot_step

Shapes = Mapping[str, tuple[int, ...]]

PUBLISHED_WIDTH = 1024
"""Narrower language models come with a codec that is small too."""

FLOAT32 = 4


def needs_of(
    config: LevoConfig,
    language_model: Shapes,
    *,
    codec_numel: int,
    max_frames: int,
    item: int,
    position_bytes: int,
    device: torch.device,
) -> Needs:
    """Bytes of each part.

    Args:
        language_model: shapes of the tensors of its files.
        codec_numel: numbers in the weights of codec and VAE, which are float32.
        max_frames: T of the longest song of the run.
        item: bytes of a number of the language model.
        position_bytes: of one position of one row in one layer's cache.
        device: where it runs; the CPU also holds what is kept off a GPU.
    """
    unused, on_cpu = unused_lm_shapes(config), device.type == "cpu"
    smaller = 1 if config.width >= PUBLISHED_WIDTH else 10
    kept = {name: math.prod(shape) for name, shape in language_model.items() if name not in unused}
    on_device = sum(size for name, size in kept.items() if on_cpu or name not in TEXT_TABLES)
    layer = sum(size for name, size in kept.items() if layer_position(name, config) == 0)
    return Needs(
        composer=on_device * item,
        renderer=codec_numel * FLOAT32,
        slot=slot_bytes(config, config.capacity_for(max_frames), position_bytes),
        render_work=0 if device.type == "cuda" else SONG_AUDIO // smaller,
        render_base=render_work(WINDOWS[device.type], VAE_ROWS[device.type]) // smaller,
        compose_work=prefill_bytes(config, item),
        slot_step=slot_step(device),
        layer=0 if on_cpu else layer * item,
        num_layers=config.num_layers + config.num_layers_sub,
        seconds=max_frames / config.frame_rate,
    )


def slot_bytes(config: LevoConfig, capacity: int, position_bytes: int) -> int:
    """Bytes of the caches of one slot: keys and values of two rows in all layers of both transformers."""
    return 2 * (config.num_layers + config.num_layers_sub) * capacity * position_bytes


def prefill_bytes(config: LevoConfig, item: int) -> int:
    """The most that composing needs beside weights and caches: the feed-forward of a prefix's two rows.

    Counted are gate, its activation, up and their product, and four hidden states in float32.
    """
    position = 4 * config.ffn_dim * item + 4 * config.width * FLOAT32
    return 2 * config.prefix_length * position
