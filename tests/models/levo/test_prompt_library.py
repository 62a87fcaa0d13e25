"""The prompt library: reading it, drawing from it, saying what it holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from songgen.models.levo.prompt_library import PromptLibrary, language_of, load_library

ENGLISH = "[verse] Trails wind through the trees ; [chorus] Forest"
CHINESE = "[verse] 凌晨三点的便利店 冰柜发出持续的嗡鸣 ; [outro-short]"


def codes(number: int, frames: int = 250) -> torch.Tensor:
    return torch.full((1, 3, frames), number)


def table() -> dict[str, Any]:
    return {
        "Pop": {"zh": [codes(n) for n in range(3)], "en": [codes(10 + n) for n in range(4)]},
        "R&B/Soul": {"zh": [codes(20)], "en": [codes(30), codes(31)]},
        "Rock": {"zh": [], "en": [codes(40)]},
    }


@pytest.fixture(params=["pickle", "safetensors", "memory"])
def library(request: pytest.FixtureRequest, tmp_path: Path) -> PromptLibrary:
    if request.param == "memory":
        return PromptLibrary(table())
    path = tmp_path / "new_auto_prompt.pt"
    if request.param == "pickle":
        torch.save(table(), path)
        return load_library(path)
    named = {
        f"{kind}/{language}/{number}": tensor.contiguous()
        for kind, languages in table().items()
        for language, entries in languages.items()
        for number, tensor in enumerate(entries)
    }
    save_file(named, path.with_suffix(".safetensors"))
    return load_library(path.with_suffix(".safetensors"))


def test_types_are_those_of_the_file(library: PromptLibrary) -> None:
    assert sorted(library.types[:-1]) == ["Pop", "R&B/Soul", "Rock"]
    assert library.types[-1] == "Auto"


@pytest.mark.parametrize(
    ("kind", "lyrics", "held", "place"),
    [
        ("Pop", ENGLISH, range(10, 14), "Pop/en/"),
        ("Pop", CHINESE, range(3), "Pop/zh/"),
        (" r&b/soul ", ENGLISH, range(30, 32), "R&B/Soul/en/"),
        ("Rock", CHINESE, [40], "Rock/en/0"),
    ],
)
def test_draws_are_of_type_and_language(
    library: PromptLibrary, kind: str, lyrics: str, held: Any, place: str
) -> None:
    """A language that the file lacks falls back to English."""
    drawn = [library.draw(kind, lyrics, seed) for seed in range(60)]
    assert {int(prompt.codes_KT[0, 0]) for prompt in drawn} == set(held)
    assert all(prompt.place.startswith(place) for prompt in drawn)
    assert all(prompt.codes_KT.shape == (3, 250) for prompt in drawn)
    assert drawn[0].codes_KT.dtype == torch.int64


def test_place_names_the_prompt(library: PromptLibrary) -> None:
    """The record says which one it was."""
    for seed in range(10):
        prompt = library.draw("Pop", ENGLISH, seed)
        assert int(prompt.codes_KT[0, 0]) == 10 + int(prompt.place.rsplit("/", 1)[1])


def test_equal_seeds_draw_equally(library: PromptLibrary) -> None:
    assert library.draw("Pop", ENGLISH, 7).place == library.draw("Pop", ENGLISH, 7).place
    counts = Counter(library.draw("Pop", ENGLISH, seed).place for seed in range(400))
    assert len(counts) == 4
    assert min(counts.values()) > 60


def test_auto_is_any_type(library: PromptLibrary) -> None:
    kinds = {library.draw("auto", ENGLISH, seed).place.split("/en/")[0] for seed in range(100)}
    assert kinds == {"Pop", "R&B/Soul", "Rock"}


def test_auto_of_the_file_wins() -> None:
    library = PromptLibrary({**table(), "Auto": {"en": [codes(99)]}})
    assert {int(library.draw("Auto", ENGLISH, seed).codes_KT[0, 0]) for seed in range(20)} == {99}
    assert library.types == ("Pop", "R&B/Soul", "Rock", "Auto")


@pytest.mark.parametrize(
    ("kind", "hint"), [("Popp", r" \(did you mean Pop\?\)"), ("Polka dance", ""), ("", "")]
)
def test_an_unknown_type_lists_those_there_are(kind: str, hint: str) -> None:
    library = PromptLibrary(table(), "lib.pt")
    message = rf"auto_prompt_audio_type {kind!r} is not in lib.pt{hint}; it holds Pop, R&B/Soul, Rock, Auto"
    with pytest.raises(ValueError, match=message):
        library.draw(kind, ENGLISH, 0)


def test_a_drawn_prompt_is_a_copy(library: PromptLibrary) -> None:
    library.draw("Rock", ENGLISH, 0).codes_KT.zero_()
    assert int(library.draw("Rock", ENGLISH, 0).codes_KT[0, 0]) == 40


def test_a_type_without_languages_serves_all(tmp_path: Path) -> None:
    """The form of the older library."""
    torch.save({"Pop": [codes(1), codes(2)], "Jazz": torch.stack([codes(3), codes(4)])}, tmp_path / "p.pt")
    library = load_library(tmp_path / "p.pt")
    assert {int(library.draw("Pop", CHINESE, seed).codes_KT[0, 0]) for seed in range(20)} == {1, 2}
    assert {int(library.draw("Jazz", ENGLISH, seed).codes_KT[0, 0]) for seed in range(20)} == {3, 4}


class Exploit:
    """Pickles to a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("owned",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (Exploit(), "cannot be read as a prompt library"),
        ([codes(1)], "holds a list, not a table"),
        ({}, "holds no prompts"),
        ({"Pop": {"en": []}}, "holds no prompts"),
        ({"Pop": 3}, "holds a int where a list of prompts is expected"),
        ({"Pop": {"en": 3}}, "holds a int where a list of prompts is expected"),
        ({"Pop": {"en": [5]}}, "no tensor of integers"),
        ({"Pop": {"en": [torch.zeros(1, 3, 5)]}}, "no tensor of integers"),
        (
            {"Pop": {"en": [torch.zeros(1, 4, 5, dtype=torch.int64)]}},
            r"shape \[1, 4, 5\], must be \[1, 3, T\]",
        ),
        ({"Pop": {"en": [torch.zeros(1, 3, 0, dtype=torch.int64)]}}, r"shape \[1, 3, 0\]"),
        ({"Pop": {"en": [codes(-1)]}}, "negative codes"),
    ],
)
def test_a_file_that_is_no_library(tmp_path: Path, content: Any, reason: str, capsys: Any) -> None:
    path = tmp_path / "library.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=reason) as caught:
        load_library(path)
    assert str(path) in str(caught.value)
    assert "owned" not in capsys.readouterr().out


