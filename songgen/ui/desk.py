"""The desk: what the page can do, in plain values: check a text, put a form in the queue, show a song again.

Everything that a client may ask for comes through here; nothing here knows how the page is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from songgen.config import UiConfig
from songgen.engine.journal import draw_seed
from songgen.linter import Finding, lint_descriptions, lint_lyrics, mend_descriptions, mend_lyrics
from songgen.models.base import SongModel
from songgen.models.families import NOISE
from songgen.request_names import check_idx
from songgen.ui.form import Form, editor_text, form_of, lyric_string, number_of, request_of, sampling_of
from songgen.ui.history import History, PastSong
from songgen.ui.queue import SongQueue, View, Wanted
from songgen.ui.uploads import Uploads

SONG_NAME = "song"
"""Of a song that was given no name."""

MEGABYTE = 10**6


@dataclass(frozen=True)
class Added:
    """A form that went into the queue: its entry, and the seed that it got."""

    view: View
    seed: int


class Desk:
    """One page's model, queue, history and uploads.

    Args:
        model: the loaded model.
        config: the settings of `songgen ui`.
        temporary: the page's temporary folder.
    """

    def __init__(self, model: SongModel, config: UiConfig, temporary: Path) -> None:
        self.model, self.config = model, config
        self.history = History(config.output.dir)
        self.uploads = Uploads(temporary, config.max_upload_mb * MEGABYTE)
        self.queue = SongQueue(model, config.output, lyrics=config.lyrics, taken=self.history.names)

    @property
    def is_noise(self) -> bool:
        """Whether the model is one of random weights, which make noise, not music."""
        return self.model.name in NOISE

    def empty_form(self) -> Form:
        """What the page starts with."""
        return Form(stems=self.config.stems, format=self.config.output.format)

    def findings(self, form: Form) -> list[Finding]:
        """What the linter says of a form's texts, lyrics first; nothing of an editor that is still empty."""
        rules = self.model.text_rules
        lyrics, seconds = lyric_string(form.lyrics), number_of(form.max_seconds)
        limit = None if isinstance(seconds, str) else seconds
        found: list[Finding] = []
        if lyrics:
            found = lint_lyrics(lyrics, rules, generate_type=form.generate_type, max_seconds=limit)
        return found + lint_descriptions(form.descriptions, rules)

    def mended(self, form: Form) -> Form:
        """The form with what is safe mended in both texts."""
        rules = self.model.text_rules
        lyrics = lyric_string(form.lyrics)
        if form.generate_type != "bgm":
            lyrics = mend_lyrics(lyrics, rules)
        descriptions = mend_descriptions(form.descriptions, rules) or ""
        return replace(form, lyrics=editor_text(lyrics), descriptions=descriptions)

    def add(self, form: Form) -> Added:
        """Put a form into the queue.

        Raises:
            ValueError: what is wrong with it, in the words of the command line.
        """
        name = form.name.strip() or SONG_NAME
        faults = check_idx(name)
        if faults:
            raise ValueError("; ".join(faults))
        if form.clip is not None:
            form = replace(form, clip=self.uploads.keep(form.clip))
        seed = draw_seed()
        sampling = sampling_of(form, self.model)
        bits = self.config.output.bits if form.format == self.config.output.format else None

        def want(idx: str) -> Wanted:
            return Wanted(request_of(form, idx=idx, seed=seed), sampling, form.format, bits)

        want(name)  # refused before it takes a name
        view = self.queue.add(name, want)
        return Added(view, seed if not form.seed.strip() else int(form.seed))

    def again(self, name: str) -> tuple[Form, list[str]]:
        """The form of a song of the folder, seed included, and what of it cannot be repeated here.

        Raises:
            ValueError: there is no such song.
        """
        return form_of(self.song(name).record, self.model, self.uploads.find)

    def song(self, name: str) -> PastSong:
        """A song of the folder.

        Raises:
            ValueError: there is none of that name.
        """
        song = self.history.find(name)
        if song is None:
            raise ValueError(f"{name}: there is no such song in {self.config.output.dir}")
        return song

    def close(self) -> None:
        """Cancel what is under way and wait for it."""
        self.queue.close()
