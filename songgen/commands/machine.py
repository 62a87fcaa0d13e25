"""What this machine has, as `songgen doctor` tells it: PyTorch, devices, attention."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import torch

from songgen.nn.attention import backends
from songgen.runtime.memory import GB, free_bytes


def about_pytorch() -> str:
    """Its version, and what it was built for."""
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    return f"PyTorch {torch.__version__}, {built}"


def devices() -> list[torch.device]:
    """Every device here, the fastest kind first; the CPU last."""
    found = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    found += [torch.device("mps")] if torch.backends.mps.is_available() else []
    return [*found, torch.device("cpu")]


def about_devices(chosen: torch.device) -> list[str]:
    """One line a device: name, memory free and in all; the chosen one is marked."""
    lines = []
    for device in devices():
        is_chosen = device.type == chosen.type and (device.index or 0) == (chosen.index or 0)
        lines.append(f"{'*' if is_chosen else ' '} {_describe(device)}")
    if torch.version.cuda and not torch.cuda.is_available():
        lines.append("  no CUDA GPU is seen, though PyTorch is built for it: is its driver running?")
    return [*lines, f"  disk: {shutil.disk_usage(Path.cwd()).free / GB:.1f} GB free in {Path.cwd()}"]


def about_attention(device: torch.device) -> list[str]:
    """One line a backend: whether it can run on a device, and why or why not."""
    return [
        f"  {name.ljust(8)}{f'available: {_why(name)}' if reason is None else f'not available: {reason}'}"
        for name, reason in backends(device).items()
    ]


def _why(backend: str) -> str:
    return "PyTorch's own, it runs everywhere" if backend == "sdpa" else "a CUDA GPU and its package are here"


def _describe(device: torch.device) -> str:
    free = free_bytes(device) / GB
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        total = facts.total_memory / GB
        return f"{device}: {facts.name} ({facts.major}.{facts.minor}), {free:.1f} of {total:.1f} GB free"
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / GB
    return f"{device}: {os.cpu_count()} cores, {free:.1f} of {total:.1f} GB free"
