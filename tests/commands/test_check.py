"""`songgen check`: the report, the exit status, and the mended copy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from songgen.commands.check import check_file, rules_of, run
from songgen.linter import TextRules
from songgen.models import catalog
from songgen.requests import read_requests
from songgen.songbloom_form import TAGS

RULES = TextRules()
GOOD = {"idx": "good", "gt_lyric": "[verse] la.", "descriptions": "pop"}


def write(path: Path, *lines: object) -> Path:
    """A JSONL file; strings are written as they are."""
    text = [line if isinstance(line, str) else json.dumps(line, ensure_ascii=False) for line in lines]
    path.write_text("\n".join(text) + "\n", encoding="utf-8")
    return path


def checked(path: Path, fix_to: Path | None = None, **options: Any) -> tuple[int, list[str]]:
    """The exit status and the lines written."""
    lines: list[str] = []
    return run(path, fix_to, RULES, lines.append, **options), lines


@pytest.mark.parametrize("name", ["lyrics.jsonl", "lyrics_full.jsonl", "lyrics_zh.jsonl"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_the_samples_are_clean_for_the_smallest_model(repository: Path, name: str, version: Any) -> None:
    rules = TextRules(version=version, max_lyric_tokens=300, max_description_tokens=50, max_seconds=150)
    report = check_file(repository / "sample" / name, rules)
    assert report.bad_lines == [] and all(item.findings == [] for item in report.checked)


def test_sample_has_a_line_of_each_kind(repository: Path) -> None:
    requests = read_requests(repository / "sample" / "lyrics.jsonl").requests
    assert {"bgm", "separate", None} <= {request.generate_type for request in requests}
    assert any(not request.lyrics for request in requests)
    assert {request.descriptions is None for request in requests} == {True, False}
    assert {request.prompt_audio_path is None for request in requests} == {True, False}
    assert {request.auto_prompt_audio_type for request in requests} == {None, "Pop"}
    assert len(requests) == 8
    assert all(request.max_seconds is not None and request.max_seconds <= 20 for request in requests)


def test_the_sample_is_clean_for_a_model_that_knows_english_only(repository: Path) -> None:
    rules = TextRules(version="v1", languages=("en",), model="nano", max_seconds=60)
    report = check_file(repository / "sample" / "lyrics.jsonl", rules)
    assert [item.findings for item in report.checked] == [[]] * 8
    foreign = check_file(repository / "sample" / "lyrics_zh.jsonl", rules)
    assert all("language" in [finding.rule for finding in item.findings] for item in foreign.checked)


@pytest.fixture(scope="module")
def songbloom_rules() -> TextRules:
    """Of a published SongBloom model, by name."""
    sizes = {"lyric_max_len": 600}
    entry = catalog.CatalogEntry("songbloom_x", "a/b", "none", "songbloom", max_seconds=150, sizes=sizes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(catalog, "find_entry", lambda name: entry)
        patch.setattr(catalog, "load_model", lambda *args, **options: pytest.fail("loads a model"))
        return rules_of("songbloom_x")


def test_songbloom_is_checked_by_name_without_a_model(songbloom_rules: TextRules) -> None:
    assert songbloom_rules.family == "songbloom" and songbloom_rules.max_lyric_tokens == 600
    count = songbloom_rules.count_lyric_tokens
    assert count is not None and count("[verse] hello. 你好") == 10


def test_the_songbloom_sample_is_clean_but_for_the_line_in_the_other_form(
    repository: Path, songbloom_rules: TextRules
) -> None:
    path = repository / "sample" / "songbloom.jsonl"
    report = check_file(path, songbloom_rules)
    assert report.bad_lines == []
    assert [[item.rule for item in checked.findings] for checked in report.checked] == [
        *[[]] * 3,
        ["other-family"],
    ]
    assert report.checked[3].mended.lyrics.startswith(
        "[intro] [intro] [intro] [intro] [intro] , [verse] Paper"
    )
    requests = [item.request for item in report.checked]
    assert {Path(request.prompt_audio_path or "").name for request in requests} == {"prompt.ogg"}
    assert all(Path(request.prompt_audio_path or "").is_file() for request in requests)
    together = " ".join(request.lyrics for request in requests)
    assert all(f"[{tag}]" in together for tag in TAGS)


def test_the_mended_copy_keeps_the_published_keys(tmp_path: Path, songbloom_rules: TextRules) -> None:
    line = {"idx": "a", "lyrics": "[Verse]up, down", "prompt_wav": "p.wav"}
    check_file(write(tmp_path / "in.jsonl", line), songbloom_rules, tmp_path / "out.jsonl")
    written = json.loads((tmp_path / "out.jsonl").read_text("utf-8"))
    assert written == {"idx": "a", "lyrics": "[verse] up. down", "prompt_wav": "p.wav"}


def test_nothing_to_mend_is_status_0(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", GOOD)
    status, lines = checked(path)
    assert status == 0
    assert lines == [f"{path}: 1 good line, 0 bad lines, 0 to mend by itself, 0 to mend by hand, 0 hints"]


def test_hints_alone_are_status_0(tmp_path: Path) -> None:
    status, lines = checked(write(tmp_path / "in.jsonl", {**GOOD, "descriptions": "vaporwave"}))
    assert status == 0
    assert ": line 1: good: descriptions, column 1: hint: free tags 'vaporwave'" in lines[0]
    assert lines[-1].endswith("1 hint")


def test_findings_are_printed_with_their_place_and_the_mended_text(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", "", {"idx": "s", "gt_lyric": "[intro-short] ; [verse] 风，雨"})
    status, lines = checked(path)
    assert status == 1
    assert lines[0].startswith(f"{path}: line 2: s: section 2 [verse], column 26: '\uff0c' is full-width")
    assert lines[1] == "    mended: [verse] 风.雨"
    assert lines[2] == f"{path}: line 2: s: mended lyrics: [intro-short] ; [verse] 风.雨"
    assert lines[-1] == "write a mended copy with --fix OUT"


def test_suggestions_are_told_from_what_is_mended(tmp_path: Path) -> None:
    status, lines = checked(
        write(tmp_path / "in.jsonl", {"idx": "s", "gt_lyric": "[intro-short] hi. ; [verse] la."})
    )
    assert status == 1
    assert lines[1] == "    suggested: [intro-short] ; [verse] hi."
    assert "0 to mend by itself, 1 to mend by hand" in lines[-1]


def test_bad_lines_are_status_1_and_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    path = write(
        tmp_path / "in.jsonl", {**GOOD, "gt_lyric": "[verse] la"}, "nope", {**GOOD, "idx": "x", "seed": -1}
    )
    status, lines = checked(path)
    assert status == 1
    numbers = [line.split(": ")[1] for line in lines if ": line " in line]
    assert numbers == ["line 1", "line 1", "line 2", "line 3"]
    assert "1 good line, 2 bad lines" in lines[-2]


def test_fix_writes_every_good_line_mended_and_keeps_the_rest(tmp_path: Path) -> None:
    lines = [
        {
            "title": "雪",
            "lyrics": "[Verse] 风，雨",
            "id": 7,
            "tags": ["pop", "120 bpm"],
            "x": {"y": [1.5, None]},
        },
        "nope",
        {"idx": "b", "gt_lyric": "[Foo", "generate_type": "bgm"},
        GOOD,
    ]
    path, out = write(tmp_path / "in.jsonl", *lines), tmp_path / "deep" / "out.jsonl"
    status, printed = checked(path, out)
    assert status == 1  # the file itself is still to mend
    written = out.read_text(encoding="utf-8").splitlines()
    first = {
        "title": "雪",
        "lyrics": "[verse] 风.雨",
        "id": 7,
        "tags": ["pop", "the bpm is 120"],
        "x": {"y": [1.5, None]},
    }
    assert written == [json.dumps(line, ensure_ascii=False) for line in (first, lines[2], GOOD)]
    assert printed[-1] == f"{out}: 3 lines written, mended; 1 bad line left out"
    assert checked(out)[0] == 0


def test_the_runs_generate_type_counts(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", {"idx": "a"})
    assert checked(path)[0] == 1
    assert checked(path, default_generate_type="bgm")[0] == 0


@pytest.mark.parametrize(
    ("name", "message"),
    [("gone.jsonl", "there is no such file"), (".", "is a folder"), ("empty.jsonl", "is empty")],
)
def test_a_file_that_cannot_be_read_is_status_2(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty.jsonl").write_bytes(b"")
    status, lines = checked(tmp_path / name)
    assert status == 2
    assert len(lines) == 1 and lines[0].startswith("songgen check: ") and message in lines[0]


def test_fix_does_not_overwrite_the_file_itself(tmp_path: Path) -> None:
    """Bad lines are left out of the copy: writing over the file would lose them."""
    path = write(tmp_path / "in.jsonl", GOOD, "nope")
    before = path.read_bytes()
    status, lines = checked(path, tmp_path / "." / "in.jsonl")
    assert status == 2 and "is the file itself" in lines[0]
    assert path.read_bytes() == before


def test_a_copy_that_cannot_be_written_is_status_2(tmp_path: Path) -> None:
    path = write(tmp_path / "in.jsonl", GOOD)
    status, lines = checked(path, path / "out.jsonl")
    assert status == 2 and lines[0].startswith("songgen check: ")
