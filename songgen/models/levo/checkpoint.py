"""The files of a LeVo checkpoint: which tensors they hold, and filling the modules with them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from songgen.models.levo.codec import CodecConfig, LevoCodec, ignored_shapes
from songgen.models.levo.config import LevoConfig
from songgen.models.levo.encode import AudioTokenizer, AudioTokenizerConfig, Track
from songgen.models.levo.lelm import LeLM
from songgen.nn.llama import fuse_projections_
from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.nn.weight_norm import fuse_weight_norm_
from songgen.runtime.checkpoint import build, load_strictly, read_tensor, read_tensors, tensor_shapes
from songgen.runtime.offload import stream_layers_, streamed_positions

LM_PREFIX = "audiolm."

NOT_DECODE = re.compile(r"(bestrq|hubert)\.")
"""Parts of the codec files that decoding never reads: the encode half, and a speech encoder of old
releases."""

VAE_ENCODER = "encoder."

CONDITIONERS = "condition_provider.conditioners."
DESCRIPTION_TABLE = f"{CONDITIONERS}type_info.output_proj.weight"
LYRIC_TABLE = f"{CONDITIONERS}description.output_proj.weight"
TEXT_TABLES = (LYRIC_TABLE, DESCRIPTION_TABLE)
"""Kept in CPU memory: looked up once a song, over 1 GB in the large models."""
TOKEN_TABLE = "emb.0.weight"
LAYER_NAME = re.compile(r"transformer(2?)\.model\.layers\.(\d+)\.")


def read_lm_tensors(path: Path) -> dict[str, Tensor]:
    """The language model's tensors of a model file, without the published prefix; other keys are ignored.

    Raises:
        ValueError: the file holds no tensor of a LeVo language model.
    """
    prefixed = {name: tensor for name, tensor in read_tensors(path).items() if name.startswith(LM_PREFIX)}
    if not prefixed:
        raise ValueError(f"{path}: no tensor is named {LM_PREFIX}...; is this a LeVo language model?")
    return {name.removeprefix(LM_PREFIX): tensor for name, tensor in prefixed.items()}


@dataclass(frozen=True)
class LanguageModelFiles:
    """The language model's files: a model file, or the fast variant's folder.

    That folder holds a Hugging Face Llama (`model.safetensors`, or in parts), `conditioners_weights.pth`, and
    `embeded_eosp1.pt`, the embedding that ends the prefix.
    """

    path: Path

    @property
    def paths(self) -> list[Path]:
        """All files, the largest first. Raises FileNotFoundError."""
        found = [self.path] if self.path.is_file() else [*self._shards, *self._extras]
        for path in found:
            if not path.is_file():
                raise FileNotFoundError(f"{path}: no such file")
        return found

    @property
    def _shards(self) -> list[Path]:
        shards = sorted(self.path.glob("model-*-of-*.safetensors"))
        if (self.path / "model.safetensors").is_file():
            shards = [self.path / "model.safetensors"]
        if not shards:
            raise FileNotFoundError(f"{self.path}: no model.safetensors in it")
        return shards

    @property
    def _extras(self) -> list[Path]:
        return [self.path / "conditioners_weights.pth", self.path / "embeded_eosp1.pt"]

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes of the language model's tensors, of a model file with the published prefix
        removed.

        Raises:
            FileNotFoundError, ValueError: a file is missing or is no weight file.
        """
        if self.path.is_file():
            found = tensor_shapes(self.path).items()
            return {
                name.removeprefix(LM_PREFIX): shape for name, shape in found if name.startswith(LM_PREFIX)
            }
        shapes: dict[str, tuple[int, ...]] = {}
        for shard in self._shards:
            shapes |= {_fast_name(name): shape for name, shape in tensor_shapes(shard).items()}
        found = tensor_shapes(self._extras[0]).items()
        return shapes | {CONDITIONERS + name: shape for name, shape in found}

    def read(self, special: int) -> dict[str, Tensor]:
        """All tensors under the names of `LeLM`.

        The fast variant's end of the prefix takes the place of row SPECIAL of the token table, which is fed
        there and nowhere else.

        Raises:
            FileNotFoundError, ValueError: a file is missing, or is not what it should be.
        """
        if self.path.is_file():
            return read_lm_tensors(self.path)
        tensors: dict[str, Tensor] = {}
        for shard in self._shards:
            tensors |= {_fast_name(name): tensor for name, tensor in read_tensors(shard).items()}
        conditioners, end_file = self._extras
        tensors |= {CONDITIONERS + name: tensor for name, tensor in read_tensors(conditioners).items()}
        end, table = read_tensor(end_file), tensors.get(TOKEN_TABLE)
        if table is None or table.shape[0] <= special or end.numel() != table.shape[1]:
            raise ValueError(f"{end_file}: {list(end.shape)} does not fit the model's token table")
        tensors[TOKEN_TABLE] = table.clone()
        tensors[TOKEN_TABLE][special] = end.flatten().to(table.dtype)
        return tensors


