"""The form: what is filled in on the page, and the request that it stands for.

A form becomes the same mapping as a line of JSON Lines and is checked by the same function; a record becomes
the form that makes the same song again. Knows nothing of how the page looks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from songgen.audio import AudioFormat
from songgen.config import named_sampling, sampling_names
from songgen.lyrics import SECTION_TAGS, SUNG_TAGS
from songgen.models.base import SongModel
from songgen.request_keys import STEMS, GenerateType, StemSource
from songgen.requests import SongRequest, parse_request
from songgen.runtime.sampling import Sampling, changed_sampling

OWN_SAMPLING = "upstream"
OVERRIDES = ("temperature", "top_k", "top_p", "cfg_coef")
"""What a request may change of the sampling."""

_BEFORE_TAG = re.compile(r"\s*(?:;\s*)?\n\s*(?=\[)")
_TAG = "|".join(re.escape(tag) for tag in SECTION_TAGS)
_AFTER_TAG = re.compile(rf"(\[(?:{_TAG})\])[ \t]*\n[ \t]*(?=[^\s\[])")
_SECTION_END = re.compile(r"\s*;\s*(?=\[)")


@dataclass(frozen=True)
class Form:
    """What is filled in; None and empty text are what is left open.

    Args:
        name: of the song's files; a free one is found where it is taken.
        lyrics: one section a line, or the published form.
        clip: a kept upload, style: one of the model's library.
        takes: songs to make, seed, seed + 1, ...
        seed, max_seconds: numbers as text: those of a browser end at 2**53, and know no empty field.
        sampling: a name of `configs/sampling`; the four after it, numbers as text, change it.
    """

    name: str = ""
    lyrics: str = ""
    descriptions: str = ""
    clip: Path | None = None
    style: str | None = None
    generate_type: GenerateType = "mixed"
    stems: StemSource = "model"
    takes: int = 1
    seed: str = ""
    max_seconds: str = ""
    format: AudioFormat = "wav"
    sampling: str = OWN_SAMPLING
    temperature: str = ""
    top_k: str = ""
    top_p: str = ""
    cfg_coef: str = ""


def request_of(form: Form, *, idx: str, seed: int) -> SongRequest:
    """The checked request of a form.

    Args:
        idx: the song's name.
        seed: for a form that has none.

    Raises:
        ValueError: what `parse_request` says of the same line of JSON Lines.
    """
    mapping = {
        "idx": idx,
        "gt_lyric": lyric_string(form.lyrics),
        "descriptions": form.descriptions.strip() or None,
        "generate_type": form.generate_type,
        "stems": form.stems,
        "seed": seed if number_of(form.seed) is None else number_of(form.seed),
        "num_samples": form.takes,
        "max_seconds": number_of(form.max_seconds),
        "prompt_audio_path": None if form.clip is None else str(form.clip),
        "auto_prompt_audio_type": form.style or None,
        **{name: number_of(getattr(form, name)) for name in OVERRIDES},
    }
    given = {key: value for key, value in mapping.items() if value is not None}
    return parse_request(given, default_generate_type=form.generate_type)


def number_of(text: str) -> int | float | str | None:
    """The number that a field holds; None where it is empty, and what is no number as it stands, for
    `parse_request` to refuse."""
    text = text.strip()
    if not text:
        return None
    try:
        number = int(text) if text.lstrip("+-").isdecimal() else float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def sampling_of(form: Form, model: SongModel) -> Sampling:
    """The sampling that the form names; the request's own values come on top of it.

    Raises:
        ValueError: there is no such name.
    """
    return changed_sampling(model.sampling, named_sampling(form.sampling))


def lyric_string(text: str) -> str:
    """The published form of what is in the editor: sections apart by ` ; ` instead of line breaks.

    Line breaks inside a section are the linter's business.
    """
    joined = _BEFORE_TAG.sub(" ; ", text.replace("\r\n", "\n").strip())
    return _AFTER_TAG.sub(r"\1 ", joined)


def editor_text(lyrics: str) -> str:
    """Lyrics as the editor shows them, one section a line; `lyric_string` undoes it."""
    return _SECTION_END.sub("\n", lyrics)


def section_insert(tag: str) -> str:
    """What a section button puts into the editor: the tag, and a blank where words follow."""
    return f"[{tag}] " if tag in SUNG_TAGS else f"[{tag}]"


def form_of(
    record: Mapping[str, Any], model: SongModel, find_clip: Callable[[str], Path | None]
) -> tuple[Form, list[str]]:
    """The form that makes a recorded song again, and sentences on what of it this page cannot repeat.

    Args:
        find_clip: a recorded prompt to the upload that this page still has of it.
    """
    request = record.get("request")
    request = request if isinstance(request, Mapping) else {}
    notes: list[str] = []
    if record.get("identity") != model.identity:
        notes.append(f"it was made by {record.get('model')}, this page runs {model.name}: another song")
    clip, recorded = None, request.get("prompt_audio_path")
    if recorded is not None:
        clip = find_clip(str(recorded))
        if clip is None:
            notes.append(f"its clip {Path(str(recorded)).name} is no longer here: upload it again")
    form = Form(
        name=str(record.get("idx", "")),
        lyrics=editor_text(str(record.get("lyrics", ""))),
        descriptions=str(record.get("descriptions") or ""),
        clip=clip,
        style=request.get("auto_prompt_audio_type"),
        generate_type=record.get("generate_type", "mixed"),
        stems=record.get("stems") or request.get("stems") or "model",
        seed=str(record.get("seed", "")),
        max_seconds=_text(record.get("max_seconds")),
        format=_format_of(record),
    )
    sampling = record.get("sampling")
    if isinstance(sampling, Mapping):
        form, missing = _with_sampling(form, dict(sampling), model)
        notes += missing
    return form, notes


def _with_sampling(form: Form, wanted: dict[str, Any], model: SongModel) -> tuple[Form, list[str]]:
    """The form with the named sampling nearest to a recorded one, and what differs even so."""
    names = sorted(sampling_names(), key=lambda name: name != OWN_SAMPLING)
    found = {name: vars(changed_sampling(model.sampling, named_sampling(name))) for name in names}

    def differing(name: str) -> list[str]:
        return [key for key, value in wanted.items() if found[name].get(key) != value]

    best = min(names, key=lambda name: (_num_others(differing(name)), len(differing(name))))
    changed: dict[str, Any] = {key: _text(wanted[key]) for key in differing(best) if key in OVERRIDES}
    others = [f"sampling.{key}={wanted[key]:g}" for key in differing(best) if key not in OVERRIDES]
    notes = [f"it was made with {', '.join(others)}, which this page cannot set"] if others else []
    return replace(form, sampling=best, **changed), notes


def _num_others(keys: Sequence[str]) -> int:
    return sum(key not in OVERRIDES for key in keys)


def _format_of(record: Mapping[str, Any]) -> AudioFormat:
    paths = record.get("paths")
    paths = paths if isinstance(paths, Mapping) else {}
    stems = [path for stem, path in paths.items() if stem in STEMS["separate"]]
    suffix = Path(str(stems[0])).suffix[1:] if stems else "wav"
    formats: dict[str, AudioFormat] = {"flac": "flac", "ogg": "ogg", "mp3": "mp3", "opus": "opus"}
    return formats.get(suffix, "wav")


def _text(value: object) -> str:
    """A number as a field shows it, without loss; whole ones without a point."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)
