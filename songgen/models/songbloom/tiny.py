"""The built-in model `tiny-songbloom`: seeded random weights, small, in the published layout and names.

It proves the road from lyrics to files and makes noise, not music. It is written to a cache folder when first
asked for, and then loaded like any checkpoint.
"""

from __future__ import annotations

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
from songgen.models.songbloom.checkpoint import MODEL
from songgen.models.songbloom.config import read_config
from songgen.models.songbloom.network import SongBloomNetwork
from songgen.nn.oobleck import OobleckConfig

NAME = "tiny-songbloom"
SEED = 20261128
VAE = OobleckConfig(channels=4, c_mults=(1, 2, 2, 3, 3), strides=(2, 4, 4, 6, 10), latent_dim=16)
VAE_CONFIG, VAE_WEIGHTS = "stable_audio_1920_vae.json", "autoencoder_music_dsp1920.ckpt"

CONFIG_YAML = """\
max_dur: 30
sr: 48000
pretrained_path: ${dynamic_path:???/tiny-songbloom.safetensors}
train_dataset:
  lyric_processor: phoneme
  prompt_len: 10
vae:
  vae_cfg: ${dynamic_path:???/stable_audio_1920_vae.json}
  vae_ckpt: ${dynamic_path:???/autoencoder_music_dsp1920.ckpt}
  sr: ${sr}
model:
  block_size: 16
  latent_dim: 16
  dim: 128
  num_heads: 2
  lm_layers: 3
  diff_layers: 2
  hidden_scale: 2
  num_pitch: 256
  time_cond_type: prepend
  timestep_features_dim: 32
  diffusion_objective: rectified_flow
  backend: llama
  rotary_base_val: 20000
  condition_provider_cfg:
    prompt_wav:
      type: audio_tokenizer_wrapper
      output_dim: ${model.dim}
      max_len: 50
    lyrics:
      type: phoneme_tokenizer
      output_dim: ${model.dim}
      vocab_list: ${load_yaml:${dynamic_path:???/vocab_g2p.yaml}}
      max_len: 200
      max_sentence_per_structure: 50
      mode: sum
  fuser_cfg:
    sum: []
    prepend: [lyrics, prompt_wav]
    cross: []
    input_interpolate: []
inference:
  cfg_coef: 1.5
  temp: 0.9
  diff_temp: 0.95
  top_k: 100
  penalty_repeat: true
  penalty_window: 50
  steps: 4
  dit_cfg_type: h
"""


def ensure_tiny(cache_dir: Path | None = None) -> Path:
    """The folder of the built-in model, made if it is not there.

    Args:
        cache_dir: where built-in models are kept; `~/.cache/songgen` unless told.
    """
    return ensure_built_in(NAME, write_tiny, (__file__,), cache_dir)


def write_tiny(folder: Path) -> None:
    """Write the whole checkpoint, shared files included, below a folder."""
    write_text(folder / f"{NAME}.yaml", CONFIG_YAML)
    config = read_config(folder / f"{NAME}.yaml")
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        network = SongBloomNetwork(config)
        _randomise_(network)
        tensors: dict[str, Tensor] = {MODEL + name: value for name, value in network.state_dict().items()}
        save(tensors, folder / f"{NAME}.safetensors")
        write_vae(VAE, folder / VAE_CONFIG, folder / VAE_WEIGHTS)
        if has_separator():
            write_separator(folder / "third_party/demucs/ckpt")


def _randomise_(network: SongBloomNetwork) -> None:
    """Weights that make every input felt; songs seldom end by themselves."""
    width = network.config.width
    tables = ("skeleton_emb", "lyrics.")
    randomise_(network, lambda name: width**0.5 * 0.5 if any(table in name for table in tables) else 1.0)
    nn.init.normal_(network.bos_token, std=0.5)
    lyrics = network.condition_provider.conditioners["lyrics"]
    for name in ("output_proj.weight", "sentence_idx_in_structure_emb.weight", "blank_emb"):
        lyrics.get_parameter(name)[0] = 0
    head = network.skeleton_classifier.get_parameter("2.weight")
    head.mul_(2.5)
    head[network.config.eos] = 0
