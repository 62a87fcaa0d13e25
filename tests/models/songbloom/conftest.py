"""SongBloom's text half, its dictionaries read once."""

from __future__ import annotations

import pytest

from songgen.models.songbloom.text import SongBloomText, published_vocabulary


@pytest.fixture(scope="session")
def published_text() -> SongBloomText:
    """As the published program reads: kana are dropped."""
    return SongBloomText(published_vocabulary(), japanese=False)
