"""A song as a picture: waveform and mel spectrogram of each stem, and about where its sections lie.

Nothing records where a section begins: the marks are the lyrics' sections, spread over the song by the length
that the linter estimates for each, and the picture says so. matplotlib draws, without a display.
"""

from __future__ import annotations

import importlib.util
import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from songgen.audio import Audio
from songgen.nn.mel import MelSpectrogram, decibels
from songgen.text_length import Span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES, DPI = 12.0, 100
TITLE_INCHES, STRIP_INCHES, STEM_INCHES, GAP_INCHES = 0.55, 0.3, 2.5, 0.3
"""Heights from the top: title, strip of sections, then each stem, and below each a gap."""

LEFT, RIGHT = 0.06, 0.975
"""Of the axes, as shares of the width."""

COLUMNS = 1100
"""Columns of waveform and spectrogram, about one a pixel."""

FFT_SIZE, NUM_MELS = 2048, 128
SHORTEST_HOP, LONGEST_HOP = 256, 1024
RANGE_DB = 70.0
"""Decibels below a stem's loudest point at which its spectrogram is dark."""

TICKS_HZ = (100, 500, 1000, 2000, 5000, 10000, 20000)
STEM_COLOURS = {"mixed": "#2f5d8a", "vocal": "#b5472f", "bgm": "#3f7d4f"}
TAG_COLOURS = {"verse": "#c9dcf0", "chorus": "#f6d7a8", "bridge": "#d9cdec"}
OTHER_COLOUR = "#e6e6e6"
ESTIMATED = "sections: estimated from the lyrics"
FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Source Han Sans SC",
    "PingFang SC",
    "SimHei",
)
"""Fonts for names in Chinese and Japanese, used where the system has one."""


def require_matplotlib() -> None:
    """Raise ValueError, with the way out, unless pictures can be drawn."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ValueError("pictures need matplotlib, which is not installed: pip install 'songgen[plot]'")


def draw_song(name: str, stems: Mapping[str, Audio], spans: tuple[Span, ...] = ()) -> bytes:
    """A PNG of a song, 1200 pixels wide; equal songs give equal bytes.

    Args:
        stems: stem to audio, drawn in this order.
        spans: about where the sections lie; none are drawn if there are none.

    Raises:
        ValueError: matplotlib is not installed.
    """
    require_matplotlib()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    head = TITLE_INCHES + (STRIP_INCHES if spans else 0)
    height = head + (STEM_INCHES + GAP_INCHES) * len(stems)
    figure = Figure(figsize=(WIDTH_INCHES, height), dpi=DPI)
    FigureCanvasAgg(figure)
    seconds = max(audio.seconds for audio in stems.values())
    _head(figure, f"{name}   {_clock(seconds)}", height)
    pairs = _axes(figure, len(stems), head, height)
    _draw_spans(figure, pairs[0][0], spans, seconds)
    for (stem, audio), (wave, mel) in zip(stems.items(), pairs, strict=True):
        _draw_wave(wave, stem, audio)
        _draw_mel(mel, audio)
        for axis in (wave, mel):
            for span in spans[1:]:
                axis.axvline(span.start, color="#888888", linewidth=0.7, linestyle=(0, (4, 3)))
    _label_time([axis for pair in pairs for axis in pair], seconds)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that no font here can write is drawn as boxes
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def envelope(audio: Audio, columns: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Least and greatest sample of all channels in each of at most `columns` equal parts of the time."""
    low, high = audio.samples.min(0), audio.samples.max(0)
    count = min(columns, len(low))
    starts = np.arange(count) * len(low) // count
    return np.minimum.reduceat(low, starts), np.maximum.reduceat(high, starts)


