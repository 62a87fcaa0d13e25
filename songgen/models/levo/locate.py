"""Where a LeVo checkpoint's files are looked for, and what is said when one is not there.

A checkpoint is a folder with the published config.yaml and its weights. The files that all checkpoints share
(codec, VAE, tokenizer, separator, prompt library) lie in the published layout below some runtime folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from songgen.models.runtime_files import find_shared, places_of, require_content

CONFIG_NAME = "config.yaml"

WEIGHT_NAMES = ("model.safetensors", "model.pt")
"""In the order of preference."""

FAST_WEIGHTS = "conditioners_weights.pth"
"""The file by which the fast variant's folder of weights is known."""

FETCH_RUNTIME = "songgen fetch runtime"

SHARED_FOLDER = "runtime"
"""Name of the folder that shared files are fetched to."""


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one checkpoint: its folder, config.yaml, and the language model's weights.

    Of the fast variant the weights are a folder that config.yaml names; then `weights` is None.
    """

    folder: Path
    config: Path
    weights: Path | None


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder holds a config.yaml and language model weights."""
    has_weights = any((folder / name).is_file() for name in WEIGHT_NAMES) or _is_fast(folder)
    return (folder / CONFIG_NAME).is_file() and has_weights


def _is_fast(folder: Path) -> bool:
    """Whether a folder, or one in it, holds the weights of the fast variant."""
    return any(True for pattern in ("", "*/", "*/*/") for _ in folder.glob(pattern + FAST_WEIGHTS))


def find_checkpoint(folder: Path) -> CheckpointFiles:
    """Find config.yaml and weights in a checkpoint's folder.

    Raises:
        FileNotFoundError: no such folder, or a file is missing in it.
        ValueError: a file is only a Git-LFS pointer.
    """
    folder = Path(folder)
    if folder.is_file():
        raise FileNotFoundError(
            f"{folder} is a file; name the folder that holds {CONFIG_NAME} and the weights"
        )
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    config = folder / CONFIG_NAME
    weights = next((folder / name for name in WEIGHT_NAMES if (folder / name).is_file()), None)
    if (weights is None and not _is_fast(folder)) or not config.is_file():
        missing = CONFIG_NAME if weights else " or ".join(WEIGHT_NAMES)
        there = ", ".join(sorted(item.name for item in folder.iterdir())[:20]) or "nothing"
        raise FileNotFoundError(f"{folder} is no checkpoint: no {missing} in it (it holds {there})")
    for path in (config, weights):
        if path is not None:
            require_content(path)
    return CheckpointFiles(folder, config, weights)


def runtime_places(*, checkpoint: Path, runtime_dir: Path | None = None) -> tuple[Path, ...]:
    """The folders in which runtime files are looked for, first to last, each once; arguments as below."""
    return places_of(checkpoint, SHARED_FOLDER, runtime_dir)


def find_runtime_file(relative: str, *, checkpoint: Path, runtime_dir: Path | None = None) -> Path:
    """Find a file or folder of the published runtime.

    Args:
        relative: path as config.yaml writes it, such as `./ckpt/vae/stable_audio_1920_vae.json` or
            `third_party/Qwen2-7B`; an absolute path is taken as it is.
        checkpoint: the checkpoint's folder.
        runtime_dir: the folder that the user names, searched first.

    Raises:
        FileNotFoundError: it is nowhere; lists where it was looked for and the command that fetches it.
        ValueError: what was found is only a Git-LFS pointer.
    """
    places = runtime_places(checkpoint=checkpoint, runtime_dir=runtime_dir)
    return find_shared(relative, places, fetch=FETCH_RUNTIME, runtime_dir=runtime_dir)
