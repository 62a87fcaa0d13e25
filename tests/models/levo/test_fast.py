"""The fast variant: one codebook, one transformer, its own sampling and checkpoint form."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import songgen
from songgen.models.built_in import has_separator
from songgen.models.catalog import entries
from songgen.models.levo.checkpoint import CONDITIONERS, LanguageModelFiles, unused_lm_shapes
from songgen.models.levo.config import read_config
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.loading import load
from songgen.models.levo.model import LevoModel
from songgen.models.levo.random_model import published_config
from songgen.models.levo.tiny import ensure_tiny
from songgen.requests import SongRequest
from songgen.runtime.checkpoint import build
from songgen.runtime.sampling import Sampling

needs_separator = pytest.mark.skipif(not has_separator(), reason="needs the demucs and julius packages")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_tiny(tmp_path_factory.mktemp("cache"), "tiny-fast")


@pytest.fixture(scope="module")
def fast(folder: Path) -> LevoModel:
    return load(folder, device="cpu", dtype="fp32")


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def sing(folder: Path, *lines: dict[str, Any], **options: Any) -> dict[str, Any]:
    model = songgen.load(str(folder), device="cpu", **options)
    requests = [{"gt_lyric": "[verse] La la.", "max_seconds": 2, **line} for line in lines]
    return {song.name: song for song in model.generate(requests, seed=3, on_error="yield")}


def test_sampling_is_the_publishers(fast: LevoModel) -> None:
    """Guidance 1.8 whatever config.yaml says; temperature and top_k from it; a penalty by frequency."""
    assert fast.sampling == Sampling(0.8, 5000, 0.0, 1.8, 1.0, 0, 0.2)


def test_songs_of_one_codebook_alone_and_together(folder: Path) -> None:
    lines = [{"idx": "a"}, {"idx": "b", "descriptions": "jazz"}, {"idx": "c", "max_seconds": 1.2}]
    alone, together = sing(folder, *lines), sing(folder, *lines[::-1], batch=3)
    for name, song in alone.items():
        assert song.tokens.shape[0] == 1
        assert torch.equal(song.tokens, together[name].tokens)
    assert alone["a"].stems["mixed"].samples.shape == (2, 96000)


def test_the_last_token_of_the_longest_song_is_dropped(fast: LevoModel) -> None:
    """As published: a song that runs into the limit loses its last frame."""
    assert fast.config.max_frames == 60 * 25 - 1


def test_the_positions_of_the_model_bound_a_song(copy: Path) -> None:
    facts = json.loads((copy / "lm/config.json").read_text("utf-8"))
    prefix = read_config(copy / "config.yaml").prefix_length
    (copy / "lm/config.json").write_text(json.dumps({**facts, "max_position_embeddings": prefix + 101}))
    assert read_config(copy / "config.yaml").max_frames == 99


@pytest.mark.parametrize("kind", ["vocal", "bgm", "separate"])
def test_stems_cannot_come_from_its_tokens(folder: Path, kind: str) -> None:
    failed = sing(folder, {"idx": "a", "generate_type": kind})["a"]
    assert f"generate_type is {kind}: this model writes one token a frame" in failed.error
    assert "stems=separator" in failed.error


@needs_separator
def test_a_separator_takes_the_stems_from_the_mix(folder: Path, tiny_folder: Path) -> None:
    for checkpoint in (folder, tiny_folder):
        lines = [{"idx": "all", "seed": 1, "generate_type": "separate", "stems": "separator"}]
        lines += [
            {"idx": kind, "seed": 1, "generate_type": kind, "stems": "separator"} for kind in ("vocal", "bgm")
        ]
        songs = sing(checkpoint, *lines)
        stems = {stem: audio.samples for stem, audio in songs["all"].stems.items()}
        assert list(stems) == ["mixed", "vocal", "bgm"]
        np.testing.assert_allclose(stems["vocal"] + stems["bgm"], stems["mixed"], atol=1e-5)
        for kind in ("vocal", "bgm"):
            assert list(songs[kind].stems) == [kind]
            np.testing.assert_allclose(songs[kind].stems[kind].samples, stems[kind], atol=1e-5)


def test_prompts_need_no_separator(fast: LevoModel, repository: Path) -> None:
    drawn = fast.condition(SongRequest(idx="a", lyrics="[verse] la", auto_prompt_audio_type="Pop", seed=1))
    assert drawn.prompt_ids.shape == (2, 1, 251) and drawn.banned.numel() > 0
    clip = str(repository / "sample" / "prompt.ogg")
    conditions = fast.condition(SongRequest(idx="a", lyrics="[verse] la", prompt_audio_path=clip))
    assert conditions.notes["prompt_seconds"] == 10
    assert not fast.parts.separator.is_loaded


def test_the_end_of_the_prefix_is_the_row_of_special(copy: Path) -> None:
    """The published end-of-prefix embedding is fed as column 0, whatever the token table holds there."""
    end = torch.full((1, 1, 64), 0.25)
    torch.save(end, copy / "lm/embeded_eosp1.pt")
    config = read_config(copy / "config.yaml")
    table = LanguageModelFiles(copy / "lm").read(config.special)["emb.0.weight"]
    assert torch.equal(table[config.special], end.flatten())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda lm: (lm / "config.json").unlink(),
            "lm_checkpoint lm has no config.json; it was looked for in",
        ),
        (lambda lm: (lm / "model.safetensors").unlink(), r"no model\.safetensors in it"),
        (lambda lm: (lm / "embeded_eosp1.pt").unlink(), r"embeded_eosp1\.pt: no such file"),
        (
            lambda lm: torch.save(torch.ones(3), lm / "embeded_eosp1.pt"),
            "does not fit the model's token table",
        ),
        (lambda lm: torch.save([1], lm / "embeded_eosp1.pt"), "holds a list, not a tensor"),
        (lambda lm: (lm / "embeded_eosp1.pt").write_bytes(b"x"), "cannot be read as a tensor"),
    ],
)
def test_what_is_missing_or_wrong_is_said(copy: Path, change: Any, message: str) -> None:
    change(copy / "lm")
    with pytest.raises((FileNotFoundError, ValueError), match=message):
        load(copy, device="cpu")


@pytest.mark.parametrize(
    ("key", "value"), [("hidden_act", "gelu"), ("vocab_size", 7), ("num_key_value_heads", 2)]
)
def test_a_llama_that_is_not_this_one_is_refused(copy: Path, key: str, value: object) -> None:
    facts = json.loads((copy / "lm/config.json").read_text("utf-8"))
    (copy / "lm/config.json").write_text(json.dumps({**facts, key: value}))
    with pytest.raises(ValueError, match=rf"config\.json: {key} is '?{value}'?, must be"):
        read_config(copy / "config.yaml")


def rows_of(path: Path) -> Iterator[tuple[str, list[int]]]:
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    for row in csv.reader(lines, delimiter="\t"):
        yield row[0], json.loads(row[1])


def test_published_sizes_have_exactly_the_published_tensors(repository: Path) -> None:
    """Names as published; the width and the number of layers are inferred there."""
    (entry,) = [entry for entry in entries() if entry.name == "songgeneration_v2_fast"]
    config = published_config(entry.sizes, entry.max_seconds)
    lelm = build(
        lambda: LeLM(
            config,
            lyric_rows=int(entry.sizes["lyric_rows"]),
            description_rows=int(entry.sizes["description_rows"]),
        )
    )
    ours = {name: list(tensor.shape) for name, tensor in lelm.state_dict().items()}
    ours |= {name: list(shape) for name, shape in unused_lm_shapes(config).items()}
    manifest = repository / "tests/golden/manifest"
    theirs = {
        name.removeprefix("model.") if name.startswith("model.emb.") else f"transformer.{name}": shape
        for name, shape in rows_of(manifest / "fast_llama.tsv")
    }
    theirs |= {CONDITIONERS + name: shape for name, shape in rows_of(manifest / "fast_conditioners.tsv")}
    assert ours == theirs
