"""`songgen generate --multirun`: a run for each combination of values, by Hydra's sweeper and launchers.

songgen generate --multirun model=tiny input=songs.jsonl output.dir=out sampling.temperature=0.7,0.9 seed=1,2

Each run is `songgen generate` with its values in `<output.dir>/<key=value,...>`, which gets its configuration
as `config.yaml`; so the same command again goes on where it stopped. Values are read by Hydra's grammar here:
a comma parts values, and what holds a comma, `=`, a blank or a bracket is put in quotes. `hydra/launcher=...`
and `hydra.launcher....` choose where the runs run. Hydra itself sweeps over the names of the folders only.
"""

from __future__ import annotations

import gc
import hashlib
import re
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from songgen.commands.songs import ALL_MADE, CANNOT_START, SOME_FAILED
from songgen.config import generate_config
from songgen.config_keys import ConfigError
from songgen.config_tree import config_folder, resolved
from songgen.files import write_together

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

CONFIG_FILE = "config.yaml"
HYDRA_WORD = re.compile(r"[+~]*hydra[./]")
NOT_OF_A_WORD = re.compile(r"[^\w.+-]+")
MAX_FOLDER_BYTES = 200
IN_WORDS = {
    ALL_MADE: "all songs are there",
    SOME_FAILED: "some songs failed",
    CANNOT_START: "could not start",
}
PLUGINS = {"submitit": "pip install 'songgen[slurm]'", "ray": "pip install hydra-ray-launcher"}
"""What brings a launcher whose name begins so."""


def sweep(words: Sequence[str]) -> int:
    """Run the combinations of some settings. Returns 0 if all songs are there, 2 if no run could start, or 1.

    Args:
        words: settings in Hydra's grammar, those of Hydra itself among them.

    Raises:
        ConfigError: a setting, of any combination, is wrong, or none has several values.
    """
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException

    overrides = _parsed([word for word in words if not HYDRA_WORD.match(word)])
    swept = [_key(override) for override in overrides if override.is_sweep_override()]
    root = _root(overrides, swept)
    points = _points(overrides, swept, root)
    for point in points.values():
        generate_config(point)
    quiet = [
        f"hydra.sweep.dir={quoted(str(root))}",
        "hydra.sweep.subdir=.",
        "hydra.output_subdir=null",
        "hydra/hydra_logging=disabled",
        "hydra/job_logging=disabled",
    ]
    given = [word for word in words if HYDRA_WORD.match(word)]
    runs = f"+run={','.join(quoted(folder) for folder in points)}"
    print(f"Sweep: {len(points)} runs, in {root}", file=sys.stderr)
    try:
        with initialize_config_dir(config_dir=str(config_folder()), job_name="songgen", version_base=None):
            hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        batches = hydra.multirun(None, partial(run_point, root, points), [runs, *quiet, *given], False)
    except HydraException as error:
        raise ConfigError(_explained(error, given)) from error
    return _summary(root, points, [int(job.return_value) for batch in batches for job in batch])


def run_point(root: Path, points: Mapping[str, Sequence[str]], config: Any) -> int:
    """Make the songs of one combination; called by a launcher, in this process or on another machine.

    Args:
        root: the folder of the sweep.
        points: the folder of each combination to its settings.
        config: Hydra's configuration of the run, whose `run` is the folder.

    Returns:
        The exit status of `songgen generate`.
    """
    import torch

    from songgen.cli import INTERRUPTED, main

    words = points[config.run]
    text = yaml.safe_dump(resolved("generate", words), sort_keys=False, allow_unicode=True)
    write_together({root / config.run / CONFIG_FILE: text.encode()})
    print(f"Run: {config.run}", file=sys.stderr)
    status = main(["generate", *words])
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    gc.collect()  # the model of this run must not stand in the way of the next run's
    torch.cuda.empty_cache()
    return status


