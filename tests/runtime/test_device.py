"""Devices, dtypes and threads by name."""

from __future__ import annotations

import pytest
import torch

from songgen.runtime.device import choose_device, choose_dtype, choose_threads

CPU = torch.device("cpu")


def test_cpu_can_always_be_asked_for() -> None:
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["gpu", "cuda:x", ""])
def test_an_unknown_device_names_the_known_ones(name: str) -> None:
    with pytest.raises(ValueError, match="it must be one of auto, cpu, cuda, mps"):
        choose_device(name)


def test_a_missing_cuda_device_says_how_many_there_are() -> None:
    with pytest.raises(ValueError, match=r"this machine has \d+ CUDA devices; try device=auto"):
        choose_device("cuda:99")


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has an MPS device")
def test_missing_mps_is_said() -> None:
    with pytest.raises(ValueError, match="'mps' is not available on this machine"):
        choose_device("mps")


@pytest.mark.parametrize(
    ("name", "device", "dtype"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda", torch.float16),
        ("bf16", "cpu", torch.bfloat16),
        ("fp16", "cuda", torch.float16),
    ],
)
def test_dtypes(name: str, device: str, dtype: torch.dtype) -> None:
    assert choose_dtype(name, torch.device(device)) == dtype


def test_an_unknown_dtype_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="dtype is 'float8'; it must be one of auto, fp16, bf16, fp32"):
        choose_dtype("float8", CPU)


def test_small_models_get_one_thread() -> None:
    assert choose_threads("auto", 1_000_000) == 1
    assert choose_threads("auto", 10**9) >= 1
    assert choose_threads(3, 10) == 3


@pytest.mark.parametrize("threads", [0, -1, "many", True])
def test_wrong_threads_are_refused(threads: int | str) -> None:
    with pytest.raises(ValueError, match="it must be a positive number or auto"):
        choose_threads(threads, 10)
