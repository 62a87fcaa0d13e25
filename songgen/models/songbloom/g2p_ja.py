"""Japanese through pyopenjtalk, which the published program does not have: kana and what is beside them.

The vocabulary holds pyopenjtalk's phonemes; what it has not is reported. Its dictionary has to be on this
machine: nothing is fetched here.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import Any

from songgen.models.songbloom.g2p_data import JAPANESE_EXTRA, MissingPackageError, need

_SILENT = ("pau", "sil")


class JapaneseG2P:
    """Reads runs of kana and Han characters.

    Args:
        symbols: the phonemes that the vocabulary has.

    Raises:
        ValueError: pyopenjtalk or its dictionary is not on this machine.
    """

    def __init__(self, symbols: Collection[str]) -> None:
        self._symbols = symbols

    def phonemes(self, run: str) -> tuple[list[str], list[str]]:
        """Symbols of a run, and the phonemes or the run that got lost."""
        found = [phone for phone in self._openjtalk.g2p(run, join=True).split() if phone not in _SILENT]
        lost = [phone for phone in found if phone not in self._symbols] if found else [run]
        return [phone for phone in found if phone in self._symbols], lost

    @cached_property
    def _openjtalk(self) -> Any:
        package = need("pyopenjtalk", JAPANESE_EXTRA)
        # Called without its dictionary, it would fetch one.
        folder = package.OPEN_JTALK_DICT_DIR
        folder = Path(folder.decode() if isinstance(folder, bytes) else folder)
        if not folder.is_dir():
            raise MissingPackageError(
                f"pyopenjtalk has no dictionary: {folder} is not there. Install one (Debian, Ubuntu: "
                f"apt install open-jtalk-mecab-naist-jdic) and set OPEN_JTALK_DICT_DIR to its folder",
                is_for_japanese=True,
            )
        return package
