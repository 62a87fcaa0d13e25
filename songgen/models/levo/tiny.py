"""The built-in models `tiny` and `tiny-fast`: seeded random weights, small, in the published layouts and
names.

They prove the road from lyrics to files and make noise, not music. Each is written to a cache folder when
first asked for, and then loaded like any checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from songgen.models.built_in import (
    ensure_built_in,
    has_separator,
    randomise_,
    save,
    write_separator,
    write_text,
    write_vae,
)
from songgen.models.levo import config_form, tiny_parts
from songgen.models.levo.checkpoint import CONDITIONERS, LM_PREFIX, TOKEN_TABLE, unused_lm_shapes
from songgen.models.levo.config import LevoConfig, read_config
from songgen.models.levo.config_form import (
    DUAL_FILE,
    MIXED_FILE,
    TOKENIZER_FOLDER,
    ConfigForm,
    dual_track_lines,
    vocabulary_yaml,
)
from songgen.models.levo.encode import DUAL_TRACKS, MIXED_TRACKS
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.text import DESCRIPTION_TOKENS_V2
from songgen.models.levo.tiny_parts import (
    BASE_ROWS,
    MIXED_CODEC,
    VAE,
    codec_tensors,
    make_audio_tokenizer,
    write_byte_tokenizer,
    write_prompt_library,
)

SEED = 20261120
CONFIG = ConfigForm(
    title="The built-in tiny model, in the form of a published config.yaml.",
    language_model=dual_track_lines(
        width=64,
        ffn_dim=160,
        num_heads=4,
        num_layers=3,
        num_layers_sub=2,
        code_size=1024,
        rope_theta=100000.0,
        rope_theta_sub=500000.0,
    ),
    own=("estimator_heads: 4",),
)

FAST_CONFIG = ConfigForm(
    title="The built-in tiny-fast model, in the form of the config.yaml of SongGeneration-v2-fast.",
    language_model=(
        "lm_checkpoint: lm",
        "lm: {dim: 64, code_depth: 1, code_size: 1024}",
        "vllm: {cfg: true, device_num: 1, gpu_memory_utilization: 0.5, "
        "guidance_scale: 1.8, temp: 0.8, top_k: 5000}",
    ),
    own=("estimator_heads: 4",),
    code_depth=1,
)

FAST_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_hidden_layers": 3,
    "vocab_size": 1025,
    "code_depth": 1,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-05,
    "rope_theta": 500000.0,
    "hidden_act": "silu",
    "eos_token_id": 1024,
}


def ensure_tiny(cache_dir: Path | None = None, name: str = "tiny") -> Path:
    """The folder of a built-in checkpoint, made if it is not there (a second or two).

    Args:
        cache_dir: where built-in models are kept; `~/.cache/songgen` unless told.
        name: one of `WRITERS`.
    """
    return ensure_built_in(
        name, WRITERS[name], (__file__, tiny_parts.__file__, config_form.__file__), cache_dir
    )


def write_tiny(folder: Path) -> None:
    """Write the whole dual-track checkpoint, runtime files included, below a folder."""
    _write_text_files(folder, CONFIG)
    config = read_config(folder / "config.yaml")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        tensors = _lm_tensors(config)
        torch.save({LM_PREFIX + name: tensor for name, tensor in tensors.items()}, folder / "model.pt")
        mixed, dual = (
            make_audio_tokenizer(tracks, config.code_size) for tracks in (MIXED_TRACKS, DUAL_TRACKS)
        )
        save(mixed.state_dict(), folder / MIXED_FILE)
        save(codec_tensors(dual), folder / DUAL_FILE)
        _write_shared(folder, config)


def write_tiny_fast(folder: Path) -> None:
    """Write a whole checkpoint of one codebook, in the form of SongGeneration-v2-fast, below a folder."""
    _write_text_files(folder, FAST_CONFIG)
    write_text(folder / "lm/config.json", json.dumps(FAST_LLAMA, indent=1))
    config = read_config(folder / "config.yaml")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        tensors = _lm_tensors(config)
        head = len(CONDITIONERS)
        conditioners = {
            name[head:]: value for name, value in tensors.items() if name.startswith(CONDITIONERS)
        }
        llama = {
            f"model.{name}" if name == TOKEN_TABLE else name.removeprefix("transformer."): value
            for name, value in tensors.items()
            if not name.startswith(CONDITIONERS)
        }
        save(llama, folder / "lm/model.safetensors")
        torch.save(conditioners, folder / "lm/conditioners_weights.pth")
        torch.save(tensors[TOKEN_TABLE][config.special][None, None].clone(), folder / "lm/embeded_eosp1.pt")
        tokenizer = make_audio_tokenizer(MIXED_TRACKS, config.code_size)
        save(codec_tensors(tokenizer, MIXED_CODEC), folder / MIXED_FILE)
        _write_shared(folder, config)


WRITERS = {"tiny": write_tiny, "tiny-fast": write_tiny_fast}
"""The built-in models by name."""


def _write_text_files(folder: Path, config: ConfigForm) -> None:
    write_text(folder / "config.yaml", config.text())
    write_text(folder / "conf/vocab.yaml", vocabulary_yaml())
    write_byte_tokenizer(folder / TOKENIZER_FOLDER)


def _write_shared(folder: Path, config: LevoConfig) -> None:
    """VAE, prompt library and separator."""
    vae = folder / "ckpt/vae"
    write_vae(VAE, vae / "stable_audio_1920_vae.json", vae / "autoencoder_music_1320k.ckpt")
    write_prompt_library(folder / "tools/new_auto_prompt.pt", config)
    if has_separator():
        write_separator(folder / "third_party/demucs/ckpt")


def _lm_tensors(config: LevoConfig) -> dict[str, Tensor]:
    """All tensors of a published language model, unused ones too."""
    lelm = LeLM(
        config,
        lyric_rows=BASE_ROWS + len(config.structure_tags),
        description_rows=BASE_ROWS + len(DESCRIPTION_TOKENS_V2),
    )
    randomise_(lelm, lambda name: config.width**0.5 * 0.5 if "emb" in name or "output_proj" in name else 1.0)
    for head in (lelm.transformer.lm_head, *(lelm.linears if config.num_codebooks > 1 else ())):
        assert isinstance(head, nn.Linear)
        head.weight.mul_(2.5)
        head.weight[config.eos] = 0  # a logit of 0 among many: songs seldom end by themselves
    unused = {name: torch.zeros(shape) for name, shape in unused_lm_shapes(config).items()}
    return unused | lelm.state_dict()
