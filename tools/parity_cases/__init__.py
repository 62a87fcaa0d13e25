"""Runners of the recorded cases, one per kind; each yields `Check`s and calls nothing but songgen's modules."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from parity_cases.case import Case, Check

Runner = Callable[[Case], Iterator[Check]]
RUNNERS: dict[str, Runner] = {}

__all__ = ["RUNNERS", "Case", "Check", "Runner"]
