"""The pitch of a vocal stem, and how well it keeps to a scale.

The fundamental comes from YIN (de Cheveigne and Kawahara 2002, "YIN, a fundamental frequency estimator for
speech and music", JASA 111): the cumulative mean normalised difference, the first dip below a threshold, a
parabola through it. Pitches are MIDI notes at A4 = 440 Hz; knows nothing of files or models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

FRAME_RATE = 25.0
LOWEST_HZ, HIGHEST_HZ = 65.0, 1100.0
WINDOW_SECONDS = 0.04
THRESHOLD, WORST_DIP = 0.12, 0.25
"""The dip that is taken at once, and the deepest one that still counts as voiced."""

QUIET_DB = 35.0
"""Frames that are so far below the loud ones are unvoiced."""

MAJOR, MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 10)
NEAR_CENTS = 50.0
CHANCE_DRAWS = 100


def track_pitch(samples_CN: npt.NDArray[np.float32], sample_rate: int) -> Floats:
    """MIDI pitch in the middle of each 1/25 s of `[C, N]`, `[T]`, 0 where unvoiced; T counts whole frames."""
    signal = samples_CN.mean(axis=0, dtype=np.float64)
    hop = round(sample_rate / FRAME_RATE)
    size = round(WINDOW_SECONDS * sample_rate)
    longest = int(np.ceil(sample_rate / LOWEST_HZ)) + 2
    count = len(signal) // hop
    if not count:
        return np.zeros(0)
    before = (size + longest) // 2
    padded = np.pad(signal, (before, size + longest + hop))
    starts = np.arange(count) * hop + hop // 2
    frames_TN = padded[starts[:, None] + np.arange(size + longest)]
    shortest = int(sample_rate / HIGHEST_HZ)
    lags, dips = _periods(_normalised_difference(frames_TN, size, longest), shortest)
    power = np.square(frames_TN).mean(axis=1)
    loud = np.quantile(power, 0.9) * 10.0 ** (-QUIET_DB / 10.0)
    is_voiced = (dips <= WORST_DIP) & (power > max(loud, 1e-9))
    pitch = np.where(is_voiced, midi(sample_rate / lags), 0.0)
    return _without_lone_frames(pitch)


def midi(hertz: Floats) -> Floats:
    """MIDI notes of frequencies above 0."""
    return np.asarray(69.0 + 12.0 * np.log2(np.asarray(hertz) / 440.0))


def _normalised_difference(frames_TN: Floats, size: int, longest: int) -> Floats:
    """YIN's d'(lag), `[T, longest]`: 1 at no lag, 0 for a perfect period."""
    length = 1 << int(np.ceil(np.log2(frames_TN.shape[1] + size)))
    head = np.fft.rfft(frames_TN[:, :size], length)
    products = np.fft.irfft(np.conj(head) * np.fft.rfft(frames_TN, length), length)[:, :longest]
    sums = np.cumsum(np.pad(np.square(frames_TN), ((0, 0), (1, 0))), axis=1)
    energy = sums[:, size : size + longest] - sums[:, :longest]
    difference = np.maximum(energy[:, :1] + energy - 2.0 * products, 0.0)
    difference[:, 0] = 0.0
    mean = np.cumsum(difference, axis=1) / np.maximum(np.arange(longest), 1)
    ratio = difference / np.maximum(mean, 1e-12)
    ratio[:, 0] = 1.0
    return np.asarray(ratio)


def _periods(ratio_TL: Floats, shortest: int) -> tuple[Floats, Floats]:
    """The period in samples of each frame and the depth of its dip."""
    inner = ratio_TL[:, shortest:-1]
    is_dip = (inner <= ratio_TL[:, shortest - 1 : -2]) & (inner < ratio_TL[:, shortest + 1 :])
    rows = np.arange(len(inner))
    deepest = np.where(is_dip, inner, 2.0).min(axis=1)
    good = is_dip & (inner <= np.maximum(THRESHOLD, deepest + 0.02)[:, None])
    first = np.argmax(good, axis=1)
    depth = np.where(good.any(axis=1), inner[rows, first], 2.0)
    place = first + shortest
    left, here, right = (ratio_TL[rows, place + shift] for shift in (-1, 0, 1))
    bend = left - 2.0 * here + right
    shift = np.where(bend > 1e-12, 0.5 * (left - right) / np.maximum(bend, 1e-12), 0.0)
    return place + np.clip(shift, -0.5, 0.5), depth


def _without_lone_frames(pitch_T: Floats) -> Floats:
    """Voiced frames that have no voiced neighbour within a fifth are dropped: they are slips."""
    padded = np.pad(pitch_T, 1)
    near = [(other > 0) & (np.abs(other - pitch_T) < 7.0) for other in (padded[:-2], padded[2:])]
    return np.where((pitch_T > 0) & (near[0] | near[1]), pitch_T, 0.0)


def cents_off(heard_T: Floats, true_T: Floats) -> Floats:
    """Distance in cents where both are voiced, MIDI notes in; without a sign."""
    length = min(len(heard_T), len(true_T))
    heard, true = heard_T[:length], true_T[:length]
    both = (heard > 0) & (true > 0)
    return np.abs(heard[both] - true[both]) * 100.0


@dataclass(frozen=True)
class Scale:
    """A major or natural minor scale: its tonic 0 (C) ... 11."""

    tonic: int
    mode: str

    @property
    def pitch_classes(self) -> tuple[int, ...]:
        """Its seven pitch classes."""
        return tuple(sorted((self.tonic + step) % 12 for step in (MAJOR if self.mode == "major" else MINOR)))

    def share(self, pitch_T: Floats) -> float:
        """Share of the voiced frames within 50 cents of one of its notes; 0 of none.

        Every pitch is within 50 cents of some semitone: in scale is whose semitone belongs to it.
        """
        voiced = pitch_T[pitch_T > 0]
        if not len(voiced):
            return 0.0
        return float(np.isin(np.round(voiced).astype(int) % 12, self.pitch_classes).mean())


SCALES = tuple(Scale(tonic, mode) for mode in ("major", "minor") for tonic in range(12))


def best_scale(pitch_T: Floats) -> Scale:
    """The one of the 24 scales that most voiced frames belong to; of equals the first."""
    return max(SCALES, key=lambda scale: scale.share(pitch_T))


def scale_of_band(samples_CN: npt.NDArray[np.float32], sample_rate: int) -> Scale:
    """The scale that most of a band's spectrum between 60 and 1000 Hz belongs to.

    Each semitone's level is the power of its strongest bin, summed over time as a square root, so that a loud
    chord does not decide alone.
    """
    size = 1 << int(np.ceil(np.log2(0.3 * sample_rate)))
    signal = np.pad(samples_CN.mean(axis=0), (0, size))
    frames_TN = np.lib.stride_tricks.sliding_window_view(signal, size)[:: size // 2]
    power_TF = np.abs(np.fft.rfft(frames_TN * np.hanning(size), axis=1)) ** 2
    bins = np.fft.rfftfreq(size, 1.0 / sample_rate)
    levels = np.zeros(12)
    for note in range(36, 84):
        low, high = (440.0 * 2.0 ** ((note + edge - 69) / 12.0) for edge in (-0.4, 0.4))
        inside = (bins >= low) & (bins <= high)
        if inside.any():
            levels[note % 12] += np.sqrt(power_TF[:, inside].max(axis=1)).sum()
    return max(SCALES, key=lambda scale: levels[list(scale.pitch_classes)].sum())


def chance_share(pitch_T: Floats, seed: int = 0) -> float:
    """What `best_scale` would give of the same notes at random pitches: each run of frames that stay on one
    semitone is moved by a random number of semitones, and the best of the 24 scales is taken anew."""
    voiced = np.round(pitch_T).astype(int)
    edges = np.flatnonzero(np.diff(np.pad(voiced, 1)) != 0)
    runs = np.zeros(len(voiced), dtype=int)
    runs[edges[(edges > 0) & (edges < len(voiced))]] = 1
    runs = np.cumsum(runs)
    rng = np.random.default_rng(seed)
    shares = []
    for _ in range(CHANCE_DRAWS):
        moved = np.where(voiced > 0, 48 + (voiced + rng.integers(0, 12, runs.max() + 1)[runs]) % 12, 0)
        shares.append(max(scale.share(moved.astype(float)) for scale in SCALES[:12]))
    return float(np.mean(shares))
