"""Where a SongBloom model's files are looked for.

The hub's files lie side by side in one folder: `<name>.yaml`, `<name>.pt` (or `.safetensors`), of several
models if one likes, and what they share: VAE, its description, vocabulary. The shared ones may also lie
elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from songgen.models.runtime_files import find_shared, places_of, require_content

WEIGHT_SUFFIXES = (".safetensors", ".pt")
"""In the order of preference."""

SHARED_FOLDER = "songbloom_runtime"
"""Name of the folder that shared files are fetched to."""

FETCH_RUNTIME = "songgen fetch songbloom_runtime"

MARK = "diff_layers:"
"""A key that only a SongBloom model's yaml has."""


@dataclass(frozen=True)
class ModelFiles:
    """The files of one model; `weights` is None where only the yaml is there.

    Args:
        config: the yaml; its name is the model's.
        runtime_dir: the folder that the user names, searched first for shared files.
    """

    config: Path
    weights: Path | None
    runtime_dir: Path | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.stem

    @property
    def places(self) -> tuple[Path, ...]:
        """The folders in which shared files are looked for."""
        return places_of(self.config.parent, SHARED_FOLDER, self.runtime_dir)

    def find(self, relative: str) -> Path:
        """A shared file. Raises FileNotFoundError that lists the places and the way to get it."""
        return find_shared(relative, self.places, fetch=FETCH_RUNTIME, runtime_dir=self.runtime_dir)


def is_checkpoint(path: Path) -> bool:
    """Whether a path is a SongBloom model: its yaml, its weights beside the yaml, or a folder with a yaml."""
    return bool(_configs(path))


def holds_model(folder: Path, name: str) -> bool:
    """Whether a folder holds a model's yaml and weights; the files are not opened."""
    has_weights = any((folder / (name + suffix)).is_file() for suffix in WEIGHT_SUFFIXES)
    return has_weights and (folder / f"{name}.yaml").is_file()


def find_model(path: Path, *, runtime_dir: Path | None = None) -> ModelFiles:
    """The files of the model that a path means: a folder, the yaml, the weights, or both without suffix.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: the folder holds several, or a file is only a Git-LFS pointer.
    """
    configs = _configs(path)
    if not configs:
        raise FileNotFoundError(f"{path}: no SongBloom model: no <name>.yaml with <name>.pt beside it")
    named = [config for config in configs if config.stem == path.name]
    if len(configs) > 1 and not named:
        names = ", ".join(str(config) for config in configs)
        raise ValueError(f"{path} holds several models; name one of {names}")
    config = (named or configs)[0]
    beside = (config.with_suffix(suffix) for suffix in WEIGHT_SUFFIXES)
    weights = next((file for file in beside if file.is_file()), None)
    for file in (config, weights):
        if file is not None:
            require_content(file)
    return ModelFiles(config.absolute(), weights and weights.absolute(), runtime_dir)


def _configs(path: Path) -> list[Path]:
    """The yaml files of SongBloom models that a path can mean, sorted by name."""
    if path.is_dir():
        found = sorted(path.glob("*.yaml"))
    else:
        plain = path.suffix in (".yaml", *WEIGHT_SUFFIXES)
        found = [path.with_suffix(".yaml") if plain else path.with_name(path.name + ".yaml")]
    return [file for file in found if file.is_file() and _is_config(file)]


def _is_config(file: Path) -> bool:
    try:
        return MARK in file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
