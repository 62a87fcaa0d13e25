"""Runners of the recorded cases, one per kind: they yield `Check`s and call songgen's modules only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from parity_cases import (
    codec,
    encode,
    end_to_end,
    fast_codec,
    fast_end_to_end,
    fast_lm,
    lm,
    songbloom,
    tokenization,
)
from parity_cases.case import Case, Check, left_out

Runner = Callable[[Case], Iterator[Check]]
RUNNERS: dict[str, Runner] = {
    "cfm": codec.run_cfm,
    "code2sound": codec.run_code2sound,
    "code2sound_1rvq": fast_codec.run_single_track,
    "code2sound_1rvq_prompt": fast_codec.run_single_track_prompt,
    "code2sound_prompt": encode.run_code2sound_prompt,
    "demucs": encode.run_demucs,
    "estimator": codec.run_estimator,
    "fast_e2e": fast_end_to_end.run_fast_end_to_end,
    "fast_greedy": fast_lm.run_fast_greedy,
    "fast_prefix": fast_lm.run_fast_prefix,
    "fast_sampling": fast_lm.run_fast_sampling,
    "generate_e2e": end_to_end.run_end_to_end,
    "lm_greedy": lm.run_greedy,
    "lm_prefill": lm.run_prefill,
    "musicfm": encode.run_musicfm,
    "pattern": lm.run_pattern,
    "rvq": codec.run_rvq,
    "sampling": lm.run_sampling,
    "songbloom": songbloom.run_songbloom,
    "tokenization": tokenization.run_tokenization,
    "vae": codec.run_vae,
}

__all__ = ["RUNNERS", "Case", "Check", "Runner", "left_out"]
