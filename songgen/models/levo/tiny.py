"""The built-in model `tiny`: seeded random weights, all parts small, in the published layout and names.

It proves the road from lyrics to files and makes noise, not music. It is written to a cache folder when first
asked for, and then loaded like any checkpoint.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from songgen.models.levo.checkpoint import LM_PREFIX, unused_lm_shapes
from songgen.models.levo.codec import CodecConfig, LevoCodec, ignored_shapes
from songgen.models.levo.config import LevoConfig, read_config
from songgen.models.levo.encode import (
    DUAL_TRACKS,
    MIXED_TRACKS,
    AudioTokenizer,
    AudioTokenizerConfig,
    Track,
)
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.separation import PUBLISHED_OPTIONS, build_network
from songgen.models.levo.text import DESCRIPTION_TOKENS_V2, END, PAD, START
from songgen.nn.musicfm import MusicFmConfig
from songgen.nn.oobleck import OobleckConfig, OobleckVAE

SEED = 20261120
NUM_BYTES = 256
LOUDNESS = 0.1
"""Standard deviation of the audio that random latents decode to."""

STRUCTURE_TAGS = (
    "[verse]",
    "[chorus]",
    "[bridge]",
    *(f"[{part}-{length}]" for part in ("intro", "outro", "inst") for length in ("short", "medium", "long")),
    "[silence]",
)

CONFIG_YAML = """\
# The built-in tiny model, in the form of a published config.yaml.
max_dur: 60
prompt_len: 10
audio_tokenizer_checkpoint: Flow1dVAE1rvq_./ckpt/model_1rvq/model_2_fixed.safetensors
audio_tokenizer_frame_rate: 25
audio_tokenizer_code_depth: 1
sample_rate: 48000
audio_tokenizer_checkpoint_sep: Flow1dVAESeparate_./ckpt/model_septoken/model_2.safetensors
audio_tokenizer_frame_rate_sep: 25
audio_tokenizer_code_depth_sep: 2
sample_rate_sep: 48000
vae_config: ./ckpt/vae/stable_audio_1920_vae.json
vae_model: ./ckpt/vae/autoencoder_music_1320k.ckpt
lm:
  lm_type: Llama
  dim: 64
  intermediate_size: 160
  num_heads: 4
  num_layers: 3
  num_layers_sub: 2
  code_depth: 3
  code_size: 1024
  max_position_embeddings: 8196
  max_position_embeddings_sub: 10000
  rope_theta: 100000.0
  rope_theta_sub: 500000.0
codebooks_pattern:
  modeling: delay
  delay: {delays: [0, 250, 250], flatten_first: 0, empty_initial: 0}
classifier_free_guidance: {inference_coef: 1.5}
fuser: {sum: [], prepend: [description, prompt_audio, type_info]}
conditioners:
  prompt_audio:
    model: qt_embedding
    qt_embedding:
      code_size: 1024
      code_depth: 3
      max_len: ${eval:${prompt_len}*${audio_tokenizer_frame_rate}+2}
  description:
    model: QwTokenizer
    QwTokenizer:
      token_path: third_party/Qwen2-7B
      max_len: 1200
      add_token_list: ${load_yaml:conf/vocab.yaml}
  type_info:
    model: QwTextTokenizer
    QwTextTokenizer:
      token_path: third_party/Qwen2-7B
      max_len: 200
songgen:
  estimator_heads: 4
