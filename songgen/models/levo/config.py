"""The sizes of a LeVo language model, as the checkpoint's own config.yaml gives them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from songgen.models.levo.own_keys import OwnKeys, own_keys
from songgen.models.published_yaml import read_published_yaml
from songgen.nn.llama import RMS_NORM_EPS, LlamaConfig
from songgen.runtime.sampling import Sampling

BUILT_IN_FILES = Path(__file__).resolve().parents[2] / "configs" / "levo"
"""Searched last: files that belong to the publisher's program and not to the weights."""

STRUCTURE_ROWS = 200
"""Rows of the structure embedding table in every published checkpoint."""

CONDITION_NAMES = ("description", "prompt_audio", "type_info")
"""The published names of the conditioners: lyrics, prompt tokens, descriptions."""

FAST_SAMPLING = Sampling(cfg_coef=1.8, penalty=1.0, window=0, frequency_penalty=0.2)
"""SongGeneration-v2-fast: literals of the published program; temperature and top_k come from config.yaml."""


@dataclass(frozen=True)
class LevoConfig:
    """Everything the language model's modules are built from.

    Args:
        width, ffn_dim, num_heads: of both transformers.
        num_layers, num_layers_sub: layers of transformer 1 (mixed tokens) and 2 (vocal and bgm tokens); a
            model of one codebook has no second.
        rope_theta, rope_theta_sub: rotary bases.
        code_size: codes of a codebook; EOS is `code_size`, SPECIAL `code_size + 1`.
        delays: frames by which each codebook lags, one per codebook.
        max_seconds, frame_rate, sample_rate: of the songs.
        prompt_frames: frames of a prompt; longer ones are cut, shorter ones filled with SPECIAL.
        prompt_positions: prefix positions of the prompt, its start embedding and EOS frame included.
        lyric_positions, description_positions: prefix positions of the texts.
        prefix_order: published conditioner names in the order of the prefix.
        structure_tags: the structure tags in the order of their ids.
        sampling: as published for the model.
        files: values of config.yaml that name files: tokenizer, VAE, codecs.
        max_positions: positions that the published engine gives a model of one codebook.
        own: what no published file says, see `own_keys.py`.
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
    sampling: Sampling
    files: FileNames
    max_positions: int = 2**31
    own: OwnKeys = field(default_factory=OwnKeys)

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
        """T of the longest song.

        As published, a model of one codebook drops the last token that it may write, and cannot write beyond
        its positions.
        """
        frames = int(self.max_seconds * self.frame_rate)
        if self.num_codebooks > 1:
            return frames
        return min(frames, self.max_positions - self.prefix_length - 1) - 1

    @property
    def prefix_length(self) -> int:
        """Positions before the first code."""
        return self.prompt_positions + self.lyric_positions + self.description_positions

    @property
    def lyric_start(self) -> int:
        """The position of the first lyric token."""
        lengths = {"prompt_audio": self.prompt_positions, "type_info": self.description_positions}
        before = self.prefix_order[: self.prefix_order.index("description")]
        return sum(lengths[name] for name in before)

    @property
    def capacity(self) -> int:
        """Positions of the longest song."""
        return self.capacity_for(self.max_frames)

    def capacity_for(self, num_frames: int) -> int:
        """Positions of a song of so many frames: prefix, the empty first column, frames and delays."""
        return self.prefix_length + 1 + num_frames + max(self.delays)

    def num_frames(self, seconds: float | None) -> int:
        """T of a song of at most so many seconds, at least 1; None for the longest."""
        if seconds is None:
            return self.max_frames
        return min(max(1, int(seconds * self.frame_rate)), self.max_frames)

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


def with_max_frames(config: LevoConfig, num_frames: int) -> LevoConfig:
    """The same model, writing songs of at most `num_frames` frames."""
    own = 0 if config.num_codebooks > 1 else 1  # the token that a model of one codebook drops
    return replace(config, max_seconds=(num_frames + own + 0.5) / config.frame_rate)


@dataclass(frozen=True)
class FileNames:
    """Paths as config.yaml writes them, relative to the runtime folder; None where it names none.

    `codec` turns tokens into audio: the dual-track codec, or of a model of one codebook the mixed one.
    `language_model` is the folder of its weights, where they are not the checkpoint's own model file.
    """

    tokenizer: str
    vae_config: str
    vae_model: str
    codec: str
    mixed_codec: str | None
    language_model: str | None = None


def read_config(path: Path, *, search: Sequence[Path] = ()) -> LevoConfig:
    """Read a published config.yaml, and the config.json of the language model that it names.

    Args:
        path: the file.
        search: folders where files named in it (conf/vocab.yaml) are looked for besides its own.

    Raises:
        FileNotFoundError: the file, or one that it loads, is missing.
        ValueError: a key is missing, or has a value that songgen cannot run.
    """
    tree = read_published_yaml(path, search=(*search, BUILT_IN_FILES))
    try:
        sizes = _sizes(tree, path, search)
        return _from_tree(tree, sizes)
    except KeyError as error:
        raise ValueError(
            f"{path}: no key {error.args[0]!r}; is this a LeVo checkpoint's config.yaml?"
        ) from None
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def _sizes(tree: Mapping[str, Any], path: Path, search: Sequence[Path]) -> dict[str, Any]:
    """The language model's sizes: from config.yaml, or from the config.json beside its weights."""
    lm = tree["lm"]
    if "lm_checkpoint" not in tree:
        names = (
            "intermediate_size",
            "num_heads",
            "num_layers",
            "num_layers_sub",
            "rope_theta",
            "rope_theta_sub",
        )
        return {name: lm[name] for name in names}
    folder = language_model_folder(str(tree["lm_checkpoint"]), [path.parent, *search])
    facts = json.loads((folder / "config.json").read_text("utf-8"))
    expected = {
        "hidden_size": lm["dim"],
        "vocab_size": lm["code_size"] + 1,
        "num_key_value_heads": facts["num_attention_heads"],
        "rms_norm_eps": RMS_NORM_EPS,
        "hidden_act": "silu",
    }
    for name, value in expected.items():
        if facts.get(name, value) != value:
            raise ValueError(f"{folder / 'config.json'}: {name} is {facts[name]!r}, must be {value!r}")
    return {
        "intermediate_size": facts["intermediate_size"],
        "num_heads": facts["num_attention_heads"],
        "num_layers": facts["num_hidden_layers"],
        "num_layers_sub": 0,
        "rope_theta": facts.get("rope_theta", 10000.0),
        "rope_theta_sub": 0.0,
        "max_positions": facts["max_position_embeddings"],
    }


