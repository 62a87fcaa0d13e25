"""From files to modules: the published weights, fine-tuned ones in their place, and the VAE.

A `.pt` holds the networks under `model.` and, from some releases on, the VAE under `vae.vae.`; the VAE's own
file is read where it does not. A fine-tuned checkpoint (Lightning, with or without adapters) takes the place
of the `.pt`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from songgen.models.songbloom.config import FRAME_RATE, SongBloomConfig
from songgen.models.songbloom.lora import LoraOptions, fold_adapters, has_adapters
from songgen.models.songbloom.network import SongBloomNetwork
from songgen.nn.llama import fuse_projections_
from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.nn.weight_norm import fuse_weight_norm_
from songgen.runtime.checkpoint import build, load_strictly, read_tensors

MODEL, VAE = "model.", "vae.vae."
DUPLICATE = "model.condition_provider.conditioners.prompt_wav.tokenizer."
"""As published: older code kept another copy of the VAE here. Newer releases lack it."""


@dataclass(frozen=True)
class WeightFiles:
    """Where a model's weights come from.

    Args:
        published: the `.pt` or `.safetensors` beside the yaml, None if it is not there.
        fine_tuned: a checkpoint that takes its place, or None.
        vae: the VAE's own file.
        needs_adapters: whether a file without low-rank adapters is refused.
    """

    published: Path | None
    fine_tuned: Path | None
    vae: Path
    lora: LoraOptions = field(default_factory=LoraOptions)
    needs_adapters: bool = False

    @property
    def source(self) -> Path:
        """The file that the networks are loaded from."""
        source = self.fine_tuned or self.published
        assert source is not None, "one of the two is there"
        return source

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files that decide a song."""
        return tuple(path for path in (self.published, self.fine_tuned, self.vae) if path is not None)

    def read(self) -> dict[str, Tensor]:
        """The tensors of the networks under their published names, adapters folded in.

        Raises:
            FileNotFoundError, ValueError: a file is missing, cannot be read, or is no such checkpoint.
        """
        tensors = read_tensors(self.source, prefix=MODEL)
        if not tensors:
            raise ValueError(f"{self.source}: no tensors named {MODEL}*; is this a SongBloom checkpoint?")
        if not has_adapters(tensors):
            if self.needs_adapters:
                raise ValueError(f"{self.source}: lora settings are given, but it holds no adapters")
            return tensors
        needs_base = self.fine_tuned is not None and not any(
            name.endswith(".base.weight") for name in tensors
        )
        base = read_tensors(self.published, prefix=MODEL) if needs_base and self.published is not None else {}
        try:
            return base | fold_adapters(tensors, self.lora, base)
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from None


def is_unused(name: str) -> bool:
    """Of a checkpoint's `model.` tensors: whether inference does not use it."""
    return name.startswith(DUPLICATE.removeprefix(MODEL))


def build_network(
    config: SongBloomConfig,
    tensors: Mapping[str, Tensor],
    *,
    source: Path | str,
    dtype: torch.dtype,
    device: torch.device,
) -> SongBloomNetwork:
    """The networks with their weights.

    Args:
        tensors: of the checkpoint; those under other prefixes than `model.` are left out.

    Raises:
        ValueError: tensors that do not fit.
    """
    network = build(lambda: SongBloomNetwork(config))
    own = {name[len(MODEL) :]: tensor for name, tensor in tensors.items() if name.startswith(MODEL)}
    load_strictly(network, own, source=source, is_unused=is_unused, dtype=dtype, device=device)
    fuse_projections_(network.ar_transformer)
    return network


def read_vae_config(path: Path, config: SongBloomConfig) -> OobleckConfig:
    """The VAE's description, checked against the model's.

    Raises:
        ValueError: it cannot be read, or is that of another model.
    """
    try:
        vae = OobleckConfig.from_json_dict(json.loads(path.read_text("utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    facts = {
        "latent_dim": (vae.latent_dim, config.latent_dim),
        "sample_rate": (vae.sample_rate, config.sample_rate),
        "downsampling_ratio": (vae.hop, config.sample_rate // FRAME_RATE),
        "audio_channels": (vae.audio_channels, 2),
    }
    for name, (value, wanted) in facts.items():
        if value != wanted:
            raise ValueError(f"{path}: {name} is {value}, and this model needs {wanted}")
    return vae


def load_vae(
    config: OobleckConfig,
    tensors: Mapping[str, Tensor],
    *,
    source: Path | str,
    device: torch.device,
    has_encoder: bool,
) -> OobleckVAE:
    """The VAE, or its decoder alone, in float32 with its weight norms fused.

    Args:
        tensors: of a `.pt` (under `vae.vae.`) or of the VAE's own file (without prefix).
    """
    vae = build(lambda: OobleckVAE(config, has_encoder=has_encoder))
    own = {name[len(VAE) :]: tensor for name, tensor in tensors.items() if name.startswith(VAE)}
    load_strictly(
        vae,
        own or tensors,
        source=source,
        is_unused=lambda name: not has_encoder and name.startswith("encoder."),
        dtype=torch.float32,
        device=device,
    )
    fuse_weight_norm_(vae)
    return vae


def read_vae_tensors(files: WeightFiles) -> tuple[dict[str, Tensor], Path]:
    """The VAE's tensors and the file that they come from: the checkpoint's own win, as published."""
    if files.fine_tuned or files.published:
        own = read_tensors(files.source, prefix=VAE)
        if own:
            return own, files.source
    return read_tensors(files.vae), files.vae
