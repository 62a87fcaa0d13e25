"""Where the G2P's dictionaries are: small tables in `data/`, large ones in other packages."""

from __future__ import annotations

import importlib
import importlib.util
import lzma
import warnings
from importlib import resources
from pathlib import Path
from typing import Any

EXTRA = "songbloom"
JAPANESE_EXTRA = "songbloom-ja"


class MissingPackageError(ValueError):
    """A package or dictionary is not on this machine; the message says what to install."""

    def __init__(self, message: str, *, is_for_japanese: bool = False) -> None:
        super().__init__(message)
        self.is_for_japanese = is_for_japanese


def need(module: str, extra: str = EXTRA) -> Any:
    """Import a module of a package that only this family needs.

    Raises:
        MissingPackageError: it is not installed; says what to install.
    """
    try:
        with warnings.catch_warnings():  # jieba's are about its own code, once, on newer Pythons
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingPackageError(_missing(module, extra), is_for_japanese=extra == JAPANESE_EXTRA) from error


def package_file(package: str, *parts: str) -> Path:
    """A data file of an installed package, found without running the package's code.

    Raises:
        MissingPackageError: the package is not installed, or holds no such file.
    """
    spec = importlib.util.find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder).joinpath(*parts)
        if path.is_file():
            return path
    raise MissingPackageError(_missing(package, EXTRA, "/".join(parts)))


def read_text(name: str) -> str:
    """The text of a file in `data/`; one called `.xz` is unpacked."""
    data = (resources.files("songgen.models.songbloom") / "data" / name).read_bytes()
    return (lzma.decompress(data) if name.endswith(".xz") else data).decode("utf-8")


def read_lines(name: str) -> list[str]:
    """The lines of a table in `data/`, without its comments (`#`) and empty lines."""
    return [line for line in read_text(name).splitlines() if line and not line.startswith("#")]


def _missing(module: str, extra: str, name: str = "") -> str:
    package = f"the package {module.partition('.')[0]}"
    what = f"the file {name} of {package}" if name else package
    reader = "kana (Japanese)" if extra == JAPANESE_EXTRA else "SongBloom's lyrics"
    return f"{what} is not installed, and {reader} cannot be read without: pip install 'songgen[{extra}]'"
