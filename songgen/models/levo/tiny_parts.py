"""What the built-in models share: tokenizer, codecs, VAE, separator and prompt library, small and random."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from songgen.models.levo.codec import CodecConfig, LevoCodec, ignored_shapes
from songgen.models.levo.config import LevoConfig
from songgen.models.levo.encode import AudioTokenizer, AudioTokenizerConfig, Track
from songgen.models.levo.separation import PUBLISHED_OPTIONS, build_network
from songgen.models.levo.text import END, PAD, START
from songgen.nn.musicfm import MusicFmConfig
from songgen.nn.oobleck import OobleckConfig, OobleckVAE

NUM_BYTES = 256
BASE_ROWS = NUM_BYTES + 3
"""Ids of the tokenizer: bytes, and three added tokens."""

LOUDNESS = 0.1
"""Standard deviation of the audio that random latents decode to."""

CODEC = CodecConfig(
    latent_dim=16,
    ssl_dim=32,
    codebook_size=9728,
    codebook_dim=8,
    mask_dim=8,
    num_layers=3,
    num_heads=4,
    inner_dim=208,
    vocab_size=8,
    projection_dims=(20, 12),
)
MIXED_CODEC = replace(CODEC, num_tracks=1, inner_dim=288)
"""The single-track codec with its own flow network, as the fast variant has it."""

SEPARATOR_OPTIONS = {
    "channels": 4,
    "dconv_comp": 4,
    "bottom_channels": 16,
    "t_heads": 2,
    "t_layers": 3,
    "t_hidden_scale": 2.0,
}
PROMPT_TYPES = (
    *("Pop", "Latin", "Rock", "Electronic", "Metal", "Country", "R&B/Soul", "Ballad", "Jazz", "World"),
    *("Hip-Hop", "Funk", "Soundtrack", "Auto"),
)
VAE = OobleckConfig(channels=4, c_mults=(1, 2, 2, 3, 3), strides=(2, 4, 4, 6, 10), latent_dim=16)


def write_text(path: Path, text: str) -> None:
    """Write a text file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_byte_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer without merges: every byte is a token, numbered as in Qwen2's vocabulary."""
    from tokenizers import pre_tokenizers

    letters = pre_tokenizers.ByteLevel.alphabet()
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    order = [chr(byte) for byte in printable] + sorted(set(letters) - {chr(byte) for byte in printable})
    assert len(order) == NUM_BYTES
    vocabulary = {letter: number for number, letter in enumerate(order)}
    added = {str(NUM_BYTES + number): {"content": token} for number, token in enumerate((PAD, START, END))}
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    write_text(folder / "merges.txt", "#version: 0.2\n")
    write_text(folder / "tokenizer_config.json", json.dumps({"added_tokens_decoder": added}, indent=1))


def randomise_(module: nn.Module, scale: Callable[[str], float]) -> None:
    """Normal weights of deviation scale / sqrt(inputs), norm weights 1, biases 0."""
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=scale(name) / parameter[0].numel() ** 0.5)
        elif "norm" in name or ".ln_" in name:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)


def make_audio_tokenizer(tracks: tuple[Track, ...], num_codes: int) -> AudioTokenizer:
    """An encode half whose tokens are all below `num_codes`, the language model's codes.

    Codes are found by direction: the rows from `num_codes` on point where earlier ones do, and the first
    wins.
    """
    musicfm = MusicFmConfig(
        conv_dim=6,
        dim=CODEC.ssl_dim,
        ffn_dim=48,
        num_heads=4,
        num_layers=max(track.layer for track in tracks),
    )
    tokenizer = AudioTokenizer(AudioTokenizerConfig(tracks, musicfm, CODEC.codebook_size, CODEC.codebook_dim))
    randomise_(tokenizer, lambda name: 30.0 if "conv.linear" in name else 1.0)
    for track in tracks:
        codebook = tokenizer.get_parameter(f"{track.quantizer}.quantizers.0.codebook.weight")
        repeats = -(-CODEC.codebook_size // num_codes)
        codebook[num_codes:] = 2 * codebook[:num_codes].repeat(repeats, 1)[: len(codebook) - num_codes]
    return tokenizer


def codec_tensors(tokenizer: AudioTokenizer, config: CodecConfig = CODEC) -> dict[str, Tensor]:
    """A whole codec; its latent statistics are mean 0 and deviation 1, counted to the end."""
    codec = LevoCodec(config)
    randomise_(codec, lambda name: 1.0)
    codec.normfeat.counts.fill_(100_000)
    codec.normfeat.sum_x2.fill_(100_000)
    unused = {name: torch.zeros(shape) for name, shape in ignored_shapes(config).items()}
    return unused | codec.state_dict() | tokenizer.state_dict()


def write_prompt_library(path: Path, config: LevoConfig) -> None:
    """Two prompts of random codes for each published type and language."""
    shape = (1, 3, config.prompt_frames)  # mixed, vocal, bgm, whatever the model reads
    library = {
        kind: {
            language: [torch.randint(0, config.code_size, shape) for _ in range(2)]
            for language in ("zh", "en")
        }
        for kind in PROMPT_TYPES
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(library, path)


def has_separator() -> bool:
    """Whether the package with the separator's network is installed, so that a tiny one can be made."""
    return all(importlib.util.find_spec(name) is not None for name in ("demucs", "julius"))


def write_separator(folder: Path) -> None:
    """A small separator as plain weights, and its options."""
    network = build_network({**PUBLISHED_OPTIONS, **SEPARATOR_OPTIONS})
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "htdemucs.pth")
    write_text(
        folder / "htdemucs.yaml", "".join(f"{key}: {value}\n" for key, value in SEPARATOR_OPTIONS.items())
    )


def write_vae(folder: Path) -> None:
    """The VAE in its published pickle, and its description."""
    vae = OobleckVAE(VAE)
    last = vae.decoder.layers[-1]
    spread = vae.decode(torch.randn(1, VAE.latent_dim, 100)).std()
    assert isinstance(last.weight_g, Tensor)
    last.weight_g.mul_(LOUDNESS / spread)
    half = {
        "channels": VAE.channels,
        "c_mults": list(VAE.c_mults),
        "strides": list(VAE.strides),
        "use_snake": True,
    }
    encoder = half | {"in_channels": VAE.audio_channels, "latent_dim": 2 * VAE.latent_dim}
    decoder = half | {"out_channels": VAE.audio_channels, "latent_dim": VAE.latent_dim, "final_tanh": False}
    description = {
        "model_type": "autoencoder",
        "sample_rate": VAE.sample_rate,
        "audio_channels": VAE.audio_channels,
        "model": {
            "encoder": {"type": "oobleck", "config": encoder},
            "decoder": {"type": "oobleck", "config": decoder},
            "bottleneck": {"type": "vae"},
            "latent_dim": VAE.latent_dim,
            "downsampling_ratio": VAE.hop,
            "io_channels": VAE.audio_channels,
        },
    }
    write_text(folder / "stable_audio_1920_vae.json", json.dumps(description, indent=1))
    torch.save({"state_dict": vae.state_dict()}, folder / "autoencoder_music_1320k.ckpt")


def save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
