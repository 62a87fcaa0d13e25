"""The published yaml: sizes, sampling, what is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from songgen.models.published_yaml import read_published_yaml
from songgen.models.songbloom.config import BUILT_IN_FILES, SongBloomConfig, config_of, read_config

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "songbloom"
PUBLISHED = GOLDEN / "songbloom_full_150s.yaml"


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    return read_published_yaml(PUBLISHED, search=[BUILT_IN_FILES])


def changed(tree: dict[str, Any], key: str, value: Any) -> SongBloomConfig:
    tree = copy.deepcopy(tree)
    *path, last = key.split(".")
    place = tree
    for name in path:
        place = place[name]
    place[last] = value
    return config_of(tree)


def test_the_published_model() -> None:
    config = read_config(PUBLISHED)
    assert (config.width, config.ffn_dim, config.num_heads) == (1536, 6144, 24)
    assert (config.num_layers, config.num_diffusion_layers, config.block_size) == (36, 12, 16)
    assert (config.num_codes, config.eos, config.latent_dim) == (16384, 16384, 64)
    assert (config.rope_theta, config.llama().norm_eps, config.dit().rotary_dim) == (20000.0, 1e-6, 32)
    assert (config.prompt_positions, config.lyric_positions, config.prefix_length) == (250, 600, 850)
    assert len(config.vocabulary) == 330
    assert config.vocabulary[:8] == (
        "", "[verse]", "[chorus]", "[bridge]", "[intro]", "[outro]", "[inst]", "[silence]",
    )  # fmt: skip
    assert config.guidance == "h"
    assert config.files == {
        "weights": "songbloom_full_150s.pt",
        "vae_config": "stable_audio_1920_vae.json",
        "vae_weights": "autoencoder_music_dsp1920.ckpt",
    }


def test_the_published_sampling() -> None:
    sampling = read_config(PUBLISHED).sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p, sampling.cfg_coef) == (0.9, 100, 0.0, 1.5)
    assert (sampling.penalty, sampling.window) == (1.1, 50)
    assert (sampling.diffusion_steps, sampling.diffusion_temperature) == (36, 0.95)
    assert sampling.diffusion_guidance == 1.5


def test_the_longest_song_is_of_whole_blocks(tree: dict[str, Any]) -> None:
    """10 s more than max_dur, as published; 240 s end in the middle of a block, which is kept."""
    config = config_of(tree)
    assert (config.max_seconds, config.max_blocks, config.capacity) == (160.0, 250, 850 + 17 * 250)
    assert changed(tree, "max_dur", 240).max_seconds == 250.24


def test_the_longer_model_is_data(tree: dict[str, Any]) -> None:
    assert changed(tree, "model.rotary_base_val", 40000).llama().rope_theta == 40000.0
    lyrics = "model.condition_provider_cfg.lyrics.max_len"
    assert changed(tree, lyrics, 1000).prefix_length == 1250


@pytest.mark.parametrize(
    ("key", "value", "field", "found"),
    [
        ("cfg_coef", [2.0, 1.2], "cfg_coef", 2.0),
        ("cfg_coef", [2.0, 1.2], "diffusion_guidance", 1.2),
        ("penalty_repeat", False, "penalty", 1.0),
        ("use_sampling", False, "temperature", 0.0),
        ("top_p", 0.9, "top_p", 0.9),
    ],
)
def test_what_the_yaml_may_say_of_sampling(
    tree: dict[str, Any], key: str, value: Any, field: str, found: float
) -> None:
    assert getattr(changed(tree, f"inference.{key}", value).sampling, field) == found


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("model.diffusion_objective", "v", "model.diffusion_objective is 'v', only 'rectified_flow'"),
        ("model.backend", "mamba", "model.backend is 'mamba', only 'llama'"),
        ("train_dataset.lyric_processor", "pinyin", "lyric_processor is 'pinyin', only 'phoneme'"),
        ("model.condition_provider_cfg.lyrics.interpolate", True, "lyrics.interpolate is True, only False"),
        ("model.fuser_cfg.prepend", ["prompt_wav", "lyrics"], "fuser_cfg.prepend is"),
        ("model.num_heads", 7, "model.dim 1536 is no multiple of the 7 heads"),
        ("inference.dit_cfg_type", "both", "dit_cfg_type is 'both'; it must be one of h, none, global"),
        ("inference.steps", 0, "sampling.diffusion_steps is 0; it must be 1 or more"),
        ("model.condition_provider_cfg.lyrics.vocab_list", "x", "must be a list of texts"),
        ("model.condition_provider_cfg.lyrics.vocab_list", ["a"], "must begin with '' and hold '.' and ','"),
    ],
)
def test_what_is_not_computed_here_is_refused(tree: dict[str, Any], key: str, value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said.replace("'", ".").replace("(", r"\(")):
        changed(tree, key, value)


def test_a_yaml_of_something_else_is_said(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_text("model: {}\n")
    with pytest.raises(ValueError, match=r"x\.yaml: no key .*; is this a SongBloom model's yaml\?"):
        read_config(path)
    path.write_text(PUBLISHED.read_text().replace("dim: 1536", "dim: many"))
    with pytest.raises(ValueError, match=r"x\.yaml: "):
        read_config(path)
