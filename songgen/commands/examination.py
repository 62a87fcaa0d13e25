"""The models as `songgen doctor` sees them: which are here and whole, what fits, and what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from songgen.commands.hub import readable_size
from songgen.commands.songs import run_line
from songgen.config import DoctorConfig
from songgen.models import catalog
from songgen.models.families import NANO, family_of, has_built_in
from songgen.models.inspection import FoundFile, Inspection
from songgen.nn.attention import backends
from songgen.runtime.device import choose_dtype
from songgen.runtime.memory import GB, USABLE, free_bytes, plan_memory

WELL_KNOWN = (Path(), Path("models"), Path("ckpt"))
"""Folders whose folders may be checkpoints under names of the user's own."""


@dataclass(frozen=True)
class Patient:
    """A model that was looked at: the word that a command names it by, and what was found."""

    name: str
    inspection: Inspection


class Examination:
    """Looks at models for one device; `config` is what the user set."""

    def __init__(self, config: DoctorConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.dtype = choose_dtype(config.dtype, device)
        self.free = free_bytes(device)

    def patients(self) -> tuple[list[Patient], list[str]]:
        """The named model, or all that are found on disk; and why the named one is not there."""
        if self.config.model is None:
            return [Patient(name, self._inspect(name)) for name in found_models(self.config.runtime_dir)], []
        try:
            return [Patient(self.config.model, self._inspect(self.config.model))], []
        except (FileNotFoundError, ValueError) as error:
            return [], [str(error)]

    def about_fit(self) -> list[str]:
        """One line a published model: the memory that it will need here, and whether there is so much."""
        lines = [f"  {self.free / GB:.1f} GB free, of which a run plans with {USABLE:.0%}"]
        for entry in catalog.entries():
            needs = catalog.needs_of(entry, self.dtype, self.device)
            if needs is None:
                lines.append(f"  {entry.name.ljust(26)}memory not known")
                continue
            sizes = f"full {needs.full(1) / GB:5.1f} GB, low {needs.low(1) / GB:5.1f} GB"
            lines.append(f"  {entry.name.ljust(26)}{sizes}: {self._fit_in_words(entry)}")
        return lines

    def lines(self, patients: Sequence[Patient], *, is_well: bool) -> list[str]:
        """What to type next: to make songs with what is there, or to get what is missing."""
        ready = [patient for patient in patients if not patient.inspection.faults]
        if ready and (is_well or not self.config.model):
            return [run_line(ready[-1].name) + self._settings()]
        if self.config.model:
            return [self._way_out(self.config.model, patients)]
        lines = [f"{run_line('tiny')}    (noise, not music: it proves the road)"]
        fitting = [entry for entry in catalog.entries() if self._verdict(entry, self.dtype)]
        largest = max(fitting, key=lambda entry: entry.parameters, default=None)
        return lines + ([f"songgen fetch {largest.name}    (the largest that fits)"] if largest else [])

    def _way_out(self, name: str, patients: Sequence[Patient]) -> str:
        """What to type when the named model cannot run: get its files, or find one that can."""
        entry = catalog.find_entry(name) or catalog.find_entry(Path(name).absolute().name)
        has_files = any(
            found.files and not found.lacks_files for found in (item.inspection for item in patients)
        )
        if entry is not None and not has_files:
            return f"songgen fetch {entry.name}"
        if patients and not has_files:
            return f"songgen fetch {catalog.runtime_entries()['levo'].name}    (if shared files are missing)"
        return "songgen doctor    (what fits here, and what is on disk)"

    def _fit_in_words(self, entry: catalog.CatalogEntry) -> str:
        found = self._verdict(entry, self.dtype)
        if found is not None:
            return f"fits with {found}"
        smaller = self._verdict(entry, torch.bfloat16) if self.dtype == torch.float32 else None
        return f"fits with dtype=bf16 {smaller}" if smaller else "does not fit"

    def _inspect(self, name: str) -> Inspection:
        return catalog.inspect_model(
            name,
            runtime_dir=self.config.runtime_dir,
            device=self.device,
            dtype=self.dtype,
            memory=self.config.memory,
            batch=self.config.batch,
            free=self.free,
        )

    def _verdict(self, entry: catalog.CatalogEntry, dtype: torch.dtype) -> str | None:
        """The settings with which a published model would run in a precision; None if it does not fit."""
        needs = catalog.needs_of(entry, dtype, self.device)
        if needs is None:
            return None
        batch = self.config.batch or 1
        try:
            plan = plan_memory(needs, mode=self.config.memory, batch=batch, free=self.free, largest_batch=1)
        except ValueError:
            return None
        return f"memory={plan.residency}"

    def _settings(self) -> str:
        """The settings that were given, as words of the next command."""
        names = ("runtime_dir", "device", "dtype", "memory", "batch", "attention")
        given = [(name, getattr(self.config, name)) for name in names]
        return "".join(
            f" {name}={shlex.quote(str(value))}" for name, value in given if value not in (None, "auto")
        )


def attention_problems(wanted: str, device: torch.device) -> list[str]:
    """Why the wanted attention backend cannot run; empty if it can, or if the choice is left open."""
    obstacle = None if wanted == "auto" else backends(device)[wanted]
    return [] if obstacle is None else [f"attention={wanted} cannot run on {device}: {obstacle}"]


def found_models(runtime_dir: Path | None) -> Iterator[str]:
    """Every model on this disk that songgen can run: the built-in one that sings, published names, then
    folders of other names."""
    seen = set()
    if has_built_in(NANO):
        yield NANO
    for entry in catalog.entries():
        folder = catalog.folder_of(entry, runtime_dir=runtime_dir)
        if folder is None:  # begun and not complete: say what is missing
            places = catalog.model_places(entry, runtime_dir=runtime_dir)
            folder = next((place for place in places if place.is_dir()), None)
        if folder is not None:
            seen.add((folder if folder.is_dir() else folder.parent).resolve())
            yield _shown(folder)
    for root in WELL_KNOWN:
        for folder in sorted(item for item in root.glob("*") if item.is_dir()):
            if folder.resolve() not in seen and family_of(folder) is not None:
                seen.add(folder.resolve())
                yield _shown(folder)


def about(patient: Patient) -> list[str]:
    """A model's files in a few lines: what is wrong with each, and how it would run."""
    found = patient.inspection
    lines = [f"  {patient.name} ({readable_size(found.size)} in {found.folder})"]
    for file in found.files:
        if file.fault:
            lost = f"; without it no {file.only_for}" if file.only_for else ""
            lines.append(f"    {file.path or file.name}: {file.fault}{lost}")
    lines += [f"    {line}" for problem in found.problems for line in problem.split("\n")]
    if found.plan is not None:
        lines.append(f"    {_whole(found.files)}; {found.plan.sentence()}")
    return lines


def _whole(files: Sequence[FoundFile]) -> str:
    whole = sum(not file.fault for file in files)
    return f"{whole} of {len(files)} files are there and whole"


def _shown(folder: Path) -> str:
    """A folder as a user would type it."""
    here = Path.cwd()
    return (
        str(folder.relative_to(here)) if folder.is_absolute() and folder.is_relative_to(here) else str(folder)
    )


def name_of(dtype: torch.dtype) -> str:
    """As PyTorch calls it: `float32`."""
    return str(dtype).removeprefix("torch.")
