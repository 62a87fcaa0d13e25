"""Audio in memory and on disk.

Writing encodes in memory first, so that a full disk is an ordinary error and no partial file is left.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from songgen.files import write_together

AudioFormat = Literal["wav", "flac", "ogg", "mp3", "opus"]
FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)
BITS: dict[AudioFormat, tuple[int, ...]] = {"wav": (16, 24, 32), "flac": (16, 24)}
"""Sample widths that a format can be told to use, its default first; 32 is float, which nothing clips."""

LOSSY: dict[AudioFormat, dict[str, Any]] = {
    "ogg": {"format": "OGG", "subtype": "VORBIS", "compression_level": 0.2},
    "mp3": {
        "format": "MP3",
        "subtype": "MPEG_LAYER_III",
        "bitrate_mode": "CONSTANT",
        "compression_level": 0.0,
    },
    "opus": {"format": "OGG", "subtype": "OPUS", "compression_level": 0.4},
}
"""Encoder settings. On stereo noise at 48 kHz: ogg 275 kbit/s, mp3 320 kbit/s (constant), opus 315 kbit/s."""

OPUS_RATES = (8000, 12000, 16000, 24000, 48000)
OPUS_PACKET_SECONDS, OPUS_LOOKAHEAD_SECONDS = 0.02, 0.0065
WRITE_BLOCK_SECONDS = 1


@dataclass(frozen=True)
class Audio:
    """Float32 PCM: `samples` is `[C, N]`, nominally within -1 ... 1; `sample_rate` in Hz."""

    samples: npt.NDArray[np.float32]
    sample_rate: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples.shape[-1] / self.sample_rate


def encode_audio(audio: Audio, format: AudioFormat = "wav", *, bits: int | None = None) -> tuple[bytes, int]:
    """The bytes of an audio file, and how many samples were clipped to -1 ... 1 (always 0 for 32 bit).

    The file has exactly the samples given; opus alone gets under 20 ms of silence at its end.

    Args:
        bits: width of a sample, one of `BITS[format]`, None for 16; lossy formats have none.

    Raises:
        ValueError: no samples, samples that are not finite, or something that the format cannot hold.
    """
    import soundfile

    _check_writable(audio, format, bits)
    if format in LOSSY:
        options = LOSSY[format]
    else:
        width = bits or BITS[format][0]
        options = {"format": format.upper(), "subtype": "FLOAT" if width == 32 else f"PCM_{width}"}
    samples = np.ascontiguousarray(audio.samples.T, dtype=np.float32)
    clipped = 0
    if options["subtype"] != "FLOAT":
        clipped = int(np.count_nonzero(np.abs(samples) > 1.0))
        samples = np.clip(samples, -1.0, 1.0) if clipped else samples
    if options["subtype"] == "OPUS":
        samples = _whole_packets(samples, audio.sample_rate)
    buffer = io.BytesIO()
    block = WRITE_BLOCK_SECONDS * audio.sample_rate
    with soundfile.SoundFile(
        buffer, "w", samplerate=audio.sample_rate, channels=samples.shape[1], **options
    ) as file:
        # libsndfile 1.2.2 crashes on a minute of Vorbis in one call; blocks cost nothing elsewhere.
        for start in range(0, len(samples), block):
            file.write(samples[start : start + block])
    return buffer.getvalue(), clipped


def write_audio(
    path: Path | str, audio: Audio, format: AudioFormat = "wav", *, bits: int | None = None
) -> int:
    """Write an audio file that appears whole or not at all; returns how many samples were clipped.

    Raises:
        ValueError: as `encode_audio`.
        OSError: the file cannot be written.
    """
    data, clipped = encode_audio(audio, format, bits=bits)
    write_together({Path(path): data})
    return clipped


def read_audio(path: Path | str, *, max_seconds: float | None = None) -> Audio:
    """Read wav, flac, ogg, mp3 or opus at its own rate and channel count; float files may hold any value.

    Args:
        max_seconds: read no more than this from the start; None for all.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a file, not audio that can be read, or holds no samples.
    """
    import soundfile

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: is not a file")
    try:
        with soundfile.SoundFile(path) as file:
            frames = -1 if max_seconds is None else max(0, round(max_seconds * file.samplerate))
            samples = file.read(frames, dtype="float32", always_2d=True)
            rate = int(file.samplerate)
    except soundfile.SoundFileError as error:
        reason = str(error).rsplit(": ", 1)[-1]
        raise ValueError(f"{path}: cannot be read as audio: {reason}") from error
    if not len(samples):
        raise ValueError(f"{path}: holds no samples")
    return Audio(np.ascontiguousarray(samples.T), rate)


def read_part(path: Path | str, start: int, num_samples: int) -> Audio:
    """Read some samples of an audio file, at its own rate, without reading those before them.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no audio that can be read, or ends before the last of these samples.
    """
    import soundfile

    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with soundfile.SoundFile(path) as file:
            file.seek(min(start, file.frames))
            samples = file.read(num_samples, dtype="float32", always_2d=True)
            rate = int(file.samplerate)
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path}: cannot be read as audio: {str(error).rsplit(': ', 1)[-1]}") from error
    if len(samples) < num_samples:
        raise ValueError(f"{path}: samples {start} to {start + num_samples} asked for, it ends before them")
    return Audio(np.ascontiguousarray(samples.T), rate)


def check_bits(format: AudioFormat, bits: int | None) -> None:
    """Raise ValueError unless the format can be written with samples of this width (None: its default)."""
    if bits is None or bits in BITS.get(format, ()):
        return
    if format not in BITS:
        raise ValueError(
            f"bits={bits} has no meaning for {format}, which is lossy: only for {', '.join(BITS)}"
        )
    allowed = " or ".join(str(width) for width in BITS[format])
    raise ValueError(f"bits={bits} is not possible for {format}: must be {allowed}")


def _whole_packets(samples: npt.NDArray[np.float32], rate: int) -> npt.NDArray[np.float32]:
    """`[N, C]` with under 20 ms of silence added, so that the encoder's last packet is a whole one.

    libsndfile 1.2.2 spoils the last 5 ms, audibly, where it has to end with a shorter packet.
    """
    packet, lookahead = round(OPUS_PACKET_SECONDS * rate), round(OPUS_LOOKAHEAD_SECONDS * rate)
    return np.pad(samples, ((0, -(len(samples) + lookahead) % packet), (0, 0)))


def _check_writable(audio: Audio, format: AudioFormat, bits: int | None) -> None:
    if format not in FORMATS:
        raise ValueError(f"audio format {format!r} is unknown: must be one of {', '.join(FORMATS)}")
    check_bits(format, bits)
    if audio.samples.ndim != 2:
        raise ValueError(f"audio must be [channels, samples], not of shape {list(audio.samples.shape)}")
    if not audio.samples.size:
        raise ValueError("audio holds no samples")
    broken = int(audio.samples.size - np.count_nonzero(np.isfinite(audio.samples)))
    if broken:
        raise ValueError(f"audio holds {broken} samples that are not finite (NaN or infinity)")
    if format == "mp3" and audio.samples.shape[0] > 2:
        raise ValueError(f"mp3 holds at most 2 channels, not {audio.samples.shape[0]}")
    if format == "opus" and audio.sample_rate not in OPUS_RATES:
        rates = ", ".join(str(rate) for rate in OPUS_RATES)
        raise ValueError(f"opus cannot hold {audio.sample_rate} Hz: must be one of {rates}")
