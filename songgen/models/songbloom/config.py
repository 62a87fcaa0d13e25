"""The sizes and settings of a SongBloom model, as the checkpoint's own yaml gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from songgen.models.published_yaml import read_published_yaml
from songgen.nn.dit import DitConfig
from songgen.nn.llama import LlamaConfig
from songgen.runtime.sampling import DiffusionSampling

RMS_NORM_EPS = 1e-6
FRAME_RATE = 25
BUILT_IN_FILES = Path(__file__).resolve().parents[2] / "configs" / "songbloom"
EXTRA_SECONDS = 10
"""As published: a song may be this much longer than the `max_dur` of the yaml."""

PENALTY = 1.1
"""As published: what `penalty_repeat` divides logits by."""

Guidance = Literal["h", "none", "global"]
GUIDANCES: tuple[Guidance, ...] = ("h", "none", "global")

FUSER = {"prepend": ["lyrics", "prompt_wav"], "sum": [], "cross": [], "input_interpolate": []}
"""Of the yaml: conditions stand in front of the tokens, and enter nowhere else."""


@dataclass(frozen=True)
class SongBloomConfig:
    """Everything the networks are built from.

    Args:
        width, ffn_dim, num_heads: of both transformers.
        num_layers, num_diffusion_layers: of the language model and of the diffusion transformer.
        rope_theta: rotary base of the language model.
        num_codes: sketch tokens; EOS is `num_codes`, an id that only training uses `num_codes + 1`.
        block_size: frames of a block.
        latent_dim: Z.
        time_features: width of the random Fourier features of the diffusion time.
        prompt_positions, lyric_positions: prefix positions of the prompt and of the lyrics.
        max_sentences: rows of the table of sentences in a section.
        vocabulary: what each row of the lyric table stands for; row 0 is the empty string.
        max_duration: the yaml's `max_dur`, seconds.
        sample_rate: Hz.
        sampling: as published for the model.
        guidance: what the diffusion is guided by: `h`, the hidden vector and the sketch of the block; `none`;
            `global`, whole blocks diffused for both rows of the language model.
        files: the names of the weights, the VAE and its description, as the yaml writes them.
    """

    width: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    num_diffusion_layers: int
    rope_theta: float
    num_codes: int
    block_size: int
    latent_dim: int
    time_features: int
    prompt_positions: int
    lyric_positions: int
    max_sentences: int
    vocabulary: tuple[str, ...]
    max_duration: float
    sample_rate: int
    sampling: DiffusionSampling
    guidance: Guidance = "h"
    files: Mapping[str, str] = field(default_factory=dict)

    @property
    def eos(self) -> int:
        """The id that ends a song, and a logit."""
        return self.num_codes

    @property
    def prefix_length(self) -> int:
        """Positions before BOS."""
        return self.prompt_positions + self.lyric_positions

    @property
    def block_positions(self) -> int:
        """Positions of a block: its sketch, and its latents as one."""
        return self.block_size + 1

    @property
    def max_blocks(self) -> int:
        """Blocks of the longest song."""
        return self.num_blocks(int((self.max_duration + EXTRA_SECONDS) * FRAME_RATE))

    @property
    def max_seconds(self) -> float:
        """The longest song, in whole blocks."""
        return self.max_blocks * self.block_size / FRAME_RATE

    @property
    def capacity(self) -> int:
        """Positions of the longest song, BOS in the place of the first block's latents."""
        return self.prefix_length + self.max_blocks * self.block_positions

    def num_blocks(self, num_frames: int) -> int:
        """The blocks that so many frames take, at least one."""
        return max(1, -(-num_frames // self.block_size))

    def llama(self) -> LlamaConfig:
        """The sizes of the language model."""
        return LlamaConfig(
            width=self.width,
            ffn_dim=self.ffn_dim,
            num_heads=self.num_heads,
            num_layers=self.num_layers,
            rope_theta=self.rope_theta,
            num_positions=self.capacity,
            norm_eps=RMS_NORM_EPS,
        )

    def dit(self) -> DitConfig:
        """The sizes of the diffusion transformer."""
        return DitConfig(self.width, self.ffn_dim, self.num_heads, self.num_diffusion_layers)


def read_config(path: Path, *, search: Sequence[Path] = ()) -> SongBloomConfig:
    """Read a published yaml, and the vocabulary that it loads.

    Args:
        path: the file.
        search: folders where vocab_g2p.yaml is looked for besides its own; last comes songgen's copy.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: a key is missing, or has a value that songgen cannot run.
    """
    tree = read_published_yaml(path, search=(*search, BUILT_IN_FILES))
    try:
        return config_of(tree)
    except KeyError as error:
        raise ValueError(f"{path}: no key {error.args[0]!r}; is this a SongBloom model's yaml?") from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def config_of(tree: Mapping[str, Any]) -> SongBloomConfig:
    """The configuration in a resolved yaml.

    Raises:
        KeyError: a key is missing.
        ValueError: a value that songgen cannot run.
    """
    model = tree["model"]
    conditions = model["condition_provider_cfg"]
    _check(tree)
    guidance = tree["inference"].get("dit_cfg_type", "h")
    if guidance not in GUIDANCES:
        raise ValueError(f"inference.dit_cfg_type is {guidance!r}; it must be one of {', '.join(GUIDANCES)}")
    vocabulary = conditions["lyrics"]["vocab_list"]
    if not isinstance(vocabulary, list) or not all(isinstance(item, str) for item in vocabulary):
        raise ValueError("the vocabulary (vocab_g2p.yaml) must be a list of texts")
    if not {".", ","} <= set(vocabulary) or vocabulary[0]:
        raise ValueError("the vocabulary (vocab_g2p.yaml) must begin with '' and hold '.' and ','")
    return SongBloomConfig(
        width=int(model["dim"]),
        ffn_dim=int(model.get("hidden_scale", 4)) * int(model["dim"]),
        num_heads=int(model["num_heads"]),
        num_layers=int(model["lm_layers"]),
        num_diffusion_layers=int(model["diff_layers"]),
        rope_theta=float(model["rotary_base_val"]),
        num_codes=int(model["num_pitch"]),
        block_size=int(model["block_size"]),
        latent_dim=int(model["latent_dim"]),
        time_features=int(model["timestep_features_dim"]),
        prompt_positions=int(conditions["prompt_wav"]["max_len"]),
        lyric_positions=int(conditions["lyrics"]["max_len"]),
        max_sentences=int(conditions["lyrics"]["max_sentence_per_structure"]),
        vocabulary=tuple(vocabulary),
        max_duration=float(tree["max_dur"]),
        sample_rate=int(tree["sr"]),
        sampling=sampling_of(tree["inference"]),
        guidance=guidance,
        files=_file_names(tree),
    )


def sampling_of(inference: Mapping[str, Any]) -> DiffusionSampling:
    """The sampling in a yaml's `inference`, under its published names.

    Raises:
        ValueError: a value out of range.
    """
    coef = inference["cfg_coef"]
    pair = list(coef) if isinstance(coef, list | tuple) else [coef]
    return DiffusionSampling(
        temperature=float(inference["temp"]) if inference.get("use_sampling", True) else 0.0,
        top_k=int(inference.get("top_k", 0)),
        top_p=float(inference.get("top_p", 0.0)),
        cfg_coef=float(pair[0]),
        penalty=PENALTY if inference["penalty_repeat"] else 1.0,
        window=int(inference["penalty_window"]),
        diffusion_steps=int(inference["steps"]),
        diffusion_temperature=float(inference["diff_temp"]),
        diffusion_cfg_coef=float(pair[1]) if len(pair) > 1 else None,
    )


def _check(tree: Mapping[str, Any]) -> None:
    """Raise ValueError for a model that these networks do not compute."""
    model = tree["model"]
    lyrics, prompt = (model["condition_provider_cfg"][name] for name in ("lyrics", "prompt_wav"))
    fuser = model["fuser_cfg"]
    facts = {
        "train_dataset.lyric_processor": (tree["train_dataset"]["lyric_processor"], "phoneme"),
        "model.time_cond_type": (model["time_cond_type"], "prepend"),
        "model.diffusion_objective": (model["diffusion_objective"], "rectified_flow"),
        "model.backend": (model["backend"], "llama"),
        "model.norm": (model.get("norm", "layer_norm"), "layer_norm"),
        "model.pre_norm": (model.get("pre_norm", False), False),
        "lyrics.type": (lyrics["type"], "phoneme_tokenizer"),
        "lyrics.mode": (lyrics["mode"], "sum"),
        "lyrics.interpolate": (lyrics.get("interpolate", False), False),
        "prompt_wav.type": (prompt["type"], "audio_tokenizer_wrapper"),
        **{f"fuser_cfg.{name}": (fuser[name], wanted) for name, wanted in FUSER.items()},
    }
    for key, (value, wanted) in facts.items():
        if value != wanted:
            raise ValueError(f"{key} is {value!r}, only {wanted!r} is supported here")
    if model["dim"] % model["num_heads"]:
        raise ValueError(f"model.dim {model['dim']} is no multiple of the {model['num_heads']} heads")


def _file_names(tree: Mapping[str, Any]) -> dict[str, str]:
    """The names of the files that the yaml speaks of."""
    vae = tree["vae"]
    return {
        "weights": str(tree["pretrained_path"]),
        "vae_config": str(vae["vae_cfg"]),
        "vae_weights": str(vae["vae_ckpt"]),
    }
