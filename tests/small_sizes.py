"""Sizes of a language model under the catalogue's names, small enough for tests."""

from __future__ import annotations

SIZES = {
    "dim": 64,
    "intermediate_size": 96,
    "num_heads": 4,
    "num_layers": 2,
    "num_layers_sub": 1,
    "rope_theta": 1e5,
    "rope_theta_sub": 1e5,
    "lyric_max_len": 20,
    "description_max_len": 8,
    "lyric_rows": 50,
    "description_rows": 50,
}
