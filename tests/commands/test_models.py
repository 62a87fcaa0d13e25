"""`songgen models`: the catalogue with its limits, its licences, and what is on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from songgen.commands import models


@pytest.fixture
def listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> dict[str, str]:
    """The list by first word, in a folder that holds one model of each family and half of another."""
    monkeypatch.chdir(tmp_path)
    for folder, files in {
        "songgeneration_large": ("config.yaml", "model.pt"),
        "songbloom_full_240s": ("songbloom_full_240s.yaml", "songbloom_full_240s.pt"),
        "songbloom_full_150s": ("songbloom_full_150s.yaml",),
    }.items():
        (tmp_path / "models" / folder).mkdir(parents=True)
        for file in files:
            (tmp_path / "models" / folder / file).write_text("x")
    assert models.main([]) == 0
    return {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}


def test_what_is_on_disk_is_shown(listed: dict[str, str], tmp_path: Path) -> None:
    for name in ("songgeneration_large", "songbloom_full_240s/songbloom_full_240s.yaml"):
        assert listed[name.partition("/")[0]].endswith(str(tmp_path / "models" / name))
    assert listed["songgeneration_base"].endswith("-") and listed["songbloom_full_150s"].endswith("-")


def test_length_languages_memory_and_licence_are_shown(listed: dict[str, str]) -> None:
    assert "4 min 30 s" in listed["songgeneration_large"] and "22 / 28 GB" in listed["songgeneration_large"]
    assert "zh, en, es, ja" in listed["songgeneration_v2_medium"]
    assert "2 min 30 s" in listed["songgeneration_base"] and "(1)" in listed["songgeneration_base"]
    assert "4 min 00 s" in listed["songbloom_full_240s"] and "(2)" in listed["songbloom_full_240s"]
    assert "noise" in listed["tiny"]


def test_what_cannot_be_run_is_shown_as_such(listed: dict[str, str]) -> None:
    assert "no weights were published" in listed["songgeneration_v1.5_large:"]
