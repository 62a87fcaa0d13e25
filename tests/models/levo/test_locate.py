"""Finding checkpoint and runtime files, and the messages when one is missing or only a pointer."""

from __future__ import annotations

from pathlib import Path

import pytest

from songgen.models.levo.locate import find_checkpoint, find_runtime_file, is_checkpoint

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:616dbe27\nsize 14959842\n"
VAE = "./ckpt/vae/stable_audio_1920_vae.json"


@pytest.fixture
def checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty checkpoint folder in an empty tree; the working folder is elsewhere."""
    folder = tmp_path / "models" / "ckpt" / "songgeneration_base"
    folder.mkdir(parents=True)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    return folder


@pytest.mark.parametrize(
    "place",
    [
        "wanted",
        "models/ckpt/songgeneration_base",
        "models/ckpt",
        "models/ckpt/runtime",
        "models",
        "here",
        "here/runtime",
    ],
)
def test_runtime_files_are_found_in_every_place(tmp_path: Path, checkpoint: Path, place: str) -> None:
    """The runtime folder named, the checkpoint, the folders above it, the working folder."""
    (tmp_path / "wanted").mkdir(exist_ok=True)
    path = tmp_path / place / VAE
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert find_runtime_file(VAE, checkpoint=checkpoint, runtime_dir=tmp_path / "wanted").samefile(path)


def test_the_named_runtime_folder_comes_first(tmp_path: Path, checkpoint: Path) -> None:
    """What a user names must win over what lies about."""
    for place in (tmp_path / "wanted", checkpoint, tmp_path / "here"):
        (place / "third_party" / "Qwen2-7B").mkdir(parents=True)
    found = find_runtime_file("third_party/Qwen2-7B", checkpoint=checkpoint, runtime_dir=tmp_path / "wanted")
    assert found.samefile(tmp_path / "wanted" / "third_party" / "Qwen2-7B")
    found = find_runtime_file("third_party/Qwen2-7B", checkpoint=checkpoint)
    assert found.samefile(checkpoint / "third_party" / "Qwen2-7B")


def test_a_missing_runtime_file_lists_the_places_and_the_fetch_line(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        find_runtime_file(VAE, checkpoint=checkpoint)
    message = str(caught.value)
    for place in (checkpoint, checkpoint.parent, tmp_path / "here", tmp_path / "here" / "runtime"):
        assert f"\n  {place}" in message
    assert VAE in message and "songgen fetch runtime" in message and "runtime_dir=" in message


def test_a_runtime_folder_that_is_not_there_is_said(tmp_path: Path, checkpoint: Path) -> None:
    """A mistyped runtime_dir must not be passed over in silence."""
    with pytest.raises(FileNotFoundError, match=r"runtime_dir=.*no such folder"):
        find_runtime_file(VAE, checkpoint=checkpoint, runtime_dir=tmp_path / "mistyped")


@pytest.mark.parametrize("relative", [VAE, "./ckpt/vae"])
def test_a_git_lfs_pointer_is_recognised(checkpoint: Path, relative: str) -> None:
    """A pointer must be named as such, not end in an unpickling error."""
    path = checkpoint / VAE
    path.parent.mkdir(parents=True)
    path.write_text(POINTER)
    with pytest.raises(ValueError, match=r"stable_audio_1920_vae\.json is a Git-LFS pointer.*songgen fetch"):
        find_runtime_file(relative, checkpoint=checkpoint)


@pytest.mark.parametrize("weights", ["model.pt", "model.safetensors"])
def test_a_checkpoint_is_config_and_weights(checkpoint: Path, weights: str) -> None:
    assert not is_checkpoint(checkpoint)
    (checkpoint / "config.yaml").write_text("a: 1")
    assert not is_checkpoint(checkpoint)
    (checkpoint / weights).write_bytes(b"x")
    assert is_checkpoint(checkpoint)
    assert find_checkpoint(checkpoint).weights == checkpoint / weights


def test_safetensors_win_over_the_pickle(checkpoint: Path) -> None:
    """Both present: the format that cannot run code is read."""
    for name in ("config.yaml", "model.pt", "model.safetensors"):
        (checkpoint / name).write_text("x")
    assert find_checkpoint(checkpoint).weights.name == "model.safetensors"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"no model\.safetensors or model\.pt in it \(it holds nothing\)"),
        ({"config.yaml": "a"}, r"no model\.safetensors or model\.pt in it \(it holds config\.yaml\)"),
        ({"model.pt": "a"}, r"no config\.yaml in it \(it holds model\.pt\)"),
    ],
)
def test_an_incomplete_checkpoint_says_what_is_missing(
    checkpoint: Path, files: dict[str, str], message: str
) -> None:
    for name, text in files.items():
        (checkpoint / name).write_text(text)
    with pytest.raises(FileNotFoundError, match=message):
        find_checkpoint(checkpoint)


def test_checkpoint_paths_that_are_no_folders(checkpoint: Path) -> None:
    (checkpoint / "model.pt").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"model\.pt is a file; name the folder"):
        find_checkpoint(checkpoint / "model.pt")
    with pytest.raises(FileNotFoundError, match="no such folder"):
        find_checkpoint(checkpoint / "nothing")


def test_weights_that_are_a_pointer(checkpoint: Path) -> None:
    (checkpoint / "config.yaml").write_text("a: 1")
    (checkpoint / "model.pt").write_text(POINTER)
    with pytest.raises(ValueError, match=r"model\.pt is a Git-LFS pointer"):
        find_checkpoint(checkpoint)
