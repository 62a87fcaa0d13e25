"""Mixed and vocal tokens of a model that songgen trains: what is true of each frame of a song, as a number.

A code is a kind and a tone. Sung frames have their phoneme and the semitone of their note; in the mixture,
vowels that a beat falls on are kinds of their own. Other frames of the mixture have what the drums do and the
chord; other frames of the voice have code 0. (Codes learnt from audio mistook one frame in eight, and what
learnt from such codes learnt that too.) Rows of the codebook are a direction for the kind beside one for the
tone, so that an encoder finds either by itself. Knows no network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from songgen.english import PHONEMES, is_vowel
from songgen.train.dataset import FrameLabels

LOWEST_TONE, NUM_TONES = 47, 26
"""MIDI notes of tones 0 ... 25: the ranges of both singers. Where nobody sings, tones 0 ... 24 are chords."""

VOWELS = tuple(number for number, symbol in enumerate(PHONEMES) if is_vowel(symbol))
NUM_STROKES = 16
"""Kinds of frames that nobody sings in: any of kick, snare and hat, on a beat or not."""
FIRST_PHONEME = NUM_STROKES
FIRST_ON_BEAT = FIRST_PHONEME + len(PHONEMES)
NUM_KINDS = FIRST_ON_BEAT + len(VOWELS)
NUM_LABEL_CODES = NUM_KINDS * NUM_TONES

KIND_TURNS, TONE_TURNS = (1, 10, 24, 27, 31), (1, 3, 9)
"""Turns of the circles that directions lie on: of all sets of so many, those that keep directions furthest
apart; the largest cosine of two kinds is 0.33, that of two tones 0.38."""
LABEL_DIM = 2 * (len(KIND_TURNS) + len(TONE_TURNS))

LABELLED = ("mixed", "vocal")
"""The tracks with such codes."""
SHARPNESS = 30.0
"""Factor of the cosines that are an encoder's logits."""


def label_codes(labels: FrameLabels) -> dict[str, Tensor]:
    """The codes `[T]`, int64, of the mixture and of the voice.

    Raises:
        ValueError: a note is outside the tones.
    """
    is_sung_T = labels.phoneme > 0
    tone_T = labels.note - LOWEST_TONE
    if bool(((tone_T < 0) | (tone_T >= NUM_TONES))[is_sung_T].any()):
        sung = labels.note[is_sung_T]
        raise ValueError(
            f"notes from MIDI {int(sung.min())} to {int(sung.max())} are sung; codes have tones from "
            f"{LOWEST_TONE} to {LOWEST_TONE + NUM_TONES - 1}"
        )
    on_beat = torch.full((len(PHONEMES),), -1)
    on_beat[list(VOWELS)] = torch.arange(len(VOWELS))
    number_T = (labels.phoneme - 1).clamp(min=0)
    plain_T = FIRST_PHONEME + number_T
    is_marked_T = labels.beat & (on_beat[number_T] >= 0)
    marked_T = torch.where(is_marked_T, FIRST_ON_BEAT + on_beat[number_T], plain_T)
    strokes_T = (labels.drums > 0).long() @ torch.tensor([1, 2, 4]) + 8 * labels.beat.long()
    return {
        "mixed": torch.where(is_sung_T, marked_T * NUM_TONES + tone_T, strokes_T * NUM_TONES + labels.chord),
        "vocal": torch.where(is_sung_T, plain_T * NUM_TONES + tone_T, 0),
    }


def kind_and_tone(codes: Tensor) -> tuple[Tensor, Tensor]:
    """The kind and the tone of codes."""
    return codes.div(NUM_TONES, rounding_mode="floor"), codes % NUM_TONES


def phoneme_of_kinds(kinds: Tensor) -> Tensor:
    """The phoneme's class, 1 + its index in `PHONEMES`, of kinds; 0 of frames that nobody sings in."""
    of_vowel = torch.tensor(VOWELS, device=kinds.device)[(kinds - FIRST_ON_BEAT).clamp(0, len(VOWELS) - 1)]
    number = torch.where(kinds >= FIRST_ON_BEAT, of_vowel, kinds - FIRST_PHONEME)
    return torch.where(kinds < FIRST_PHONEME, 0, 1 + number)


