"""Which songs the page shows, and its pictures: the first held-out song true, resynthesised and generated."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from songgen.audio import Audio
from songgen.train.report.generation import Generated
from songgen.train.report.measured import SOURCES
from songgen.train.report.pitch import best_scale, track_pitch
from songgen.train.report.plots import Shown, draw_curves, draw_pitch, draw_rates, draw_songs
from songgen.train.report.stems_measured import Ear, Stems
from songgen.train.truth import SAMPLE_RATE, SongTruth

IMAGES = Path("images")
STEMS = ("vocal", "bgm")
TEXTS = {
    "true": "A held-out song as it was made, words where they are sung",
    "resynthesised": "The same song through tokens and back",
    "generated": "The model's own song of the same lyrics, with the phonemes that the recogniser hears in it",
}


class Gallery:
    """The songs to be drawn, by source; the first of each that is shown is kept."""

    def __init__(self) -> None:
        self._songs: dict[str, tuple[int, Shown]] = {}

    def show_true(self, number: int, truth: SongTruth, stems: Stems) -> None:
        """The true stems of a song."""
        self._show("true", number, stems, _words(truth))

    def show_resynthesised(self, number: int, truth: SongTruth, stems: Stems) -> None:
        """The stems of a song that went through the codec."""
        self._show("resynthesised", number, stems, _words(truth))

    def show_generated(self, song: Generated, truth: SongTruth, ear: Ear) -> None:
        """A generated song; that of the true song's lyrics is drawn."""
        wanted = self._songs.get("true")
        if wanted is None or wanted[0] == song.number:
            heard = [(at, symbol.lower()) for at, symbol in ear.heard(song.stems["vocal"])]
            self._show("generated", song.number, song.stems, heard)

    def _show(self, source: str, number: int, stems: Stems, words: Sequence[tuple[float, str]]) -> None:
        if source not in self._songs:
            audio = {stem: Audio(stems[stem], SAMPLE_RATE) for stem in STEMS}  # type: ignore[index]
            self._songs[source] = number, Shown(f"{SOURCES[source]}, song {number}", audio, words)

    def draw(self, work: Path, page_folder: Path, summary: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Draw the pictures below `page_folder`; path relative to it -> what it shows. None without
        matplotlib."""
        if importlib.util.find_spec("matplotlib") is None:
            return {}
        texts: dict[str, str] = {}

        def place(name: str, text: str) -> Path:
            texts[(IMAGES / f"nano_{name}.png").as_posix()] = text
            return page_folder / IMAGES / f"nano_{name}.png"

        for source, (_, song) in self._songs.items():
            draw_songs([song], place(source, TEXTS[source]))
        tracks = []
        for source, (_, song) in self._songs.items():
            pitch_T = track_pitch(song.stems["vocal"].samples, SAMPLE_RATE)
            tracks.append((SOURCES[source], pitch_T, best_scale(pitch_T)))
        if tracks:
            draw_pitch(tracks, place("pitch", "Pitch of the same vocals, over the notes of the best scale"))
        rates = [row for row in summary if row["measure"] == "per"]
        if rates:
            draw_rates(rates, SOURCES, place("words", "Phoneme error rate by source, with intervals"))
        if not draw_curves(work, place("losses", "Losses of the stages over their steps")):
            texts.popitem()
        return texts


def _words(truth: SongTruth) -> list[tuple[float, str]]:
    return [(word.start, word.name) for word in truth.words]
