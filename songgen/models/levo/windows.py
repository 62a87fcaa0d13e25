"""From codes to audio: the windows of LeVo's codec, for several songs and stems at once.

A stream is one stem of one song. Its windows of 40 s follow each other, each given the last 10 s of the one
before; windows of different streams are drawn together. Each window's latents are decoded by the VAE and
cross-faded onto what is there. A stream's audio depends on its own codes, prompt and noise only.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from songgen.models.levo.codec import GUIDANCE, SOLVER_STEPS, CodecConfig, FlowWindow, LevoCodec
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
    """

    codes_KT: Tensor
    noise: NoiseSource
    prompt: CodecPrompt | None = None
    filler: NoiseSource | None = None


@dataclass(frozen=True)
class WindowDone:
    """Told to `on_window`: stream and window, the number of windows, the latents decoded, `[Z, frames]`."""

    stream: int
    window: int
    num_windows: int
    latents_ZT: Tensor


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


def cross_fade(tail_CN: Tensor, head_CN: Tensor, length: int) -> Tensor:
    """Fade linearly from `tail_CN` to `head_CN`, in float64, rounded to float32.

    `length` is that of the whole fade; the tensors may be its beginning only.
    """
    ratio = torch.linspace(0, 1, length, dtype=torch.float64, device=tail_CN.device)[: tail_CN.shape[-1]]
    return (tail_CN * (1 - ratio) + head_CN * ratio).float()


class WindowedAudio:
    """The audio `[C, N]` of a stream (float32, on the CPU), written window by window."""

    def __init__(self, num_channels: int, num_samples: int, hop: int) -> None:
        self.samples_CN = torch.zeros(num_channels, num_samples)
        self.hop = hop

    def frames_from(self, start: int) -> int:
        """Frames that are still wanted from frame `start` on."""
        return max(0, -(-self.samples_CN.shape[1] // self.hop) - start)

    def paste_(self, piece_CN: Tensor, start: int) -> None:
        """Write a window's audio at frame `start`; all but the first are faded in over `OVERLAP_FRAMES`."""
        first = start * self.hop
        room_CN = self.samples_CN[:, first : first + piece_CN.shape[1]]
        piece_CN = piece_CN[:, : room_CN.shape[1]].to(room_CN.device, torch.float32)
        length = OVERLAP_FRAMES * self.hop if start else 0
        room_CN[:, :length] = cross_fade(room_CN[:, :length], piece_CN[:, :length], length)
        room_CN[:, length:] = piece_CN[:, length:]


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
        self.context_ZT = torch.zeros(config.latent_dim, 0)
        if prompt is not None:
            codes_KT = torch.cat([prompt.codes_KT.cpu(), codes_KT], dim=1)
            self.context_ZT = prompt.latents_ZT
        self._check(codes_KT, config)
        self.skipped = self.context_ZT.shape[1]
        self.num_windows = num_windows(codes_KT.shape[1]) if length else 0
        self.codes_KM = tile_codes(codes_KT) if length else codes_KT

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

    def next_window(self) -> FlowWindow:
        """What the next window's latents are drawn from."""
        noise_WZ = self.stream.noise(self.window)
        filler = self.stream.filler
        context_WZ = torch.zeros_like(noise_WZ) if filler is None else filler(self.window).clone()
        num_context = self.context_ZT.shape[1]
        context_WZ[:num_context] = self.context_ZT.T
        start = self.window * HOP_FRAMES
        codes_KW = self.codes_KM[:, start : start + WINDOW_FRAMES]
        return FlowWindow(codes_KW, noise_WZ, context_WZ, num_context, self.stats)

    def finish_window(
        self, latents_WZ: Tensor, stats: LatentStats, vae: OobleckVAE, chunk: int | None
    ) -> WindowDone:
        """Decode the window's latents onto the audio and go to the next."""
        self.stats = stats
        self.context_ZT = latents_WZ[-OVERLAP_FRAMES:].T.cpu()
        start = max(0, self.window * HOP_FRAMES - self.skipped)
        latents_ZT = latents_WZ[0 if self.window else self.skipped :].T
        audio_BCN = vae.decode_chunked(
            latents_ZT[None],
            chunk=latents_ZT.shape[1] if chunk is None else chunk,
            overlap=0 if chunk is None else CHUNK_OVERLAP,
            num_frames=self.audio.frames_from(start),
        )
        self.audio.paste_(audio_BCN[0], start)
        self.window += 1
        return WindowDone(self.index, self.window - 1, self.num_windows, latents_ZT)


def _check_fit(codec: LevoCodec, vae: OobleckVAE, batch: int) -> None:
    if codec.config.latent_dim != vae.config.latent_dim:
        raise ValueError(
            f"codec with {codec.config.latent_dim} latent channels, VAE with {vae.config.latent_dim}"
        )
    if codec.config.num_positions < WINDOW_FRAMES:
        raise ValueError(f"codec with {codec.config.num_positions} positions; a window has {WINDOW_FRAMES}")
    if batch < 1:
        raise ValueError(f"batch of {batch} streams; at least 1")


@torch.inference_mode()
def _draw_windows(
    codec: LevoCodec,
    vae: OobleckVAE,
    decodings: list[_Decoding],
    *,
    steps: int,
    guidance: float,
    chunk: int | None,
) -> list[WindowDone]:
    """Draw the next window of each stream together, then decode them one after the other."""
    windows = [decoding.next_window() for decoding in decodings]
    latents_BWZ, stats = codec.draw_latents(windows, steps=steps, guidance=guidance)
    return [
        decoding.finish_window(latents_WZ, after, vae, chunk)
        for decoding, latents_WZ, after in zip(decodings, latents_BWZ, stats, strict=True)
    ]


def decode_streams(
    codec: LevoCodec,
    vae: OobleckVAE,
    streams: Iterable[Stream],
    *,
    batch: int = 1,
    steps: int = SOLVER_STEPS,
    guidance: float = GUIDANCE,
    chunk: int | None = CHUNK_FRAMES,
    on_window: Callable[[WindowDone], None] | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Decode streams; yields (number of the stream, samples `[C, N]` float32 on the CPU) as each ends.

    Args:
        streams: read one by one, whenever there is room for another.
        batch: streams whose windows are drawn together, >= 1.
        steps: solver steps, >= 1.
        guidance: 1 or less for none.
        chunk: VAE frames decoded at once, more than the overlap of 32; None for whole windows.
        on_window: called after each window.

    Raises:
        ValueError: codec and VAE do not fit, or a stream's codes or prompt do not fit the codec.
    """
    _check_fit(codec, vae, batch)
    waiting = enumerate(streams)
    running: list[_Decoding] = []
    while True:
        room = batch - len(running)
        running += [_Decoding(index, stream, codec, vae) for index, stream in itertools.islice(waiting, room)]
        if not running:
            return
        active = [decoding for decoding in running if decoding.window < decoding.num_windows]
        if active:
            done = _draw_windows(codec, vae, active, steps=steps, guidance=guidance, chunk=chunk)
            if on_window is not None:
                for report in done:
                    on_window(report)
        ended = [decoding for decoding in running if decoding.window == decoding.num_windows]
        running = [decoding for decoding in running if decoding.window < decoding.num_windows]
        for decoding in ended:
            yield decoding.index, decoding.audio.samples_CN
