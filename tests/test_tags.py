"""The description tags: the lists in the package and in the sample folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from songgen.tags import DESCRIPTION_TAGS, dimension_of


def test_sample_files_hold_the_lists_of_the_package(repository: Path) -> None:
    """The package must know the tags without the sample folder, so both are kept and must agree."""
    folder = repository / "sample" / "description"
    files = {path.stem: tuple(path.read_text(encoding="utf-8").splitlines()) for path in folder.glob("*.txt")}
    assert files == dict(DESCRIPTION_TAGS)


@pytest.mark.parametrize(
    ("tag", "dimension"),
    [
        ("female", "gender"),
        ("Dark", "timbre"),
        ("r&b", "genre"),
        (" sweet ", "emotion"),
        ("Electric Guitar", "instrument"),
        ("the bpm is 117", "bpm"),
        ("bpm 117", None),
        ("vaporwave", None),
    ],
)
def test_dimension_of(tag: str, dimension: str | None) -> None:
    assert dimension_of(tag) == dimension


def test_no_tag_is_in_two_dimensions() -> None:
    tags = [tag for tags in DESCRIPTION_TAGS.values() for tag in tags]
    assert len(tags) == len(set(tags))