def mel_picture(audio: Audio, columns: int) -> npt.NDArray[np.float32]:
    """Mel spectrogram in decibels, the mean power of the channels: `[NUM_MELS, at most columns]`."""
    samples_CN = torch.from_numpy(np.ascontiguousarray(audio.samples))
    if samples_CN.shape[-1] < FFT_SIZE:
        samples_CN = torch.nn.functional.pad(samples_CN, (0, FFT_SIZE - samples_CN.shape[-1]))
    hop = min(max(samples_CN.shape[-1] // columns, SHORTEST_HOP), LONGEST_HOP)
    transform = MelSpectrogram(sample_rate=audio.sample_rate, fft_size=FFT_SIZE, hop=hop, num_mels=NUM_MELS)
    power = torch.stack([transform(channel_N[None])[0] for channel_N in samples_CN]).mean(0)
    pooled = torch.nn.functional.adaptive_avg_pool1d(power, min(columns, power.shape[-1]))
    picture: npt.NDArray[np.float32] = decibels(pooled).numpy()
    return picture


def label_of(tag: str, room: float) -> str:
    """A section's tag, or its first word, or nothing: what fits where `room` characters do."""
    return next((text for text in (tag, tag.partition("-")[0]) if len(text) + 1 <= room), "")


def _head(figure: Figure, title: str, height: float) -> None:
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    families = ["DejaVu Sans", *(font for font in FONTS if font in known)]
    figure.text(
        LEFT, 1 - 0.3 / height, title, fontsize=13, fontweight="bold", family=families, va="center",
        parse_math=False,
    )  # fmt: skip


def _axes(figure: Figure, num_stems: int, head: float, height: float) -> list[tuple[Axes, Axes]]:
    """A waveform and a spectrogram for each stem, below each other over one time axis."""
    pairs: list[tuple[Axes, Axes]] = []
    for number in range(num_stems):
        top = head + number * (STEM_INCHES + GAP_INCHES)
        place = figure.add_gridspec(
            2,
            1,
            height_ratios=[0.9, 1.6],
            hspace=0.08,
            top=1 - top / height,
            bottom=1 - (top + STEM_INCHES) / height,
            left=LEFT,
            right=RIGHT,
        )
        wave = figure.add_subplot(place[0], sharex=pairs[0][0] if pairs else None)
        pairs.append((wave, figure.add_subplot(place[1], sharex=wave)))
    return pairs


def _draw_spans(figure: Figure, below: Axes, spans: tuple[Span, ...], seconds: float) -> None:
    """The sections as a strip above the first waveform."""
    if not spans:
        return
    height = figure.get_figheight()
    low = 1 - (TITLE_INCHES + STRIP_INCHES) / height
    axis = figure.add_axes((LEFT, low + 0.06 / height, RIGHT - LEFT, 0.22 / height), sharex=below)
    axis.set_ylim(0, 1)
    axis.set_axis_off()
    figure.text(RIGHT, 1 - 0.3 / height, ESTIMATED, ha="right", va="center", fontsize=8, color="#666666")
    characters = WIDTH_INCHES * (RIGHT - LEFT) * DPI / 6.3  # that fit side by side
    for span in spans:
        colour = TAG_COLOURS.get(span.tag, OTHER_COLOUR)
        axis.axvspan(span.start, span.end, facecolor=colour, edgecolor="white", linewidth=1.5)
        room = (span.end - span.start) / seconds * characters
        axis.text(
            (span.start + span.end) / 2,
            0.47,
            label_of(span.tag, room),
            ha="center",
            va="center",
            fontsize=8,
            clip_on=True,
        )


def _draw_wave(axis: Axes, stem: str, audio: Audio) -> None:
    low, high = envelope(audio, COLUMNS)
    times = (np.arange(len(low)) + 0.5) * audio.seconds / len(low)
    axis.fill_between(times, low, high, color=STEM_COLOURS.get(stem, "#444444"), linewidth=0.4, step="mid")
    top = max(1.0, float(np.abs(audio.samples).max()))
    axis.set_ylim(-top, top)
    axis.set_yticks([-1, 0, 1], ["-1", "0", "1"])
    axis.set_ylabel(stem, fontsize=10, fontweight="bold", color=STEM_COLOURS.get(stem, "#444444"))
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)


def _draw_mel(axis: Axes, audio: Audio) -> None:
    picture = mel_picture(audio, COLUMNS)
    top = float(picture.max())
    axis.imshow(
        picture,
        origin="lower",
        aspect="auto",
        extent=(0, audio.seconds, 0, NUM_MELS),
        cmap="magma",
        vmin=top - RANGE_DB,
        vmax=top,
        interpolation="nearest",
    )
    half = audio.sample_rate / 2
    heights = {_mel_row(hertz, half): hertz for hertz in TICKS_HZ if hertz < half}
    axis.set_yticks(list(heights), [_in_hertz(hertz) for hertz in heights.values()])
    axis.set_ylim(0, NUM_MELS)
    axis.set_ylabel("Hz", fontsize=8)


def _mel_row(hertz: float, half: float) -> float:
    """The height of a frequency in a mel picture (HTK scale)."""
    return float(NUM_MELS * np.log10(1 + hertz / 700) / np.log10(1 + half / 700))


def _in_hertz(hertz: int) -> str:
    return f"{hertz // 1000}k" if hertz >= 1000 else str(hertz)


def _label_time(axes: list[Axes], seconds: float) -> None:
    """Minutes and seconds below the last axis only."""
    step = next((step for step in (1, 2, 5, 10, 15, 30, 60) if seconds / step <= 14), 120)
    ticks = np.arange(0, seconds + 1e-6, step)
    axes[0].set_xlim(0, seconds)
    for axis in axes:
        axis.set_xticks(ticks, [_clock(tick) for tick in ticks])
        axis.tick_params(labelsize=8, labelbottom=axis is axes[-1])
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)


def _clock(seconds: float) -> str:
    """`1:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"
