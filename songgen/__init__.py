"""songgen: from lyrics to songs with the open models.

    import songgen

    model = songgen.load("tiny")
    for song in model.generate([{"idx": "a", "gt_lyric": "[verse] Hello world."}]):
        song.save("output")

Importing this package does no work: torch is imported when a model is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from songgen.api import FailedSong, GeneratedSong, Model, SongError, load

__version__ = "0.1.0"
__all__ = ["FailedSong", "GeneratedSong", "Model", "SongError", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from songgen import api

        return getattr(api, name)
    raise AttributeError(f"module 'songgen' has no attribute {name!r}")
