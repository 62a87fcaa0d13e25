"""Files appear whole or not at all."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from songgen import files
from songgen.files import content_digest, remove_leftovers, write_together


def part(folder: Path, host: str, process: int) -> Path:
    path = folder / f".songgen-0123456789abcdef.{host}.{process}.part"
    path.write_bytes(b"half")
    return path


def test_files_and_their_folders_appear(tmp_path: Path) -> None:
    wanted = {tmp_path / "x" / "a.wav": b"one", tmp_path / "y" / "b": b"two"}
    write_together(wanted)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == wanted


def test_a_full_disk_leaves_neither_part_nor_half_of_the_files(tmp_path: Path) -> None:
    """The second file exceeds what may be written; the first, already written, must not appear alone."""
    old = tmp_path / "old"
    old.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            write_together({old: b"new", tmp_path / "big": bytes(5000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["old"] and old.read_bytes() == b"old"


def test_an_interrupted_write_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_together({tmp_path / "a": b"one"})
    assert not list(tmp_path.iterdir())


def test_names_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    write_together({tmp_path / ("a" * 255): b"one"})
    assert len(list(tmp_path.iterdir())) == 1


def test_leftovers_go_and_live_parts_stay(tmp_path: Path) -> None:
    host = files._host()
    dead = part(
        tmp_path, host, int(subprocess.check_output([sys.executable, "-c", "import os; print(os.getpid())"]))
    )
    own = part(tmp_path, host, os.getpid())
    live = part(tmp_path, host, os.getppid())
    far = part(tmp_path, "elsewhere", 1)
    stale = part(tmp_path, "elsewhere", 2)
    os.utime(stale, (0, time.time() - 2 * files.STALE_SECONDS))
    mine = tmp_path / ".songgen-notes.part"
    mine.write_bytes(b"a user's own")
    assert sorted(remove_leftovers(tmp_path)) == sorted([dead, own, stale])
    assert set(tmp_path.iterdir()) == {live, far, mine}


def test_digest_is_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"same")
    (tmp_path / "b").write_bytes(b"same")
    assert content_digest(tmp_path / "a") == content_digest(tmp_path / "b")
    (tmp_path / "b").write_bytes(b"else")
    assert content_digest(tmp_path / "a") != content_digest(tmp_path / "b")
    with pytest.raises(FileNotFoundError, match="no such file"):
        content_digest(tmp_path / "c")
    with pytest.raises(ValueError, match="is not a file"):
        content_digest(tmp_path)