"""

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


def ensure_tiny(cache_dir: Path | None = None) -> Path:
    """The folder of the tiny checkpoint, made if it is not there (a second or two).

    Args:
        cache_dir: where built-in models are kept; `~/.cache/songgen` unless told.
    """
    cache_dir = Path.home() / ".cache" / "songgen" if cache_dir is None else cache_dir
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    home = cache_dir / (f"tiny-{recipe}" if has_separator() else f"tiny-{recipe}-without-separator")
    if not (home / "tiny").is_dir():
        cache_dir.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".tiny-", dir=cache_dir))
        try:
            write_tiny(draft / "tiny")
            os.replace(draft, home)
        except OSError:
            if not (home / "tiny").is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return home / "tiny"


def write_tiny(folder: Path) -> None:
    """Write the whole checkpoint, runtime files included, below a folder."""
    _write_text(folder / "config.yaml", CONFIG_YAML)
    _write_text(folder / "conf/vocab.yaml", "".join(f"- '{tag}'\n" for tag in STRUCTURE_TAGS))
    write_byte_tokenizer(folder / "third_party/Qwen2-7B")
    config = read_config(folder / "config.yaml")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        torch.save(_lm_tensors(config), folder / "model.pt")
        encoders = [_audio_tokenizer(tracks, config.code_size) for tracks in (MIXED_TRACKS, DUAL_TRACKS)]
        _save(encoders[0].state_dict(), folder / "ckpt/model_1rvq/model_2_fixed.safetensors")
        _save(_codec_tensors(encoders[1]), folder / "ckpt/model_septoken/model_2.safetensors")
        _write_vae(folder / "ckpt/vae")
        _write_prompt_library(folder / "tools/new_auto_prompt.pt", config)
        if has_separator():
            _write_separator(folder / "third_party/demucs/ckpt")


def _write_text(path: Path, text: str) -> None:
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
    _write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False))
    _write_text(folder / "merges.txt", "#version: 0.2\n")
    _write_text(folder / "tokenizer_config.json", json.dumps({"added_tokens_decoder": added}, indent=1))


def _randomise_(module: nn.Module, scale: Callable[[str], float]) -> None:
    """Normal weights of deviation scale / sqrt(inputs), norm weights 1, biases 0."""
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=scale(name) / parameter[0].numel() ** 0.5)
        elif "norm" in name or ".ln_" in name:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)


def _lm_tensors(config: LevoConfig) -> dict[str, Tensor]:
    """All tensors of a published model.pt, unused ones too."""
    base = NUM_BYTES + 3
    lelm = LeLM(
        config,
        lyric_rows=base + len(config.structure_tags),
        description_rows=base + len(DESCRIPTION_TOKENS_V2),
    )
    _randomise_(lelm, lambda name: config.width**0.5 * 0.5 if "emb" in name or "output_proj" in name else 1.0)
    for head in (lelm.transformer.lm_head, *lelm.linears):
        assert isinstance(head, nn.Linear)
        head.weight.mul_(2.5)
        head.weight[config.eos] = 0  # a logit of 0 among many: songs seldom end by themselves
    unused = {name: torch.zeros(shape) for name, shape in unused_lm_shapes(config).items()}
    return {LM_PREFIX + name: tensor for name, tensor in (unused | lelm.state_dict()).items()}


def _audio_tokenizer(tracks: tuple[Track, ...], num_codes: int) -> AudioTokenizer:
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
    _randomise_(tokenizer, lambda name: 30.0 if "conv.linear" in name else 1.0)
    for track in tracks:
        codebook = tokenizer.get_parameter(f"{track.quantizer}.quantizers.0.codebook.weight")
        repeats = -(-CODEC.codebook_size // num_codes)
        codebook[num_codes:] = 2 * codebook[:num_codes].repeat(repeats, 1)[: len(codebook) - num_codes]
    return tokenizer


def _codec_tensors(tokenizer: AudioTokenizer) -> dict[str, Tensor]:
    """The dual-track codec; its latent statistics are mean 0 and deviation 1, counted to the end."""
    codec = LevoCodec(CODEC)
    _randomise_(codec, lambda name: 1.0)
    codec.normfeat.counts.fill_(100_000)
    codec.normfeat.sum_x2.fill_(100_000)
    unused = {name: torch.zeros(shape) for name, shape in ignored_shapes(CODEC).items()}
    return unused | codec.state_dict() | tokenizer.state_dict()


def _write_prompt_library(path: Path, config: LevoConfig) -> None:
    """Two prompts of random codes for each published type and language."""
    shape = (1, config.num_codebooks, config.prompt_frames)
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


def _write_separator(folder: Path) -> None:
    network = build_network({**PUBLISHED_OPTIONS, **SEPARATOR_OPTIONS})
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "htdemucs.pth")
    _write_text(
        folder / "htdemucs.yaml", "".join(f"{key}: {value}\n" for key, value in SEPARATOR_OPTIONS.items())
    )


def _write_vae(folder: Path) -> None:
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
    _write_text(folder / "stable_audio_1920_vae.json", json.dumps(description, indent=1))
    torch.save({"state_dict": vae.state_dict()}, folder / "autoencoder_music_1320k.ckpt")


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
