"""Sampling settings and the arithmetic that turns logits into tokens."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen.

    Args:
        temperature: > 0; 0 means argmax.
        top_k: keep the k most likely ids of codebook 0 (ties kept), the others being argmax; 0 keeps all ids.
        top_p: nucleus sampling of all codebooks when > 0; wins over top_k.
        cfg_coef: guidance, logits = null + (conditional - null) * cfg_coef.
        penalty: ids seen in the window have their logit divided by this.
        window: columns that the repetition penalty looks back, >= 0.
    """

    temperature: float = 0.8
    top_k: int = 5000
    top_p: float = 0.0
    cfg_coef: float = 1.5
    penalty: float = 1.1
    window: int = 50
