"""Where a model's files are found."""

from __future__ import annotations

from pathlib import Path

import pytest

from songgen.models.songbloom.locate import find_model, is_checkpoint


def make(folder: Path, *names: str, suffix: str = ".pt") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / f"{name}.yaml").write_text("model:\n  diff_layers: 12\n")
        (folder / f"{name}{suffix}").write_bytes(b"x")
    (folder / "vocab_g2p.yaml").write_text("- ''\n")
    return folder


@pytest.mark.parametrize("given", ["", "a.yaml", "a.pt", "a"])
def test_a_folder_or_a_file_names_the_model(tmp_path: Path, given: str) -> None:
    folder = make(tmp_path / "hub", "a")
    assert is_checkpoint(folder / given)
    files = find_model(folder / given)
    assert files.name == "a"
    assert files.config.samefile(folder / "a.yaml")
    assert files.weights is not None and files.weights.samefile(folder / "a.pt")


def test_safetensors_are_preferred(tmp_path: Path) -> None:
    make(tmp_path, "a")
    make(tmp_path, "a", suffix=".safetensors")
    weights = find_model(tmp_path).weights
    assert weights is not None and weights.suffix == ".safetensors"


def test_of_several_models_one_must_be_named(tmp_path: Path) -> None:
    folder = make(tmp_path / "hub", "a", "b")
    with pytest.raises(ValueError, match=r"hub holds several models; name one of .*a\.yaml, .*b\.yaml"):
        find_model(folder)
    assert find_model(folder / "b").name == "b"
    assert find_model(make(tmp_path / "a", "a", "b")).name == "a"  # the folder's own


def test_other_folders_are_no_models(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("lm: {}\n")
    (tmp_path / "broken.yaml").write_bytes(b"\xff\xfe diff_layers:")
    assert not is_checkpoint(tmp_path)
    assert not is_checkpoint(tmp_path / "absent")
    with pytest.raises(FileNotFoundError, match=r"no SongBloom model: no <name>\.yaml"):
        find_model(tmp_path)


def test_a_git_lfs_pointer_is_said(tmp_path: Path) -> None:
    folder = make(tmp_path, "a")
    (folder / "a.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"a\.pt is a Git-LFS pointer"):
        find_model(folder)


def test_shared_files_are_found_beside_and_in_their_own_folder(tmp_path: Path) -> None:
    files = find_model(make(tmp_path / "models" / "a", "a"))
    with pytest.raises(FileNotFoundError, match="songgen fetch songbloom_runtime"):
        files.find("vae.json")
    shared = tmp_path / "models" / "songbloom_runtime" / "vae.json"
    shared.parent.mkdir()
    shared.write_text("{}")
    assert files.find("vae.json").samefile(shared)
    named = find_model(tmp_path / "models" / "a", runtime_dir=tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"runtime_dir=.*nowhere: no such folder"):
        named.find("vae.json")
