"""The stage `export`: the trained networks as one checkpoint in the published layout, small enough for git.

The folder is loaded by its path like any published one. It is written beside its place, loaded once to see
that it is whole, and only then takes the place of what was there.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import yaml
from torch import Tensor

from songgen.models.built_in import save, vae_description, write_text
from songgen.models.levo.checkpoint import LM_PREFIX, VAE_ENCODER
from songgen.models.levo.codec import LevoCodec
from songgen.models.levo.config_form import DUAL_FILE, MIXED_FILE, TOKENIZER_FOLDER
from songgen.models.levo.encode import ENCODER_PREFIX, AudioTokenizer
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.loading import SAFE_PROMPT_LIBRARY, load
from songgen.models.levo.locate import is_checkpoint
from songgen.models.levo.own_keys import SECTION
from songgen.nn.oobleck import OobleckVAE
from songgen.runtime.int8_weights import WeightFormat, pack
from songgen.train.lm_files import FOLDER as TEXT_FOLDER
from songgen.train.lm_files import load_text
from songgen.train.loop import load_trained
from songgen.train.recipe import Recipe

if TYPE_CHECKING:
    from songgen.train.lm import LmSettings

logger = logging.getLogger(__name__)

VAE_JSON, VAE_FILE = "ckpt/vae/stable_audio_1920_vae.json", "ckpt/vae/autoencoder_music_1320k.safetensors"
LM_FILE = "model.safetensors"

EXACT = re.compile(
    r"normfeat\..*|(.*\.)?(fb|window|inv_freq|kernel|running_mean|running_var|num_batches_tracked)"
)
"""Tensors that stay as they are: statistics, filters and tables of angles."""
HALF = re.compile(r".*codebook\.weight")
"""Matrices in 16 bits: tokens are found in them by small differences of direction."""

README = """\
# A small model that sings

Trained from nothing by `songgen train` on songs that songgen itself made up and synthesised: no recording,
no voice and no text of anybody else is in it. The layout is that of the published LeVo checkpoints; run it by
this folder's path, or by its name where it is built in. English lyrics only.

