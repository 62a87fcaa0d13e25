"""Audio files: every format reads back, clipping is counted, what cannot be written says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from songgen.audio import FORMATS, Audio, AudioFormat, check_bits, encode_audio, read_audio, write_audio


def tone(seconds: float = 0.5, channels: int = 2, rate: int = 48000, level: float = 0.5) -> Audio:
    time = np.arange(round(seconds * rate)) / rate
    rows = [level * np.sin(2 * np.pi * 220 * (1 + row) * time) for row in range(channels)]
    return Audio(np.stack(rows).astype(np.float32), rate)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("format", FORMATS)
def test_every_format_reads_back(tmp_path: Path, format: AudioFormat, channels: int) -> None:
    audio = tone(channels=channels)
    assert write_audio(tmp_path / f"a.{format}", audio, format) == 0
    back = read_audio(tmp_path / f"a.{format}")
    assert len(back.samples) == channels and back.sample_rate == 48000
    assert back.samples.dtype == np.float32 and back.samples.flags["C_CONTIGUOUS"]
    added = back.samples.shape[1] - audio.samples.shape[1]
    assert 0 <= added < 960 if format == "opus" else added == 0
    error = np.abs(back.samples[:, : audio.samples.shape[1]] - audio.samples).max()
    assert error < (0.0001 if format in ("wav", "flac") else 0.05)


@pytest.mark.parametrize("samples", [1920 * 25, 46000, 12345, 500, 1])
def test_opus_keeps_the_end_of_a_loud_song(tmp_path: Path, samples: int) -> None:
    """libsndfile ended with a short packet, which put a burst of up to full scale into the last 5 ms."""
    audio = Audio(tone(1.0).samples[:, :samples], 48000)
    write_audio(tmp_path / "a.opus", audio, "opus")
    back = read_audio(tmp_path / "a.opus").samples
    assert np.abs(back[:, :samples] - audio.samples).max() < 0.1


@pytest.mark.parametrize(
    ("format", "bits", "subtype", "error"),
    [
        ("wav", None, "PCM_16", 2**-15),
        ("wav", 16, "PCM_16", 2**-15),
        ("wav", 24, "PCM_24", 2**-23),
        ("wav", 32, "FLOAT", 0.0),
        ("flac", None, "PCM_16", 2**-15),
        ("flac", 24, "PCM_24", 2**-23),
    ],
)
def test_widths(tmp_path: Path, format: AudioFormat, bits: int | None, subtype: str, error: float) -> None:
    path, audio = tmp_path / "a", tone()
    write_audio(path, audio, format, bits=bits)
    assert soundfile.info(path).subtype == subtype
    assert np.abs(read_audio(path).samples - audio.samples).max() <= error


@pytest.mark.parametrize("format", FORMATS)
def test_minutes_of_every_format(format: AudioFormat) -> None:
    """libsndfile crashes the interpreter on 60 s of Vorbis in one call."""
    data, _ = encode_audio(Audio(np.zeros((2, 61 * 48000), np.float32), 48000), format)
    assert len(data) > 1000


@pytest.mark.parametrize("format", FORMATS)
def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path: Path, format: AudioFormat) -> None:
    audio = tone()
    audio.samples[0, :3] = (1.5, -1.5, 1.0)
    assert write_audio(tmp_path / "a", audio, format) == 2
    if format in ("wav", "flac"):
        back = read_audio(tmp_path / "a").samples[0, :3]
        assert np.abs(back - (1.0, -1.0, 1.0)).max() < 1e-4  # clipped, not wrapped round


def test_float_files_keep_samples_beyond_full_scale(tmp_path: Path) -> None:
    assert write_audio(tmp_path / "a.wav", tone(level=2.0), bits=32) == 0
    assert np.abs(read_audio(tmp_path / "a.wav").samples).max() > 1.9


def test_the_audio_handed_in_is_not_changed() -> None:
    audio = tone(level=2.0)
    before = audio.samples.copy()
    encode_audio(audio)
    assert (audio.samples == before).all()


@pytest.mark.parametrize(
    ("audio", "format", "bits", "message"),
    [
        (tone(), "aiff", None, "audio format 'aiff' is unknown: must be one of wav, flac, ogg, mp3, opus"),
        (tone(), "mp3", 16, "bits=16 has no meaning for mp3, which is lossy: only for wav, flac"),
        (tone(), "flac", 32, "bits=32 is not possible for flac: must be 16 or 24"),
        (tone(), "wav", 8, "bits=8 is not possible for wav: must be 16 or 24 or 32"),
        (
            Audio(np.zeros(5, np.float32), 48000),
            "wav",
            None,
            r"must be \[channels, samples\], not of shape \[5\]",
        ),
        (Audio(np.zeros((2, 0), np.float32), 48000), "wav", None, "audio holds no samples"),
        (
            Audio(np.full((1, 2), np.nan, np.float32), 48000),
            "wav",
            None,
            "holds 2 samples that are not finite",
        ),
        (tone(channels=3), "mp3", None, "mp3 holds at most 2 channels, not 3"),
        (tone(rate=44100), "opus", None, "opus cannot hold 44100 Hz: must be one of 8000, 12000"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: Path, audio: Audio, format: AudioFormat, bits: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        write_audio(tmp_path / "a", audio, format, bits=bits)
    assert not list(tmp_path.iterdir())


def test_check_bits_accepts_the_default_of_every_format() -> None:
    for format in FORMATS:
        check_bits(format, None)


def test_only_the_start_is_read_if_wanted(tmp_path: Path) -> None:
    write_audio(tmp_path / "a.wav", tone(seconds=2.0))
    assert read_audio(tmp_path / "a.wav", max_seconds=0.5).seconds == 0.5
    assert read_audio(tmp_path / "a.wav", max_seconds=9.0).seconds == 2.0


def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.wav: no such file"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(ValueError, match="is not a file"):
        read_audio(tmp_path)
    (tmp_path / "text.wav").write_text("not audio")
    with pytest.raises(ValueError, match=r"text\.wav: cannot be read as audio: Format not recognised"):
        read_audio(tmp_path / "text.wav")
    (tmp_path / "nothing.wav").write_bytes(b"")
    with pytest.raises(ValueError, match=r"nothing\.wav: cannot be read as audio"):
        read_audio(tmp_path / "nothing.wav")
    soundfile.write(tmp_path / "silent.wav", np.zeros((0, 2)), 48000)
    with pytest.raises(ValueError, match=r"silent\.wav: holds no samples"):
        read_audio(tmp_path / "silent.wav")
