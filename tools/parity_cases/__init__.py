"""Runners of the recorded cases, one per kind: they yield `Check`s and call songgen's modules only."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from parity_cases import lm
from parity_cases.case import Case, Check

Runner = Callable[[Case], Iterator[Check]]
RUNNERS: dict[str, Runner] = {
    "lm_greedy": lm.run_greedy,
    "lm_prefill": lm.run_prefill,
    "pattern": lm.run_pattern,
    "sampling": lm.run_sampling,
}

__all__ = ["RUNNERS", "Case", "Check", "Runner"]
