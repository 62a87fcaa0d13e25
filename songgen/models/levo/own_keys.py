"""songgen's own section of a config.yaml, `songgen:`: what published checkpoints all have alike, and so never
write down.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from songgen.runtime.sampling import Sampling

SECTION = "songgen"
LyricText = Literal["published", "phonemes"]


@dataclass(frozen=True)
class OwnKeys:
    """The section's keys; the defaults are what holds for every published checkpoint.

    Args:
        estimator_heads: attention heads of the codec's flow network, which no tensor shape tells; None for
            the published one.
        solver: `steps` and `guidance` by which the codec draws latents, where they are the model's own: Euler
            steps, and how far from null to told features, 1 for no null.
        lyric_text: `published` for the tokens of the checkpoint's text tokenizer, `phonemes` for those of
            `phoneme_text.py`.
        sampling: fields of `Sampling` that are the model's own.
        separator: whether prompt clips are split into vocals and accompaniment. Without, a clip is encoded
            as a whole, its vocal and bgm rows are empty, and the codec does not start from it.
        fill_windows: whether a song shorter than a window of the codec (40 s) is repeated until it fills one;
            without, rendering takes as long as the song is.
        languages: ISO 639-1 codes of the languages that the model knows, `en` alone or none for any; texts
            in other letters are refused.
    """

    estimator_heads: int | None = None
    solver: Mapping[str, float] = field(default_factory=dict, hash=False)
    lyric_text: LyricText = "published"
    sampling: Mapping[str, float] = field(default_factory=dict, hash=False)
    separator: bool = True
    fill_windows: bool = True
    languages: tuple[str, ...] = ()

    def sampling_over(self, published: Sampling) -> Sampling:
        """How tokens are chosen, the section's values in place. Raises ValueError if one is out of range."""
        try:
            return replace(published, **self.sampling)  # type: ignore[arg-type]
        except ValueError as error:
            raise ValueError(f"{SECTION}.sampling: {error}") from None


LANGUAGES = ("en",)
"""The languages whose letters are known here."""


def own_keys(tree: Mapping[str, Any]) -> OwnKeys:
    """The section of a config.yaml; all defaults if there is none.

    Raises:
        ValueError: an unknown key, or a value that songgen cannot run; names both.
    """
    section = tree.get(SECTION) or {}
    if not isinstance(section, Mapping):
        raise ValueError(f"{SECTION} is {section!r}, and must be a table of keys")
    _check_names(SECTION, section, [item.name for item in fields(OwnKeys)])
    values = {key: value for key, value in section.items() if value is not None}
    heads = values.get("estimator_heads", 1)
    _check("estimator_heads", heads, _is_int(heads) and heads > 0, "a whole number above 0")
    solver = values.get("solver", {})
    _check("solver", solver, isinstance(solver, Mapping), "a table such as {steps: 10}")
    _check_solver(solver)
    text = values.get("lyric_text", "published")
    _check("lyric_text", text, text in get_args(LyricText), f"one of {', '.join(get_args(LyricText))}")
    for name in ("separator", "fill_windows"):
        value = values.get(name, True)
        _check(name, value, isinstance(value, bool), "true or false")
    sampling = values.get("sampling", {})
    _check("sampling", sampling, isinstance(sampling, Mapping), "a table such as {temperature: 0.8}")
    languages = values.get("languages", [])
    is_known = isinstance(languages, list) and all(language in LANGUAGES for language in languages)
    _check("languages", languages, is_known, f"a list of some of {', '.join(LANGUAGES)}")
    _check_sampling(sampling)
    tables = {"languages": tuple(languages), "sampling": dict(sampling), "solver": dict(solver)}
    return OwnKeys(**{**values, **tables})


def _check_solver(solver: Mapping[str, Any]) -> None:
    _check_names(f"{SECTION}.solver", solver, ["steps", "guidance"])
    steps, guidance = solver.get("steps", 1), solver.get("guidance", 1.0)
    _check("solver.steps", steps, _is_int(steps) and steps >= 1, "a whole number above 0")
    is_factor = _is_int(guidance) or isinstance(guidance, float)
    _check("solver.guidance", guidance, is_factor and guidance >= 1, "a number from 1 on")


def _check_sampling(sampling: Mapping[str, Any]) -> None:
    types = {item.name: (int if item.type == "int" else float) for item in fields(Sampling)}
    _check_names(f"{SECTION}.sampling", sampling, list(types))
    for name, value in sampling.items():
        is_whole = _is_int(value)
        is_right = is_whole or (types[name] is float and isinstance(value, float))
        _check(f"sampling.{name}", value, is_right, "a whole number" if types[name] is int else "a number")


def _check_names(section: str, given: Mapping[str, Any], known: list[str]) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(str(name), known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it knows {', '.join(known)}"
            raise ValueError(f"{section} has no key {name!r}; {hint}")


def _check(name: str, value: Any, is_right: bool, wanted: str) -> None:
    if not is_right:
        raise ValueError(f"{SECTION}.{name} is {value!r}, and must be {wanted}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
