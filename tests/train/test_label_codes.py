"""Codes that the truth tells: what they say, their codebook, and what an encoder learns of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny_song import TINY_TRUTH
from torch.nn import functional

from songgen.english import PHONEMES
from songgen.train.dataset import FrameLabels, frame_labels
from songgen.train.label_codes import (
    FIRST_ON_BEAT,
    FIRST_PHONEME,
    LABEL_DIM,
    LABELLED,
    LOWEST_TONE,
    NUM_KINDS,
    NUM_LABEL_CODES,
    NUM_TONES,
    VOWELS,
    kind_and_tone,
    label_codebook,
    label_codes,
    label_hits,
    label_losses,
    phoneme_of_kinds,
    without_beats,
)
from songgen.train.truth import SungNote

ALL = torch.arange(NUM_LABEL_CODES)


def song() -> FrameLabels:
    """G at 10 and 11, OW at 12 ... 29 with beats at 12 and 25; C major, then A minor from 25 on."""
    return frame_labels(TINY_TRUTH)


def test_a_code_says_what_is_sung_and_on_which_note() -> None:
    codes = label_codes(song())
    kinds, tones = kind_and_tone(codes["vocal"])
    assert phoneme_of_kinds(kinds).tolist() == song().phoneme.tolist()
    assert tones[10:30].tolist() == [69 - LOWEST_TONE] * 20
    assert not codes["vocal"][:10].any() and not codes["vocal"][30:].any()


def test_vowels_that_a_beat_falls_on_are_marked_in_the_mixture_alone() -> None:
    codes = label_codes(song())
    is_other = codes["mixed"][10:30] != codes["vocal"][10:30]
    assert (10 + is_other.nonzero()[:, 0]).tolist() == [12, 25]
    kind, tone = kind_and_tone(codes["mixed"][25])
    assert kind >= FIRST_ON_BEAT and tone == 69 - LOWEST_TONE
    assert phoneme_of_kinds(kind[None]).item() == 1 + PHONEMES.index("OW")
    early = replace(TINY_TRUTH, beats=(0.44,))  # on the consonant
    assert torch.equal(*(label_codes(frame_labels(early))[stem][10:30] for stem in LABELLED))


def test_where_nobody_sings_the_mixture_tells_drums_beats_and_chords() -> None:
    kinds, tones = kind_and_tone(label_codes(song())["mixed"])
    assert kinds[0] == 1 + 8 and tones[0] == 1  # a kick on a beat, C major
    assert kinds[1] == 0 and kinds[37] == 8 and tones[37] == 13 + 9
    assert (kinds[30:] < FIRST_PHONEME).all()


def test_without_beats_all_else_stays_as_it_is() -> None:
    labels = song()
    told = without_beats(label_codes(labels)["mixed"])
    assert torch.equal(told, label_codes(replace(labels, beat=torch.zeros_like(labels.beat)))["mixed"])
    assert labels.beat.sum() > 3 and torch.equal(without_beats(told), told)


def test_every_kind_has_its_phoneme() -> None:
    phonemes = phoneme_of_kinds(torch.arange(NUM_KINDS))
    assert not phonemes[:FIRST_PHONEME].any()
    assert phonemes[FIRST_PHONEME:FIRST_ON_BEAT].tolist() == list(range(1, 1 + len(PHONEMES)))
    assert phonemes[FIRST_ON_BEAT:].tolist() == [1 + number for number in VOWELS]
    assert phoneme_of_kinds(torch.arange(NUM_KINDS, device="meta")).is_meta  # where the codes are


@pytest.mark.parametrize("pitch", [LOWEST_TONE - 1, LOWEST_TONE + NUM_TONES])
def test_notes_that_no_code_has_are_refused(pitch: int) -> None:
    truth = replace(TINY_TRUTH, notes=(SungNote(pitch, 0.5, 1.2),))
    with pytest.raises(ValueError, match=rf"notes from MIDI {pitch} to {pitch} are sung; .* from 47 to 72"):
        label_codes(frame_labels(truth))


def test_rows_are_directions_far_from_each_other() -> None:
    rows = label_codebook(2048)
    assert rows.shape == (2048, LABEL_DIM)
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(2048))
    torch.testing.assert_close(rows[NUM_LABEL_CODES:], rows[: 2048 - NUM_LABEL_CODES])
    cosines = rows[ALL] @ rows[ALL].t()
    assert float(cosines.fill_diagonal_(0).max()) < 0.7


def test_too_small_a_codebook_is_refused() -> None:
    with pytest.raises(ValueError, match=r"there are 1819 codes; .* needs at least 1820"):
        label_codebook(NUM_LABEL_CODES - 1)


def test_the_loss_is_least_at_the_rows_of_the_codes() -> None:
    codes = torch.tensor([[0, 30, 700, 1819]])
    right, wrong = (label_codebook(NUM_LABEL_CODES)[row].transpose(1, 2) for row in (codes, codes.flip(1)))
    assert all(float(loss) < 0.01 for loss in label_losses(right, codes).values())
    assert all(float(loss) > 1.0 for loss in label_losses(wrong, codes).values())


def test_the_tone_of_silence_is_not_asked_for() -> None:
    latents = functional.normalize(torch.randn(1, LABEL_DIM, 5, generator=torch.manual_seed(0)), dim=1)
    losses = label_losses(latents, torch.zeros(1, 5, dtype=torch.int64))
    assert float(losses["tone"]) == 0.0 and float(losses["kind"]) > 0


def test_hits_count_what_is_right_of_what_is_there() -> None:
    codes = label_codes(song())["mixed"]
    found = codes.clone()
    found[13] += NUM_TONES  # another phoneme
    found[14] += 1  # another note
    found[40] += 1  # another chord
    hits = label_hits(found[None], codes[None])
    assert hits["phoneme"] == (19.0, 20) and hits["tone"] == (19.0, 20)
    assert hits["chord"] == (29.0, 30) and hits["phoneme_or_none"] == (49.0, 50)
