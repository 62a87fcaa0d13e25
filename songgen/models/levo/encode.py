"""The encode half of LeVo's codecs: 48 kHz stereo to tokens at 25 Hz.

Two published models share it: the dual-track codec makes a vocal and a bgm token a frame from separated
stems, the single-track codec a mixed token from the mixture. Each track reads another layer of a MusicFM
encoder and has its own quantiser. Clips are encoded in whole segments of 40 s, so a short clip is repeated
until it fills one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from songgen.nn.musicfm import MusicFm, MusicFmConfig
from songgen.nn.resample import Resampler
from songgen.nn.rvq import ResidualVQ

SAMPLE_RATE = 48000
ENCODER_RATE = 24000
FRAME_RATE = 25
SEGMENT_SECONDS = 40
SEGMENT_SAMPLES = SEGMENT_SECONDS * SAMPLE_RATE
SEGMENT_FRAMES = SEGMENT_SECONDS * FRAME_RATE
CLIP_PEAK = 0.8
SEGMENT_PEAK = 0.9

UNUSED_IN_CODEC_ENCODER = re.compile(
    r"zero_cond_embedding1|mask_emb\.weight|normfeat\..*|cfm_wrapper\..*|hubert\..*"
    r"|rsp48toclap\.kernel|rsq48towav2vec\.kernel|rsq48tohubert\.kernel"
    r"|rvq_bestrq(_bgm)?_emb\.quantizers\.0\.stale_counter"
)
"""Names of the published codecs that encoding never uses: the decode half and leftovers of training."""

ENCODER_PREFIX = "bestrq."


@dataclass(frozen=True)
class Track:
    """One kind of token.

    Args:
        stem: what it is made from: mixed, vocal or bgm.
        quantizer: published name of its quantiser.
        layer: conformer layers its features pass through.
    """

    stem: str
    quantizer: str
    layer: int


MIXED_TRACKS = (Track("mixed", "rvq_bestrq_emb", 6),)
"""The single-track codec ("1rvq")."""

DUAL_TRACKS = (Track("vocal", "rvq_bestrq_emb", 7), Track("bgm", "rvq_bestrq_bgm_emb", 3))
"""The dual-track codec ("septoken")."""


@dataclass(frozen=True)
class AudioTokenizerConfig:
    """Sizes of the encode half of a codec.

    Args:
        tracks: what it makes tokens of.
        musicfm: the encoder; it needs as many layers as the deepest track.
        codebook_size, codebook_dim: rows and width of each codebook.
    """

    tracks: tuple[Track, ...]
    musicfm: MusicFmConfig
    codebook_size: int = 16384
    codebook_dim: int = 32

    @classmethod
    def published(cls, tracks: tuple[Track, ...]) -> AudioTokenizerConfig:
        """The sizes of both published codecs."""
        return cls(tracks, MusicFmConfig(num_layers=max(track.layer for track in tracks)))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], tracks: tuple[Track, ...]) -> AudioTokenizerConfig:
        """Read the sizes off a codec's tensors.

        Raises:
            ValueError: a tensor that tells a size is missing.
        """
        codebook = f"{tracks[0].quantizer}.quantizers.0.codebook.weight"
        if codebook not in tensors:
            raise ValueError(f"no tensor {codebook}: not a codec")
        num_layers = max(track.layer for track in tracks)
        musicfm = MusicFmConfig.from_tensors(tensors, num_layers, ENCODER_PREFIX)
        rows, width = tensors[codebook].shape
        return cls(tracks, musicfm, codebook_size=rows, codebook_dim=width)


def limit_peak(signal: Tensor, limit: float, dim: int | tuple[int, ...]) -> Tensor:
    """Scale down to a peak of `limit` what exceeds it; the peak is taken over `dim`."""
    peak = signal.abs().amax(dim=dim, keepdim=True)
    return torch.where(peak > limit, signal / (peak / limit), signal)


def num_codes(num_samples: int) -> int:
    """Tokens of a clip: one more than its whole frames (as published)."""
    return int(num_samples / SAMPLE_RATE * FRAME_RATE) + 1


def segments(clip_CN: Tensor) -> Tensor:
    """Repeat a clip until it fills the 40 s segments that its tokens come from, `[S, C, 1920000]`.

    Published code also encodes a further segment of repetitions for some lengths, and drops its tokens.
    """
    num_samples = clip_CN.shape[-1]
    count = math.ceil(num_codes(num_samples) / SEGMENT_FRAMES)
    repeats = math.ceil(count * SEGMENT_SAMPLES / num_samples)
    tiled = clip_CN.repeat(1, repeats)[:, : count * SEGMENT_SAMPLES]
    return tiled.reshape(clip_CN.shape[0], count, SEGMENT_SAMPLES).transpose(0, 1)


class AudioTokenizer(nn.Module):
    """The encode half of a codec, under published names. Float32; call `eval()` before use."""

    def __init__(self, config: AudioTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.bestrq = MusicFm(config.musicfm)
        self.rsq48tobestrq = Resampler(SAMPLE_RATE, ENCODER_RATE)
        for track in config.tracks:
            quantizer = ResidualVQ(config.musicfm.dim, config.codebook_size, config.codebook_dim)
            self.add_module(track.quantizer, quantizer)

    def is_unused(self, name: str) -> bool:
        """Whether a published name is one that this module does not hold, as no token depends on it."""
        if name.startswith(ENCODER_PREFIX):
            return self.bestrq.is_unused(name.removeprefix(ENCODER_PREFIX))
        return UNUSED_IN_CODEC_ENCODER.fullmatch(name) is not None

    def quantizer(self, track: Track) -> ResidualVQ:
        """The quantiser of a track."""
        module = self.get_submodule(track.quantizer)
        assert isinstance(module, ResidualVQ)
        return module

    def mono(self, audio_BCN: Tensor) -> Tensor:
        """48 kHz stereo `[B, 2, N]` -> `[B, N]`: the mean of both channels, each limited to 0.9."""
        limited = limit_peak(audio_BCN, SEGMENT_PEAK, dim=-1)
        return (limited[:, 0] + limited[:, 1]) / 2

    def features(self, audio_BCN: Tensor, track: Track) -> Tensor:
        """48 kHz stereo `[B, 2, N]` as it is (no repetition) -> features `[B, D, N // 1920]`."""
        hidden_BTD = self.bestrq(self.rsq48tobestrq(self.mono(audio_BCN)), track.layer)
        return hidden_BTD.transpose(1, 2)

    def tokens(
        self, clips: Sequence[Tensor], track: Track, *, ends: Sequence[int] | None = None, rows: int = 1
    ) -> list[Tensor]:
        """Tokens of one track for several clips.

        Args:
            clips: 48 kHz stereo `[2, N]`, N >= 1 each, of any lengths, on any device.
            track: one of the config's tracks.
            ends: how many samples of each clip are encoded; all unless told. The peak rule sees the whole
                clip, as published.
            rows: 40 s segments encoded at once.

        Returns:
            int64 `[num_codes(N)]` on the CPU, one per clip; they do not depend on the other clips.
        """
        device = self.rsq48tobestrq.kernel.device
        limited = [limit_peak(clip_CN, CLIP_PEAK, dim=(0, 1)) for clip_CN in clips]
        if ends is not None:
            limited = [clip_CN[:, :end] for clip_CN, end in zip(limited, ends, strict=True)]
        pieces = [segments(clip_CN) for clip_CN in limited]
        all_pieces = [piece_CN for piece_SCN in pieces for piece_CN in piece_SCN]
        codes: list[Tensor] = []
        with torch.inference_mode():
            for start in range(0, len(all_pieces), rows):
                batch_BCN = torch.stack(all_pieces[start : start + rows]).to(device, torch.float32)
                encoded_B1T = self.quantizer(track).encode(self.features(batch_BCN, track))
                codes.extend(encoded_B1T[:, 0].cpu())
        lengths = [piece_SCN.shape[0] for piece_SCN in pieces]
        bounds = [sum(lengths[:index]) for index in range(len(lengths) + 1)]
        return [
            torch.cat(codes[first:last])[: num_codes(clip_CN.shape[-1])]
            for clip_CN, first, last in zip(limited, bounds[:-1], bounds[1:], strict=True)
        ]


def sound2code(
    tokenizer: AudioTokenizer, clips: Sequence[Sequence[Tensor]], *, rows: int = 1
) -> list[Tensor]:
    """Tokens of all the tracks of a codec for several clips.

    Args:
        clips: for each clip one 48 kHz stereo signal `[2, N]` a track, in the order of the config's tracks;
            those of a clip are cut to the shortest, after the peak rule.
        rows: 40 s segments encoded at once.

    Returns:
        int64 `[K, num_codes(N)]` on the CPU, one per clip.

    Raises:
        ValueError: another number of signals than tracks, or one that is not stereo or holds no samples.
    """
    tracks = tokenizer.config.tracks
    for clip in clips:
        if len(clip) != len(tracks):
            wanted = ", ".join(track.stem for track in tracks)
            raise ValueError(f"{len(clip)} signals for a codec of {len(tracks)} tracks ({wanted})")
        for signal_CN in clip:
            if signal_CN.ndim != 2 or signal_CN.shape[0] != 2 or signal_CN.shape[1] == 0:
                raise ValueError(f"a clip has the shape {list(signal_CN.shape)}, it must be [2, N], N >= 1")
    shortest = [min(signal_CN.shape[-1] for signal_CN in clip) for clip in clips]
    by_track = [
        tokenizer.tokens([clip[k] for clip in clips], track, ends=shortest, rows=rows)
        for k, track in enumerate(tracks)
    ]
    return [torch.stack(tracks_of_clip) for tracks_of_clip in zip(*by_track, strict=True)]
