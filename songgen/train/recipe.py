"""A recipe: the settings of all stages, as `configs/recipe/*.yaml` and `key=value` give them.

A section of the file is a stage; its keys are the fields of the stage's settings, and those below `loop` the
fields of `LoopSettings`. Values are checked against the types of the fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from songgen.config_keys import ConfigError, did_you_mean
from songgen.train.loop import LoopSettings

LOOP = "loop"
Settings = TypeVar("Settings")


@dataclass(frozen=True)
class Recipe:
    """The sections by name, plain values in them."""

    sections: Mapping[str, Mapping[str, Any]]

    def settings(self, section: str, kind: type[Settings]) -> Settings:
        """The settings of a stage. Raises ConfigError that names the key, its value and what it must be."""
        own = {key: value for key, value in self._section(section).items() if key != LOOP}
        return typed(section, kind, own)

    def loop(self, section: str, **changes: Any) -> LoopSettings:
        """How a stage is trained; `changes` win. Raises ConfigError as `settings`."""
        given = {**self._section(section).get(LOOP, {}), **changes}
        return typed(f"{section}.{LOOP}", LoopSettings, given)

    def _section(self, section: str) -> Mapping[str, Any]:
        if section not in self.sections:
            raise ConfigError(f"the recipe has no section {section}; it has {', '.join(self.sections)}")
        return self.sections[section]


def typed(section: str, kind: type[Settings], values: Mapping[str, Any]) -> Settings:
    """A frozen dataclass from plain values.

    Raises:
        ConfigError: an unknown key, a missing one, or a value of another type or range.
    """
    from pydantic import TypeAdapter, ValidationError

    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = did_you_mean(key, known)
            raise ConfigError(
                f"{section}.{key} is not a setting{near or ', ' + section + ' knows: ' + ', '.join(known)}"
            )
    try:
        return TypeAdapter(kind).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{section}.{key}={values.get(key)}: {first['msg']}") from None
    except ValueError as error:
        raise ConfigError(f"{section}: {error}") from None


def with_overrides(sections: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The sections with some `section.key` or `section.loop.key` set.

    Raises:
        ConfigError: no such section.
    """
    merged: dict[str, Any] = {name: _copied(section) for name, section in sections.items()}
    for path, value in given.items():
        section, *inner = path.split(".")
        if section not in merged or not inner:
            near = did_you_mean(section, merged)
            raise ConfigError(
                f"{path} is not a setting of `songgen train`{near}; its sections: {', '.join(merged)}"
            )
        node = merged[section]
        for name in inner[:-1]:
            node = node.setdefault(name, {})
        node[inner[-1]] = value
    return merged


def _copied(node: Any) -> Any:
    return {key: _copied(value) for key, value in node.items()} if isinstance(node, Mapping) else node
