"""Uploads: clips that came in through the page, checked and kept in its temporary folder.

A client names no file: what it hands in must lie where the server itself put uploads, and is used under a
name made from its content.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from songgen.audio import FORMATS, read_audio
from songgen.files import content_digest

SUFFIXES = tuple(f".{name}" for name in FORMATS)
CLIPS_FOLDER = "clips"
_PROBE_SECONDS = 0.1
_DIGEST_LETTERS = 16


class Uploads:
    """The clips of a page.

    Args:
        folder: the page's temporary folder, into which the server writes uploads.
        max_bytes: size of the largest one.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder.resolve()
        self.clips = self.folder / CLIPS_FOLDER
        self.max_bytes = max_bytes

    def keep(self, upload: Path) -> Path:
        """Check an upload and keep it; the same content is kept once.

        Returns:
            `<folder>/clips/<digest><suffix>`.

        Raises:
            ValueError: it is no upload of this page, too large, or not audio that can be read.
        """
        place = upload.resolve()
        if not place.is_relative_to(self.folder) or upload.is_symlink() or not place.is_file():
            raise ValueError("the clip is not an upload of this page: upload it again")
        suffix = place.suffix.lower()
        if suffix not in SUFFIXES:
            raise ValueError(f"{upload.name}: a clip must be one of {', '.join(SUFFIXES)}")
        size = place.stat().st_size
        if size > self.max_bytes:
            raise ValueError(
                f"{upload.name}: {size / 1e6:.1f} MB; at most {self.max_bytes / 1e6:g} MB can be uploaded"
                " (ui.max_upload_mb)"
            )
        try:
            read_audio(place, max_seconds=_PROBE_SECONDS)
        except ValueError as error:
            raise ValueError(f"{upload.name}: {str(error).removeprefix(f'{place}: ')}") from None
        kept = self.clips / f"{content_digest(place)[:_DIGEST_LETTERS]}{suffix}"
        if place != kept and not kept.is_file():
            self.clips.mkdir(exist_ok=True)
            shutil.copyfile(place, kept)
        return kept

    def find(self, recorded: str) -> Path | None:
        """The clip that a record of this page names, if it is still here."""
        place = self.clips / Path(recorded).name
        return place if str(place) == recorded and place.is_file() else None
