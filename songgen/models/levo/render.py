"""From drafts to songs: the streams of a song's stems through the codec, and back together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from songgen.audio import Audio
from songgen.models.base import Draft, Report, Song, ignore_progress
from songgen.models.levo.codec import LevoCodec, track_codes
from songgen.models.levo.windows import CodecPrompt, Stream, WindowDone, decode_streams, seeded_noise
from songgen.nn.oobleck import OobleckVAE
from songgen.request_keys import STEMS, Stem
from songgen.requests import SongRequest

PromptSource = Callable[[Draft, Stem], CodecPrompt | None]

WINDOWS = {"cpu": 1, "mps": 1, "cuda": 6}
"""Stems whose windows are drawn together, at most, by device: one on the CPU, where more are no faster."""
VAE_ROWS = {"cpu": 1, "mps": 1, "cuda": 2}
"""VAE chunks decoded together, at most, by device."""
FLOW_WINDOW_WORK = 200_000_000
"""Bytes of working memory of the flow network of published size for each stem drawn with others."""
VAE_CHUNK_WORK = 750_000_000
"""Bytes of working memory of the VAE of published size for each chunk (`tools/measure_memory.py`)."""
SONG_AUDIO = 320_000_000
"""Bytes of the longest song with its stems, in the CPU's memory."""


def render_work(windows: int, rows: int) -> int:
    """Bytes that rendering at published size works in, for any number of songs of any length."""
    return windows * FLOW_WINDOW_WORK + rows * VAE_CHUNK_WORK


def decoded_stems(request: SongRequest) -> tuple[Stem, ...]:
    """The stems that are decoded for a request; those of a separator come from the mix."""
    kind = request.generate_type or "mixed"
    return ("mixed",) if request.stems == "separator" else STEMS[kind]


def stream_of(
    draft: Draft, stem: Stem, codec: LevoCodec, prompt: CodecPrompt | None, *, fills_window: bool = True
) -> Stream:
    """The codec's stream of one stem. All stems of a song share their noise, so that they belong together."""
    noise = seeded_noise(draft.job.seed, "flow", codec.config.latent_dim)
    codes_KT = track_codes(draft.tokens, stem)
    return Stream(codes_KT=codes_KT, noise=noise, prompt=prompt, fills_window=fills_window)


class _Rendering:
    """A song on its way: its stems in order, the audio of those that are done, how far the windows are."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.stems = decoded_stems(draft.job.request)
        self.audio: dict[Stem, Audio] = {}
        self.seconds = self.fraction = 0.0

    def count(self, window: WindowDone) -> float:
        """Count a window; returns the part of the song that is done, 0 ... 1."""
        self.seconds += window.seconds
        self.fraction += 1 / (window.num_windows * len(self.stems))
        return min(self.fraction, 1.0)

    def song(self) -> Song | None:
        """The song, once all its stems are done."""
        if self.audio.keys() != set(self.stems):
            return None
        return Song(self.draft, {str(stem): self.audio[stem] for stem in self.stems}, self.seconds)


def render(
    codec: LevoCodec,
    vae: OobleckVAE,
    drafts: Iterator[Draft],
    *,
    windows: int,
    rows: int = 1,
    prompt_of: PromptSource = lambda draft, stem: None,
    fills_window: bool = True,
    report: Report = ignore_progress,
) -> Iterator[Song]:
    """Decode drafts, stems of any songs together; a song is yielded as soon as all its stems are done.

    A draft may still have to be composed when it is asked for, and nobody can tell. So one is asked for only
    when fewer than `windows` stems are being decoded, all stems of the drafts before it have been started,
    and no finished song waits to be taken: the first song needs as many drafts as fill `windows`, not more.

    Args:
        windows: stems whose windows are drawn together, at most, >= 1. With 1, a stem's bits do not depend on
            its neighbours on any device.
        rows: VAE chunks decoded together, at most, >= 1.
        fills_window: whether short songs are repeated until they fill a window, as published.

    Raises:
        ValueError: a draft without frames, with tokens that the codec does not have, or one for which it
            computes no finite numbers.
    """
    started: dict[int, tuple[_Rendering, Stem]] = {}
    numbers = itertools.count()

    def streams() -> Iterator[Stream]:
        for draft in drafts:
            if draft.tokens.shape[-1] == 0:
                raise ValueError("the model ended the song before its first frame; try another seed")
            rendering = _Rendering(draft)
            for stem in rendering.stems:
                started[next(numbers)] = rendering, stem
                prompt = prompt_of(draft, stem)
                yield stream_of(draft, stem, codec, prompt, fills_window=fills_window)

    def on_window(window: WindowDone) -> None:
        rendering, _ = started[window.stream]
        report("render", rendering.draft.job.name, rendering.count(window))

    decoding = decode_streams(codec, vae, streams(), batch=windows, rows=rows, on_window=on_window)
    for number, samples_CN in decoding:
        rendering, stem = started.pop(number)
        samples = np.asarray(samples_CN.numpy(), dtype=np.float32)
        rendering.audio[stem] = Audio(samples, vae.config.sample_rate)
        if (song := rendering.song()) is not None:
            yield song