def language_model_folder(relative: str, places: Sequence[Path]) -> Path:
    """The folder that `lm_checkpoint` names. Raises FileNotFoundError that lists where it was looked for."""
    for place in places:
        if (place / relative / "config.json").is_file():
            return place / relative
    looked = ", ".join(str(place / relative) for place in places)
    raise FileNotFoundError(f"lm_checkpoint {relative} has no config.json; it was looked for in {looked}")


def _from_tree(tree: Mapping[str, Any], sizes: Mapping[str, Any]) -> LevoConfig:
    lm, conditioners = tree["lm"], tree["conditioners"]
    lyrics = conditioners["description"]["QwTokenizer"]
    delays = tuple(int(delay) for delay in tree["codebooks_pattern"]["delay"]["delays"])
    order = tuple(tree["fuser"]["prepend"])
    if sorted(order) != sorted(CONDITION_NAMES):
        raise ValueError(f"fuser.prepend is {list(order)}, and must hold {list(CONDITION_NAMES)}")
    if len(delays) != int(lm["code_depth"]):
        raise ValueError(f"lm.code_depth is {lm['code_depth']}, but there are {len(delays)} delays")
    if lm["dim"] % sizes["num_heads"]:
        raise ValueError(f"lm.dim {lm['dim']} is no multiple of the {sizes['num_heads']} heads")
    frame_rate = int(tree["audio_tokenizer_frame_rate"])
    own = own_keys(tree)
    return LevoConfig(
        width=int(lm["dim"]),
        ffn_dim=int(sizes["intermediate_size"]),
        num_heads=int(sizes["num_heads"]),
        num_layers=int(sizes["num_layers"]),
        num_layers_sub=int(sizes["num_layers_sub"]) if len(delays) > 1 else 0,
        rope_theta=float(sizes["rope_theta"]),
        rope_theta_sub=float(sizes["rope_theta_sub"]),
        code_size=int(lm["code_size"]),
        delays=delays,
        max_seconds=float(tree["max_dur"]),
        frame_rate=frame_rate,
        sample_rate=int(tree["sample_rate"]),
        prompt_frames=int(tree["prompt_len"] * frame_rate),
        prompt_positions=int(conditioners["prompt_audio"]["qt_embedding"]["max_len"]),
        lyric_positions=int(lyrics["max_len"]),
        description_positions=int(conditioners["type_info"]["QwTextTokenizer"]["max_len"]),
        prefix_order=order,
        structure_tags=tuple(lyrics["add_token_list"]),
        sampling=own.sampling_over(_sampling(tree) if "vllm" in tree else Sampling()),
        files=_file_names(tree, str(lyrics["token_path"])),
        max_positions=int(sizes.get("max_positions", 2**31)),
        own=own,
    )


def _sampling(tree: Mapping[str, Any]) -> Sampling:
    """Of the fast variant. As published, its `vllm.guidance_scale` has no effect."""
    return replace(FAST_SAMPLING, temperature=float(tree["vllm"]["temp"]), top_k=int(tree["vllm"]["top_k"]))


def _file_names(tree: Mapping[str, Any], tokenizer: str) -> FileNames:
    """The files that config.yaml names."""
    mixed = _codec_path(tree.get("audio_tokenizer_checkpoint"))
    codec = _codec_path(tree["audio_tokenizer_checkpoint_sep"]) if "lm_checkpoint" not in tree else mixed
    if codec is None:
        raise ValueError("no audio_tokenizer_checkpoint; there is no codec to make audio with")
    return FileNames(
        tokenizer=tokenizer,
        vae_config=str(tree["vae_config"]),
        vae_model=str(tree["vae_model"]),
        codec=codec,
        mixed_codec=mixed,
        language_model=tree.get("lm_checkpoint"),
    )


def _codec_path(value: str | None) -> str | None:
    """The path in `<class>_<path>`, the published form of a codec's name."""
    return value.partition("_")[2] if value else None
