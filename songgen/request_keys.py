"""The keys of a request: their names, aliases, types and ranges, and the sentences that say what is wrong."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    ValidationError,
)

from songgen.request_names import check_idx

Stem = Literal["mixed", "vocal", "bgm"]
GenerateType = Literal["mixed", "vocal", "bgm", "separate"]
StemSource = Literal["model", "separator"]

STEMS: dict[GenerateType, tuple[Stem, ...]] = {
    "mixed": ("mixed",),
    "vocal": ("vocal",),
    "bgm": ("bgm",),
    "separate": ("mixed", "vocal", "bgm"),
}
"""The stems that each generate type asks for, in the order in which they are written."""

MAX_SEED = 2**63 - 1
MAX_SAMPLES = 1000
MAX_TOP_K = 2**31 - 1

ALIASES = {
    "id": "idx",
    "lyrics": "gt_lyric",
    "style": "descriptions",
    "tags": "descriptions",
    "prompt_wav": "prompt_audio_path",
}
ALLOWED = {
    "idx": "a string (or a whole number) that can name a file",
    "gt_lyric": "a string: [tag] text ; [tag] text (SongBloom: [tag] text , [tag] text)",
    "descriptions": "a string of tags separated by commas, or a list of such strings",
    "generate_type": "one of mixed, vocal, bgm, separate",
    "stems": "one of model, separator",
    "seed": f"a whole number from 0 to {MAX_SEED} (2**63 - 1)",
    "num_samples": f"a whole number from 1 to {MAX_SAMPLES}",
    "temperature": "a number from 0 up (0 = greedy)",
    "top_k": f"a whole number from 0 to {MAX_TOP_K} (0 = all)",
    "top_p": "a number from 0 to 1 (0 = not used)",
    "cfg_coef": "a finite number",
    "max_seconds": "a number greater than 0",
    "prompt_audio_path": "a string: the path of an audio file",
    "auto_prompt_audio_type": "a string: a style of the model's prompt library, such as Pop",
}
# Short forms too far from their key for a comparison of letters.
_SHORT_FORMS = {
    "temp": "temperature",
    "cfg": "cfg_coef",
    "gen_type": "generate_type",
    "prompt_audio": "prompt_audio_path",
    "auto_prompt": "auto_prompt_audio_type",
    "auto_prompt_type": "auto_prompt_audio_type",
}
_NEAR_RATIO = 0.87
_SHORTEST_FUZZY = 6  # keys shorter than this are near too many words: "seed" and "speed"


def _usable(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ValueError("blank, or holds a NUL")
    return text


_Name = Annotated[StrictStr, AfterValidator(_usable)]


class _Values(BaseModel):
    """Types and ranges; the sentences are `ALLOWED`."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    idx: StrictStr | StrictInt
    gt_lyric: StrictStr | None = None
    descriptions: StrictStr | list[StrictStr] | None = None
    generate_type: GenerateType | None = None
    stems: StemSource | None = None
    seed: Annotated[StrictInt, Field(ge=0, le=MAX_SEED)] | None = None
    num_samples: Annotated[StrictInt, Field(ge=1, le=MAX_SAMPLES)] | None = None
    temperature: Annotated[StrictFloat, Field(ge=0)] | None = None
    top_k: Annotated[StrictInt, Field(ge=0, le=MAX_TOP_K)] | None = None
    top_p: Annotated[StrictFloat, Field(ge=0, le=1)] | None = None
    cfg_coef: StrictFloat | None = None
    max_seconds: Annotated[StrictFloat, Field(gt=0)] | None = None
    prompt_audio_path: _Name | None = None
    auto_prompt_audio_type: _Name | None = None


