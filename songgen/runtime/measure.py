"""Measuring a machine: copy bandwidth, time, peak memory, and traces of what ran."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

COPY_BYTES = {"cuda": 1 << 30, "mps": 1 << 28, "cpu": 1 << 28}
COPY_REPEATS = 10


def wait_for(device: torch.device) -> None:
    """Return when a device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds_of(action: Callable[[], object], device: torch.device) -> float:
    """Wall seconds of an action, until the device is done."""
    wait_for(device)
    started = time.perf_counter()
    action()
    wait_for(device)
    return time.perf_counter() - started


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second, read plus written, of the fastest of some copies far larger than any cache."""
    source = torch.empty(COPY_BYTES[device.type], dtype=torch.uint8, device=device).random_()
    target = torch.empty_like(source)
    target.copy_(source)
    fastest = min(seconds_of(lambda: target.copy_(source), device) for _ in range(COPY_REPEATS))
    return 2 * source.numel() / fastest


def forget_peak_memory(device: torch.device) -> None:
    """Begin to measure peak memory anew, where that is possible (a process's own peak cannot be reset)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """The most memory, bytes: of the GPU what PyTorch had in use, else what the process ever had."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def write_trace(action: Callable[[], object], device: torch.device, path: Path) -> None:
    """Run an action under PyTorch's profiler and write a Chrome trace (chrome://tracing, Perfetto).

    Raises:
        OSError: the file cannot be written.
    """
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    path.parent.mkdir(parents=True, exist_ok=True)
    with torch.profiler.profile(activities=activities) as profile:
        action()
        wait_for(device)
    profile.export_chrome_trace(str(path))
