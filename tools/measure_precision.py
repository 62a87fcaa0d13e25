"""Measure what low precision in the flow network does to latents and audio, against float32.

    python tools/measure_precision.py [--layers 16 --frames 100 --windows 4 ...]
    python tools/measure_precision.py --case CASE_DIR

Windows follow each other as in a song, each given the end of the one before (as that precision drew it), so
that a drift would show as an error that grows from line to line. Weights are random at published width, or
those of a recorded case (code2sound; cfm, which has no VAE). Only the products of the blocks are low
(`convert_products_`).

On CUDA fp16 and bf16 run as they are, and TF32 is switched on for `tf32`. On the CPU products are float32
over rounded operands, and results are rounded where the dtype would be stored: what a GPU computes, but for
the order of its sums and the probabilities inside its attention kernel, which stay float32 here.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from parity_cases.case import Case
from parity_cases.codec import load_codec, load_vae
from torch import Tensor, nn

from songgen.models.levo.codec import CodecConfig, FlowWindow, LevoCodec
from songgen.models.levo.windows import seeded_noise
from songgen.nn.flow_estimator import TransposedLinear
from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.nn.weight_norm import fuse_weight_norm_

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}
PRECISIONS = ("fp16", "bf16", "tf32")
FULL_SCALE = 32768


@dataclass(frozen=True)
class Settings:
    """What is run: sizes, `frames` in a window (a quarter of them given), `windows` of a song."""

    layers: int
    frames: int
    windows: int
    steps: int
    gate: float
    vae_channels: int
    seed: int


def rounder(precision: str) -> Callable[[Tensor], Tensor]:
    """Rounding of float32 values to what a precision can hold, to nearest."""
    if precision in DTYPES:
        return lambda values: values.to(DTYPES[precision]).float()

    def to_ten_bits(values: Tensor) -> Tensor:
        bits = values.contiguous().view(torch.int32)
        return ((bits + 0xFFF + ((bits >> 13) & 1)) & ~0x1FFF).view(torch.float32)

    return to_ten_bits


def round_products_(codec: LevoCodec, precision: str) -> None:
    """Round what enters the blocks' products, and what leaves them where it would be stored in 16 bit."""
    rounded = rounder(precision)
    stored = rounded if precision in DTYPES else lambda values: values

    def round_input(_: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        return (rounded(args[0]),)

    for name, module in codec.estimator.h.named_modules():
        if isinstance(module, TransposedLinear):
            module.weight.copy_(rounded(module.weight))
            module.bias.copy_(stored(module.bias))
            module.register_forward_pre_hook(round_input)
            is_attention_input = name.endswith("c_attn")  # its q, k, v are operands again
            after = rounded if is_attention_input else stored
            module.register_forward_hook(lambda _, args, output, after=after: after(output))


def in_precision(codec: LevoCodec, precision: str) -> LevoCodec:
    """A copy of the codec whose products run in a precision, for real on CUDA."""
    changed = copy.deepcopy(codec)
    if codec.mask_emb.weight.is_cuda:
        if precision in DTYPES:
            changed.estimator.convert_products_(DTYPES[precision])
    else:
        round_products_(changed, precision)
    return changed


def draw_song(codec: LevoCodec, settings: Settings) -> list[Tensor]:
    """The latents `[W, Z]` of consecutive windows, each given the last quarter of the one before."""
    config, num_context = codec.config, 0
    generator = torch.Generator().manual_seed(settings.seed)
    noise = seeded_noise(settings.seed, "flow", config.latent_dim)
    shape, latents = (config.num_tracks, settings.frames), []
    context_WZ = torch.zeros(settings.frames, config.latent_dim)
    for window in range(settings.windows):
        codes_KW = torch.randint(0, config.codebook_size, shape, generator=generator)
        noise_WZ = noise(window)[: settings.frames]
        asked = FlowWindow(codes_KW, noise_WZ, context_WZ, num_context, codec.normfeat.value)
        drawn_BWZ, _ = codec.draw_latents([asked], steps=settings.steps)
        latents.append(drawn_BWZ[0])
        num_context = settings.frames // 4
        context_WZ = torch.zeros_like(drawn_BWZ[0])
        context_WZ[:num_context] = drawn_BWZ[0, -num_context:]
    return latents


def errors(got: Tensor, exact: Tensor) -> tuple[float, float]:
    """Relative RMS error of all channels `[channels, ...]` together, and of the worst one."""

    def relative(difference: Tensor, reference: Tensor) -> float:
        return float(difference.double().square().mean().sqrt() / reference.double().square().mean().sqrt())

    pairs = zip(got - exact, exact, strict=True)
    return relative(got - exact, exact), max(relative(*pair) for pair in pairs)


def decibels(ratio: float) -> str:
    """A ratio of amplitudes."""
    return f"{20 * math.log10(ratio):.1f} dB" if ratio else "-inf dB"


def compare(codec: LevoCodec, vae: OobleckVAE | None, settings: Settings, precisions: list[str]) -> None:
    """Print one line a window: errors of latents and audio, the largest in steps of 16 bit at full scale."""
    exact = draw_song(codec, settings)
    heard = [vae.decode_chunked(latents.T[None])[0] for latents in exact if vae is not None]
    for precision in precisions:
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        got = draw_song(in_precision(codec, precision), settings)
        torch.backends.cuda.matmul.allow_tf32 = False
        for window, (latents, other) in enumerate(zip(got, exact, strict=True)):
            total, worst = errors(latents.T, other.T)
            line = f"| {precision} | {window} | {total:.1e} | {decibels(total)} | {worst:.1e} |"
            if vae is not None:
                audio, reference = vae.decode_chunked(latents.T[None])[0], heard[window]
                total, worst = errors(audio, reference)
                steps = FULL_SCALE * float((audio - reference).abs().max() / reference.abs().max())
                line += f" {total:.1e} | {decibels(total)} | {worst:.1e} | {steps:.1f} |"
            print(line, flush=True)


def random_networks(settings: Settings) -> tuple[LevoCodec, OobleckVAE]:
    """Codec of published width and a VAE of published strides, with random weights of gain one.

    `gate` is the deviation of the blocks' modulation tables: as initialised (0.02) blocks hardly count, at 1
    each is as loud as the residual stream.
    """
    torch.manual_seed(settings.seed)
    codec = LevoCodec(replace(CodecConfig(), num_layers=settings.layers))
    for block in codec.estimator.h:
        block.scale_shift_table.data.normal_(std=settings.gate)
    for module in codec.estimator.modules():
        if isinstance(module, TransposedLinear):
            module.weight.data.normal_(std=module.weight.shape[0] ** -0.5)
    vae = OobleckVAE(OobleckConfig(channels=settings.vae_channels), has_encoder=False)
    for module in (codec, vae):
        module.requires_grad_(False).eval()
        fuse_weight_norm_(module)
    return codec, vae


def recorded_networks(folder: Path) -> tuple[LevoCodec, OobleckVAE | None]:
    """Codec and VAE of a recorded case; None if it has no VAE."""
    case = Case(folder)
    codec = load_codec(case, case.tensors("weights"))
    if not (folder / "vae_weights.safetensors").is_file():
        return codec, None
    return codec, load_vae(case, "vae_config.json", case.tensors("vae_weights"))


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The arguments; the defaults take some minutes on two CPU cores."""
    parser = argparse.ArgumentParser(description="Error of low precision, against float32.")
    parser.add_argument("--case", type=Path, help="folder of a recorded code2sound or cfm case")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--layers", type=int, default=4, help="blocks, of published width; published: 16")
    parser.add_argument("--frames", type=int, default=100, help="frames of a window; published: 1000")
    parser.add_argument("--windows", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10, help="solver steps; published: 10")
    parser.add_argument("--gate", type=float, default=0.3, help="deviation of the blocks' modulation tables")
    parser.add_argument("--vae_channels", type=int, default=16, help="width of the VAE; published: 128")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args(argv)


@torch.inference_mode()
def main(argv: list[str] | None = None) -> int:
    """Print the table."""
    given = parse(argv)
    torch.set_num_threads(given.threads)
    torch.backends.cudnn.allow_tf32 = False
    names = Settings.__dataclass_fields__
    settings = Settings(**{name: getattr(given, name) for name in names})
    codec, vae = recorded_networks(given.case) if given.case else random_networks(settings)
    codec.to(given.device)
    if vae is not None:
        vae.to(given.device)
    print(f"{given.case.name if given.case else 'random'} on {given.device}: {codec.config}; {settings}")
    audio = "" if vae is None else " audio: relative RMS | | worst channel | peak error, steps of 16 bit |"
    print(f"| precision | window | latents: relative RMS | | worst channel |{audio}")
    print("|---|---|---|---|---|" + ("" if vae is None else "---|---|---|---|"))
    compare(codec, vae, settings, given.precision)
    return 0


if __name__ == "__main__":
    sys.exit(main())
