"""The settings of a command as a flat table of checked values, from Hydra's files and `key=value` words.

Hydra's part is the files and the groups (`sampling=greedy` chooses `configs/sampling/greedy.yaml`). A
`key=value` is then set here and not by Hydra's override grammar, so that a file name may hold any character.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from songgen.config_keys import ConfigError, did_you_mean, keys_of, read_value

Command = Literal["generate", "render", "bench", "doctor", "evaluate", "ui"]
GROUPS = ("sampling", "engine")
REQUIRED = {
    "model": "model=tiny, a published name (see `songgen models`) or a checkpoint folder",
    "input": "input=FILE.jsonl",
}
OPTIONAL = {("doctor", "model"): "all that are found"}
"""Commands that can do without what others require, and what they do then."""


def resolved(command: Command, overrides: Sequence[str]) -> dict[str, Any]:
    """All settings of a command with some `key=value` in place, as a tree of plain values, for a YAML file.

    Raises:
        ConfigError: as `generate_config`.
    """
    tree: dict[str, Any] = {}
    for key, value in values_of(command, overrides).items():
        *groups, leaf = key.split(".")
        node = tree
        for group in groups:
            node = node.setdefault(group, {})
        node[leaf] = str(value) if isinstance(value, Path) else value
    return tree


def describe(command: Command) -> list[tuple[str, str, str]]:
    """Each setting of a command: key, default as text, and one line of explanation."""
    tree = tree_of(command, {})
    rows: list[tuple[str, str, str]] = []
    for key, setting in keys_of(command).items():
        if key not in tree:
            continue
        group, value = key.partition(".")[0], tree[key]
        if group in GROUPS and all(row[0] != group for row in rows):
            rows.append((group, _default_choice(group), f"named settings: {', '.join(choices_of(group))}"))
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        null = OPTIONAL.get((command, key), setting.null)
        rows.append((key, shown, setting.doc + (f"; null: {null}" if value is None else "")))
    return rows


def config_folder() -> Path:
    """The folder of the configuration files, of an installed songgen or of a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "generate.yaml").is_file():
            return folder
    raise FileNotFoundError(f"configs/generate.yaml is neither in {package} nor in {package.parent}")


def values_of(command: Command, overrides: Sequence[str]) -> dict[str, Any]:
    """All settings of a command by key, checked and complete."""
    given = dict(_split(override) for override in overrides)
    choices = {group: given.pop(group) for group in GROUPS if group in given}
    tree = tree_of(command, choices)
    for key in given:
        if key not in tree:
            raise ConfigError(_unknown(key, command, tree))
    values = {
        key: read_value(
            key,
            given.get(key, default),
            may_be_null=(command, key) != ("generate", "generate_type"),
            command=command,
        )
        for key, default in tree.items()
    }
    for key, example in REQUIRED.items():
        if key in values and values[key] is None and (command, key) not in OPTIONAL:
            raise ConfigError(f"{key} is not given: {example}")
    return values


def _split(override: str) -> tuple[str, str]:
    key, separator, value = override.partition("=")
    if key.startswith("-"):
        raise ConfigError(f"{override}: settings are written key=value, without dashes")
    if not separator:
        raise ConfigError(f"{override}: settings are written key=value")
    return key.strip(), value


def _unknown(key: str, command: Command, tree: Mapping[str, object]) -> str:
    inner = [name for name in tree if name.startswith(f"{key}.")]
    if inner:
        return f"{key} is a group of settings: {', '.join(inner)}"
    if key in keys_of(command):
        return f"{key} has no effect on `songgen {command}`, which knows: {', '.join(tree)}"
    near = did_you_mean(key, [*tree, *GROUPS])
    return f"{key} is not a setting of `songgen {command}`{near or ', which knows: ' + ', '.join(tree)}"


def tree_of(command: Command, choices: Mapping[str, str]) -> dict[str, object]:
    """The composed configuration as plain values by dotted key."""
    for group, choice in choices.items():
        allowed = choices_of(group)
        if command != "generate":
            raise ConfigError(f"{group} has no effect on `songgen {command}`")
        if choice not in allowed:
            raise ConfigError(
                f"{group}={choice}: must be one of {', '.join(allowed)}{did_you_mean(choice, allowed)}"
            )
    plain = _composed(command, choices)
    flat: dict[str, object] = {}
    for key, value in plain.items():
        if isinstance(value, dict):
            flat.update({f"{key!s}.{name!s}": item for name, item in value.items()})
        else:
            flat[str(key)] = value
    unknown = sorted(flat.keys() - keys_of(command).keys())
    assert not unknown, f"configs/{command}.yaml has unknown keys: {unknown}"
    return flat


def train_tree(recipe: str) -> dict[str, Any]:
    """The settings of `songgen train` with a file of `configs/recipe`, as a tree of plain values."""
    return _composed("train", {"recipe": recipe})


def _composed(name: str, choices: Mapping[str, str]) -> dict[str, Any]:
    """A file of `configs/` with the files of its groups."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(config_dir=str(config_folder()), version_base=None):
        composed = compose(name, overrides=[f"{group}={choice}" for group, choice in choices.items()])
        plain = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(plain, dict)
    return {str(key): value for key, value in plain.items()}


def choices_of(group: str) -> list[str]:
    """The named settings of a group: its files."""
    return sorted(file.stem for file in (config_folder() / group).glob("*.yaml"))


def _default_choice(group: str) -> str:
    import yaml

    tree = yaml.safe_load((config_folder() / "generate.yaml").read_text(encoding="utf-8"))
    return next(str(entry[group]) for entry in tree["defaults"] if isinstance(entry, dict) and group in entry)
