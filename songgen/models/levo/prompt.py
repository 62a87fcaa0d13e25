"""Prompt audio: the first 10 seconds of a clip, made into tokens for the language model and a start for the
codec.

clip -> 48 kHz stereo -> vocals (separated at 44.1 kHz, kept as 16 bit) and accompaniment (the rest) -> codes
of the mixture, the vocals and the accompaniment. Where the published scripts fail (lengths that differ by a
sample, mono files, more than two channels) this does what they mean. Files are only read; nothing is kept on
disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from songgen.audio import read_audio
from songgen.models.levo.encode import FRAME_RATE, SAMPLE_RATE, AudioTokenizer, sound2code
from songgen.models.levo.separation import PCM_STEPS, PUBLISHED_SHIFT_OFFSET, Separator, as_pcm16
from songgen.models.levo.windows import CodecPrompt
from songgen.nn.oobleck import OobleckVAE
from songgen.nn.resample import MAX_KERNEL_VALUES, kernel_values, resample
from songgen.request_keys import Stem

PROMPT_SECONDS = 10
READ_SECONDS = 30
"""Seconds read from a file. What lies behind the first 10 reaches them only as the separator's context."""

MIN_SAMPLES = SAMPLE_RATE // FRAME_RATE
SILENCE_PEAK = 1e-4
LOUDEST_PEAK = 8.0
MIN_RATE, MAX_RATE = 1000, 1_000_000

LATE_PROMPT_SECONDS = 30
LATE_PROMPT_START_SECONDS = 20

DUAL_STEMS: tuple[Stem, Stem] = ("vocal", "bgm")