def checked_values(
    source: Mapping[str, Any], *, default_generate_type: GenerateType, default_num_samples: int = 1
) -> dict[str, Any]:
    """Check a line's values; returns them under the names of SongRequest's fields. A null counts as absent.

    Raises:
        ValueError: all that is wrong, separated by semicolons.
    """
    written = given_keys(source)
    missed = _near_misses(source, written)
    faults = [
        f"unknown key {_show(name)} would have no effect: {_both_names(key)} is meant?"
        for name, key in missed.items()
    ]
    given = {key: source[name] for key, name in written.items() if source[name] is not None}
    values: dict[str, Any] = {}
    if "idx" not in {*given, *missed.values()}:
        faults.append('no idx: name the song, "idx": "..."')
    try:
        values = _Values.model_validate({"idx": "-", **given}).model_dump()
    except ValidationError as error:
        for key in dict.fromkeys(str(detail["loc"][0]) for detail in error.errors()):
            faults.append(f"{written[key]} is {_show(source[written[key]])}: it must be {ALLOWED[key]}")
    if values:
        faults += _wrong_together(values, written)
        faults += _missing_lyrics(values, {*missed.values()}, written, default_generate_type)
    if faults:
        raise ValueError("; ".join(faults))
    values["lyrics"] = values.pop("gt_lyric") or ""
    values["idx"] = str(values["idx"])
    values["num_samples"] = values["num_samples"] or default_num_samples
    values["descriptions"] = _joined(values["descriptions"])
    return values


def given_keys(source: Mapping[str, Any]) -> dict[str, str]:
    """Known key to the name it is given under in a line, itself or an alias.

    Raises:
        ValueError: a key is given under two names.
    """
    written: dict[str, str] = {}
    for name in source:
        key = ALIASES.get(name, name)
        if key not in ALLOWED:
            continue
        if key in written:
            raise ValueError(f"{written[key]!r} and {name!r} are two names of one key: keep one")
        written[key] = name
    return written


def near_key(name: str) -> str | None:
    """The known key that a misspelt one is meant for, or None; `name` is neither a key nor an alias.

    >>> near_key("descripton"), near_key("title")
    ('descriptions', None)
    """
    known = [*ALLOWED, *ALIASES]
    plain = name.strip().casefold().replace("-", "_").replace(" ", "_")
    squashed = plain.replace("_", "")
    for key in known:
        if squashed == key.replace("_", "") or squashed.rstrip("s") == key.replace("_", "").rstrip("s"):
            return ALIASES.get(key, key)
    if plain in _SHORT_FORMS:
        return _SHORT_FORMS[plain]
    long = [key for key in known if len(key) >= _SHORTEST_FUZZY]
    near = difflib.get_close_matches(plain, long, n=1, cutoff=_NEAR_RATIO)
    return ALIASES.get(near[0], near[0]) if near else None


def _near_misses(source: Mapping[str, Any], written: Mapping[str, str]) -> dict[str, str]:
    """Unknown name to the known key it is meant for; left out where that key is given as well."""
    missed = {}
    for name in source:
        if name not in ALLOWED and name not in ALIASES:
            key = near_key(name)
            if key and key not in written:
                missed[name] = key
    return missed


def _both_names(key: str) -> str:
    """A key with its aliases, for a message."""
    aliases = [repr(alias) for alias, known in ALIASES.items() if known == key]
    return f"{key!r} (or {', '.join(aliases)})" if aliases else repr(key)


def _wrong_together(values: Mapping[str, Any], written: Mapping[str, str]) -> list[str]:
    """Sentences about values that are right by type and range."""
    faults = check_idx(str(values["idx"])) if "idx" in written else []
    if values["prompt_audio_path"] is not None and values["auto_prompt_audio_type"] is not None:
        faults.append(
            f"{written['prompt_audio_path']} and auto_prompt_audio_type are given together: keep one"
        )
    return faults


def _missing_lyrics(
    values: Mapping[str, Any], missed: set[str], written: Mapping[str, str], default_type: GenerateType
) -> list[str]:
    """A sentence if there are no lyrics and the song needs some."""
    kind = values["generate_type"] or default_type
    if kind == "bgm" or "gt_lyric" in missed or (values["gt_lyric"] or "").strip():
        return []
    state = "empty" if "gt_lyric" in written else "missing"
    name = written.get("gt_lyric", "gt_lyric")
    return [f"{name} is {state}: only with generate_type bgm a song needs no lyrics, this is {kind}"]


def _joined(descriptions: str | list[str] | None) -> str | None:
    """Descriptions as one string; None if they say nothing."""
    if isinstance(descriptions, list):
        descriptions = ", ".join(tag.strip() for tag in descriptions if tag.strip())
    return descriptions if descriptions and descriptions.strip() else None


def _show(value: object, limit: int = 60) -> str:
    """A value for a message, not too long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
