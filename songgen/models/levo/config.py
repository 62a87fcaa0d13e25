"""The sizes of a LeVo language model, as the checkpoint's own config.yaml gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from songgen.models.levo.published_yaml import read_published_yaml
from songgen.nn.llama import LlamaConfig

STRUCTURE_ROWS = 200
"""Rows of the structure embedding table in every published checkpoint."""

CONDITION_NAMES = ("description", "prompt_audio", "type_info")
"""The published names of the conditioners: lyrics, prompt tokens, descriptions."""


@dataclass(frozen=True)
class LevoConfig:
    """Everything the language model's modules are built from.

    Args:
        width, ffn_dim, num_heads: of both transformers.
        num_layers, num_layers_sub: layers of transformer 1 (mixed tokens) and 2 (vocal and bgm tokens).
        rope_theta, rope_theta_sub: rotary bases.
        code_size: codes of a codebook; EOS is `code_size`, SPECIAL `code_size + 1`.
        delays: frames by which each codebook lags, one per codebook.
        max_seconds, frame_rate, sample_rate: of the songs.
        prompt_frames: frames of a prompt; longer ones are cut, shorter ones filled with SPECIAL.
        prompt_positions: prefix positions of the prompt, its start embedding and EOS frame included.
        lyric_positions, description_positions: prefix positions of the texts.
        prefix_order: published conditioner names in the order of the prefix.
        structure_tags: the structure tags in the order of their ids.
        cfg_coef: the published guidance.
        files: values of config.yaml that name files: tokenizer, VAE, codecs.
        estimator_heads: attention heads of the codec's flow network, which no tensor shape tells; None for
            the published one. Our own key `songgen.estimator_heads`, for checkpoints of other sizes.
    """

    width: int
    ffn_dim: int
    num_heads: int
    num_layers: int
    num_layers_sub: int
    rope_theta: float
    rope_theta_sub: float
    code_size: int
    delays: tuple[int, ...]
    max_seconds: float
    frame_rate: int
    sample_rate: int
    prompt_frames: int
    prompt_positions: int
    lyric_positions: int
    description_positions: int
    prefix_order: tuple[str, ...]
    structure_tags: tuple[str, ...]
    cfg_coef: float
    files: FileNames
    estimator_heads: int | None = None

    @property
    def num_codebooks(self) -> int:
        """K."""
        return len(self.delays)

    @property
    def eos(self) -> int:
        """The id that ends a row."""
        return self.code_size

    @property
    def special(self) -> int:
        """The id of a cell without a code: before a row starts, after it ended, a missing prompt."""
        return self.code_size + 1

    @property
    def max_frames(self) -> int:
        """T of the longest song."""
        return int(self.max_seconds * self.frame_rate)

    @property
    def prefix_length(self) -> int:
        """Positions before the first code."""
        return self.prompt_positions + self.lyric_positions + self.description_positions

    @property
    def capacity(self) -> int:
        """Positions of the longest song: prefix, the empty first column, frames and delays."""
        return self.prefix_length + 1 + self.max_frames + max(self.delays)

    def llama(self, *, second: bool = False) -> LlamaConfig:
        """The sizes of transformer 1, or of transformer 2."""
        return LlamaConfig(
            width=self.width,
            ffn_dim=self.ffn_dim,
            num_heads=self.num_heads,
            num_layers=self.num_layers_sub if second else self.num_layers,
            rope_theta=self.rope_theta_sub if second else self.rope_theta,
            num_positions=self.capacity,
        )


@dataclass(frozen=True)
class FileNames:
    """Paths as config.yaml writes them, relative to the runtime folder; None where it names none."""

    tokenizer: str
    vae_config: str
    vae_model: str
    mixed_codec: str | None
    dual_codec: str


def read_config(path: Path, *, search: Sequence[Path] = ()) -> LevoConfig:
    """Read a published config.yaml.

    Args:
        path: the file.
        search: folders where files named in it (conf/vocab.yaml) are looked for besides its own.

    Raises:
        FileNotFoundError: the file, or one that it loads, is missing.
        ValueError: a key is missing, or has a value that songgen cannot run.
    """
    tree = read_published_yaml(path, search=search)
    try:
        return _from_tree(tree)
    except KeyError as error:
        raise ValueError(
            f"{path}: no key {error.args[0]!r}; is this a LeVo checkpoint's config.yaml?"
        ) from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _from_tree(tree: Mapping[str, Any]) -> LevoConfig:
    lm, conditioners = tree["lm"], tree["conditioners"]
    lyrics = conditioners["description"]["QwTokenizer"]
    prompt = conditioners["prompt_audio"]["qt_embedding"]
    delays = tuple(int(delay) for delay in tree["codebooks_pattern"]["delay"]["delays"])
    order = tuple(tree["fuser"]["prepend"])
    if sorted(order) != sorted(CONDITION_NAMES):
        raise ValueError(f"fuser.prepend is {list(order)}, and must hold {list(CONDITION_NAMES)}")
    if len(delays) != int(lm["code_depth"]):
        raise ValueError(f"lm.code_depth is {lm['code_depth']}, but there are {len(delays)} delays")
    if lm["dim"] % lm["num_heads"]:
        raise ValueError(f"lm.dim {lm['dim']} is no multiple of lm.num_heads {lm['num_heads']}")
    frame_rate = int(tree["audio_tokenizer_frame_rate"])
    return LevoConfig(
        width=int(lm["dim"]),
        ffn_dim=int(lm["intermediate_size"]),
        num_heads=int(lm["num_heads"]),
        num_layers=int(lm["num_layers"]),
        num_layers_sub=int(lm["num_layers_sub"]),
        rope_theta=float(lm["rope_theta"]),
        rope_theta_sub=float(lm["rope_theta_sub"]),
        code_size=int(lm["code_size"]),
        delays=delays,
        max_seconds=float(tree["max_dur"]),
        frame_rate=frame_rate,
        sample_rate=int(tree["sample_rate"]),
        prompt_frames=int(tree["prompt_len"] * frame_rate),
        prompt_positions=int(prompt["max_len"]),
        lyric_positions=int(lyrics["max_len"]),
        description_positions=int(conditioners["type_info"]["QwTextTokenizer"]["max_len"]),
        prefix_order=order,
        structure_tags=tuple(lyrics["add_token_list"]),
        cfg_coef=float(tree["classifier_free_guidance"]["inference_coef"]),
        files=FileNames(
            tokenizer=str(lyrics["token_path"]),
            vae_config=str(tree["vae_config"]),
            vae_model=str(tree["vae_model"]),
            mixed_codec=_codec_path(tree.get("audio_tokenizer_checkpoint")),
            dual_codec=_codec_path(tree["audio_tokenizer_checkpoint_sep"]) or "",
        ),
        estimator_heads=tree.get("songgen", {}).get("estimator_heads"),
    )


def _codec_path(value: str | None) -> str | None:
    """The path in `<class>_<path>`, the published form of a codec's name."""
    return value.partition("_")[2] if value else None
