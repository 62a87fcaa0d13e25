"""`songgen bench`: how fast a model runs here, with or without its weights.

songgen bench model=songgeneration_large weights=random seconds=60 batch=1,4,16 [baseline=true] [profile=true]
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import songgen
from songgen.commands.songs import help_on
from songgen.config import BenchConfig, bench_config
from songgen.config_tree import describe

GB = 1e9
TRACE_NAME = "step_trace.json"
HEAD = (
    "batch",
    "compose",
    "steps/s",
    "render",
    "real time",
    "songs/h",
    "peak",
    "read a step",
    "of copying",
    "of floor",
    "of plain",
)
LEGEND = """\
compose, render: seconds for all songs of the batch. real time: seconds per second of audio, both together.
of copying: bytes that the steps read, per second, over the bandwidth of a copy. of floor: time to compose
over the time in which that bandwidth reads what the published steps need. of plain: times faster than a
plain eager loop."""


def main(argv: Sequence[str]) -> int:
    """Run the command: a table, then one line of JSON. Returns 0.

    Raises:
        ValueError, OSError: nothing could start.
    """
    if any(word in ("-h", "--help") for word in argv):
        _parser().print_help()
        return 0
    config = bench_config(argv)
    if config.verbose:
        logging.getLogger("songgen").setLevel(logging.DEBUG)
    report = run(config)
    print(table(report))
    print(json.dumps(report))
    return 0


def run(config: BenchConfig) -> dict[str, Any]:
    """Measure, and return everything as JSON-ready values."""
    import torch

    from songgen.models.bench import load_bench
    from songgen.models.levo.bench import measure

    model = load_bench(
        config.model,
        weights=config.weights,
        layers=config.layers,
        runtime_dir=config.runtime_dir,
        device=config.device,
        dtype=config.dtype,
        attention=config.attention,
        kv_cache=config.kv_cache,
        threads=config.threads,
    )
    is_cuda = model.device.type == "cuda"
    facts: dict[str, Any] = {
        "songgen": songgen.__version__,
        "torch": torch.__version__,
        "model": config.model,
        "weights": config.weights,
        "layers": [stack.config.num_layers for stack in model.lelm.stacks],
        "device": str(model.device),
        "device_name": torch.cuda.get_device_name(model.device) if is_cuda else "cpu",
        "threads": torch.get_num_threads(),
        "dtype": str(model.lelm.stacks[0].norm.weight.dtype).removeprefix("torch."),
        "attention": model.attention,
        "kv_cache": config.kv_cache,
        "seconds": model.num_frames(config.seconds) / model.lelm.config.frame_rate,
        "copy_bandwidth": model.bandwidth,
    }
    print(f"songgen bench: {facts['model']} on {facts['device_name']}", file=sys.stderr)
    results, plain = measure(
        model, config.batch, config.seconds, has_render=config.render, has_baseline=config.baseline
    )
    facts["results"] = results
    if plain is not None:
        first = next((result for result in results if result["batch"] == 1), results[0])
        facts |= {"baseline_seconds": plain, "baseline_ratio": first["baseline_ratio"]}
    if config.profile:
        path = config.folder / TRACE_NAME
        model.trace(config.batch[0], path)
        facts["trace"] = str(path)
    return facts


def table(report: Mapping[str, Any]) -> str:
    """The report for people."""
    rows: list[tuple[str, ...]] = [HEAD, *(_row(result) for result in report["results"])]
    if "baseline_ratio" not in report:
        rows = [row[:-1] for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    settings = ", ".join(str(report[name]) for name in ("device_name", "dtype", "torch"))
    layers = "+".join(map(str, report["layers"]))
    head = (
        f"{report['model']} ({report['weights']} weights, {layers} layers), {report['seconds']:g} s a song, "
        f"{settings}, "
        f"attention={report['attention']}, kv_cache={report['kv_cache']}, "
        f"copies at {report['copy_bandwidth'] / GB:.1f} GB/s"
    )
    tail = [f"plain loop: {report['baseline_seconds']:.2f} s a song"] if "baseline_seconds" in report else []
    tail += [f"trace of one step: {report['trace']}"] if "trace" in report else []
    return "\n".join([head, "", *lines, "", LEGEND, *tail])


def _row(result: Mapping[str, Any]) -> tuple[str, ...]:
    composed, rendered = result["compose"], result.get("render")
    peak = max(part["peak_memory"] for part in (composed, rendered) if part)
    return (
        str(result["batch"]),
        f"{composed['seconds']:.2f} s",
        f"{composed['steps_per_second']:.1f}",
        f"{rendered['seconds']:.2f} s" if rendered else "-",
        f"{result['rtf']:.3f}",
        f"{result['songs_per_hour']:.0f}",
        f"{peak / GB:.1f} GB",
        f"{composed['bytes_per_step'] / GB:.3g} GB",
        f"{composed['bandwidth_fraction']:.0%}",
        f"x{composed['floor_ratio']:.2f}",
        f"x{result.get('baseline_ratio', 0.0):.2f}",
    )


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="songgen bench",
        usage="songgen bench model=MODEL [weights=random] [seconds=60] [batch=1,4,16] [key=value ...]",
        description="Measure how fast a model composes and renders here: a table, then one line of JSON.",
        epilog=f"settings and their defaults:\n{help_on(describe('bench'))}\n\n{LEGEND}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
