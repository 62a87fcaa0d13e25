"""Prompt audio: the first 10 seconds of a clip, made into tokens for the language model and a start for the
codec.

clip -> 48 kHz stereo -> vocals (separated at 44.1 kHz, kept as 16 bit) and accompaniment (the rest) -> codes
of the mixture, the vocals and the accompaniment. A model of the mixture alone (v2-fast) takes the clip in
mono, and gets the codes of the mixture. Where the published scripts fail (lengths that differ by a sample,
mono files, more than two channels) this does what they mean. Nothing is kept on disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from songgen.models.clip import PROMPT_SECONDS, PromptClip
from songgen.models.levo.encode import SAMPLE_RATE, AudioTokenizer, sound2code
from songgen.models.levo.windows import CodecPrompt
from songgen.models.separation import PCM_STEPS, PUBLISHED_SHIFT_OFFSET, Separator, as_pcm16
from songgen.nn.oobleck import OobleckVAE
from songgen.nn.resample import resample
from songgen.request_keys import Stem

LATE_PROMPT_SECONDS = 30
LATE_PROMPT_START_SECONDS = 20

DUAL_STEMS: tuple[Stem, Stem] = ("vocal", "bgm")


@dataclass(frozen=True)
class Prompt:
    """A prompt, encoded, and separated where the model wants that.

    Args:
        codes_KT: int64 at 25 Hz, 10 s give 251: `[3, P]` (mixed, vocal, bgm), or of the mixture alone
            `[1, P]`.
        tracks: what the codec's tracks were made from, `[2, N]` float32 at 48 kHz each, equally long: vocal
            and bgm, or the mixture alone. Their codes are the last rows of `codes_KT`.
        warnings: those of the clip.
        silence_KT: codes of silence of the same length, `[2, P]` (vocal, bgm), see `silence_codes`; only
            stems alone need them.
    """

    codes_KT: Tensor
    tracks: tuple[Tensor, ...]
    warnings: tuple[str, ...] = ()
    silence_KT: Tensor | None = None

    @property
    def vocal_CN(self) -> Tensor:
        """The vocals of a separated prompt."""
        vocal_CN, _ = self.tracks
        return vocal_CN

    @property
    def bgm_CN(self) -> Tensor:
        """The accompaniment of a separated prompt."""
        _, bgm_CN = self.tracks
        return bgm_CN

    @property
    def num_samples(self) -> int:
        """Length at 48 kHz."""
        return self.tracks[0].shape[1]

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return self.num_samples / SAMPLE_RATE

    def num_latents(self, hop: int) -> int:
        """VAE frames of the prompt, for the noise that `codec_prompt` takes; `hop` in samples."""
        return self.num_samples // hop


def split_clips(
    clips: Sequence[PromptClip], separator: Separator, shift_offsets: Sequence[int], *, rows: int = 1
) -> list[tuple[Tensor, Tensor]]:
    """Vocals and accompaniment of clips, `[2, N]` each at 48 kHz.

    The vocal stem passes through 16 bit and its peak rule as the published system's file does, which holds
    what comes after the first 10 s too; the accompaniment is what is left of the mixture. Where their lengths
    differ by a sample both are cut to the shorter.
    """
    stems = separator.separate([clip.mixture_CN for clip in clips], shift_offsets, rows=rows)
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
        prompts.append(Prompt(codes_KT, (vocal_CN, bgm_CN), clip.warnings))
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


def mixed_prompts(clips: Sequence[PromptClip], mixed: AudioTokenizer, *, rows: int = 1) -> list[Prompt]:
    """Prompts for a model of the mixture alone: nothing is separated, one row of codes.

    The published codes of a mono clip whose length does not divide 40 s are of a mixture shifted against
    itself; these are of the clip.

    Args:
        mixed: tokenizer of the single-track codec.
        rows: tokenizer segments run at once.
    """
    codes = sound2code(mixed, [[clip.full_CN] for clip in clips], rows=rows)
    return [
        Prompt(codes_KT, (clip.full_CN,), clip.warnings) for clip, codes_KT in zip(clips, codes, strict=True)
    ]


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
    """A prompt for the dual-track codec alone, from stems that are already separate; its mixed row repeats
    the vocal codes.

    Args:
        vocal, bgm: see `codec_stem`; cut to the shorter.
    """
    stems = [codec_stem(vocal), codec_stem(bgm)]
    length = min(stem_CN.shape[1] for stem_CN in stems)
    vocal_CN, bgm_CN = (stem_CN[:, :length] for stem_CN in stems)
    codes_KT = sound2code(dual, [[vocal_CN, bgm_CN]])[0]
    return Prompt(torch.cat([codes_KT[:1], codes_KT]), (vocal_CN, bgm_CN))


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
        stem: mixed, vocal or bgm; of a prompt of the mixture alone only mixed.
        noise_ZT: `[Z, prompt.num_latents(hop)]` standard normal: the published system draws the prompt's
            latents.

    Returns:
        Latents and codes on the CPU; there is one code more than latents.

    Raises:
        ValueError: another stem, or noise of another shape.
    """
    known: tuple[Stem, ...] = ("mixed",) if len(prompt.tracks) == 1 else ("mixed", *DUAL_STEMS)
    if stem not in known:
        raise ValueError(f"stem {stem!r}; one of {', '.join(known)}")
    wanted = (vae.config.latent_dim, prompt.num_latents(vae.config.hop))
    if tuple(noise_ZT.shape) != wanted:
        raise ValueError(f"noise for the prompt is {list(noise_ZT.shape)}, must be {list(wanted)}")
    tracks, codes_KT = list(prompt.tracks), prompt.codes_KT[-len(prompt.tracks) :].clone()
    for row, name in enumerate(DUAL_STEMS):
        if stem not in ("mixed", name):
            assert prompt.silence_KT is not None, "a prompt for a stem alone carries the codes of silence"
            tracks[row] = torch.zeros_like(tracks[row])
            codes_KT[row] = prompt.silence_KT[row, : codes_KT.shape[1]]
    device = next(vae.parameters()).device
    with torch.inference_mode():
        audio_BCN = torch.stack(tracks).sum(0, keepdim=True).to(device)
        latents_BZT = vae.encode(audio_BCN, noise_ZT[None].to(device, audio_BCN.dtype)).cpu()
    return CodecPrompt(latents_BZT[0], codes_KT)