Weights, configuration and tokenizer are under the licence of songgen, Apache-2.0.
"""

SAMPLING: Mapping[str, float] = {
    "temperature": 0.8,
    "top_k": 2,
    "cfg_coef": 1.2,
    "penalty": 1.0,
    "window": 0,
}


@dataclass(frozen=True)
class ExportSettings:
    """What the checkpoint shall be like.

    Args:
        weights: `int8` for matrices in 8 bits and the rest in 16, `fp16`, or `fp32`.
        has_encoders: whether the VAE's encoder and that of the vocal and bgm tokens are in it. A model
            without a separator has no use for them.
        most_megabytes: it is refused if all its files together are more.
        prompts_per_genre: of the prompt library.
        fill_windows: whether songs shorter than 40 s are repeated until they fill a window of the codec: what
            the flow network must then know.
        sampling: how tokens are chosen unless asked otherwise.
    """

    weights: WeightFormat = "int8"
    has_encoders: bool = False
    most_megabytes: float = 30.0
    prompts_per_genre: int = 3
    fill_windows: bool = False
    sampling: Mapping[str, float] = field(default_factory=lambda: dict(SAMPLING))


@dataclass(frozen=True)
class TrainedModel:
    """The networks of a model, and the folder with its config.yaml, structure tags and tokenizer."""

    vae: OobleckVAE
    mixed: AudioTokenizer
    dual: AudioTokenizer
    codec: LevoCodec
    lelm: LeLM
    text: Path


def export(work: Path, out: Path, recipe: Recipe, *, data: Path | None = None) -> dict[str, int]:
    """Write the checkpoint of a work folder.

    Args:
        out: its place; an older checkpoint there is replaced.
        data: the songs, for the prompt library; without them there is none.

    Returns:
        Bytes by file.

    Raises:
        FileNotFoundError: a stage is not trained.
        ValueError: a network does not fit the recipe, the checkpoint is too large, or `out` is not one.
    """
    settings = ExportSettings()
    if "export" in recipe.sections:
        settings = recipe.settings("export", ExportSettings)
    model = trained_model(work, recipe)
    library: dict[str, Tensor] = {}
    if data is not None:
        from songgen.train.dataset import SongStore
        from songgen.train.export_prompts import library_of

        frames = model.lelm.config.prompt_frames
        per_genre = settings.prompts_per_genre
        library = library_of(SongStore(data), work, frames=frames, per_genre=per_genre)
    return write_checkpoint(model, out, settings, library)


def trained_model(work: Path, recipe: Recipe) -> TrainedModel:
    """The networks of a work folder. Raises FileNotFoundError, ValueError as `load_trained`."""
    from songgen.train.flow import FlowSettings, load_flow
    from songgen.train.lm import LmSettings
    from songgen.train.tokens import TokensSettings, load_tokenizer
    from songgen.train.vae import VaeSettings, load_vae

    mixed, dual = (
        load_tokenizer(work, recipe.settings(f"tokens-{tracks}", TokensSettings))
        for tracks in ("mixed", "dual")
    )
    return TrainedModel(
        vae=load_vae(work, recipe.settings("vae", VaeSettings)),
        mixed=mixed,
        dual=dual,
        codec=load_flow(work, recipe.settings("flow", FlowSettings)),
        lelm=_trained_lelm(work, recipe.settings("lm-dual", LmSettings)),
        text=work / TEXT_FOLDER,
    )


def _trained_lelm(work: Path, settings: LmSettings) -> LeLM:
    """The language model as `lm-dual` left it, with the sizes that its own config.yaml tells."""
    from songgen.train.lm import DUAL, LmModule

    if not (work / TEXT_FOLDER / "config.yaml").is_file():
        raise FileNotFoundError(f"{work / TEXT_FOLDER}: no config.yaml; train the language model first")
    config, conditioner = load_text(work / TEXT_FOLDER)
    if (config.width, config.num_layers) != (settings.sizes.width, settings.sizes.num_layers):
        raise ValueError(f"{work / TEXT_FOLDER}: written for another recipe; train the language model again")
    rows = {"lyric_rows": conditioner.lyrics.num_rows, "description_rows": conditioner.descriptions.num_rows}
    module = LmModule(LeLM(config, **rows))
    load_trained(module, work / DUAL)
    return module.lelm


def write_checkpoint(
    model: TrainedModel, out: Path, settings: ExportSettings, library: Mapping[str, Tensor]
) -> dict[str, int]:
    """Write a checkpoint; arguments, result and errors as of `export`."""
    if out.exists() and not is_checkpoint(out) and any(out.iterdir()):
        raise ValueError(f"{out} holds something else than a checkpoint; name a new folder for the model")
    draft = out.with_name(f".{out.name}-draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _write(model, draft, settings, library)
        sizes = {
            path.relative_to(draft).as_posix(): path.stat().st_size
            for path in sorted(draft.rglob("*"))
            if path.is_file()
        }
        _check_size(sizes, settings)
        loaded = load(draft, device="cpu", max_seconds=1.0, threads=torch.get_num_threads())
        loaded.parts.prompt_networks.get()
        shutil.rmtree(out, ignore_errors=True)
        draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for name, size in sizes.items():
        logger.info("%9.3f MB  %s", size / 1e6, name)
    logger.info("%9.3f MB  %s", sum(sizes.values()) / 1e6, out)
    return sizes


def _write(
    model: TrainedModel, folder: Path, settings: ExportSettings, library: Mapping[str, Tensor]
) -> None:
    write_text(folder / "README.md", README)
    write_text(folder / "config.yaml", config_text(model, settings))
    for name in ("conf", TOKENIZER_FOLDER):
        shutil.copytree(model.text / name, folder / name)
    write_text(folder / VAE_JSON, json.dumps(vae_description(model.vae.config), indent=1))
    for name, tensors in weight_files(model, has_encoders=settings.has_encoders).items():
        finds_tokens = name == MIXED_FILE or settings.has_encoders
        is_half = _is_half if finds_tokens else lambda name: False
        packed = pack(tensors, settings.weights, is_exact=_is_exact, is_half=is_half)
        save({key: tensor.detach().cpu().clone() for key, tensor in packed.items()}, folder / name)
    if library:
        save(dict(library), folder / SAFE_PROMPT_LIBRARY)


def weight_files(model: TrainedModel, *, has_encoders: bool) -> dict[str, dict[str, Tensor]]:
    """The tensors of each weight file, under published names.

    The codec is the flow network with the codebooks that it was trained with, and the encode half of the dual
    tokenizer where that is wanted.
    """
    vae = model.vae.state_dict()
    if not has_encoders:
        vae = {name: tensor for name, tensor in vae.items() if not name.startswith(VAE_ENCODER)}
    encode_half = {
        name: tensor
        for name, tensor in model.dual.state_dict().items()
        if has_encoders and (name.startswith(ENCODER_PREFIX) or name == "rsq48tobestrq.kernel")
    }
    return {
        LM_FILE: {LM_PREFIX + name: tensor for name, tensor in model.lelm.state_dict().items()},
        MIXED_FILE: dict(model.mixed.state_dict()),
        DUAL_FILE: encode_half | dict(model.codec.state_dict()),
        VAE_FILE: dict(vae),
    }


def config_text(model: TrainedModel, settings: ExportSettings) -> str:
    """The config.yaml that the language model was trained with, with the files and own keys of the export."""
    source = model.text / "config.yaml"
    published, mark, _ = source.read_text("utf-8").partition(f"\n{SECTION}:\n")
    if not mark:
        raise ValueError(f"{source}: no section {SECTION}; is this the config.yaml of `songgen train lm`?")
    published = re.sub(r"(?m)^vae_config: .*$", f"vae_config: ./{VAE_JSON}", published)
    published = re.sub(r"(?m)^vae_model: .*$", f"vae_model: ./{VAE_FILE}", published)
    own = {
        "estimator_heads": model.codec.config.num_heads,
        "solver": {"steps": model.codec.config.steps, "guidance": model.codec.config.guidance},
        "lyric_text": "phonemes",
        "separator": False,
        "fill_windows": settings.fill_windows,
        "languages": ["en"],
        "sampling": dict(settings.sampling),
    }
    return f"{published}\n" + yaml.safe_dump({SECTION: own}, sort_keys=False, default_flow_style=None)


def _check_size(sizes: Mapping[str, int], settings: ExportSettings) -> None:
    total = sum(sizes.values()) / 1e6
    if total <= settings.most_megabytes:
        return
    largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:4]
    listed = ", ".join(f"{name} {sizes[name] / 1e6:.1f}" for name in largest)
    raise ValueError(
        f"the checkpoint would be {total:.1f} MB, more than export.most_megabytes="
        f"{settings.most_megabytes:g} ({listed}); take weights=int8, has_encoders=false or smaller networks"
    )


def _is_exact(name: str) -> bool:
    return EXACT.fullmatch(name) is not None


def _is_half(name: str) -> bool:
    return HALF.fullmatch(name) is not None
