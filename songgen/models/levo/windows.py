"""From codes to audio: the windows of LeVo's codec, for several songs and stems at once.

A stream is one stem of one song. Its windows of 40 s follow each other, each given the last 10 s of the one
before; windows of different streams are drawn together, and a stream that ends makes room for the next at
once. The VAE decodes the windows chunk by chunk, some chunks at once, and each piece of audio leaves the
device as it is made, cross-faded onto what is there. So what the device holds depends on the streams and
chunks at once, not on the length of songs. A stream's audio depends on its own codes, prompt and noise only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from songgen.models.levo.codec import CodecConfig, FlowWindow, LevoCodec
from songgen.nn.flow_matching import LatentStats
from songgen.nn.oobleck import CHUNK_FRAMES, CHUNK_OVERLAP, OobleckVAE
from songgen.runtime.noise import seeded_normal

WINDOW_FRAMES = 1000
HOP_FRAMES = 750
OVERLAP_FRAMES = WINDOW_FRAMES - HOP_FRAMES

NoiseSource = Callable[[int], Tensor]
"""Window number -> `[W, Z]` standard normal."""


@dataclass(frozen=True)
class CodecPrompt:
    """Audio that comes before a song, encoded.

    Args:
        latents_ZT: at most `OVERLAP_FRAMES` (10 s), on the VAE's scale.
        codes_KT: int64, one row a track. Published: one frame longer than the latents, so that the song's
            audio begins with the prompt's last code.
    """

    latents_ZT: Tensor
    codes_KT: Tensor


@dataclass(frozen=True)
class Stream:
    """One stem of one song.

    Args:
        codes_KT: int64 `[K, T]`, one row a track, 0 ... codebook_size - 1; T may be 0.
        noise: the start of each window's solver; the only randomness that reaches the audio of a trained
            checkpoint.
        prompt: audio that came before.
        filler: what stands in a window's frames behind its context. It enters the statistics of a checkpoint
            that is not done counting (counts < 100000), and nothing else; None for zeros. Published: standard
            normal.
        fills_window: whether the codes are repeated until the last window is full, as published.
    """

    codes_KT: Tensor
    noise: NoiseSource
    prompt: CodecPrompt | None = None
    filler: NoiseSource | None = None
    fills_window: bool = True


@dataclass(frozen=True)
class WindowDone:
    """Told to `on_window` after each window.

    Args:
        stream, window, num_windows: which stream, which of how many windows.
        latents_ZT: the latents decoded, `[Z, frames]`.
        seconds: the stream's share of the wall time of all windows that were drawn with this one.
    """

    stream: int
    window: int
    num_windows: int
    latents_ZT: Tensor
    seconds: float


def seeded_noise(seed: int, label: str, latent_dim: int) -> NoiseSource:
    """A noise source whose windows follow from the seed and the label (such as the stem) alone."""

    def noise(window: int) -> Tensor:
        return seeded_normal(seed, f"{label}/{window}", WINDOW_FRAMES, latent_dim)

    return noise


def num_windows(num_codes: int) -> int:
    """Windows for so many codes, the prompt's among them."""
    return max(1, -(-(num_codes - OVERLAP_FRAMES) // HOP_FRAMES))


def tile_codes(codes_KT: Tensor) -> Tensor:
    """Repeat the codes, prompt included, from their start until the last window is full."""
    total = codes_KT.shape[1]
    length = num_windows(total) * HOP_FRAMES + OVERLAP_FRAMES
    return codes_KT[:, torch.arange(length) % total]


def num_samples(num_frames: int, sample_rate: int) -> int:
    """Samples of a song. As published: in doubles and cut, so that 29, 57, 58, ... frames lose one sample."""
    return int((num_frames / 100) * 4 * sample_rate)


def cross_fade(tail_CN: Tensor, head_CN: Tensor, length: int, first: int = 0) -> Tensor:
    """Fade linearly from `tail_CN` to `head_CN`, in float64, rounded to float32.

    `length` is that of the whole fade; the tensors may be a piece of it, from sample `first` on.
    """
    ratio = torch.linspace(0, 1, length, dtype=torch.float64, device=tail_CN.device)
    ratio = ratio[first : first + tail_CN.shape[-1]]
    return (tail_CN * (1 - ratio) + head_CN * ratio).float()


class WindowedAudio:
    """The audio `[C, N]` of a stream (float32, on the CPU), written piece by piece."""

    def __init__(self, num_channels: int, num_samples: int, hop: int) -> None:
        self.samples_CN = torch.zeros(num_channels, num_samples)
        self.hop = hop

    def frames_from(self, start: int) -> int:
        """Frames that are still wanted from frame `start` on."""
        return max(0, -(-self.samples_CN.shape[1] // self.hop) - start)

    def paste_(self, piece_CN: Tensor, start: int, offset: int = 0) -> None:
        """Write a piece of a window's audio; windows but the first are faded in over `OVERLAP_FRAMES`.

        Args:
            start: the window's first frame.
            offset: the piece's first frame within the window.
        """
        first = (start + offset) * self.hop
        room_CN = self.samples_CN[:, first : first + piece_CN.shape[1]]
        piece_CN = piece_CN[:, : room_CN.shape[1]].to(room_CN.device, torch.float32)
        length, done = OVERLAP_FRAMES * self.hop, offset * self.hop
        faded = max(0, length - done) if start else 0
        room_CN[:, :faded] = cross_fade(room_CN[:, :faded], piece_CN[:, :faded], length, done)
        room_CN[:, faded:] = piece_CN[:, faded:]


class _Decoding:
    """A stream on its way: its next window, what that is given, and the audio so far."""

    def __init__(self, index: int, stream: Stream, codec: LevoCodec, vae: OobleckVAE) -> None:
        config, prompt = codec.config, stream.prompt
        self.index = index
        self.stream = stream
        self.stats = codec.normfeat.value
        self.window = 0
        codes_KT = stream.codes_KT.cpu()
        length = num_samples(codes_KT.shape[1], vae.config.sample_rate)
        self.audio = WindowedAudio(vae.config.audio_channels, length, vae.config.hop)
        self.device = codec.mask_emb.weight.device
        self.context_ZT = torch.zeros(config.latent_dim, 0, device=self.device)
        if prompt is not None:
            codes_KT = torch.cat([prompt.codes_KT.cpu(), codes_KT], dim=1)
            self.context_ZT = prompt.latents_ZT.to(self.device)
        self._check(codes_KT, config)
        self.skipped = self.context_ZT.shape[1]
        self.num_windows = num_windows(codes_KT.shape[1]) if length else 0
        self.codes_KM = tile_codes(codes_KT) if length and stream.fills_window else codes_KT

    def _check(self, codes_KT: Tensor, config: CodecConfig) -> None:
        if codes_KT.shape[0] != config.num_tracks:
            raise ValueError(
                f"stream {self.index}: {codes_KT.shape[0]} rows of codes; the codec has {config.num_tracks}"
            )
        if codes_KT.numel() and not 0 <= int(codes_KT.min()) <= int(codes_KT.max()) < config.codebook_size:
            raise ValueError(
                f"stream {self.index}: codes {int(codes_KT.min())} ... {int(codes_KT.max())};"
                f" the codec has 0 ... {config.codebook_size - 1}"
            )
        if self.context_ZT.shape[1] > OVERLAP_FRAMES:
            raise ValueError(
                f"stream {self.index}: prompt of {self.context_ZT.shape[1]} frames; at most {OVERLAP_FRAMES}"
            )

    @property
    def start(self) -> int:
        """The first frame of audio that the next window makes."""
        return max(0, self.window * HOP_FRAMES - self.skipped)

    @property
    def has_ended(self) -> bool:
        """Whether all windows are decoded."""
        return self.window == self.num_windows

    def next_window(self) -> FlowWindow:
        """What the next window's latents are drawn from."""
        start = self.window * HOP_FRAMES
        codes_KW = self.codes_KM[:, start : start + WINDOW_FRAMES]
        noise_WZ = self.stream.noise(self.window)[: codes_KW.shape[1]]
        filler = self.stream.filler
        filled_WZ = torch.zeros_like(noise_WZ) if filler is None else filler(self.window)[: len(noise_WZ)]
        context_WZ = filled_WZ.to(self.device, copy=True)
        num_context = self.context_ZT.shape[1]
        context_WZ[:num_context] = self.context_ZT.T
        return FlowWindow(codes_KW, noise_WZ, context_WZ, num_context, self.stats)

    def heard(self, latents_WZ: Tensor) -> Tensor:
        """The part `[Z, frames]` of the next window's latents that is decoded: not the prompt's."""
        return latents_WZ[0 if self.window else self.skipped :].T

    def finish_window(self, latents_WZ: Tensor, stats: LatentStats) -> None:
        """Go to the next window, whose audio is pasted."""
        self.stats = stats
        self.context_ZT = latents_WZ[-OVERLAP_FRAMES:].T.clone()
        self.window += 1


def _check_fit(codec: LevoCodec, vae: OobleckVAE, batch: int, rows: int) -> None:
    if codec.config.latent_dim != vae.config.latent_dim:
        raise ValueError(
            f"codec with {codec.config.latent_dim} latent channels, VAE with {vae.config.latent_dim}"
        )
    if codec.config.num_positions < WINDOW_FRAMES:
        raise ValueError(f"codec with {codec.config.num_positions} positions; a window has {WINDOW_FRAMES}")
    if batch < 1:
        raise ValueError(f"batch of {batch} streams; at least 1")
    if rows < 1:
        raise ValueError(f"{rows} rows of VAE chunks; at least 1")


def _check_finite(decodings: Sequence[_Decoding], latents: Sequence[Tensor]) -> None:
    is_finite = torch.stack([latents_WZ.isfinite().all() for latents_WZ in latents]).tolist()
    if not all(is_finite):
        raise ValueError(
            f"stream {decodings[is_finite.index(False)].index}: the codec computed latents that are not "
            "finite: its weights are damaged, or codec_dtype is too narrow (try bf16 or fp32)"
        )


def _draw_latents(
    codec: LevoCodec, windows: Sequence[FlowWindow], *, steps: int | None, guidance: float | None
) -> tuple[list[Tensor], list[LatentStats]]:
    """Latents `[W, Z]` and statistics of windows in their order; those of one length are drawn together."""
    drawn: dict[int, tuple[Tensor, LatentStats]] = {}
    for length in dict.fromkeys(len(window.noise_WZ) for window in windows):
        own = [number for number, window in enumerate(windows) if len(window.noise_WZ) == length]
        latents_BWZ, stats = codec.draw_latents(
            [windows[number] for number in own], steps=steps, guidance=guidance
        )
        drawn |= {
            number: pair for number, pair in zip(own, zip(latents_BWZ, stats, strict=True), strict=True)
        }
    pairs = [drawn[number] for number in range(len(windows))]
    return [latents_WZ for latents_WZ, _ in pairs], [after for _, after in pairs]


@torch.inference_mode()
def _draw_windows(
    codec: LevoCodec,
    vae: OobleckVAE,
    decodings: list[_Decoding],
    *,
    steps: int | None,
    guidance: float | None,
    chunk: int | None,
    rows: int,
) -> list[WindowDone]:
    """Draw the next window of each stream together, then decode them, some chunks at once."""
    began = time.perf_counter()
    windows = [decoding.next_window() for decoding in decodings]
    drawn, stats = _draw_latents(codec, windows, steps=steps, guidance=guidance)
    _check_finite(decodings, drawn)
    heard = [decoding.heard(latents) for decoding, latents in zip(decodings, drawn, strict=True)]
    wanted = [decoding.audio.frames_from(decoding.start) for decoding in decodings]
    pieces = vae.decode_pieces(heard, wanted, chunk=chunk, overlap=CHUNK_OVERLAP, rows=rows)
    for which, first, piece_CN in pieces:
        decodings[which].audio.paste_(piece_CN, decodings[which].start, first)
    for decoding, latents_WZ, after in zip(decodings, drawn, stats, strict=True):
        decoding.finish_window(latents_WZ, after)
    seconds = (time.perf_counter() - began) / len(decodings)
    return [
        WindowDone(decoding.index, decoding.window - 1, decoding.num_windows, latents_ZT, seconds)
        for decoding, latents_ZT in zip(decodings, heard, strict=True)
    ]


def decode_streams(
    codec: LevoCodec,
    vae: OobleckVAE,
    streams: Iterable[Stream],
    *,
    batch: int = 1,
    steps: int | None = None,
    guidance: float | None = None,
    chunk: int | None = CHUNK_FRAMES,
    rows: int = 1,
    on_window: Callable[[WindowDone], None] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Decode streams; yields (number of the stream, samples `[C, N]` float32 on the CPU) as each ends.

    Args:
        streams: read one by one, whenever there is room for another, and never while a stream that has ended
            waits to be taken.
        batch: streams whose windows are drawn together, at most, >= 1.
        steps: solver steps, >= 1; None for the model's own.
        guidance: 1 or less for none; None for the model's own.
        chunk: VAE frames decoded as one, more than the overlap of 32; None for whole windows.
        rows: chunks decoded together, of any streams, at most, >= 1.
        on_window: called after each window.

    Raises:
        ValueError: codec and VAE do not fit, a stream's codes or prompt do not fit the codec, or its latents
            are not finite.
    """
    _check_fit(codec, vae, batch, rows)
    waiting = enumerate(streams)
    running: list[_Decoding] = []
    while True:
        while len(running) < batch and (found := next(waiting, None)) is not None:
            decoding = _Decoding(*found, codec, vae)
            if decoding.has_ended:  # it had no frames
                yield decoding.index, decoding.audio.samples_CN
            else:
                running.append(decoding)
        if not running:
            return
        done = _draw_windows(codec, vae, running, steps=steps, guidance=guidance, chunk=chunk, rows=rows)
        if on_window is not None:
            for window in done:
                on_window(window)
        ended = [decoding for decoding in running if decoding.has_ended]
        running = [decoding for decoding in running if not decoding.has_ended]
        for decoding in ended:
            yield decoding.index, decoding.audio.samples_CN
