"""`songgen train report`: measure a model on held-out songs, and write report.json, pictures and the page.

What is missing, such as the recogniser or a whole checkpoint, is said on the page; the rest is measured.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from songgen.api import FailedSong
from songgen.evaluate.bootstrap import Bootstrap
from songgen.files import write_together
from songgen.train.report.facts import data_facts, model_facts, training_facts
from songgen.train.report.gallery import Gallery
from songgen.train.report.generation import Generated, generate
from songgen.train.report.listener import LogMel
from songgen.train.report.markdown import page_of
from songgen.train.report.measured import Row, summarise
from songgen.train.report.recogniser import load_listener
from songgen.train.report.resynthesis import Codec, load_codec_halves
from songgen.train.report.stems_measured import (
    Ear,
    Stems,
    codec_rows,
    other_beat,
    song_rows,
    word_rows,
)
from songgen.train.truth import FRAME_RATE, SongTruth

if TYPE_CHECKING:
    from songgen.train.dataset import SongStore

FOLDER, REPORT, PAGE = "report", "report.json", "NANO.md"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReportSettings:
    """What is measured.

    Args:
        num_songs: held-out songs whose lyrics are sung.
        num_resynthesised: of these, as many go through the codec.
        longest_seconds: songs that are longer are left out, for time, unless all are.
        takes: songs of each lyrics.
        batch: songs written at once.
        seed: of the generated songs.
        page: also write the page there, and its pictures into `images` beside it; None for WORK/report alone.
    """

    num_songs: int = 20
    num_resynthesised: int = 6
    longest_seconds: float = 24.0
    takes: int = 1
    batch: int = 4
    seed: int = 7
    page: str | None = None

    def __post_init__(self) -> None:
        for name in ("num_songs", "takes", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")


@dataclass
class _Findings:
    """What has been measured so far."""

    rows: list[Row] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    pace: dict[str, Any] | None = None


def make_report(data: Path, work: Path, checkpoint: Path, settings: ReportSettings) -> Path:
    """Measure a checkpoint and the stages behind it; returns WORK/report/report.json.

    Args:
        data: the folder of songs; those held out are measured.
        work: the folder of the stages.
        checkpoint: the folder of the exported model, which may be missing.

    Raises:
        FileNotFoundError: there are no songs.
        ValueError: none is held out.
    """
    from songgen.train.dataset import SongStore

    store, findings = SongStore(data), _Findings()
    songs = HeldOut(store, settings.num_songs, settings.longest_seconds)
    ear, gallery = _ear(work, findings), Gallery()
    _measure_true(songs, ear, findings, gallery)
    if codec := _codec(checkpoint, work, findings):
        _measure_codec(songs, codec, ear, (settings, findings, gallery))
        _measure_songs(checkpoint, songs.truths, ear, (settings, findings, gallery))
    report = {
        "model": model_facts(checkpoint) if codec else None,
        "data": data_facts(store),
        "training": training_facts(work),
        "settings": asdict(settings),
        "measured": {
            "songs": len(songs.truths),
            "longest_seconds": max(truth.num_frames for truth in songs.truths.values()) / FRAME_RATE,
        },
        "pace": findings.pace,
        "summary": summarise(findings.rows, Bootstrap()),
        "failures": [_without_places(text, work, checkpoint) for text in findings.failures],
        "songs": [asdict(row) for row in findings.rows],
    }
    return _write(report, gallery, work, settings)


def _without_places(text: str, work: Path, checkpoint: Path) -> str:
    """A message without the machine's folders: the page may be published."""
    return text.replace(str(work), "WORK").replace(str(checkpoint), "MODEL")


def _ear(work: Path, findings: _Findings) -> Ear:
    try:
        return Ear(load_listener(work), LogMel())
    except (FileNotFoundError, ValueError) as error:
        findings.failures.append(f"words could not be measured: {error}")
        return Ear(None, LogMel())


def _codec(checkpoint: Path, work: Path, findings: _Findings) -> Codec | None:
    try:
        return load_codec_halves(checkpoint, work)
    except (FileNotFoundError, ValueError) as error:
        findings.failures.append(f"only the true stems were measured, the model cannot be loaded: {error}")
        return None


class HeldOut:
    """The first held-out songs of a store that are short enough, else its shortest: by their numbers.

    Raises:
        ValueError: none is held out.
    """

    def __init__(self, store: SongStore, count: int, longest_seconds: float) -> None:
        self._store = store
        held_out, limit = store.held_out_indices, longest_seconds * FRAME_RATE
        if not held_out:
            raise ValueError(f"{store.folder}: no song is held out; make more (songgen train synth)")
        fitting = [index for index in held_out if store.truth(index).num_frames <= limit]
        if not fitting:
            fitting = sorted(held_out, key=lambda index: store.truth(index).num_frames)[:1]
        self._indices = {store.number(index): index for index in fitting[:count]}
        self.truths = {number: store.truth(index) for number, index in self._indices.items()}

    def stems(self, number: int) -> Stems:
        """Mixed, vocal and bgm of a song, `[2, N]` each."""
        vocal, bgm = (np.ascontiguousarray(stem.numpy()) for stem in self._store.stems(self._indices[number]))
        return {"mixed": vocal + bgm, "vocal": vocal, "bgm": bgm}


