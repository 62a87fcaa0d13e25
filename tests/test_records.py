"""Records: one whole line a song, whatever is in it and whatever killed the run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from songgen.records import Record, RecordFile, encode_record, read_records

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON))
def test_any_request_is_one_line_and_reads_back(request: dict[str, Any]) -> None:
    line = encode_record({"status": "ok", "request": request})
    assert line.endswith(b"\n") and len(line.decode().splitlines()) == 1
    assert json.loads(line)["request"] == request


def test_half_a_surrogate_pair_is_kept() -> None:
    """JSON lets a user write it, UTF-8 does not."""
    assert json.loads(encode_record({"idx": "\ud800 é"}))["idx"] == "\ud800 é"


def test_words_stay_readable() -> None:
    assert "歌词".encode() in encode_record({"gt_lyric": "歌词"})


def test_keys_without_a_value_are_left_out_and_falsy_values_kept() -> None:
    record = Record(idx="a", name="a", status="ok", seed=0, mended=False, finished="")
    kept = {"idx": "a", "name": "a", "status": "ok", "mended": False, "seed": 0, "finished": ""}
    assert record.as_dict() == kept


def test_each_record_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    path = tmp_path / "jsonl" / "songs.jsonl"
    with RecordFile(path) as file:
        for number in range(3):
            file.append({"status": "ok", "number": number})
            assert len(path.read_bytes().splitlines()) == number + 1
    with RecordFile(path) as file:
        file.append({"status": "ok", "number": 3})
    assert [record["number"] for record in read_records(path)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("torn", "left"),
    [
        (b'{"status": "ok", "n": 1}\n{"status": "o', [1]),
        (b'{"status": "ok", "n": 1}\n{"status": "ok", "n": 2}', [1, 2]),
        (b'{"sta', []),
        (b'{"status": "ok", "n": 1}\n\xe6\xad', [1]),
        (b"", []),
    ],
)
def test_a_torn_last_line_is_mended(tmp_path: Path, torn: bytes, left: list[int]) -> None:
    path = tmp_path / "songs.jsonl"
    path.write_bytes(torn)
    with RecordFile(path) as file:
        file.append({"status": "ok", "n": 9})
    assert [json.loads(line)["n"] for line in path.read_bytes().splitlines()] == [*left, 9]


def test_lines_that_are_no_records_are_passed_over_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "songs.jsonl"
    path.write_text('nonsense\n[1]\n\n{"status": "ok"}\n{"other": 1}\n')
    assert list(read_records(path)) == [{"status": "ok"}]
    assert [f"{path}: line {number}: not a record, passed over" for number in (1, 2, 5)] == caplog.messages


def test_a_write_cut_short_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "songs.jsonl"
    with RecordFile(path) as file:
        file.append({"status": "ok"})
        real = os.write
        monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:5]))
        with pytest.raises(OSError, match=r"songs\.jsonl: only 5 of 17 bytes could be written"):
            file.append({"status": "ok"})
    assert path.read_bytes() == b'{"status": "ok"}\n'


def test_two_runs_cannot_hold_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "songs.jsonl"
    with RecordFile(path), pytest.raises(BlockingIOError, match="another run is writing these records"):
        RecordFile(path).__enter__()
    with RecordFile(path):
        pass
