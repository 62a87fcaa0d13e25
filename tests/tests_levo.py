"""Configurations of published sizes, for tests."""

from __future__ import annotations

from typing import Any

from songgen.models.levo.config import CONDITION_NAMES, FAST_SAMPLING, FileNames, LevoConfig
from songgen.runtime.sampling import Sampling


def published(sizes: Any, max_seconds: float) -> LevoConfig:
    """The configuration of a published model, from the catalogue's sizes and the constants of all of them."""
    return LevoConfig(
        width=sizes["dim"],
        ffn_dim=sizes["intermediate_size"],
        num_heads=sizes["num_heads"],
        num_layers=sizes["num_layers"],
        num_layers_sub=sizes["num_layers_sub"],
        rope_theta=sizes["rope_theta"],
        rope_theta_sub=sizes["rope_theta_sub"],
        code_size=16384,
        delays=(0, 250, 250) if sizes["num_layers_sub"] else (0,),
        max_seconds=max_seconds,
        frame_rate=25,
        sample_rate=48000,
        prompt_frames=250,
        prompt_positions=252,
        lyric_positions=sizes["lyric_max_len"],
        description_positions=sizes["description_max_len"],
        prefix_order=CONDITION_NAMES,
        structure_tags=(),
        sampling=Sampling() if sizes["num_layers_sub"] else FAST_SAMPLING,
        files=FileNames("", "", "", "", None),
    )