def test_missing_broken_and_misnamed_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"library.pt: no such file"):
        load_library(tmp_path / "library.pt")
    (tmp_path / "library.pt").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match="cannot be read as a prompt library"):
        load_library(tmp_path / "library.pt")
    for name in ("Pop/en", "Pop/en/first", "x"):
        save_file({name: codes(1)}, tmp_path / "library.safetensors")
        with pytest.raises(ValueError, match=r"is not named <type>/<language>/<number>"):
            load_library(tmp_path / "library.safetensors")


@pytest.mark.parametrize(
    ("lyrics", "language"),
    [
        (ENGLISH, "en"),
        (CHINESE, "zh"),
        ("", "en"),
        ("中abcd", "zh"),
        ("中abcde", "en"),
        ("ひらがなの歌詞です", "zh"),
        ("ひらがなのうたですよね", "en"),
        ("한국어 가사", "en"),
        ("\u4e00\u9fff", "zh"),
        ("\u4dff\ua000", "en"),
    ],
)
def test_language_of_lyrics(lyrics: str, language: str) -> None:
    """A fifth of the characters; whatever is not Chinese takes English prompts."""
    assert language_of(lyrics) == language


@given(st.text())
def test_every_text_has_a_language(text: str) -> None:
    assert language_of(text) in ("en", "zh")
