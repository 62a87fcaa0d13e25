"""What the built-in models of all families share: their cache on disk, and small random parts of them."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from songgen.models.separation import PUBLISHED_OPTIONS, build_network
from songgen.nn.oobleck import OobleckConfig, OobleckVAE

LOUDNESS = 0.1
"""Standard deviation of the audio that random latents decode to."""

SEPARATOR_OPTIONS = {
    "channels": 4,
    "dconv_comp": 4,
    "bottom_channels": 16,
    "t_heads": 2,
    "t_layers": 3,
    "t_hidden_scale": 2.0,
}


def ensure_built_in(
    name: str, write: Callable[[Path], None], sources: Sequence[str], cache_dir: Path | None = None
) -> Path:
    """The folder of a built-in checkpoint, made if it is not there (a second or two).

    Args:
        name: of the model and of its folder.
        write: writes the checkpoint below a folder.
        sources: Python files whose content decides what is written.
        cache_dir: where built-in models are kept; `~/.cache/songgen` unless told.
    """
    cache_dir = Path.home() / ".cache" / "songgen" if cache_dir is None else cache_dir
    recipe = hashlib.sha256(b"".join(Path(file).read_bytes() for file in (*sources, __file__))).hexdigest()[
        :12
    ]
    home = cache_dir / (f"{name}-{recipe}" + ("" if has_separator() else "-without-separator"))
    if not (home / name).is_dir():
        cache_dir.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache_dir))
        try:
            write(draft / name)
            os.replace(draft, home)
        except OSError:
            if not (home / name).is_dir():  # else another process was faster
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return home / name


def write_text(path: Path, text: str) -> None:
    """Write a text file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def randomise_(module: nn.Module, scale: Callable[[str], float]) -> None:
    """Normal weights of deviation scale / sqrt(inputs), norm weights 1, biases 0."""
    for name, parameter in module.named_parameters():
        if parameter.ndim >= 2:
            nn.init.normal_(parameter, std=scale(name) / parameter[0].numel() ** 0.5)
        elif "norm" in name or ".ln_" in name:
            nn.init.constant_(parameter, 0.0 if name.endswith("bias") else 1.0)


def has_separator() -> bool:
    """Whether the package with the separator's network is installed, so that a tiny one can be made."""
    return all(importlib.util.find_spec(name) is not None for name in ("demucs", "julius"))


def write_separator(folder: Path) -> None:
    """A small separator as plain weights, and its options."""
    network = build_network({**PUBLISHED_OPTIONS, **SEPARATOR_OPTIONS})
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), folder / "htdemucs.pth")
    write_text(
        folder / "htdemucs.yaml", "".join(f"{key}: {value}\n" for key, value in SEPARATOR_OPTIONS.items())
    )


def write_vae(config: OobleckConfig, description: Path, weights: Path) -> None:
    """A VAE of some size in its published pickle, and its description."""
    vae = OobleckVAE(config)
    last = vae.decoder.layers[-1]
    spread = vae.decode(torch.randn(1, config.latent_dim, 100)).std()
    assert isinstance(last.weight_g, Tensor)
    last.weight_g.mul_(LOUDNESS / spread)
    write_text(description, json.dumps(vae_description(config), indent=1))
    torch.save({"state_dict": vae.state_dict()}, weights)


def vae_description(config: OobleckConfig) -> dict[str, Any]:
    """The published description of a VAE, as its json file holds it; see `OobleckConfig.from_json_dict`."""
    half = {
        "channels": config.channels,
        "c_mults": list(config.c_mults),
        "strides": list(config.strides),
        "use_snake": True,
    }
    encoder = half | {"in_channels": config.audio_channels, "latent_dim": 2 * config.latent_dim}
    decoder = half | {
        "out_channels": config.audio_channels,
        "latent_dim": config.latent_dim,
        "final_tanh": False,
    }
    return {
        "model_type": "autoencoder",
        "sample_rate": config.sample_rate,
        "audio_channels": config.audio_channels,
        "model": {
            "encoder": {"type": "oobleck", "config": encoder},
            "decoder": {"type": "oobleck", "config": decoder},
            "bottleneck": {"type": "vae"},
            "latent_dim": config.latent_dim,
            "downsampling_ratio": config.hop,
            "io_channels": config.audio_channels,
        },
    }


def save(tensors: dict[str, Tensor], path: Path) -> None:
    """Write a safetensors file, its folder too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
