"""What is measured of the stems of one song: true ones, and what a codec or the language model made of them.

`Ear` holds the recogniser, which may be missing; then words are not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from songgen.evaluate.phonemes import align
from songgen.request_keys import Stem
from songgen.train.report.closeness import leakage, mel_distance, silence_level
from songgen.train.report.form import beat_strength, first_voiced_second, has_tempo
from songgen.train.report.listener import Listener, LogMel, hear
from songgen.train.report.measured import MEASURES, Row, rows_of
from songgen.train.report.pitch import (
    FRAME_RATE,
    NEAR_CENTS,
    best_scale,
    cents_off,
    chance_share,
    midi,
    scale_of_band,
    track_pitch,
)
from songgen.train.truth import SAMPLE_RATE, SongTruth

Array = npt.NDArray[np.float32]
Stems = Mapping[Stem, Array]

REGISTER_BORDER = 59.5
"""MIDI note between the median pitches of low voices (true ones: 52 ... 57) and high ones (62 ... 65)."""


@dataclass(frozen=True)
class Ear:
    """The recogniser with its front end; None where it was not trained."""

    listener: Listener | None
    log_mel: LogMel

    def heard(self, vocal_CN: Array) -> list[tuple[float, str]]:
        """Phonemes of a vocal stem and about when; none without a recogniser."""
        if self.listener is None:
            return []
        return hear(self.listener, self.log_mel, torch.from_numpy(np.ascontiguousarray(vocal_CN)))


def true_pitch(truth: SongTruth) -> npt.NDArray[np.float64]:
    """The voice's pitch in each frame as a MIDI note, 0 where it has none."""
    hertz = np.asarray(truth.f0_hz, dtype=np.float64)
    return np.where(hertz > 0, midi(np.maximum(hertz, 1.0)), 0.0)


def word_rows(ear: Ear, song: str, source: str, vocal_CN: Array, wanted: Sequence[str]) -> list[Row]:
    """The errors of the phonemes heard, and how many were wanted."""
    if ear.listener is None or not wanted:
        return []
    errors = align(wanted, [symbol for _, symbol in ear.heard(vocal_CN)])
    return [Row(song, "per", source, errors.errors, errors.phonemes)]


def codec_rows(song: str, source: str, stems: Stems, true: Stems, truth: SongTruth) -> list[Row]:
    """How close stems come to the true ones, as far as there are stems."""
    values: dict[str, float | None] = {}
    if source != "true":
        for stem, samples in stems.items():
            values[f"mel_{stem}"] = mel_distance(true[stem], samples, SAMPLE_RATE)
    if "vocal" in stems:
        vocal = stems["vocal"]
        heard, wanted = track_pitch(vocal, SAMPLE_RATE), true_pitch(truth)
        off = cents_off(heard, wanted)
        if len(off):
            values["pitch_cents"] = float(np.median(off))
            values["pitch_near"] = float((off <= NEAR_CENTS).mean())
            values["voiced"] = len(off) / float((wanted > 0).sum())
        sung = [(item.start, item.end) for item in truth.phonemes]
        values["silence_level"] = silence_level(vocal, SAMPLE_RATE, sung)
        if source != "true":
            values["band_in_vocal"] = leakage(vocal, true["vocal"], true["bgm"], SAMPLE_RATE)
    if "bgm" in stems and source != "true":
        values["vocal_in_band"] = leakage(stems["bgm"], true["bgm"], true["vocal"], SAMPLE_RATE)
    return rows_of(song, source, values)


def song_rows(song: str, source: str, stems: Stems, truth: SongTruth) -> list[Row]:
    """How a song keeps to its scale, its beat and what its request says; stems as rendered."""
    pitch = track_pitch(stems["vocal"], SAMPLE_RATE)
    is_sung = bool((pitch > 0).sum() >= FRAME_RATE / 2)
    mixed = stems["mixed"]
    met = has_tempo(mixed, SAMPLE_RATE, truth.bpm)
    values: dict[str, float | None] = {
        "beat": beat_strength(mixed, SAMPLE_RATE, truth.bpm),
        "tempo_met": None if met is None else float(met),
        "sung": float(is_sung == bool(truth.phonemes)),
    }
    rows = []
    if is_sung and truth.phonemes:
        values["in_scale"] = best_scale(pitch).share(pitch)
        values["in_band_scale"] = scale_of_band(stems["bgm"], SAMPLE_RATE).share(pitch)
        is_high = float(np.median(pitch[pitch > 0])) >= REGISTER_BORDER
        values["register"] = float(is_high == (truth.voice == "female"))
        values |= _entry(pitch, truth)
        if source == "generated":
            rows = rows_of(song, "chance", {"in_scale": chance_share(pitch)})
    if source == "generated":
        ratio = mixed.shape[1] / SAMPLE_RATE / (truth.num_frames / FRAME_RATE)
        values |= {"length_ratio": ratio, "length_off": abs(ratio - 1.0)}
    return rows + rows_of(song, source, values)


def other_beat(song: str, stems: Stems, bpm: float) -> list[Row]:
    """Beat strength at a tempo that was asked of another song."""
    return rows_of(song, "chance", {"beat": beat_strength(stems["mixed"], SAMPLE_RATE, bpm)})


def _entry(pitch_T: npt.NDArray[np.float64], truth: SongTruth) -> dict[str, float | None]:
    """When singing begins, by the intro asked for, and how far from the true song's."""
    begins = first_voiced_second(pitch_T, FRAME_RATE)
    wanted = first_voiced_second(true_pitch(truth), FRAME_RATE)
    if begins is None or wanted is None:
        return {}
    first = truth.lyrics.partition("]")[0].removeprefix("[")
    name = f"entry_{first.removeprefix('intro-') if first.startswith('intro-') else 'none'}"
    values: dict[str, float | None] = {"entry_off": abs(begins - wanted)}
    if name in MEASURES:
        values[name] = begins
    return values
