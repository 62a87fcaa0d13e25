"""Text to ids: the published texts of each version, added tokens, structure rows, padding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from songgen.models.levo.condition import TextConditioner
from songgen.models.levo.config import read_config
from songgen.models.levo.config_form import STRUCTURE_TAGS
from songgen.models.levo.text import (
    TextTokenizer,
    base_rows,
    description_tokenizer,
    load_base_tokenizer,
    lyric_tokenizer,
    model_description,
    model_lyrics,
    null_description,
    pad_pair,
    version_of,
)

TOKENIZER = "third_party/Qwen2-7B"


@pytest.fixture(scope="module")
def folder(tiny_folder: Path) -> Path:
    return tiny_folder / TOKENIZER


@pytest.fixture(scope="module")
def lyrics(folder: Path) -> TextTokenizer:
    return lyric_tokenizer(folder, STRUCTURE_TAGS, "v2")


@pytest.mark.parametrize(
    ("description", "version", "bgm", "expected"),
    [
        ("Female, POP", "v1", False, "female, pop"),
        (None, "v1", False, None),
        ("", "v1", False, None),
        ("Female, POP", "v1", True, "female, pop"),
        ("Female, POP", "v2", False, "[Musicality-very-high], female, pop"),
        (None, "v2", False, "[Musicality-very-high], ."),
        ("Female, POP", "v2", True, "[Musicality-very-high], [Pure-Music], female, pop"),
        (None, "v2", True, "."),  # as published: neither quality nor pure music is asked for
    ],
)
def test_descriptions_as_the_model_gets_them(
    description: str | None, version: str, bgm: bool, expected: str | None
) -> None:
    assert model_description(description, version, bgm=bgm) == expected  # type: ignore[arg-type]


def test_lyrics_as_the_model_gets_them() -> None:
    assert model_lyrics("[verse] a  b   c", bgm=False) == "[verse] a b  c"  # one pass, as published
    assert model_lyrics("[verse] a", bgm=True) == "."


@pytest.mark.parametrize(
    ("description", "version", "expected"),
    [
        ("[Musicality-very-high], pop", "v2", "[Musicality-very-low], ."),
        (".", "v2", None),
        (None, "v1", None),
        ("[Musicality-very-high], pop", "v1", None),
    ],
)
def test_null_description(description: str | None, version: str, expected: str | None) -> None:
    assert null_description(description, version) == expected  # type: ignore[arg-type]


def test_a_period_is_a_token_of_its_own_in_v2_only(folder: Path) -> None:
    v1, v2 = (lyric_tokenizer(folder, STRUCTURE_TAGS, version) for version in ("v1", "v2"))  # type: ignore[arg-type]
    period = v1.id_of(".")
    assert v2.id_of(".") == period
    assert v1.num_rows == v2.num_rows == base_rows(folder) + len(STRUCTURE_TAGS)


def test_structure_tags_are_single_tokens_in_order(lyrics: TextTokenizer) -> None:
    ids = [lyrics.id_of(tag) for tag in STRUCTURE_TAGS]
    assert ids == list(range(lyrics.end_id + 1, lyrics.end_id + 14))
    assert lyrics.encode("[verse]")[1:] == [ids[0]]


def test_tags_are_plain_text_in_a_description_and_when_misspelt(folder: Path, lyrics: TextTokenizer) -> None:
    assert len(description_tokenizer(folder, "v2").encode("[verse]")) == 1 + len("[verse]")
    assert len(lyrics.encode("[Verse]")) == 1 + len("[Verse]")


def test_none_and_empty_are_the_start_token_alone(lyrics: TextTokenizer) -> None:
    assert lyrics.encode(None) == lyrics.encode("") == [lyrics.id_of("<|im_start|>")]


def test_text_is_composed_to_nfc_first(lyrics: TextTokenizer) -> None:
    assert lyrics.encode("e\u0301") == lyrics.encode("\u00e9")


def test_structure_rows_mark_sections(lyrics: TextTokenizer) -> None:
    ids = lyrics.encode("x[verse]ab[chorus]c")
    assert lyrics.structure_rows(ids, len(STRUCTURE_TAGS)) == [0, 0, 1, 1, 1, 2, 2]
    assert lyrics.structure_rows(lyrics.encode("words"), len(STRUCTURE_TAGS)) == [0] * 6


def test_pad_pair_pads_and_cuts() -> None:
    assert pad_pair([1, 2, 3, 4], [5], 3, 9).tolist() == [[1, 2, 3], [5, 9, 9]]
    assert pad_pair([1, 2], [5], None, 9).tolist() == [[1, 2], [5, 9]]


def test_the_version_follows_from_the_rows_of_the_table() -> None:
    assert version_of(151646, 151646) == "v1"
    assert version_of(151652, 151646) == "v2"
    with pytest.raises(ValueError, match=r"must have 151646 \(v1\) or 151652 \(v2\)"):
        version_of(151650, 151646)


@pytest.mark.parametrize("name", ["vocab.json", "merges.txt"])
def test_a_missing_tokenizer_file_is_named(tmp_path: Path, folder: Path, name: str) -> None:
    for file in folder.iterdir():
        if file.name != name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(FileNotFoundError, match=name):
        load_base_tokenizer(tmp_path)


def test_a_tokenizer_without_its_config_has_the_published_added_tokens(tmp_path: Path, folder: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    assert base_rows(tmp_path) == base_rows(folder)


def test_a_tokenizer_without_the_end_token_is_refused(tmp_path: Path, folder: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    config = {"added_tokens_decoder": {"256": {"content": "<|endoftext|>"}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"the tokenizer has no token '<\|im_end\|>'"):
        description_tokenizer(tmp_path, "v1")


def test_token_counts_are_those_of_the_conditions(tiny_folder: Path) -> None:
    config = read_config(tiny_folder / "config.yaml")
    text = TextConditioner.load(config, tiny_folder / TOKENIZER, 256 + 3 + 6)
    conditions = text.of_request("[verse] la la", "pop", bgm=False)
    pad = text.lyrics.pad_id
    assert text.count_lyrics("[verse] la la") == int((conditions.lyric_ids[0] != pad).sum())
    assert text.count_description("pop") == int((conditions.description_ids[0] != pad).sum())


def test_a_damaged_vocabulary_is_named(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "vocab.json").write_text("{")
    (tmp_path / "merges.txt").write_bytes((folder / "merges.txt").read_bytes())
    with pytest.raises(ValueError, match=r"vocab\.json and merges\.txt cannot be read"):
        load_base_tokenizer(tmp_path)
