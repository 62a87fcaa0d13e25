"""Reading a folder of songs: parts of stems, truths, held-out songs, labels per frame."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_song import TINY_TRUTH, write_song

from songgen.english import PHONEMES
from songgen.train.dataset import SongStore, frame_labels
from songgen.train.truth import Span, SungNote, read_truth


def test_parts_of_stems_are_those_of_the_whole(tmp_path: Path) -> None:
    stems = write_song(tmp_path, 3)
    store = SongStore(tmp_path)
    whole = store.stems(0)
    assert whole.shape == (2, 2, 50 * 1920) and whole.dtype == torch.float32
    assert np.abs(whole.numpy() - stems).max() < 1e-4
    assert torch.equal(store.stems(0, start=7, num_frames=5), whole[..., 7 * 1920 : 12 * 1920])
    assert torch.equal(store.stems(0, start=48), whole[..., 48 * 1920 :])


@pytest.mark.parametrize(("start", "num_frames"), [(-1, 2), (40, 11), (51, None)])
def test_frames_that_are_not_there_are_refused(tmp_path: Path, start: int, num_frames: int | None) -> None:
    write_song(tmp_path, 3)
    with pytest.raises(ValueError, match=r"000003.flac: frames -?\d+ to \d+ asked for, it has 0 to 50"):
        SongStore(tmp_path).stems(0, start, num_frames)


def test_one_number_in_forty_is_held_out(tmp_path: Path) -> None:
    for number in (0, 1, 39, 40, 41):
        write_song(tmp_path, number)
    store = SongStore(tmp_path)
    assert len(store) == 5
    assert [store.number(index) for index in store.held_out_indices] == [0, 40]
    assert [store.number(index) for index in store.train_indices] == [1, 39, 41]


def test_a_truth_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_song(tmp_path, 0)
    assert SongStore(tmp_path).truth(0) == TINY_TRUTH


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no songs; make some with `songgen train synth`"):
        SongStore(tmp_path)


@pytest.mark.parametrize("text", ["{}", "no json", '{"sections": [{"name": 1}]}'])
def test_a_file_that_is_no_truth_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "000001.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"000001.json: is not the truth of a song"):
        read_truth(path)


def test_frame_labels() -> None:
    labels = frame_labels(TINY_TRUTH)
    assert all(len(getattr(labels, part.name)) == 50 for part in fields(labels))
    assert labels.phoneme.dtype == labels.chord.dtype == torch.int64
    assert labels.phoneme[9] == 0 and labels.phoneme[10] == 1 + PHONEMES.index("G")
    assert labels.phoneme[13] == labels.phoneme[29] == 1 + PHONEMES.index("OW") and labels.phoneme[30] == 0
    assert labels.note[20] == 69 and labels.note.dtype == torch.int64
    assert labels.chord[0] == 1 and labels.chord[24] == 1 and labels.chord[25] == 13 + 9
    assert labels.drums[0].tolist() == [1, 0, 0]
    assert labels.drums[12].tolist() == [0, 1, 0] and labels.drums[13].tolist() == [0, 0, 1]
    assert labels.drums.sum() == 3
    assert labels.beat.nonzero()[:, 0].tolist() == [0, 12, 25, 37]


def test_frames_have_the_nearest_note() -> None:
    notes = (SungNote(60, 0.0, 0.4), SungNote(62, 1.02, 1.5))
    labels = frame_labels(replace(TINY_TRUTH, notes=notes))
    assert labels.note.tolist() == [60] * 18 + [62] * 32
    assert frame_labels(replace(TINY_TRUTH, notes=())).note.tolist() == [0] * 50


def test_short_phonemes_have_a_frame_where_the_one_there_has_others() -> None:
    """Frames have middles at 0.42, 0.46, 0.50, ...; S lies between two of them, and so does the second G."""
    spans = (Span("OW", 0.4, 0.47), Span("S", 0.47, 0.495), Span("AA", 0.495, 0.53), Span("G", 0.53, 0.535))
    labels = frame_labels(replace(TINY_TRUTH, phonemes=spans))
    names = [PHONEMES[label - 1] if label else "-" for label in labels.phoneme[9:15].tolist()]
    assert names == ["-", "OW", "OW", "AA", "G", "-"]
    longer = replace(TINY_TRUTH, phonemes=(*spans[:2], Span("AA", 0.495, 0.7)))
    names = [PHONEMES[label - 1] for label in frame_labels(longer).phoneme[10:17].tolist()]
    assert names == ["OW", "OW", "S", "AA", "AA", "AA", "AA"]
