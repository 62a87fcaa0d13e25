"""Lyrics as phonemes: what becomes a token, where tokens lie, and a model that is told so by its config."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from songgen.english import PHONEMES
from songgen.models.levo.config import STRUCTURE_ROWS
from songgen.models.levo.config_form import STRUCTURE_TAGS
from songgen.models.levo.loading import load
from songgen.models.levo.phoneme_text import LINE_END, PhonemeTokenizer
from songgen.models.levo.text import END, PAD, START
from songgen.requests import SongRequest
from songgen.runtime.checkpoint import read_tensors

LYRIC_TABLE = "audiolm.condition_provider.conditioners.description.output_proj.weight"


@pytest.fixture(scope="module")
def tokenizer() -> PhonemeTokenizer:
    return PhonemeTokenizer(STRUCTURE_TAGS)


def names(tokenizer: PhonemeTokenizer, text: str) -> list[str]:
    known = {
        tokenizer.id_of(token): token for token in (PAD, START, END, *STRUCTURE_TAGS, *PHONEMES, LINE_END)
    }
    assert len(known) == tokenizer.num_rows
    ids = tokenizer.encode(text)
    assert known[ids[0]] == START
    return [known[number] for number in ids[1:]]


def test_tags_follow_the_end_token_in_order(tokenizer: PhonemeTokenizer) -> None:
    ids = [tokenizer.id_of(tag) for tag in STRUCTURE_TAGS]
    assert ids == list(range(tokenizer.end_id + 1, tokenizer.end_id + 1 + len(ids)))
    assert tokenizer.pad_id not in ids


def test_words_are_phonemes_and_sentences_end_with_one_token(tokenizer: PhonemeTokenizer) -> None:
    text = "[intro-short] ; [verse] Go, my love!? Read on...\n ; [chorus]\nGo."
    assert names(tokenizer, text) == [
        *("[intro-short]", "[verse]", "G", "OW", "M", "AY", "L", "AH", "V", "."),
        *("R", "EH", "D", "AA", "N", ".", "[chorus]", "G", "OW", "."),
    ]


def test_no_text_is_the_start_alone_but_a_song_without_voice_is_not(tokenizer: PhonemeTokenizer) -> None:
    assert tokenizer.encode(None) == tokenizer.encode("") == [tokenizer.id_of(START)]
    assert names(tokenizer, ".") == [LINE_END]


@pytest.mark.parametrize(
    ("lyrics", "expected"),
    [
        ("[intro-short] ; [verse] Go. ; [inst-long] ; [chorus] Go.", "[intro-short] ; [inst-long]"),
        ("[verse] Go.", "[inst-medium] ; [outro-short]"),
        ("", "[inst-medium] ; [outro-short]"),
    ],
)
def test_a_song_without_voice_has_only_sections_that_are_played(
    phoneme_folder: Path, lyrics: str, expected: str
) -> None:
    model = load(phoneme_folder, device="cpu", max_seconds=2)
    conditions = model.condition(SongRequest(idx="a", lyrics=lyrics, generate_type="bgm"))
    ids = model.text.lyrics.encode(expected)
    assert conditions.lyric_ids[0, : len(ids)].tolist() == ids
    assert (conditions.lyric_ids[0, len(ids) :] == model.text.lyrics.pad_id).all()


def test_tokens_lie_where_their_words_are(tokenizer: PhonemeTokenizer) -> None:
    text = "[verse] My love. Go"
    read, spans = tokenizer.token_spans(text)
    assert read == text
    assert len(spans) == len(tokenizer.encode(text))
    assert [text[start:end] for start, end in spans] == [
        "", "[verse]", "My", "My", "love", "love", "love", ".", "Go", "Go",
    ]  # fmt: skip


def test_structure_rows_tell_the_place_in_the_text(tokenizer: PhonemeTokenizer) -> None:
    ids = tokenizer.encode("oh [verse] my [chorus] go")
    rows = tokenizer.structure_rows([*ids, tokenizer.pad_id], len(STRUCTURE_TAGS))
    assert rows == [0, 0, 1, 1, 2, 2, 3, 3, 0]
    far = tokenizer.structure_rows([ids[1]] * 500, len(STRUCTURE_TAGS))
    assert far[398:402] == [199, 199, 199, 199] and far[-1] == STRUCTURE_ROWS - 1


def test_an_unknown_token_is_named(tokenizer: PhonemeTokenizer) -> None:
    with pytest.raises(ValueError, match=r"no token '\[solo\]'"):
        tokenizer.id_of("[solo]")


@pytest.fixture(scope="module")
def phoneme_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny checkpoint, its lyrics read as phonemes; no separator, English only, with its own sampling."""
    folder = tmp_path_factory.mktemp("phonemes") / "nano"
    shutil.copytree(tiny_folder, folder)
    shutil.rmtree(folder / "third_party/demucs", ignore_errors=True)
    with (folder / "config.yaml").open("a", encoding="utf-8") as file:
        file.write(
            "  lyric_text: phonemes\n  separator: false\n  languages: [en]\n"
            "  sampling: {temperature: 0.9, top_k: 50, penalty: 1, window: 0}\n"
        )
    tensors = read_tensors(tiny_folder / "model.pt")
    rows = PhonemeTokenizer(STRUCTURE_TAGS).num_rows
    torch.save({**tensors, LYRIC_TABLE: tensors[LYRIC_TABLE][:rows].clone()}, folder / "model.pt")
    return folder


def test_a_model_reads_phonemes_and_counts_them(phoneme_folder: Path) -> None:
    model = load(phoneme_folder, device="cpu", max_seconds=2)
    assert model.text_rules.count_lyric_tokens is not None
    assert model.text_rules.count_lyric_tokens("[verse] My love.") == 8
    assert (model.sampling.temperature, model.sampling.top_k, model.sampling.cfg_coef) == (0.9, 50, 1.5)
    conditions = model.condition(SongRequest(idx="a", lyrics="[verse] My love.", generate_type="mixed"))
    assert int(conditions.lyric_ids.max()) < model.text.lyrics.num_rows


def test_rows_that_do_not_fit_the_phonemes_are_refused(phoneme_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nano"
    shutil.copytree(phoneme_folder, folder)
    (folder / "conf/vocab.yaml").write_text("- '[verse]'\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"has 56 rows; lyric_text: phonemes needs 44, .*1 structure tags"):
        load(folder, device="cpu")


def test_without_a_separator_a_clip_gives_mixed_codes_alone(phoneme_folder: Path, repository: Path) -> None:
    model = load(phoneme_folder, device="cpu", max_seconds=2)
    request = SongRequest(
        idx="a",
        lyrics="[verse] My love.",
        prompt_audio_path=str(repository / "sample/prompt.ogg"),
        generate_type="vocal",
    )
    assert model.prompt_identity(request)
    conditions = model.condition(request)
    special = model.config.special
    assert (conditions.prompt_ids[0, 1:] == special).all() and (conditions.prompt_ids[1] == special).all()
    assert (conditions.prompt_ids[0, 0, :100] != special).all()
    assert conditions.clip is None
    assert conditions.notes["prompt_codes"] == "mixed alone: nano has no separator"


def test_stems_by_a_separator_that_is_not_there_are_refused(phoneme_folder: Path) -> None:
    model = load(phoneme_folder, device="cpu", max_seconds=2)
    request = SongRequest(idx="a", lyrics="[verse] Go.", generate_type="separate", stems="separator")
    with pytest.raises(ValueError, match="nano has no separator; stems=model writes them"):
        model.condition(request)
