"""Songs on disk: which files a song has, and writing them all or none."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from songgen.audio import BITS, encode_audio
from songgen.engine.drafts import TOKENS_KEY, encode_draft
from songgen.engine.picture import draw_song
from songgen.engine.plan import stem_name
from songgen.engine.settings import Output
from songgen.files import remove_leftovers, write_together
from songgen.lrc import encode_lrc
from songgen.models.base import Draft, ModelFacts, Song
from songgen.text_length import Span, estimate_spans

AUDIO_FOLDER, TOKENS_FOLDER, RECORDS_FOLDER = "audio", "tokens", "jsonl"
PLOTS_FOLDER, LRC_FOLDER = "plots", "lrc"
SONG_FOLDERS = (AUDIO_FOLDER, TOKENS_FOLDER, PLOTS_FOLDER, LRC_FOLDER)
PLOT_KEY, LRC_KEY = "plot", "lrc"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """What was written of a song.

    Args:
        paths: stem, or `tokens`, `plot` or `lrc`, to path relative to the output folder.
        bytes: such a path to its size.
        clipped: samples that had to be clipped.
        seconds: wall seconds of encoding and writing.
    """

    paths: Mapping[str, str]
    bytes: Mapping[str, int]
    clipped: int
    seconds: float


def save_song(song: Song, output: Output, model: ModelFacts) -> Saved:
    """Write a song's files; they appear whole, and none before all could be written.

    Raises:
        ValueError: the model gave no stems, or samples that are not finite; a picture cannot be drawn.
        OSError: a file could not be written.
    """
    start = time.perf_counter()
    name = song.draft.job.name
    if not song.stems:
        raise ValueError("the model gave no audio")
    paths, files, clipped = {}, {}, 0
    for stem, audio in song.stems.items():
        try:
            data, cut = encode_audio(audio, output.format, bits=output.bits)
        except ValueError as error:
            raise ValueError(f"stem {stem}: {error}") from error
        paths[stem] = f"{AUDIO_FOLDER}/{stem_name(name, stem)}.{output.format}"
        files[paths[stem]] = data
        clipped += cut
    if output.tokens:
        paths[TOKENS_KEY] = f"{TOKENS_FOLDER}/{name}.safetensors"
        files[paths[TOKENS_KEY]] = encode_draft(song.draft, model)
    if output.plot:
        paths[PLOT_KEY] = f"{PLOTS_FOLDER}/{name}.png"
        files[paths[PLOT_KEY]] = draw_song(name, song.stems, _spans(song))
    if output.lrc and song.draft.timing is None:
        logger.warning("%s: no lrc is written: %s", name, _why_untimed(song.draft, model))
    elif output.lrc and song.draft.timing is not None:
        paths[LRC_KEY] = f"{LRC_FOLDER}/{name}.lrc"
        files[paths[LRC_KEY]] = encode_lrc(song.draft.timing, title=name, seconds=_seconds(song))
    write_together({output.dir / path: data for path, data in files.items()})
    sizes = {path: len(data) for path, data in files.items()}
    return Saved(paths, sizes, clipped, time.perf_counter() - start)


def _spans(song: Song) -> tuple[Span, ...]:
    """About where the sections of a song lie, by the lyrics that the model was given."""
    is_cut = song.draft.stopped == "length"
    return estimate_spans(song.draft.job.request.lyrics, _seconds(song), is_cut=is_cut)


def _seconds(song: Song) -> float:
    return max(audio.seconds for audio in song.stems.values())


def _why_untimed(draft: Draft, model: ModelFacts) -> str:
    if draft.job.wants_timing:
        return f"{model.name} gives no times for it (it was given no lyrics to sing, or cannot tell)"
    return "its draft has no times; songs that are composed with output.lrc=true and output.tokens=true do"


def form_of(output: Output) -> dict[str, object]:
    """What of the output settings decides a song's files; equal settings give equal values."""
    bits = output.bits or (BITS[output.format][0] if output.format in BITS else None)
    form: dict[str, object] = {"format": output.format, "bits": bits, "tokens": output.tokens}
    asked = {PLOT_KEY: output.plot, LRC_KEY: output.lrc}
    return form | {key: True for key, is_asked in asked.items() if is_asked}


def remove_song(folder: Path, paths: Iterable[str]) -> list[str]:
    """Remove files of a song from an output folder; returns those that were there.

    Args:
        paths: relative to the folder, as records have them; what lies elsewhere is left alone.

    Raises:
        OSError: a file could not be removed.
    """
    files = {path: PurePosixPath(path).parts for path in paths}
    known = [path for path, parts in files.items() if len(parts) == 2 and parts[0] in SONG_FOLDERS]
    removed = [path for path in known if (folder / path).is_file()]
    for path in removed:
        (folder / path).unlink()
    return removed


def clear_leftovers(folder: Path) -> None:
    """Remove what killed runs left half-written in an output folder."""
    for name in SONG_FOLDERS:
        if (folder / name).is_dir():
            remove_leftovers(folder / name)
