"""Where and in what precision a model runs."""

from __future__ import annotations

import os

import torch

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
DEVICES = ("auto", "cpu", "cuda", "mps")


def choose_device(name: str) -> torch.device:
    """The device called `auto`, `cpu`, `mps`, `cuda` or `cuda:N`; auto is CUDA, then MPS, then the CPU.

    Raises:
        ValueError: there is no such device here.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, index = name.partition(":")
    if kind not in DEVICES or (index and not index.isdecimal()):
        raise ValueError(f"device is {name!r}; it must be one of {', '.join(DEVICES)}, or cuda:N")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; try device=auto"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ValueError("device 'mps' is not available on this machine; try device=auto")
    return torch.device(name)


def choose_dtype(name: str, device: torch.device, half: torch.dtype = torch.float16) -> torch.dtype:
    """The dtype called `auto`, `fp16`, `bf16` or `fp32`; auto is `half` on CUDA, else float32.

    Args:
        half: the 16-bit dtype that suits the model; LeVo is published in float16.

    Raises:
        ValueError: an unknown name.
    """
    if name == "auto":
        return half if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise ValueError(f"dtype is {name!r}; it must be one of auto, {', '.join(DTYPES)}")
    return DTYPES[name]


def choose_threads(threads: str | int, num_parameters: int) -> int:
    """CPU threads: a number, or `auto`: one for a model too small to share out, else all cores.

    Threads that wait for each other on a busy machine make small operations up to a hundred times slower.

    Raises:
        ValueError: neither a positive number nor `auto`.
    """
    small = 20_000_000
    if threads == "auto":
        return 1 if num_parameters < small else max(1, os.cpu_count() or 1)
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads is {threads!r}; it must be a positive number or auto")
    return threads


def make_current(device: torch.device) -> None:
    """Let what names no device (kernels of Triton, captured graphs) run on this one, of several GPUs."""
    if device.type == "cuda":
        torch.cuda.set_device(device)


def compute_float32_exactly() -> None:
    """Turn off TF32: codes of a prompt hang on differences that its 10 bits do not hold."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