def without_beats(codes: Tensor) -> Tensor:
    """Codes of the mixture that do not tell whether a beat falls on the frame."""
    kinds, tones = kind_and_tone(codes)
    phonemes = phoneme_of_kinds(kinds)
    plain = torch.where(phonemes > 0, FIRST_PHONEME - 1 + phonemes, kinds % (NUM_STROKES // 2))
    return plain * NUM_TONES + tones


def label_directions() -> tuple[Tensor, Tensor]:
    """Unit vectors of the kinds `[NUM_KINDS, 10]` and of the tones `[NUM_TONES, 6]`."""
    return _on_circles(NUM_KINDS, KIND_TURNS), _on_circles(NUM_TONES, TONE_TURNS)


def label_codebook(num_codes: int) -> Tensor:
    """Rows `[num_codes, 16]` of length 1; those behind the last label repeat the first, and are never found.

    Raises:
        ValueError: there are fewer codes than labels.
    """
    if num_codes < NUM_LABEL_CODES:
        raise ValueError(
            f"there are {num_codes} codes; what is sung and played needs at least {NUM_LABEL_CODES}"
        )
    kinds, tones = kind_and_tone(torch.arange(num_codes) % NUM_LABEL_CODES)
    of_kinds, of_tones = label_directions()
    return torch.cat([of_kinds[kinds], of_tones[tones]], dim=1) / math.sqrt(2)


def label_scores(latents_BET: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the kinds `[B, NUM_KINDS, T]` and of the tones `[B, NUM_TONES, T]`.

    Args:
        latents_BET: what the codebook is searched with, of length 1. The nearest row has the kind and the
            tone with the largest logits.
    """
    of_kinds, of_tones = (one.to(latents_BET) * SHARPNESS for one in label_directions())
    split = of_kinds.shape[1]
    return of_kinds @ latents_BET[:, :split], of_tones @ latents_BET[:, split:]


def label_losses(latents_BET: Tensor, codes_BT: Tensor) -> dict[str, Tensor]:
    """Cross entropies of the kinds and of the tones, the latter of frames that are not code 0."""
    kinds_BT, tones_BT = kind_and_tone(codes_BT)
    of_kinds, of_tones = label_scores(latents_BET)
    is_told_BT = codes_BT > 0
    tone_BT = functional.cross_entropy(of_tones, tones_BT, reduction="none") * is_told_BT
    return {
        "kind": functional.cross_entropy(of_kinds, kinds_BT),
        "tone": tone_BT.sum() / is_told_BT.sum().clamp(min=1),
    }


def label_hits(found_BT: Tensor, codes_BT: Tensor) -> dict[str, tuple[float, int]]:
    """What found codes have right, by name how often and of how many.

    `phoneme` and `tone` of sung frames, `chord` of the others that have one, and `phoneme_or_none` of all.
    """
    (kinds, tones), (own_kinds, own_tones) = kind_and_tone(found_BT), kind_and_tone(codes_BT)
    phoneme, own_phoneme = phoneme_of_kinds(kinds), phoneme_of_kinds(own_kinds)
    is_sung = own_phoneme > 0
    counted = {
        "phoneme": (phoneme == own_phoneme, is_sung),
        "tone": (tones == own_tones, is_sung),
        "chord": (tones == own_tones, ~is_sung & (own_tones > 0)),
        "phoneme_or_none": (phoneme == own_phoneme, torch.ones_like(is_sung)),
    }
    return {name: (float(right[where].sum()), int(where.sum())) for name, (right, where) in counted.items()}


def _on_circles(count: int, turns: tuple[int, ...]) -> Tensor:
    """`count` unit vectors: points of circles that are gone around so many times."""
    angles = (
        2
        * math.pi
        / count
        * torch.outer(torch.arange(count, dtype=torch.float64), torch.tensor(turns).double())
    )
    return (torch.cat([angles.cos(), angles.sin()], dim=1) / math.sqrt(len(turns))).float()
