"""Language model and codec with random weights at published sizes: for measuring, without files.

They are made where they run. EOS has a logit of 0 among many, so that songs run to their limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import nn

from songgen.models.levo.checkpoint import TEXT_TABLES, CodecParts
from songgen.models.levo.codec import CodecConfig, LevoCodec
from songgen.models.levo.config import CONDITION_NAMES, FAST_SAMPLING, FileNames, LevoConfig
from songgen.models.levo.lelm import LeLM
from songgen.nn.llama import fuse_projections_
from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.nn.weight_norm import fuse_weight_norm_
from songgen.runtime.checkpoint import build
from songgen.runtime.sampling import Sampling

WEIGHT_STD = 0.02
MIXED_CODEC = CodecConfig(num_tracks=1, mask_dim=48, num_layers=39, num_heads=30, inner_dim=4800)


def published_config(sizes: Mapping[str, float], max_seconds: float) -> LevoConfig:
    """The configuration of a published model, from the catalogue's sizes and the constants of all of them."""
    is_dual = bool(sizes["num_layers_sub"])
    return LevoConfig(
        width=int(sizes["dim"]),
        ffn_dim=int(sizes["intermediate_size"]),
        num_heads=int(sizes["num_heads"]),
        num_layers=int(sizes["num_layers"]),
        num_layers_sub=int(sizes["num_layers_sub"]),
        rope_theta=sizes["rope_theta"],
        rope_theta_sub=sizes["rope_theta_sub"],
        code_size=16384,
        delays=(0, 250, 250) if is_dual else (0,),
        max_seconds=max_seconds,
        frame_rate=25,
        sample_rate=48000,
        prompt_frames=250,
        prompt_positions=252,
        lyric_positions=int(sizes["lyric_max_len"]),
        description_positions=int(sizes["description_max_len"]),
        prefix_order=CONDITION_NAMES,
        structure_tags=(),
        sampling=Sampling() if is_dual else FAST_SAMPLING,
        files=FileNames("", "", "", "", None),
    )


def empty_lelm(sizes: Mapping[str, float], max_seconds: float) -> LeLM:
    """A language model of published size without memory, on the meta device."""
    config = published_config(sizes, max_seconds)
    rows = {name: int(sizes[name]) for name in ("lyric_rows", "description_rows")}
    return build(lambda: LeLM(config, **rows))


def num_parameters(sizes: Mapping[str, float], max_seconds: float) -> int:
    """Numbers in the weights of a language model of published size."""
    return sum(parameter.numel() for parameter in empty_lelm(sizes, max_seconds).parameters())


def random_lelm(
    sizes: Mapping[str, float], max_seconds: float, *, dtype: torch.dtype, device: torch.device
) -> LeLM:
    """A language model of published size; the text tables are on the CPU, as of a loaded one."""
    lelm = empty_lelm(sizes, max_seconds).to(dtype)
    config = lelm.config
    fill_(lelm, device, on_cpu=TEXT_TABLES)
    for head in (lelm.transformer.lm_head, *(lelm.linears if config.num_codebooks > 1 else ())):
        assert isinstance(head, nn.Linear)
        with torch.no_grad():
            head.weight[config.eos] = 0
    for stack in lelm.stacks:
        fuse_projections_(stack)
    return lelm


def empty_codec(num_codebooks: int) -> tuple[LevoCodec, OobleckVAE]:
    """Codec and VAE of published size on the meta device: dual-track, or of the mixture for one codebook."""
    config = CodecConfig() if num_codebooks > 1 else MIXED_CODEC
    codec = build(lambda: LevoCodec(config))
    return codec, build(lambda: OobleckVAE(OobleckConfig(), has_encoder=False))


@cache
def codec_numel(num_codebooks: int) -> int:
    """Numbers in the weights of codec and VAE of published size, the VAE's encoder among them."""
    parts = empty_codec(num_codebooks)[0], build(lambda: OobleckVAE(OobleckConfig()))
    return sum(tensor.numel() for part in parts for tensor in part.state_dict().values())


def random_codec(num_codebooks: int, *, dtype: torch.dtype, device: torch.device) -> CodecParts:
    """Codec and VAE with random weights.

    Args:
        dtype: of the flow network's matrix products.
    """
    codec, vae = empty_codec(num_codebooks)
    for module in (codec, vae):
        fill_(module, device)
        fuse_weight_norm_(module)
    codec.estimator.convert_products_(dtype)
    return CodecParts(codec, vae)


def fill_(module: nn.Module, device: torch.device, *, on_cpu: tuple[str, ...] = ()) -> None:
    """Give a module built on the meta device random weights; norms get ones."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        owner, _, leaf = name.rpartition(".")
        made = torch.empty_like(tensor, device="cpu" if name in on_cpu else device)
        if "norm" in name or leaf.endswith("_g") or made.numel() == 1:
            made.fill_(1)
        else:
            made.normal_(std=WEIGHT_STD)
        holder = module.get_submodule(owner)
        is_buffer = leaf in dict(holder.named_buffers(recurse=False))
        setattr(holder, leaf, made if is_buffer else nn.Parameter(made, requires_grad=False))
    module.requires_grad_(False).eval()
