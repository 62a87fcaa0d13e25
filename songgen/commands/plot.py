"""`songgen plot SONG...`: a picture of each song: waveform, mel spectrogram, about where its sections lie.

    songgen plot output                  every song of an output folder
    songgen plot output/harbour          one song of it
    songgen plot clip.flac               any audio file

A song's stems are drawn below each other, its sections from its record. Pictures of songs go to OUT/plots,
those of other files beside them.
"""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from songgen.audio import Audio, read_audio
from songgen.files import write_together
from songgen.request_keys import STEMS

if TYPE_CHECKING:
    from songgen.text_length import Span

ALL_DRAWN, SOME_FAILED = 0, 1
NO_STEM = "audio"
"""What the one track of a file without a record is called."""


@dataclass(frozen=True)
class Drawing:
    """A picture to draw.

    Args:
        name: the title.
        stems: stem to audio file.
        target: the PNG.
        record: the song's, empty for a file without one.
    """

    name: str
    stems: Mapping[str, Path]
    target: Path
    record: Mapping[str, Any]

    def spans(self, seconds: float) -> tuple[Span, ...]:
        """About where the sections lie, by the record's lyrics."""
        from songgen.text_length import estimate_spans

        is_cut = self.record.get("stopped") == "length"
        return estimate_spans(str(self.record.get("lyrics", "")), seconds, is_cut=is_cut)


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns 0 if all was drawn, 1 if some could not be.

    Raises:
        ValueError, FileNotFoundError: nothing could start: no such song, or no matplotlib.
    """
    args = _parser().parse_args(argv)
    from songgen.engine.picture import require_matplotlib

    require_matplotlib()
    drawings = {item.target: item for song in args.songs for item in drawings_of(song, args.dir)}
    failed = 0
    for drawing in drawings.values():
        try:
            draw(drawing)
        except (ValueError, OSError) as error:
            failed += 1
            print(f"songgen plot: {drawing.name}: {error}", file=sys.stderr)
        else:
            print(drawing.target)
    return SOME_FAILED if failed else ALL_DRAWN


def draw(drawing: Drawing) -> None:
    """Draw one picture and write it whole.

    Raises:
        ValueError, OSError: its audio cannot be read, or the picture not be written.
    """
    from songgen.engine.picture import draw_song

    stems: dict[str, Audio] = {stem: read_audio(path) for stem, path in drawing.stems.items()}
    spans = drawing.spans(max(audio.seconds for audio in stems.values()))
    write_together({drawing.target: draw_song(drawing.name, stems, spans)})


def drawings_of(song: Path, folder: Path | None = None) -> list[Drawing]:
    """What one word of the command stands for.

    Args:
        song: an output folder, a song's name below one, a song's file in one, or any audio file.
        folder: where the pictures go, None for the usual places.

    Raises:
        FileNotFoundError: there is no such song, file or folder; says which names are near.
        ValueError: a folder that holds no songs.
    """
    if song.is_dir():
        records = _songs(song)
        if not records:
            raise ValueError(
                f"{song}: holds no records of finished songs; name an output folder or audio files"
            )
        return [_of_record(song, record, folder) for record in records.values()]
    if song.is_file():
        for record in _songs(song.parent.parent).values():
            if song.resolve() in {(song.parent.parent / path).resolve() for path in record["paths"].values()}:
                return [_of_record(song.parent.parent, record, folder)]
        target = (folder or song.parent) / f"{song.stem}.png"
        return [Drawing(song.name, {NO_STEM: song}, target, {})]
    records = _songs(song.parent)
    if song.name in records:
        return [_of_record(song.parent, records[song.name], folder)]
    near = difflib.get_close_matches(song.name, records, n=1)
    hint = f"; did you mean {song.parent / near[0]}?" if near else ""
    raise FileNotFoundError(f"{song}: no such file, and no finished song of that name in {song.parent}{hint}")


def _songs(out: Path) -> dict[str, Mapping[str, Any]]:
    """The last record of each finished song of an output folder; empty if it is none."""
    from songgen.engine.resume import History

    return History(out, Path()).finished


def _of_record(out: Path, record: Mapping[str, Any], folder: Path | None) -> Drawing:
    from songgen.engine.output import PLOTS_FOLDER

    name, paths = str(record["name"]), record["paths"]
    stems: dict[str, Path] = {stem: out / paths[stem] for stem in STEMS["separate"] if stem in paths}
    return Drawing(name, stems, (folder or out / PLOTS_FOLDER) / f"{name}.png", record)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="songgen plot",
        description="Draw songs: waveform and mel spectrogram of each stem, and about where the sections lie "
        "(estimated from the lyrics: nothing records where they begin). Needs matplotlib: "
        "pip install 'songgen[plot]'.",
        epilog="exit status: 0 all was drawn, 1 some could not be, 2 nothing could start; "
        "`songgen generate output.plot=true` draws each song as it is made",
    )
    parser.add_argument(
        "songs",
        type=Path,
        nargs="+",
        metavar="SONG",
        help="an output folder, a song in one (OUT/NAME), or an audio file",
    )
    parser.add_argument(
        "--dir", type=Path, metavar="DIR", help="where to write; default: OUT/plots, or beside a file"
    )
    return parser
