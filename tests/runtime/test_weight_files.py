"""Weight files: what is read, and what is refused with which words."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from songgen.runtime.checkpoint import build, load_strictly, read_tensors

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}
CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["flat.pt", "nested.ckpt", "plain.safetensors", "legacy.pth"])
def test_every_form_is_read(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".safetensors"):
        save_file(TENSORS, path)
    elif name == "nested.ckpt":
        torch.save({"state_dict": TENSORS, "epoch": 3}, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=name != "legacy.pth")
    read = read_tensors(path)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[key], TENSORS[key]) for key in TENSORS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_tensors(tmp_path / "model.pt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pt", b"", "an empty file"),
        ("b.pt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git-LFS pointer"),
        ("c.pt", b"PK\x03\x04 cut off", "cannot be read as weights"),
        ("d.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{", "cannot be read as weights"),
        ("e.pt", b"hello" * 1000, "cannot be read as weights"),
        ("f.pt", b"<html>404</html>", "it is no PyTorch file"),
    ],
)
def test_what_is_no_weight_file_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_tensors(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(("content", "message"), [([1, 2], "holds a list"), ({"a": 1}, "holds no tensors")])
def test_other_content_is_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        read_tensors(path)


@pytest.mark.parametrize("is_legacy", [False, True])
def test_a_damaged_pickle_is_a_sentence_wherever_it_is_cut(tmp_path: Path, is_legacy: bool) -> None:
    """A cut-off download of the old format threw IndexError or struct.error, and the user saw a traceback."""
    whole, path = tmp_path / "whole.pt", tmp_path / "cut.pt"
    torch.save(TENSORS, whole, _use_new_zipfile_serialization=not is_legacy)
    content = whole.read_bytes()
    for size in range(1, len(content), max(1, len(content) // 60)):
        path.write_bytes(content[:size])
        with pytest.raises(ValueError, match="cannot be read as weights"):
            read_tensors(path)


def test_code_in_a_pickle_is_never_run(tmp_path: Path) -> None:
    """A checkpoint from the net is data: a pickle that names a function to call is refused."""
    path, victim = tmp_path / "model.pt", tmp_path / "victim"

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (victim,)

    torch.save({"weight": Evil()}, path)
    with pytest.raises(ValueError, match=r"cannot be read as weights .* more than tensors: ") as caught:
        read_tensors(path)
    assert "set to `False`" not in str(caught.value)  # PyTorch's advice is to run what is in the file
    assert not victim.exists()


def filled(tensors: dict[str, torch.Tensor], **options: object) -> nn.Linear:
    module = build(lambda: nn.Linear(3, 2))
    load_strictly(module, tensors, source="file.pt", dtype=torch.float32, device=CPU, **options)  # type: ignore[arg-type]
    return module


def test_a_built_module_takes_the_tensors() -> None:
    module = filled({key: tensor.half() for key, tensor in TENSORS.items()})
    assert module.weight.dtype == torch.float32
    assert torch.equal(module.weight, TENSORS["weight"])
    assert not module.training and not module.weight.requires_grad


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"weight": TENSORS["weight"]}, "1 missing: bias"),
        ({**TENSORS, "scale": torch.ones(1)}, "1 unknown: scale"),
        ({**TENSORS, "bias": torch.ones(3)}, r"1 of another shape: bias is \[3\], must be \[2\]"),
    ],
)
def test_what_does_not_fit_is_listed(tensors: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=f"file.pt: these weights do not fit the model: {message}"):
        filled(tensors)


def test_tensors_known_as_unused_are_left_out() -> None:
    filled({**TENSORS, "old.scale": torch.ones(1)}, is_unused=lambda name: name.startswith("old."))
