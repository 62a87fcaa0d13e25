"""A folder of synthetic songs, made by several processes; a run takes up where the last one stopped."""

from __future__ import annotations

import logging
import multiprocessing
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from songgen.audio import Audio, encode_audio
from songgen.files import remove_leftovers, write_together
from songgen.train.synth.song import make_song, studio
from songgen.train.truth import FRAME_RATE, SAMPLE_RATE, read_truth

SONGS = "songs"
_LOG_EVERY = 50
_AHEAD = 4
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SynthSettings:
    """How many songs.

    Args:
        hours: of audio in all; songs are made until there are as many. 0: `count` decides.
        count: songs; 0: `hours` decides.
        seed: of all songs.
        first_number: of the first song.
    """

    hours: float = 20.0
    count: int = 0
    seed: int = 0
    first_number: int = 0


def synthesise(
    folder: Path, settings: SynthSettings, *, workers: int = 1, seconds: float | None = None
) -> bool:
    """Make the songs that are not there yet, numbers rising; returns whether all are there.

    Args:
        workers: processes.
        seconds: stop after so many; None for no limit.

    Raises:
        ValueError: neither or both of hours and count are given.
        FileNotFoundError, ModuleNotFoundError: espeak-ng, FluidSynth, its soundfont or pyworld is missing.
    """
    if (settings.hours > 0) == (settings.count > 0):
        raise ValueError(
            f"hours={settings.hours} count={settings.count}: give one of the two, the other one as 0"
        )
    songs = folder / SONGS
    songs.mkdir(parents=True, exist_ok=True)
    remove_leftovers(songs)
    queue = _Queue(songs, settings)
    deadline = None if seconds is None else time.monotonic() + seconds
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=studio) as pool:
        running: set[Future[float]] = set()
        while True:
            in_time = deadline is None or time.monotonic() < deadline
            while in_time and len(running) < workers + _AHEAD and (number := queue.next()) is not None:
                running.add(pool.submit(_write_song, songs, settings.seed, number))
            if not running:
                return queue.next() is None
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                queue.add(future.result())


class _Queue:
    """Numbers of songs to make, and how much there is."""

    def __init__(self, songs: Path, settings: SynthSettings) -> None:
        self._songs, self._settings = songs, settings
        self._number = settings.first_number
        self._hours, self._count = 0.0, 0
        self._began = time.monotonic()

    def next(self) -> int | None:
        """The next song that is not there, None when there are enough."""
        while not self.is_done:
            if self._settings.count and self._number >= self._settings.first_number + self._settings.count:
                return None
            number, self._number = self._number, self._number + 1
            path = self._songs / f"{number:06d}.json"
            if not path.exists():
                return number
            self._hours += read_truth(path).num_frames / FRAME_RATE / 3600
            self._count += 1
        return None

    def add(self, seconds: float) -> None:
        """Count a song that was made."""
        self._hours += seconds / 3600
        self._count += 1
        if self._count % _LOG_EVERY == 0:
            took = time.monotonic() - self._began
            logger.info("%d songs, %.2f hours of audio, %.0f s", self._count, self._hours, took)

    @property
    def is_done(self) -> bool:
        """Whether as many songs or hours are there as asked for."""
        if self._settings.count:
            return self._count >= self._settings.count
        return self._hours >= self._settings.hours


def _write_song(songs: Path, seed: int, number: int) -> float:
    """Make and write one song; returns its seconds."""
    song = make_song(seed, number)
    audio, _ = encode_audio(Audio(song.stems.reshape(4, -1), SAMPLE_RATE), "flac")
    write_together(
        {
            songs / f"{number:06d}.flac": audio,
            songs / f"{number:06d}.json": song.truth.to_json().encode(),
        }
    )
    return song.truth.num_frames / FRAME_RATE