def _fast_name(name: str) -> str:
    """A Llama tensor's name in `LeLM`: the token table, or transformer 1."""
    return name.removeprefix("model.") if name.startswith("model.emb.") else f"transformer.{name}"


def unused_lm_shapes(config: LevoConfig) -> dict[str, tuple[int, ...]]:
    """Tensors of the published language models that inference never uses: they may be in a file, and are left
    out.

    Word embeddings of the text models that the transformers come from, the head of transformer 2, the
    embedding of the mixed row in transformer 2's input, and a norm that is never called.
    """
    width, outputs = config.width, config.code_size + 1
    if config.num_codebooks == 1:
        return {"transformer.model.embed_tokens.weight": (outputs, width)}
    return {
        "transformer.model.embed_tokens.weight": (outputs, width),
        "transformer2.model.embed_tokens.weight": (outputs, width),
        "transformer2.lm_head.weight": (outputs, width),
        "layer2_emb.0.weight": (outputs + 1, width),
        "out_norm.weight": (width,),
        "out_norm.bias": (width,),
    }


def table_rows(tensors: Mapping[str, Tensor], name: str, source: Path | str) -> int:
    """Rows of an embedding table. Raises ValueError if it is not there."""
    if name not in tensors:
        raise ValueError(f"{source}: no tensor {LM_PREFIX}{name}; is this a LeVo language model?")
    return tensors[name].shape[0]


def build_lelm(
    config: LevoConfig,
    tensors: Mapping[str, Tensor],
    *,
    source: Path | str,
    dtype: torch.dtype,
    device: torch.device,
    resident_layers: int | None = None,
) -> LeLM:
    """LeLM with its weights, on `device` but for the text tables and for layers that are streamed.

    Args:
        resident_layers: layers that stay on the device; None for all.

    Raises:
        ValueError: the tensors do not fit the configuration.
    """
    lyric_rows = table_rows(tensors, LYRIC_TABLE, source)
    description_rows = table_rows(tensors, DESCRIPTION_TABLE, source)
    lelm = build(lambda: LeLM(config, lyric_rows=lyric_rows, description_rows=description_rows))
    streamed = streamed_positions(config.num_layers + config.num_layers_sub, resident_layers)

    def is_on_host(name: str) -> bool:
        return name in TEXT_TABLES or layer_position(name, config) in streamed

    load_strictly(
        lelm,
        tensors,
        source=source,
        is_unused=unused_lm_shapes(config).__contains__,
        dtype=dtype,
        device=lambda name: torch.device("cpu") if is_on_host(name) else device,
    )
    for stack in lelm.stacks:
        fuse_projections_(stack)
    stream_layers_(lelm.stacks, streamed, device)  # last: it packs the weights as they are to run
    return lelm