def folder_name(values: Mapping[str, str], swept: Sequence[str]) -> str:
    """The folder of a combination: `key=value,...` of what is swept, with `_` for what is not of a word."""
    name = ",".join(f"{key}={NOT_OF_A_WORD.sub('_', values[key])}" for key in swept)
    if len(name.encode()) <= MAX_FOLDER_BYTES:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return name.encode()[: MAX_FOLDER_BYTES - 9].decode(errors="ignore") + "-" + digest


def quoted(text: str) -> str:
    """A value as Hydra's grammar takes any text."""
    return "'" + text.replace("'", "\\'") + "'"


def _parsed(words: Sequence[str]) -> list[Override]:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parsed = []
    for word in words:
        key, separator, value = word.partition("=")
        if not separator or key.startswith("-"):
            raise ConfigError(
                f"{word}: settings are written key=value, without dashes; --multirun alone has them"
            )
        try:
            parsed.append(OverridesParser.create().parse_override(word))
        except HydraException as error:
            raise ConfigError(
                f"{word}: --multirun cannot read the value; text with a blank, comma, bracket or = is put "
                f'in quotes, in the shell as "{key}={quoted(value)}"'
            ) from error
    return parsed


def _root(overrides: Sequence[Override], swept: Sequence[str]) -> Path:
    if not swept:
        raise ConfigError("--multirun: no setting has several values, such as sampling.temperature=0.7,0.9")
    if "output.dir" in swept:
        raise ConfigError("output.dir cannot be swept: each run of a sweep gets its own folder in it")
    if len(set(swept)) < len(swept):
        raise ConfigError(f"--multirun: a setting is given twice: {', '.join(swept)}")
    given = _values([override for override in overrides if _key(override) == "output.dir"])
    values = resolved("generate", ["model=-", "input=-", *(f"{key}={value}" for key, value in given.items())])
    return Path(values["output"]["dir"]).absolute()


def _points(overrides: Sequence[Override], swept: Sequence[str], root: Path) -> dict[str, list[str]]:
    """The folder of every combination to its settings, as `songgen generate` takes them.

    Raises:
        ConfigError: two of them would have the same folder.
    """
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.errors import HydraException

    try:
        (combinations,) = BasicSweeper.split_arguments(list(overrides), None)
    except HydraException as error:
        raise ConfigError(f"--multirun: {error}") from error
    points: dict[str, list[str]] = {}
    for combination in combinations:
        values = _values(_parsed(combination))
        name = folder_name(values, swept)
        if name in points:
            raise ConfigError(
                f"--multirun: two runs would share the folder {name}: give values that differ more"
            )
        points[name] = [
            f"{key}={value}" for key, value in (values | {"output.dir": str(root / name)}).items()
        ]
    return points


def _values(overrides: Sequence[Override]) -> dict[str, str]:
    """Each setting's value as text, the last where it is given twice."""
    return {_key(override): _text(override.value()) for override in overrides}


def _key(override: Override) -> str:
    return str(override.get_key_element())


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    return str(getattr(value, "text", value))


def _explained(error: Exception, given: Sequence[str]) -> str:
    """What Hydra says, and what to install if a launcher is missing."""
    chosen = [word.partition("=")[2] for word in given if word.startswith("hydra/launcher=")]
    hints = [hint for name, hint in PLUGINS.items() for launcher in chosen if launcher.startswith(name)]
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    missing = f"; the launcher comes with {hints[0]}" if hints and "Could not find" in str(error) else ""
    return f"--multirun: {first}{missing}"


def _summary(root: Path, points: Mapping[str, object], statuses: Sequence[int]) -> int:
    print(f"Sweep: {root}")
    for folder, status in zip(points, statuses, strict=True):
        print(f"  {folder}: {IN_WORDS[status]}")
    if set(statuses) == {CANNOT_START}:
        return CANNOT_START
    return ALL_MADE if set(statuses) == {ALL_MADE} else SOME_FAILED