def _measure_true(songs: HeldOut, ear: Ear, findings: _Findings, gallery: Gallery) -> None:
    """The floor of everything that follows."""
    for number, truth in songs.truths.items():
        stems, name = songs.stems(number), f"{number:06}"
        findings.rows += word_rows(ear, name, "true", stems["vocal"], _wanted(truth))
        findings.rows += codec_rows(name, "true", stems, stems, truth)
        findings.rows += song_rows(name, "true", stems, truth)
        gallery.show_true(number, truth, stems)
    logger.info("report: measured %d true songs", len(songs.truths))


def _measure_codec(
    songs: HeldOut, codec: Codec, ear: Ear, into: tuple[ReportSettings, _Findings, Gallery]
) -> None:
    """The autoencoder alone, and tokens and back."""
    settings, findings, gallery = into
    for number, truth in list(songs.truths.items())[: settings.num_resynthesised]:
        true, name = songs.stems(number), f"{number:06}"
        codes_KT = codec.codes(torch.from_numpy(true["vocal"]), torch.from_numpy(true["bgm"]))
        made: dict[str, Stems] = {
            "vae": codec.through_vae(true, truth.f0_hz, settings.seed),
            "resynthesised": {stem: codec.render(codes_KT, stem, settings.seed) for stem in true},
        }
        for source, stems in made.items():
            findings.rows += word_rows(ear, name, source, stems["vocal"], _wanted(truth))
            findings.rows += codec_rows(name, source, stems, true, truth)
        gallery.show_resynthesised(number, truth, made["resynthesised"])
        logger.info("report: resynthesised song %s", name)


def _measure_songs(
    checkpoint: Path, truths: dict[int, SongTruth], ear: Ear, into: tuple[ReportSettings, _Findings, Gallery]
) -> None:
    """Songs of held-out lyrics, by the engine."""
    settings, findings, gallery = into
    began, seconds, count = time.monotonic(), 0.0, 0
    measuring = 0.0
    try:
        songs = generate(checkpoint, truths, takes=settings.takes, batch=settings.batch, seed=settings.seed)
        for song in songs:
            if isinstance(song, FailedSong):
                findings.failures.append(f"song {song.name} could not be made: {song.error}")
                continue
            paused = time.monotonic()
            findings.rows += _rows_of_song(song, truths, ear)
            gallery.show_generated(song, truths[song.number], ear)
            seconds, count = seconds + song.seconds, count + 1
            measuring += time.monotonic() - paused
    except (FileNotFoundError, ValueError) as error:
        findings.failures.append(f"no songs were generated: {error}")
        return
    findings.pace = {
        "songs": count,
        "song_seconds": round(seconds, 1),
        "wall_seconds": round(time.monotonic() - began - measuring, 1),
        "threads": torch.get_num_threads(),
        "batch": settings.batch,
    }


def _rows_of_song(song: Generated, truths: dict[int, SongTruth], ear: Ear) -> list[Row]:
    """What is measured of a generated song, against its own request and, for chance, another's."""
    truth, name = truths[song.number], f"{song.number:06}"
    others = [other for number, other in truths.items() if number != song.number]
    rows = word_rows(ear, name, "generated", song.stems["vocal"], _wanted(truth))
    rows += song_rows(name, "generated", song.stems, truth)
    rows.append(Row(name, "ended", "generated", float(song.has_ended)))
    if others:
        other = others[song.number % len(others)]
        rows += word_rows(ear, name, "chance", song.stems["vocal"], _wanted(other))
        rows += other_beat(name, song.stems, other.bpm)
    return rows


def _wanted(truth: SongTruth) -> list[str]:
    return [item.name for item in truth.phonemes]


def _write(report: dict[str, Any], gallery: Gallery, work: Path, settings: ReportSettings) -> Path:
    """report.json, pictures and page; page and pictures a second time where the settings say."""
    folder = work / FOLDER
    report["pictures"] = gallery.draw(work, folder, report["summary"])
    page, text = folder / PAGE, page_of(report).encode()
    write_together({page: text, folder / REPORT: (json.dumps(report, indent=1) + "\n").encode()})
    if settings.page:
        copied = Path(settings.page)
        pictures = {copied.parent / name: (folder / name).read_bytes() for name in report["pictures"]}
        write_together({copied: text, **pictures})
    return folder / REPORT
