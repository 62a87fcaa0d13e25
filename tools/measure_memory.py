"""Measure the working memory of rendering at published sizes, on the CPU, with random weights.

    python tools/measure_memory.py

Each part runs in a process of its own, whose peak resident memory before and after is compared: one VAE chunk
of 128 frames, and one pass of two blocks of the flow network over the windows of 1 and of 3 stems (the number
of blocks does not change its working memory). Backs `RENDER_WORK` in songgen/models/levo/needs.py. Takes a
minute or two.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from songgen.models.levo.codec import CodecConfig
from songgen.nn.flow_estimator import FlowEstimator
from songgen.nn.oobleck import CHUNK_FRAMES, OobleckConfig, OobleckVAE
from songgen.nn.weight_norm import fuse_weight_norm_


def peak_gb() -> float:
    """Peak resident memory of this process, GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def vae_chunk(num_stems: int) -> Callable[[], object]:
    """One chunk through the published VAE's decoder; stems are decoded one after the other."""
    vae = OobleckVAE(OobleckConfig(), has_encoder=False)
    fuse_weight_norm_(vae)
    latents = torch.randn(1, vae.config.latent_dim, CHUNK_FRAMES)
    return lambda: vae.decode(latents)


def flow_windows(num_stems: int) -> Callable[[], object]:
    """Windows of some stems, two rows each, through two blocks of the published flow network."""
    config = replace(CodecConfig(), num_layers=2)
    estimator = FlowEstimator(config.estimator)
    frames = torch.randn(2 * num_stems, config.num_positions, config.width)
    return lambda: estimator(frames, torch.tensor(0.1).expand(2 * num_stems))


def measure(make: Callable[[int], Callable[[], object]], num_stems: int) -> None:
    """Print what one part needs beyond its weights and inputs."""
    with torch.inference_mode():
        run = make(num_stems)
        before = peak_gb()
        run()
    print(f"{make.__name__} of {num_stems} stem(s): {peak_gb() - before:.2f} GB", flush=True)


def main() -> int:
    """Measure every part in a fresh process."""
    context = multiprocessing.get_context("spawn")
    for make, num_stems in ((vae_chunk, 1), (flow_windows, 1), (flow_windows, 3)):
        process = context.Process(target=measure, args=(make, num_stems))
        process.start()
        process.join()
        if process.exitcode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
