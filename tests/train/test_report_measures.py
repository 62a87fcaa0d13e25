"""The report's measures on signals whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from songgen.evaluate.bootstrap import Bootstrap
from songgen.train.report.closeness import leakage, mel_distance, silence_level
from songgen.train.report.form import beat_strength, first_voiced_second, has_tempo
from songgen.train.report.listener import BLANK, NUM_CLASSES, ListenerConfig, LogMel
from songgen.train.report.measured import MEASURES, SOURCES, Row, rows_of, summarise
from songgen.train.report.pitch import (
    FRAME_RATE,
    MAJOR,
    Floats,
    Scale,
    best_scale,
    cents_off,
    chance_share,
    scale_of_band,
    track_pitch,
)
from songgen.train.report.stems_measured import Ear, song_rows, word_rows
from songgen.train.truth import Key, SongTruth, Span

RATE = 48000


def sung(notes_T: Floats, noise: float = 0.0) -> np.ndarray:
    """A buzzing voice of one MIDI note a frame of 1/25 s, 0 silent, `[1, N]`."""
    notes = np.repeat(notes_T, RATE // 25)
    hertz = np.where(notes > 0, 440.0 * 2.0 ** ((notes - 69) / 12), 0.0)
    phase = np.cumsum(2 * np.pi * hertz / RATE)
    voice = sum(np.sin(k * phase) / k for k in range(1, 15)) * (notes > 0)
    return (0.1 * voice + noise * np.random.default_rng(0).standard_normal(len(notes))).astype(np.float32)[
        None
    ]


def melody(pitch_classes: tuple[int, ...], frames: int = 10) -> Floats:
    steps = np.random.default_rng(3).choice(pitch_classes, 20)
    return np.repeat(60.0 + steps, frames)


def test_pitch_is_found_within_some_cents() -> None:
    notes = np.concatenate([np.zeros(10), melody(MAJOR), np.full(40, 45.3), np.zeros(10), np.full(25, 80.0)])
    found = track_pitch(sung(notes, noise=0.002), RATE)
    assert len(found) == len(notes)
    assert (found[notes == 0] == 0).mean() > 0.9
    off = cents_off(found, notes)
    assert len(off) > 0.9 * (notes > 0).sum()
    assert np.median(off) < 5 and (off < 50).mean() > 0.93  # but where notes meet


def test_noise_and_silence_have_no_pitch() -> None:
    noise = np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32)
    assert (track_pitch(noise, RATE) > 0).mean() < 0.1
    assert not track_pitch(np.zeros((2, RATE), np.float32), RATE).any()
    assert len(track_pitch(np.zeros((2, 100), np.float32), RATE)) == 0


def test_a_glide_is_followed() -> None:
    notes = np.linspace(50, 70, 200)
    found = track_pitch(sung(notes), RATE)
    assert (cents_off(found, notes) < 30).mean() > 0.95


def test_a_scale_fits_its_own_notes() -> None:
    d_major = tuple(sorted((2 + step) % 12 for step in MAJOR))
    notes = melody(d_major)
    assert Scale(2, "major").pitch_classes == d_major == Scale(11, "minor").pitch_classes
    assert best_scale(notes).pitch_classes == d_major
    assert Scale(2, "major").share(notes) == 1.0
    assert Scale(2, "major").share(notes + 0.49) == 1.0
    assert Scale(2, "major").share(np.zeros(9)) == 0.0
    chromatic = np.repeat(60.0 + np.arange(12), 5)
    assert Scale(0, "minor").share(chromatic) == pytest.approx(7 / 12)


def test_chance_is_more_than_seven_twelfths_and_less_than_all() -> None:
    assert 7 / 12 < chance_share(melody(MAJOR)) < 0.9
    assert chance_share(melody(MAJOR, frames=3)) == pytest.approx(chance_share(melody(MAJOR)), abs=0.05)


def test_the_scale_of_a_band_is_read_off_its_chords() -> None:
    chords = [sum(sung(np.full(25, 48.0 + root + step)) for step in (0, 4, 7)) for root in (5, 10, 0, 5)]
    found = scale_of_band(np.concatenate(chords, axis=1), RATE)  # F, B flat, C
    assert found.pitch_classes == Scale(5, "major").pitch_classes


def test_mel_distance_is_in_decibels() -> None:
    voice = sung(melody(MAJOR))
    assert mel_distance(voice, voice, RATE) == 0.0
    louder = mel_distance(voice, 2 * voice, RATE)
    assert louder is not None and 3 < louder < 6.1  # 6 dB but in the bands below the floor
    assert mel_distance(0 * voice, voice, RATE) is None


def test_silence_is_measured_where_nobody_sings() -> None:
    notes = np.concatenate([np.full(50, 60.0), np.zeros(50)])
    rest = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32)
    stem = sung(notes)
    stem[:, 2 * RATE :] += 0.01 * np.sqrt(np.mean(stem[:, : 2 * RATE] ** 2)) * rest
    assert silence_level(stem, RATE, [(0.0, 2.0)]) == pytest.approx(-40, abs=0.5)
    assert silence_level(stem, RATE, [(0.0, 4.0)]) is None
    assert silence_level(sung(notes), RATE, [(0.0, 2.0)]) == -100.0


@pytest.mark.parametrize("leak_db", [-10.0, -25.0])
def test_leakage_is_the_other_stems_factor(leak_db: float) -> None:
    vocal = sung(melody(MAJOR))
    rng = np.random.default_rng(5)
    band = (rng.standard_normal(vocal.shape) * np.repeat(rng.random(vocal.shape[1] // 480), 480)).astype(
        np.float32
    )
    rendered = vocal + 10 ** (leak_db / 20) * band
    assert leakage(rendered, vocal, band, RATE) == pytest.approx(leak_db, abs=1.5)
    assert leakage(vocal, vocal, band, RATE) == pytest.approx(-60, abs=25)
    assert leakage(vocal, vocal, 0 * band, RATE) is None


def clicks(bpm: float, seconds: float = 12.0) -> np.ndarray:
    samples = 1e-4 * np.random.default_rng(0).standard_normal(round(seconds * RATE))
    for beat in np.arange(0.1, seconds - 0.1, 60 / bpm):
        samples[round(beat * RATE) :][:2000] += np.exp(-np.arange(2000) / 300) * np.sin(np.arange(2000))
    return samples.astype(np.float32)[None]


def test_a_beat_is_strong_at_its_own_tempo() -> None:
    samples = clicks(100)
    own, other = (beat_strength(samples, RATE, bpm) for bpm in (100, 117))
    assert own is not None and other is not None and own > 0.8 > 0.2 > other
    assert has_tempo(samples, RATE, 100) is True
    assert has_tempo(samples, RATE, 86) is False
    assert beat_strength(samples[:, :RATE], RATE, 60) is None
    assert beat_strength(0 * samples, RATE, 100) is None
    assert has_tempo(samples[:, :RATE], RATE, 100) is None


def test_singing_begins_with_three_voiced_frames() -> None:
    pitch = np.zeros(100)
    pitch[10] = pitch[40:60] = 60
    assert first_voiced_second(pitch, FRAME_RATE) == 1.6
    assert first_voiced_second(np.zeros(50), FRAME_RATE) is None
    assert first_voiced_second(np.ones(2), FRAME_RATE) is None


class Parrot(torch.nn.Module):
    """Hears the phonemes it was given, each for three frames."""

    def __init__(self, classes: list[int]) -> None:
        super().__init__()
        self.classes, self.config = classes, ListenerConfig()

    def forward(self, mel_BMT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        heard = torch.full((mel_BMT.shape[-1],), BLANK)
        for place, index in enumerate(self.classes):
            heard[4 * place : 4 * place + 3] = index
        logits = torch.nn.functional.one_hot(heard, NUM_CLASSES).float()[None]
        return logits, logits


def test_errors_are_counted_against_the_lyrics() -> None:
    from songgen.english import PHONEMES

    wanted, vocal = [PHONEMES[index] for index in (3, 8, 8, 1)], np.zeros((2, RATE), np.float32)
    perfect = word_rows(Ear(Parrot([4, 9, 9, 2]), LogMel()), "a", "true", vocal, wanted)  # type: ignore[arg-type]
    garbled = word_rows(Ear(Parrot([4, 7, 2, 2]), LogMel()), "a", "true", vocal, wanted)  # type: ignore[arg-type]
    assert perfect == [Row("a", "per", "true", 0.0, 4.0)]
    assert garbled == [Row("a", "per", "true", 2.0, 4.0)]
    assert word_rows(Ear(None, LogMel()), "a", "true", vocal, wanted) == []


def song(**changes: object) -> SongTruth:
    facts: dict[str, object] = {
        "seed": 0, "num_frames": 250,
        "lyrics": "[intro-short] ; [verse] Go.", "descriptions": "female, pop",
        "voice": "female", "genre": "pop", "mood": "happy", "bpm": 100,
        "sections": (), "key": Key(0, "major"),
        "words": (), "phonemes": (Span("G", 2.0, 2.2), Span("OW", 2.2, 3.0)), "notes": (), "chords": (),
        "beats": (), "drums": (), "f0_hz": tuple([0.0] * 50 + [440.0] * 200),
    }  # fmt: skip
    return SongTruth(**(facts | changes))  # type: ignore[arg-type]


def test_a_song_is_held_against_its_request() -> None:
    vocal = np.concatenate([np.zeros((1, 3 * RATE), np.float32), sung(melody((0, 2, 4)) + 5)], axis=1)
    band = np.concatenate([sung(np.full(25 * 11, 53.0))], axis=1)[:, : vocal.shape[1]]
    stems = {"vocal": vocal, "bgm": band, "mixed": vocal + band}
    rows = {row.measure: row for row in song_rows("7", "generated", stems, song()) if row.source != "chance"}
    assert rows["in_scale"].value > 0.95 and rows["sung"].value == rows["register"].value == 1
    assert rows["entry_off"].value == pytest.approx(1.0, abs=0.1)
    assert rows["entry_short"].value == pytest.approx(3.0, abs=0.1)
    assert rows["length_ratio"].value == pytest.approx(1.1)
    assert rows["length_off"].value == pytest.approx(0.1)
    low = {row.measure: row for row in song_rows("7", "true", stems, song(voice="male"))}
    assert low["register"].value == 0 and "length_off" not in low
    silent = {"vocal": 0 * vocal, "bgm": band, "mixed": band}
    unsung = {row.measure: row for row in song_rows("7", "generated", silent, song())}
    assert unsung["sung"].value == 0 and not unsung.keys() & {"in_scale", "register", "entry_off"}
    (as_asked,) = (row for row in song_rows("7", "true", silent, song(phonemes=())) if row.measure == "sung")
    assert as_asked.value == 1


def test_rates_are_ratios_of_sums_and_takes_are_one_song() -> None:
    rows = [Row("a", "per", "true", 1, 10), Row("a", "per", "true", 3, 10), Row("b", "per", "true", 0, 20)]
    (summary,) = summarise(rows, Bootstrap())
    assert summary["value"] == 0.1 and summary["songs"] == 2
    assert summary["low"] == 0.0 and summary["high"] == 0.2
    assert summarise([], Bootstrap()) == []
    assert rows_of("a", "true", {"beat": None}) == []


def test_measures_come_in_the_order_of_the_page() -> None:
    rows = [Row("a", measure, source, 1.0) for measure in reversed(MEASURES) for source in reversed(SOURCES)]
    summary = summarise(rows, Bootstrap())
    assert [row["measure"] for row in summary][:: len(SOURCES)] == list(MEASURES)