@dataclass(frozen=True)
class PromptClip:
    """The start of a prompt file.

    Args:
        mixture_CN: `[2, N]` at the separator's rate, up to `READ_SECONDS`.
        full_CN: `[2, N]` at 48 kHz, up to `PROMPT_SECONDS`.
        warnings: what the user should know of it, phrases to put behind the file's name.
    """

    mixture_CN: Tensor
    full_CN: Tensor
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A prompt, separated and encoded.

    Args:
        codes_KT: `[3, P]` int64 (mixed, vocal, bgm) at 25 Hz; 10 s give 251.
        vocal_CN, bgm_CN: `[2, N]` float32 at 48 kHz, equally long.
        warnings: those of the clip.
        silence_KT: codes of silence of the same length, `[2, P]` (vocal, bgm), see `silence_codes`; only
            stems alone need them.
    """

    codes_KT: Tensor
    vocal_CN: Tensor
    bgm_CN: Tensor
    warnings: tuple[str, ...] = ()
    silence_KT: Tensor | None = None

    def num_latents(self, hop: int) -> int:
        """VAE frames of the prompt, for the noise that `codec_prompt` takes; `hop` in samples."""
        return self.vocal_CN.shape[1] // hop


def load_clip(path: Path | str, *, separator_rate: int = 44100) -> PromptClip:
    """Read the start of a wav, flac, ogg, mp3 or opus file of any rate and channel count.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it cannot be read as audio, is empty, too short, silent, or holds samples that are no
            audio; names path and reason.
    """
    audio = read_audio(path, max_seconds=READ_SECONDS)
    try:
        return clip_of(torch.from_numpy(audio.samples), audio.sample_rate, separator_rate=separator_rate)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def clip_of(samples_CN: Tensor, sample_rate: int, *, separator_rate: int = 44100) -> PromptClip:
    """A prompt clip from samples in memory.

    Args:
        samples_CN: float32 `[C, N]`, C >= 1. One channel is doubled, of more than two the first two are kept.
        sample_rate: Hz.

    Raises:
        ValueError: too short, silent, not finite, far beyond full scale, or a rate that is none of audio.
    """
    if not MIN_RATE <= sample_rate <= MAX_RATE:
        raise ValueError(f"a sample rate of {sample_rate} Hz; audio has {MIN_RATE} ... {MAX_RATE}")
    warnings = []
    if samples_CN.shape[0] > 2:
        warnings.append(f"has {samples_CN.shape[0]} channels; the first two are used")
    stereo_CN = samples_CN[:2] if samples_CN.shape[0] > 1 else samples_CN.expand(2, -1)
    head_CN = stereo_CN[:, : PROMPT_SECONDS * sample_rate]
    _check_samples(stereo_CN, head_CN)
    full_CN = to_rate(stereo_CN, sample_rate, SAMPLE_RATE)[:, : PROMPT_SECONDS * SAMPLE_RATE]
    if full_CN.shape[1] < MIN_SAMPLES:
        raise ValueError(
            f"too short for a prompt: {head_CN.shape[1]} samples at {sample_rate} Hz; "
            "one frame (0.04 s) is the least"
        )
    seconds = head_CN.shape[1] / sample_rate
    if seconds < PROMPT_SECONDS:
        warnings.append(f"is {seconds:.1f} s long; the model was trained on prompts of {PROMPT_SECONDS} s")
    return PromptClip(to_rate(stereo_CN, sample_rate, separator_rate), full_CN, tuple(warnings))


def _check_samples(samples_CN: Tensor, head_CN: Tensor) -> None:
    broken = int((~samples_CN.isfinite()).sum())
    if broken:
        raise ValueError(f"holds {broken} samples that are not finite (NaN or infinity)")
    if samples_CN.shape[1] == 0:
        raise ValueError("holds no samples")
    if float(samples_CN.abs().max()) > LOUDEST_PEAK:
        raise ValueError(f"samples reach {float(samples_CN.abs().max()):.3g}, where full scale is 1")
    if float(head_CN.abs().max()) < SILENCE_PEAK:
        raise ValueError(f"is silent in its first {PROMPT_SECONDS} s")


def to_rate(samples_CN: Tensor, source_rate: int, target_rate: int) -> Tensor:
    """Resample with the published arithmetic; rates too odd for its filter bank by soxr."""
    if source_rate == target_rate or kernel_values(source_rate, target_rate) <= MAX_KERNEL_VALUES:
        return resample(samples_CN, source_rate, target_rate)
    import soxr

    converted = soxr.resample(samples_CN.numpy().T, source_rate, target_rate, quality="VHQ")
    return torch.from_numpy(np.ascontiguousarray(converted.T, dtype=np.float32))


def split_clips(
    clips: Sequence[PromptClip], separator: Separator, shift_offsets: Sequence[int], *, rows: int = 1
) -> list[tuple[Tensor, Tensor]]:
    """Vocals and accompaniment of clips, `[2, N]` each at 48 kHz.

    The vocal stem passes through 16 bit and its peak rule as the published system's file does; the
    accompaniment is what is left of the mixture. Where their lengths differ by a sample both are cut to the
    shorter.
    """
    wanted = PROMPT_SECONDS * separator.sample_rate
    stems = separator.separate(
        [clip.mixture_CN for clip in clips], shift_offsets, num_samples=wanted, rows=rows
    )
    pairs = []
    for clip, stems_SCN in zip(clips, stems, strict=True):
        stored_CN = as_pcm16(stems_SCN[separator.vocal]).float() / PCM_STEPS
        vocal_CN = resample(stored_CN, separator.sample_rate, SAMPLE_RATE)
        length = min(vocal_CN.shape[1], clip.full_CN.shape[1])
        pairs.append((vocal_CN[:, :length], clip.full_CN[:, :length] - vocal_CN[:, :length]))
    return pairs


def prepare_prompts(
    clips: Sequence[PromptClip],
    separator: Separator,
    mixed: AudioTokenizer,
    dual: AudioTokenizer,
    shift_offsets: Sequence[int],
    *,
    rows: int = 1,
) -> list[Prompt]:
    """Separate and encode clips; a prompt does not depend on the other clips.

    Args:
        mixed, dual: tokenizers of the single-track and the dual-track codec.
        shift_offsets: for each clip the separator's shift, see `Separator.separate`.
        rows: separator chunks, and tokenizer segments, run at once.
    """
    pairs = split_clips(clips, separator, shift_offsets, rows=rows)
    mixed_codes = sound2code(mixed, [[clip.full_CN] for clip in clips], rows=rows)
    dual_codes = sound2code(dual, pairs, rows=rows)
    prompts = []
    for clip, (vocal_CN, bgm_CN), mixed_KT, dual_KT in zip(
        clips, pairs, mixed_codes, dual_codes, strict=True
    ):
        frames = min(mixed_KT.shape[1], dual_KT.shape[1])
        codes_KT = torch.cat([mixed_KT[:, :frames], dual_KT[:, :frames]])
        prompts.append(Prompt(codes_KT, vocal_CN, bgm_CN, clip.warnings))
    return prompts


def prepare_prompt(
    clip: PromptClip,
    separator: Separator,
    mixed: AudioTokenizer,
    dual: AudioTokenizer,
    shift_offset: int = PUBLISHED_SHIFT_OFFSET,
) -> Prompt:
    """Separate and encode one clip, see `prepare_prompts`."""
    return prepare_prompts([clip], separator, mixed, dual, [shift_offset])[0]


def codec_stem(samples: Tensor) -> Tensor:
    """The part of a stem that the codec starts from: its first 10 s, of 30 s and more the seconds 20 to 30.

    Args:
        samples: `[N]`, `[1, N]` or `[2, N]` at 48 kHz; mono is doubled.

    Returns:
        `[2, N]`.
    """
    stereo_CN = samples.expand(2, -1) if samples.ndim == 1 or samples.shape[0] == 1 else samples
    start = 0
    if stereo_CN.shape[1] >= LATE_PROMPT_SECONDS * SAMPLE_RATE:
        start = LATE_PROMPT_START_SECONDS * SAMPLE_RATE
    return stereo_CN[:, start : start + PROMPT_SECONDS * SAMPLE_RATE]


def prompt_of_stems(vocal: Tensor, bgm: Tensor, dual: AudioTokenizer) -> Prompt:
    """A prompt for the codec alone, from stems that are already separate; its mixed row repeats the vocal
    codes.

    Args:
        vocal, bgm: see `codec_stem`; cut to the shorter.
    """
    stems = [codec_stem(vocal), codec_stem(bgm)]
    length = min(stem_CN.shape[1] for stem_CN in stems)
    vocal_CN, bgm_CN = (stem_CN[:, :length] for stem_CN in stems)
    codes_KT = sound2code(dual, [[vocal_CN, bgm_CN]])[0]
    return Prompt(torch.cat([codes_KT[:1], codes_KT]), vocal_CN, bgm_CN)


def silence_codes(dual: AudioTokenizer, num_samples: int) -> Tensor:
    """Codes of silence, `[2, P]` (vocal, bgm), as many as a clip of so many samples has."""
    silence_CN = torch.zeros(2, num_samples)
    return sound2code(dual, [[silence_CN, silence_CN]])[0]


def codec_prompt(prompt: Prompt, stem: Stem, *, vae: OobleckVAE, noise_ZT: Tensor) -> CodecPrompt:
    """What the codec starts a song, or one stem of it, from.

    For `vocal` the accompaniment of the prompt is replaced by silence, for `bgm` its vocals, both in the
    codes and in the audio whose latents come first.

    Args:
        prompt: with the codes of silence, unless the stem is mixed.
        stem: mixed, vocal or bgm.
        noise_ZT: `[Z, prompt.num_latents(hop)]` standard normal: the published system draws the prompt's
            latents.

    Returns:
        Latents and codes on the CPU; there is one code more than latents.

    Raises:
        ValueError: another stem, or noise of another shape.
    """
    if stem not in ("mixed", *DUAL_STEMS):
        raise ValueError(f"stem {stem!r}; one of mixed, vocal, bgm")
    wanted = (vae.config.latent_dim, prompt.num_latents(vae.config.hop))
    if tuple(noise_ZT.shape) != wanted:
        raise ValueError(f"noise for the prompt is {list(noise_ZT.shape)}, must be {list(wanted)}")
    audio = {"vocal": prompt.vocal_CN, "bgm": prompt.bgm_CN}
    codes_2T = prompt.codes_KT[1:].clone()
    for row, name in enumerate(DUAL_STEMS):
        if stem not in ("mixed", name):
            assert prompt.silence_KT is not None, "a prompt for a stem alone carries the codes of silence"
            audio[name] = torch.zeros_like(audio[name])
            codes_2T[row] = prompt.silence_KT[row, : codes_2T.shape[1]]
    device = next(vae.parameters()).device
    with torch.inference_mode():
        audio_BCN = (audio["vocal"] + audio["bgm"])[None].to(device)
        latents_BZT = vae.encode(audio_BCN, noise_ZT[None].to(device, audio_BCN.dtype)).cpu()
    return CodecPrompt(latents_BZT[0], codes_2T)
