"""What the built-in LeVo models share: tokenizer, codecs and prompt library, small and random."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from songgen.models.built_in import randomise_, write_text
from songgen.models.levo.codec import CodecConfig, LevoCodec, ignored_shapes
from songgen.models.levo.config import LevoConfig
from songgen.models.levo.encode import AudioTokenizer, AudioTokenizerConfig, Track
from songgen.models.levo.text import END, PAD, START
from songgen.nn.musicfm import MusicFmConfig
from songgen.nn.oobleck import OobleckConfig

NUM_BYTES = 256
BASE_ROWS = NUM_BYTES + 3
"""Ids of the tokenizer: bytes, and three added tokens."""

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

PROMPT_TYPES = (
    *("Pop", "Latin", "Rock", "Electronic", "Metal", "Country", "R&B/Soul", "Ballad", "Jazz", "World"),
    *("Hip-Hop", "Funk", "Soundtrack", "Auto"),
)
VAE = OobleckConfig(channels=4, c_mults=(1, 2, 2, 3, 3), strides=(2, 4, 4, 6, 10), latent_dim=16)


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
