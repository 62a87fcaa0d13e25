"""The catalogue of published models, and the road from a name or a folder to a loaded model.

The catalogue is data: one file a model in `configs/model`. Nothing here knows what is in a checkpoint; a name
only says which folder to look for, and where it could be fetched from.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from songgen.models.families import (
    BUILT_IN,
    family_of,
    inspect_checkpoint,
    load_checkpoint,
    make_built_in,
    needs_of_sizes,
)
from songgen.models.levo import locate as levo
from songgen.models.songbloom import locate as songbloom

if TYPE_CHECKING:  # they need torch: listing and fetching do not
    import torch

    from songgen.models.base import SongModel
    from songgen.models.inspection import Inspection
    from songgen.runtime.memory import Needs

logger = logging.getLogger(__name__)

CHECKPOINT_FILES = ("config.yaml", "model.pt", "model.safetensors")


@dataclass(frozen=True)
class CatalogEntry:
    """One published model, as its file in `configs/model` describes it.

    Args:
        name: the published name, also the folder's.
        aliases: shorter names.
        family, version: `levo` or `songbloom`; `v1` or `v2` of LeVo.
        runtime: whose shared files it needs beside its own: `configs/<runtime>/runtime.yaml`.
        repository: where it is fetched from, on the Hugging Face hub.
        max_seconds: longest song.
        languages: ISO 639-1 codes, as announced by the publisher.
        memory_gb, prompt_memory_gb: GPU memory of the published program, without and with prompt audio.
        parameters: of the language model.
        licence: one line for whoever fetches it.
        sizes: of the language model, under the names of config.yaml (`dim`, `num_layers`, ...).
        files: patterns of the files to fetch.
        needed: those patterns that must each be matched, where the family does not know better.
    """

    name: str
    repository: str
    licence: str
    family: str = "levo"
    version: str = ""
    runtime: str = ""
    aliases: tuple[str, ...] = ()
    max_seconds: float = 0.0
    languages: tuple[str, ...] = ()
    memory_gb: float = 0.0
    prompt_memory_gb: float = 0.0
    parameters: int = 0
    sizes: Mapping[str, float] = field(default_factory=dict)
    files: tuple[str, ...] = CHECKPOINT_FILES
    needed: tuple[str, ...] = ()


@cache
def entries() -> tuple[CatalogEntry, ...]:
    """Every published model, by family and version, the smallest first."""
    folder = resources.files("songgen") / "configs" / "model"
    found = [
        _entry(yaml.safe_load(item.read_text(encoding="utf-8")))
        for item in folder.iterdir()
        if item.name.endswith(".yaml") and item.name != "not_supported.yaml"
    ]
    return tuple(
        sorted(
            found,
            key=lambda entry: (
                entry.family,
                entry.version,
                entry.parameters,
                entry.max_seconds,
                entry.name,
            ),
        )
    )


@cache
def not_supported() -> Mapping[str, str]:
    """Names that songgen knows of and of which there is nothing to fetch, each with the reason."""
    text = (resources.files("songgen") / "configs" / "model" / "not_supported.yaml").read_text(
        encoding="utf-8"
    )
    return dict(yaml.safe_load(text)["not_supported"])


@cache
def runtime_entries() -> Mapping[str, CatalogEntry]:
    """The files that all checkpoints of a family share, by family; they have a folder of their own."""
    folder = resources.files("songgen") / "configs"
    found = sorted(item.name for item in folder.iterdir() if (item / "runtime.yaml").is_file())
    return {
        name: _entry(yaml.safe_load((folder / name / "runtime.yaml").read_text(encoding="utf-8")))
        for name in found
    }


def find_entry(name: str) -> CatalogEntry | None:
    """The entry of a name, alias or repository; case, `-` and `_` are forgiven. None if there is none."""
    wanted = _plain(name)
    for entry in entries():
        if wanted in {_plain(known) for known in (entry.name, entry.repository, *entry.aliases)}:
            return entry
    return None


def holds_files(entry: CatalogEntry, folder: Path) -> bool:
    """Whether a folder holds what an entry needs to be loaded; the files are not opened."""
    if entry.family == "songbloom" and entry.runtime:
        return songbloom.holds_model(folder, entry.name)
    if entry.family == "levo" and not entry.needed:
        return levo.is_checkpoint(folder)
    return bool(entry.needed) and all(any(folder.glob(pattern)) for pattern in entry.needed)


def folder_of(entry: CatalogEntry, *, runtime_dir: Path | None = None) -> Path | None:
    """Where a published model is on this disk; None if it is in none of its places.

    A folder; or of SongBloom, whose models may lie side by side in a folder of any name, the model's yaml.
    """
    places = list(model_places(entry, runtime_dir=runtime_dir))
    if entry.family == "songbloom":
        places += [root.absolute() for root in _roots(runtime_dir)]
        return next((place / f"{entry.name}.yaml" for place in places if holds_files(entry, place)), None)
    return next((place for place in places if holds_files(entry, place)), None)


def explain_unknown(name: str) -> str:
    """One or two lines on a name that the catalogue does not run: why, or what there is instead."""
    for known, reason in not_supported().items():
        if _plain(known).removeprefix("songgeneration_") == _plain(name).removeprefix("songgeneration_"):
            return f"model {name!r} cannot be run: {known} is {reason}"
    short = [entry.aliases[0] if entry.aliases else entry.name for entry in entries()]
    near = difflib.get_close_matches(_plain(name), [_plain(known) for known in (*BUILT_IN, *short)], n=1)
    hint = f"; did you mean {near[0].replace('_', '-')}?" if near else ""
    return (
        f"model {name!r} is neither a folder nor a name of the catalogue{hint}\n"
        f"The catalogue has: {', '.join((*BUILT_IN, *short))}"
    )


def model_places(entry: CatalogEntry, *, runtime_dir: Path | None = None) -> tuple[Path, ...]:
    """The folders in which a published model is looked for, first to last."""
    names = (entry.name, entry.repository.rpartition("/")[2])
    return tuple(dict.fromkeys((root / name).absolute() for root in _roots(runtime_dir) for name in names))


def _roots(runtime_dir: Path | None) -> list[Path]:
    """The folders whose folders are looked at."""
    roots = [Path(), Path("ckpt"), Path("models")]
    if runtime_dir is not None:
        roots += [Path(runtime_dir), Path(runtime_dir) / "ckpt", Path(runtime_dir).parent]
    return roots


def find_folder(name_or_path: str | Path, *, runtime_dir: Path | None = None) -> Path:
    """Find the folder, or of SongBloom the yaml, of a path or a published name; not of a built-in model.

    A folder that exists wins over a name, unless it is no checkpoint and the name is in the catalogue.

    Raises:
        FileNotFoundError: it is not on this disk; lists where it was looked for, and how to fetch it.
        ValueError: it is neither a folder nor a name that songgen can run.
    """
    path = Path(name_or_path).expanduser()
    entry = find_entry(str(name_or_path).rstrip("/"))
    if family_of(path) is not None or (path.exists() and entry is None):
        return path.absolute()
    if entry is not None:
        found = folder_of(entry, runtime_dir=runtime_dir)
        if found is not None:
            return found
        looked = "".join(f"\n  {place}" for place in model_places(entry, runtime_dir=runtime_dir))
        raise FileNotFoundError(
            f"{entry.name} is not on this disk; it was looked for in{looked}\n"
            f"Get it with `songgen fetch {entry.name}`"
        )
    if len(path.parts) > 1 or path.is_absolute():
        raise FileNotFoundError(f"{path}: no such folder")
    raise ValueError(explain_unknown(str(name_or_path)))


def load_model(
    name_or_path: str | Path,
    *,
    runtime_dir: Path | None = None,
    checkpoint: Path | None = None,
    lora_alpha: float | None = None,
    lora_rank: int | None = None,
    lora_targets: str | None = None,
    announce: Callable[[str], None] = lambda summary: None,
    **options: Any,
) -> SongModel:
    """Load a model by name (`nano`, `base`, `songgeneration_v2_large`, ...) or from a checkpoint's folder.

    Args:
        name_or_path: case, `-` and `_` of names are forgiven, and a trailing slash.
        runtime_dir: folder of the shared runtime files (`ckpt/`, `third_party/`), searched first.
        checkpoint: fine-tuned weights in the place of the published ones, SongBloom only.
        lora_alpha, lora_rank, lora_targets: of low-rank adapters in it (`songbloom/lora.py`); targets are
            separated by commas.
        announce: told the model's `summary`, with the memory plan, before any weights are read.
        options: fields of `songgen.models.base.RunSettings`: device, dtype, memory, batch, ...

    Raises:
        FileNotFoundError: a file is missing; says where it was looked for and how to get it.
        ValueError: an unknown name, or a setting that this machine or model cannot take.
    """
    folder = built_in_folder(name_or_path)
    if folder is None:
        folder = find_folder(name_or_path, runtime_dir=runtime_dir)
    elif runtime_dir is not None:
        logger.warning("runtime_dir=%s has no effect: %s has files of its own", runtime_dir, folder.name)
        runtime_dir = None
    options |= {"runtime_dir": runtime_dir, "announce": announce}
    lora = {"alpha": lora_alpha, "rank": lora_rank, "targets": lora_targets}
    model = load_checkpoint(folder, checkpoint, lora, **options)
    _check_name(folder, model)
    return model


def inspect_model(
    name_or_path: str | Path,
    *,
    runtime_dir: Path | None = None,
    device: torch.device,
    dtype: torch.dtype,
    memory: str = "auto",
    batch: int | None = None,
    free: int,
) -> Inspection:
    """Look at a model without loading it: are its files there and whole, and would it fit.

    Args:
        name_or_path, runtime_dir, memory, batch: as of `load_model`.
        device, dtype: as chosen.
        free: bytes that the device has.

    Raises:
        FileNotFoundError: it is not on this disk; says where it was looked for and how to get it.
        ValueError: an unknown name, or one that songgen cannot run.
    """
    folder = built_in_folder(name_or_path)
    if folder is None:
        folder = find_folder(name_or_path, runtime_dir=runtime_dir)
    return inspect_checkpoint(
        folder, runtime_dir=runtime_dir, device=device, dtype=dtype, memory=memory, batch=batch, free=free
    )


def needs_of(entry: CatalogEntry, dtype: torch.dtype, device: torch.device) -> Needs | None:
    """The memory that a published model will need, by the catalogue alone; None if that cannot be told."""
    if not entry.sizes:
        return None
    return needs_of_sizes(entry.family, entry.sizes, entry.max_seconds, dtype=dtype, device=device)


def built_in_folder(name_or_path: str | Path) -> Path | None:
    """The folder of a built-in model, made if it is not there; None for any other name.

    Raises:
        FileNotFoundError: its weights are not in this copy of songgen.
    """
    found = next((name for name in BUILT_IN if _plain(str(name_or_path)) == _plain(name)), None)
    return None if found is None else make_built_in(found)


def _check_name(folder: Path, model: SongModel) -> None:
    """Say so if a checkpoint's folder has the name of another version; the tensors decide, not the name."""
    entry = find_entry(folder.name)
    if entry is None or entry.family != "levo":
        return
    version = model.text_rules.version
    if entry.version != version:
        logger.warning(
            "%s is called after a %s model, but its tensors are those of %s; it is run as %s",
            folder,
            entry.version,
            version,
            version,
        )


def _entry(tree: Mapping[str, Any]) -> CatalogEntry:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in tree.items()
    }
    return CatalogEntry(**values)


def _plain(name: str) -> str:
    return name.strip().rstrip("/").lower().replace("-", "_")