def layer_position(name: str, config: LevoConfig) -> int | None:
    """The layer that a tensor of LeLM belongs to, counted over both transformers; None if to no layer."""
    found = LAYER_NAME.match(name)
    return None if found is None else int(found[2]) + (config.num_layers if found[1] else 0)


@dataclass(frozen=True)
class CodecParts:
    """What rendering needs: the dual-track codec's decode half, and the VAE."""

    codec: LevoCodec
    vae: OobleckVAE


def load_codec(
    codec_file: Path,
    vae_file: Path,
    vae_config: OobleckConfig,
    *,
    num_heads: int | None,
    solver: Mapping[str, Any] | None = None,
    needs_encoder: bool = True,
    dtype: torch.dtype = torch.float32,
    device: torch.device,
) -> CodecParts:
    """Load codec and VAE in float32, weight norms fused.

    Args:
        needs_encoder: whether a VAE file without an encoder is an error; else it gives a VAE without one.
        num_heads: attention heads of the estimator, None for the published model's.
        solver: `steps` and `guidance` of `CodecConfig`, where they are not the published model's.
        dtype: of the estimator's matrix products; all else stays float32.

    Raises:
        ValueError: the files do not fit each other or the modules.
    """
    tensors = read_tensors(codec_file)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    config = _codec_config(shapes, codec_file, num_heads)
    config = replace(config, **(solver or {}))
    vae_tensors = read_tensors(vae_file)
    has_encoder = needs_encoder or any(name.startswith(VAE_ENCODER) for name in vae_tensors)
    codec = build(lambda: LevoCodec(config))
    vae = build(lambda: OobleckVAE(vae_config, has_encoder=has_encoder))
    load_strictly(
        codec,
        tensors,
        source=codec_file,
        is_unused=unused_by_decoding(config),
        dtype=torch.float32,
        device=device,
    )
    load_strictly(vae, vae_tensors, source=vae_file, dtype=torch.float32, device=device)
    for module in (codec, vae):
        fuse_weight_norm_(module)
    codec.estimator.convert_products_(dtype)
    return CodecParts(codec, vae)


def _codec_config(
    shapes: Mapping[str, tuple[int, ...]], codec_file: Path, num_heads: int | None
) -> CodecConfig:
    try:
        return CodecConfig.from_state_dict_shapes(shapes, num_heads)
    except ValueError as error:
        raise ValueError(f"{codec_file}: {error}") from None


def unused_by_decoding(config: CodecConfig) -> Callable[[str], bool]:
    """Tells of the name of a tensor in a codec file whether decoding leaves it out."""
    ignored = ignored_shapes(config)
    return lambda name: name in ignored or NOT_DECODE.match(name) is not None


def codec_numel(codec_file: Path, vae_file: Path, num_heads: int | None) -> int:
    """Numbers in the weights that `load_codec` loads. Raises ValueError if the codec's do not fit."""
    shapes = tensor_shapes(codec_file)
    is_unused = unused_by_decoding(_codec_config(shapes, codec_file, num_heads))
    decoding = [shape for name, shape in shapes.items() if not is_unused(name)]
    return sum(math.prod(shape) for shape in (*decoding, *tensor_shapes(vae_file).values()))


def load_audio_tokenizer(codec_file: Path, tracks: tuple[Track, ...], device: torch.device) -> AudioTokenizer:
    """Load the encode half of a codec in float32, weight norms fused.

    Raises:
        ValueError: the file does not fit.
    """
    tensors = read_tensors(codec_file)
    try:
        config = AudioTokenizerConfig.from_tensors(tensors, tracks)
    except ValueError as error:
        raise ValueError(f"{codec_file}: {error}") from None
    tokenizer = build(lambda: AudioTokenizer(config))
    load_strictly(
        tokenizer,
        tensors,
        source=codec_file,
        is_unused=tokenizer.is_unused,
        dtype=torch.float32,
        device=device,
    )
    fuse_weight_norm_(tokenizer)
    return tokenizer
