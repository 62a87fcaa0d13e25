"""Uploads: what is taken, what is refused, and that a client opens no file of its choosing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fake_audio import music

from songgen.audio import Audio, write_audio
from songgen.ui.uploads import Uploads


@pytest.fixture
def uploads(tmp_path: Path) -> Uploads:
    folder = tmp_path / "page"
    (folder / "abc").mkdir(parents=True)
    return Uploads(folder, 200_000)


def clip(folder: Path, name: str, seconds: float = 0.5) -> Path:
    path = folder / name
    write_audio(path, Audio(music(seconds), 48000), path.suffix[1:])  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("name", ["a.wav", "a b.flac", "a.ogg", "a.mp3", "a.opus"])
def test_a_clip_is_kept_under_the_name_of_its_content(uploads: Uploads, name: str) -> None:
    given = clip(uploads.folder / "abc", name)
    kept = uploads.keep(given)
    assert kept.parent == uploads.clips and kept.suffix == given.suffix
    assert kept.read_bytes() == given.read_bytes()
    again = given.with_name(f"other{given.suffix}")
    again.write_bytes(given.read_bytes())
    assert uploads.keep(again) == kept == uploads.keep(kept)
    assert uploads.find(str(kept)) == kept


def test_a_large_clip_is_refused(uploads: Uploads) -> None:
    given = clip(uploads.folder, "long.wav", 2.0)
    with pytest.raises(ValueError, match=r"long\.wav: 0\.4 MB; at most 0\.2 MB can be uploaded"):
        uploads.keep(given)


def test_other_types_are_refused(uploads: Uploads) -> None:
    given = uploads.folder / "a.html"
    given.write_text("<script>")
    with pytest.raises(ValueError, match=r"a\.html: a clip must be one of \.wav, \.flac, \.ogg, \.mp3"):
        uploads.keep(given)
    fake = uploads.folder / "a.wav"
    fake.write_text("not audio")
    with pytest.raises(ValueError, match=r"^a\.wav: cannot be read as audio"):
        uploads.keep(fake)


def test_files_outside_are_never_opened(uploads: Uploads, tmp_path: Path) -> None:
    """Neither by an absolute path, nor by `..`, nor through a link."""
    outside = clip(tmp_path, "secret.wav")
    link = uploads.folder / "link.wav"
    os.symlink(outside, link)
    wrong = [
        outside,
        uploads.folder / ".." / "secret.wav",
        link,
        Path("/etc/passwd"),
        uploads.folder / "no.wav",
    ]
    for path in wrong:
        with pytest.raises(ValueError, match="not an upload of this page"):
            uploads.keep(path)
    assert not uploads.clips.exists()


def test_a_recorded_clip_is_found_only_among_the_clips(uploads: Uploads, tmp_path: Path) -> None:
    outside = clip(tmp_path, "secret.wav")
    kept = uploads.keep(clip(uploads.folder, "a.wav"))
    for recorded in (str(outside), str(uploads.clips / ".." / "a.wav"), kept.name, "/etc/passwd"):
        assert uploads.find(recorded) is None
