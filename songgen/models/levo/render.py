"""From drafts to songs: the streams of a song's stems through the codec, and back together."""

from __future__ import annotations

import itertools
import time
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


def decoded_stems(request: SongRequest) -> tuple[Stem, ...]:
    """The stems that are decoded for a request; those of a separator come from the mix."""
    kind = request.generate_type or "mixed"
    return ("mixed",) if request.stems == "separator" else STEMS[kind]


def stream_of(draft: Draft, stem: Stem, codec: LevoCodec, prompt: CodecPrompt | None) -> Stream:
    """The codec's stream of one stem. All stems of a song share their noise, so that they belong together."""
    noise = seeded_noise(draft.job.seed, "flow", codec.config.latent_dim)
    return Stream(codes_KT=track_codes(draft.tokens, stem), noise=noise, prompt=prompt)


def render(
    codec: LevoCodec,
    vae: OobleckVAE,
    drafts: Iterator[Draft],
    *,
    batch: int,
    prompt_of: PromptSource = lambda draft, stem: None,
    report: Report = ignore_progress,
) -> Iterator[Song]:
    """Decode drafts, `batch` songs with all their stems at once.

    Raises:
        ValueError: a draft without frames, or with tokens that the codec does not have.
    """
    while group := list(itertools.islice(drafts, batch)):
        yield from _render_group(codec, vae, group, prompt_of, report)


def _render_group(
    codec: LevoCodec, vae: OobleckVAE, group: list[Draft], prompt_of: PromptSource, report: Report
) -> Iterator[Song]:
    started = time.perf_counter()
    parts: list[tuple[Draft, Stem]] = []
    for draft in group:
        if draft.tokens.shape[-1] == 0:
            raise ValueError("the model ended the song before its first frame; try another seed")
        parts += [(draft, stem) for stem in decoded_stems(draft.job.request)]
    done = dict.fromkeys((draft.job.name for draft in group), 0.0)

    def on_window(window: WindowDone) -> None:
        name = parts[window.stream][0].job.name
        num_stems = sum(draft.job.name == name for draft, _ in parts)
        done[name] += 1 / (window.num_windows * num_stems)
        report("render", name, min(done[name], 1.0))

    streams = [stream_of(draft, stem, codec, prompt_of(draft, stem)) for draft, stem in parts]
    audio: dict[int, Audio] = {}
    for index, samples_CN in decode_streams(codec, vae, streams, batch=len(streams), on_window=on_window):
        audio[index] = Audio(np.asarray(samples_CN.numpy(), dtype=np.float32), vae.config.sample_rate)
    seconds = (time.perf_counter() - started) / len(group)
    for draft in group:
        stems = {str(stem): audio[index] for index, (of, stem) in enumerate(parts) if of is draft}
        yield Song(draft=draft, stems=stems, seconds=seconds)
