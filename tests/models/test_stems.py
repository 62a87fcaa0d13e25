"""Stems of finished songs: levels, lengths, rates, and what cannot be separated."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from songgen.models.separation import Separator
from songgen.models.stems import separate_song

RATE = 48000


class LowIsVocal(nn.Module):
    """A stand-in network: what is slower than some 700 Hz is sung."""

    samplerate = 44100
    segment = Fraction(39, 5)
    sources = ("drums", "vocal", "other")
    width = 63

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.batches: list[int] = []

    def forward(self, clips: Tensor) -> Tensor:
        self.batches.append(clips.shape[0])
        low = nn.functional.avg_pool1d(clips, self.width, 1, self.width // 2, count_include_pad=False)
        return torch.stack([0.5 * (clips - low), low, 0.5 * (clips - low)], dim=1)


def tones(seconds: float, frequencies: tuple[float, ...], rate: int = RATE) -> Tensor:
    """The same tones left and right, the right one quieter."""
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    tone = sum(torch.sin(2 * math.pi * frequency * time) for frequency in frequencies)
    return (0.4 * torch.as_tensor(tone) * torch.tensor([[1.0], [0.5]])).float()


@pytest.mark.parametrize("seconds", [1.0, 13.7, 31.21])
def test_vocals_are_taken_out_of_the_song(seconds: float) -> None:
    """Two tones come apart at their level, without seams where stretches meet; nothing is lost."""
    separator = Separator(LowIsVocal())
    sung, played = tones(seconds, (40,)), tones(seconds, (4200,))  # 4200 Hz: six periods of the filter
    stems = separate_song(sung + played, RATE, separator, 19090)
    assert list(stems) == ["vocal", "bgm"]
    assert stems["vocal"].shape == stems["bgm"].shape == sung.shape
    assert stems["vocal"].dtype == torch.float32
    inner = slice(200, -200)
    torch.testing.assert_close(stems["vocal"][:, inner], sung[:, inner], rtol=0, atol=0.005)
    torch.testing.assert_close(stems["bgm"][:, inner], played[:, inner], rtol=0, atol=0.005)
    torch.testing.assert_close(stems["vocal"] + stems["bgm"], sung + played, rtol=0, atol=1e-6)


@pytest.mark.parametrize("num_samples", [2, 1919, 48000, 88321, 480001])
@pytest.mark.parametrize("rate", [48000, 44100, 32000])
def test_stems_are_as_long_as_the_song(num_samples: int, rate: int) -> None:
    """Resampled there and back, no sample is missing or too much."""
    song = torch.randn(2, num_samples, generator=torch.Generator().manual_seed(1))
    stems = separate_song(song, rate, Separator(LowIsVocal()), 0)
    assert all(stem.shape == song.shape and stem.isfinite().all() for stem in stems.values())


def test_the_level_of_the_song_does_not_matter() -> None:
    """A song is normalised for the network, and its stems are brought back."""
    song, separator = tones(3, (110, 4200)), Separator(LowIsVocal())
    loud, quiet = separate_song(song, RATE, separator, 0), separate_song(0.01 * song, RATE, separator, 0)
    torch.testing.assert_close(0.01 * loud["vocal"], quiet["vocal"], rtol=0, atol=1e-6)


def test_silence_stays_silence() -> None:
    stems = separate_song(torch.zeros(2, RATE), RATE, Separator(LowIsVocal()), 0)
    assert not stems["vocal"].any() and not stems["bgm"].any()


def test_rows_run_together_change_nothing() -> None:
    song, network = tones(30, (110, 4200)), LowIsVocal()
    alone = separate_song(song, RATE, Separator(LowIsVocal()), 100)
    together = separate_song(song, RATE, Separator(network), 100, rows=4)
    assert network.batches == [4, 2]
    torch.testing.assert_close(alone["vocal"], together["vocal"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(RATE,), (1, RATE), (3, RATE)])
def test_only_stereo_is_separated(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"only stereo, \[2, N\], is separated"):
        separate_song(torch.zeros(shape), RATE, Separator(LowIsVocal()))


@pytest.mark.parametrize("num_samples", [0, 1])
def test_too_short_to_separate(num_samples: int) -> None:
    with pytest.raises(ValueError, match=f"a song of {num_samples} samples at 48000 Hz is too short"):
        separate_song(torch.zeros(2, num_samples), RATE, Separator(LowIsVocal()))


def test_a_separator_without_vocals() -> None:
    network = LowIsVocal()
    network.sources = ("drums", "bass", "other")
    with pytest.raises(ValueError, match="the separator knows no vocals, only drums, bass, other"):
        separate_song(tones(1, (110,)), RATE, Separator(network))


def test_a_shift_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"shift offset 22051 is not within 0 \.\.\. 22050"):
        separate_song(tones(1, (110,)), RATE, Separator(LowIsVocal()), 22051)
