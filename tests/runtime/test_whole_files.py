"""Broken weight files are told from whole ones by head, tail and size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from songgen.runtime.whole_files import fault_of, is_lfs_pointer

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:616dbe27\nsize 14959842\n"
TENSORS = {"a": torch.arange(300.0), "b": torch.zeros(0), "c": torch.ones(7, dtype=torch.int8)}


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, Path]:
    """A whole file of each kind."""
    paths = {name: tmp_path / f"a.{name}" for name in ("safetensors", "pt", "pth", "json", "yaml")}
    save_file(TENSORS, paths["safetensors"], {"songgen": "{}"})
    torch.save(TENSORS, paths["pt"])
    torch.save(TENSORS, paths["pth"], _use_new_zipfile_serialization=False)
    paths["json"].write_text(json.dumps({"a": 1}))
    paths["yaml"].write_text("a: 1\n")
    return paths


def test_whole_files_have_no_fault(whole: dict[str, Path]) -> None:
    for path in whole.values():
        assert fault_of(path) is None


@pytest.mark.parametrize("kind", ["safetensors", "pt", "pth", "json", "yaml"])
def test_a_pointer_an_empty_and_a_missing_file_are_named(whole: dict[str, Path], kind: str) -> None:
    path = whole[kind]
    path.write_bytes(POINTER)
    assert is_lfs_pointer(path) and "a Git-LFS pointer, not the file: `git lfs pull`" in str(fault_of(path))
    path.write_bytes(b"")
    assert fault_of(path) == "an empty file"
    path.unlink()
    assert fault_of(path) == "no such file"


@pytest.mark.parametrize("kept", [3, 8, 40, 500, -1])
def test_a_cut_safetensors_file_is_known_wherever_it_was_cut(whole: dict[str, Path], kept: int) -> None:
    data = whole["safetensors"].read_bytes()
    whole["safetensors"].write_bytes(data[:kept])
    assert str(fault_of(whole["safetensors"])).startswith("no safetensors" if kept == 3 else "cut off: ")


def test_the_bytes_that_a_cut_file_lacks_are_told(whole: dict[str, Path]) -> None:
    data = whole["safetensors"].read_bytes()
    whole["safetensors"].write_bytes(data[:-7])
    assert fault_of(whole["safetensors"]) == f"cut off: {len(data) - 7} of {len(data)} bytes"
    whole["safetensors"].write_bytes(data + b"xx")
    assert fault_of(whole["safetensors"]) == "damaged: 2 bytes too long"


@pytest.mark.parametrize(
    ("header", "fault"),
    [
        (b"<html>" + b" " * 50, "no safetensors file: it does not begin like one"),
        (b"\x02" + bytes(7) + b"[]", "damaged: its header cannot be read"),
        (b"\x02" + bytes(7) + b"{x", "damaged: its header cannot be read"),
        (b'\x0a\0\0\0\0\0\0\0{"a": {} }', "damaged: its header cannot be read"),
    ],
)
def test_a_damaged_safetensors_header(tmp_path: Path, header: bytes, fault: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(header)
    assert fault_of(path) == fault


def test_a_cut_zip_is_known_by_its_missing_end(whole: dict[str, Path]) -> None:
    data = whole["pt"].read_bytes()
    for kept in (10, len(data) // 2, len(data) - 1):
        whole["pt"].write_bytes(data[:kept])
        assert fault_of(whole["pt"]) == "cut off: its directory, at the end of the file, is missing"


def test_other_files_under_a_weight_file_s_name(tmp_path: Path) -> None:
    import zipfile

    path = tmp_path / "a.pt"
    path.write_bytes(b"<html>not found</html>")
    assert fault_of(path) == "no PyTorch file: it does not begin like one"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "x")
    assert fault_of(path) == "no PyTorch file: it holds no data.pkl"
    (tmp_path / "a.json").write_text('{"a": ')
    assert str(fault_of(tmp_path / "a.json")).startswith("damaged: not JSON (Expecting value")
