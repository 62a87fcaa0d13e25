"""How many workers a cluster gets, and what is reserved for each of them. Knows Ray's names, not Ray."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from songgen.engine.settings import Engine

logger = logging.getLogger(__name__)

SMALLEST_SHARE = 1e-4
"""Of a CPU, as Ray counts them."""


def places(
    machines: Sequence[Mapping[str, float]], engine: Engine, device: str
) -> tuple[int, dict[str, Any]]:
    """How many workers a cluster gets, and what Ray reserves for each of them.

    Args:
        machines: the resources of each, under Ray's names.
        engine: `workers` None is one for each GPU, or without GPUs one for each machine.
        device: as in the settings.

    Raises:
        ValueError: there is no GPU, or no room for so many workers on this machine.
    """
    cpus = [machine.get("CPU", 0.0) for machine in machines]
    gpus = sum(int(machine.get("GPU", 0.0)) for machine in machines)
    if device == "cuda" and not gpus:
        raise ValueError("device=cuda: Ray finds no GPU in the cluster; device=cpu runs on CPUs")
    if device == "cpu" or not gpus:
        number = engine.workers or len(machines)
        return number, {"num_cpus": cpu_share(cpus, number), "scheduling_strategy": "SPREAD"}
    number = engine.workers or gpus
    if number > gpus:
        if engine.address is None:
            raise ValueError(f"engine.workers={number}: this machine has {gpus} GPUs, one for each worker")
        logger.warning("engine.workers=%d: the cluster has %d GPUs now; the others wait", number, gpus)
    return number, {"num_gpus": 1, "num_cpus": 0}


def cpu_share(cpus: Sequence[float], workers: int) -> float:
    """The most CPUs that each of some workers can have on machines with so many; part of one if need be."""
    for share in range(int(max(cpus, default=0.0)), 0, -1):
        if sum(int(number // share) for number in cpus) >= workers:
            return float(share)
    in_one = -(-workers // max(1, sum(int(number) for number in cpus)))
    return int(1 / in_one / SMALLEST_SHARE) * SMALLEST_SHARE
