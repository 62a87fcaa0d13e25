"""How many workers a cluster gets, and what is reserved for each."""

from __future__ import annotations

from typing import Any

import pytest

from songgen.engine.placement import cpu_share, places
from songgen.engine.settings import Engine


@pytest.mark.parametrize(
    ("machines", "engine", "device", "number", "options"),
    [
        ([{"CPU": 8, "GPU": 4}], Engine("ray"), "auto", 4, {"num_gpus": 1, "num_cpus": 0}),
        (
            [{"CPU": 8, "GPU": 4}, {"GPU": 4}],
            Engine("ray", "auto"),
            "cuda",
            8,
            {"num_gpus": 1, "num_cpus": 0},
        ),
        ([{"CPU": 8, "GPU": 4}], Engine("ray", workers=2), "auto", 2, {"num_gpus": 1, "num_cpus": 0}),
        ([{"CPU": 8, "GPU": 4}], Engine("ray"), "cpu", 1, {"num_cpus": 8, "scheduling_strategy": "SPREAD"}),
        (
            [{"CPU": 8}] * 3,
            Engine("ray", "auto"),
            "auto",
            3,
            {"num_cpus": 8, "scheduling_strategy": "SPREAD"},
        ),
        ([{"CPU": 8}], Engine("ray", workers=3), "auto", 3, {"num_cpus": 2, "scheduling_strategy": "SPREAD"}),
    ],
)
def test_one_worker_for_each_gpu_or_a_share_of_the_cpus(
    machines: list[dict[str, float]], engine: Engine, device: str, number: int, options: dict[str, Any]
) -> None:
    assert places(machines, engine, device) == (number, options)


def test_what_there_is_no_room_for_is_refused_or_waits(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match="device=cuda: Ray finds no GPU in the cluster"):
        places([{"CPU": 8}], Engine("ray"), "cuda")
    with pytest.raises(ValueError, match=r"engine\.workers=3: this machine has 2 GPUs, one for each worker"):
        places([{"GPU": 2}], Engine("ray", workers=3), "auto")
    assert places([{"GPU": 2}], Engine("ray", "auto", 3), "auto")[0] == 3
    assert "engine.workers=3: the cluster has 2 GPUs now; the others wait" in caplog.text


@pytest.mark.parametrize(
    ("cpus", "workers", "share"),
    [([8], 1, 8), ([8], 3, 2), ([4, 4], 3, 2), ([5, 1], 2, 2), ([2], 2, 1), ([2], 3, 0.5), ([2], 6, 0.3333)],
)
def test_shares_of_cpus_fit_on_the_machines(cpus: list[float], workers: int, share: float) -> None:
    assert cpu_share(cpus, workers) == pytest.approx(share)
    assert sum(int(number / share + 1e-9) for number in cpus) >= workers
