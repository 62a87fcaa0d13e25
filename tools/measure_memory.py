"""Measure the working memory of rendering, with random weights.

    python tools/measure_memory.py [--device cuda]

Each part runs in a process of its own, whose peak memory before and after is compared: resident memory on
the CPU, allocated memory on CUDA. `vae_chunks`: some chunks of 128 frames through the VAE of published size.
`flow_windows`: the windows of some stems through two blocks of the flow network of published size (the number
of blocks does not change its working memory). `songs`: streams of some windows through `decode_streams`, with
narrow networks, less the audio handed back: what does not grow with the length or the number of songs.
Backs `VAE_CHUNK_WORK` and `FLOW_WINDOW_WORK` in songgen/models/levo/render.py. Takes some minutes on the CPU.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
from collections.abc import Callable
from dataclasses import replace

import torch

from songgen.models.levo.codec import CodecConfig, LevoCodec
from songgen.models.levo.windows import HOP_FRAMES, OVERLAP_FRAMES, Stream, decode_streams, seeded_noise
from songgen.nn.flow_estimator import FlowEstimator
from songgen.nn.oobleck import CHUNK_FRAMES, OobleckConfig, OobleckVAE
from songgen.nn.weight_norm import fuse_weight_norm_

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
NARROW = CodecConfig(ssl_dim=40, codebook_size=64, codebook_dim=4, num_layers=1, num_heads=4, inner_dim=64)
NARROW_VAE = OobleckConfig(channels=4, c_mults=(1, 1, 1, 1, 1))
Run = Callable[[], int]
"""Runs a part; returns the bytes of what it hands back."""


def peak_bytes(device: str) -> int:
    """Peak memory of this process so far."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def vae_chunks(device: str, dtype: torch.dtype, rows: int) -> Run:
    """Some chunks at once through the published VAE's decoder."""
    vae = OobleckVAE(OobleckConfig(), has_encoder=False).to(device)
    fuse_weight_norm_(vae)
    latents = torch.randn(rows, vae.config.latent_dim, CHUNK_FRAMES, device=device)

    def run() -> int:
        vae.decode(latents)
        return 0

    return run


def flow_windows(device: str, dtype: torch.dtype, num_stems: int) -> Run:
    """Windows of some stems, two rows each, through two blocks of the published flow network."""
    config = replace(CodecConfig(), num_layers=2)
    estimator = FlowEstimator(config.estimator).to(device)
    estimator.convert_products_(dtype)
    frames = torch.randn(2 * num_stems, config.num_positions, config.width, device=device)
    time = torch.tensor([0.1], device=device)

    def run() -> int:
        estimator(frames, time, num_outputs=config.latent_dim)
        return 0

    return run


def songs(device: str, dtype: torch.dtype, num_streams: int, num_windows: int = 1) -> Run:
    """Streams of some windows, three at once and two VAE chunks, through narrow networks."""
    codec, vae = LevoCodec(NARROW).to(device), OobleckVAE(NARROW_VAE, has_encoder=False)
    codec.estimator.convert_products_(dtype)
    for module in (codec, vae.to(device)):
        fuse_weight_norm_(module)
    codes_KT = torch.zeros(2, OVERLAP_FRAMES + num_windows * HOP_FRAMES, dtype=torch.int64)
    stream = Stream(codes_KT, seeded_noise(0, "flow", NARROW.latent_dim))

    def run() -> int:
        streams = [stream] * num_streams
        done = [samples for _, samples in decode_streams(codec, vae, streams, batch=3, rows=2, steps=1)]
        return sum(samples.nbytes for samples in done) if device == "cpu" else 0

    return run


PARTS: tuple[tuple[Callable[..., Run], tuple[int, ...]], ...] = (
    (vae_chunks, (1,)),
    (vae_chunks, (2,)),
    (flow_windows, (1,)),
    (flow_windows, (3,)),
    (flow_windows, (6,)),
    (songs, (3, 2)),
    (songs, (3, 6)),
    (songs, (9, 2)),
)


def measure(make: Callable[..., Run], sizes: tuple[int, ...], device: str, dtype: str, threads: int) -> None:
    """Print what one part needs beyond its weights, its inputs and what it hands back."""
    torch.set_num_threads(threads)
    with torch.inference_mode():
        run = make(device, DTYPES[dtype], *sizes)
        before = peak_bytes(device)
        handed_back = run()
    needed = (peak_bytes(device) - before - handed_back) / 1e9
    print(f"{make.__name__} {' x '.join(map(str, sizes))}, {dtype}, {device}: {needed:.2f} GB", flush=True)


def main() -> int:
    """Measure every part in a fresh process."""
    parser = argparse.ArgumentParser(description="Working memory of rendering.")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--codec_dtype", default="fp32", choices=DTYPES)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    for make, sizes in PARTS:
        arguments = (make, sizes, given.device, given.codec_dtype, given.threads)
        process = context.Process(target=measure, args=arguments)
        process.start()
        process.join()
        if process.exitcode:
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
