"""The page: its components, and what each of them does at the desk."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import gradio as gr

from songgen.tags import BPM_TAG, DESCRIPTION_TAGS
from songgen.ui import views
from songgen.ui.desk import Desk
from songgen.ui.fields import CHIPS, QUIET, build_fields
from songgen.ui.form import Form

FOLDER = Path(__file__).resolve().parent
TICK_SECONDS = 1.0


@dataclass(frozen=True)
class Parts:
    """The components that events speak of; `form` by the names of Form's fields."""

    form: dict[str, Any]
    chips: dict[str, Any]
    bpm: Any
    findings: Any
    mend: Any
    make: Any
    message: Any
    queue: Any
    songs: Any
    players: dict[str, Any]
    details: Any
    again: Any

    @property
    def inputs(self) -> list[Any]:
        """The components of the form in the order of Form's fields."""
        return [self.form[item.name] for item in fields(Form)]


def build_page(desk: Desk) -> gr.Blocks:
    """The whole page of a desk, its events wired."""
    with gr.Blocks(title="songgen", analytics_enabled=False, fill_width=True) as blocks:
        gr.HTML(views.header(desk.model.summary, desk.config.output.dir))
        if desk.is_noise:
            gr.HTML(views.noise_notice(desk.model.name), elem_id="sg-noise")
        with gr.Row(elem_id="sg-main"):
            with gr.Column(scale=17, min_width=640):
                left = build_fields(desk)
            with gr.Column(scale=10, min_width=360):
                right = _build_songs()
        parts = Parts(**left, **right)
        _wire_text(desk, parts)
        _wire_songs(desk, parts)
    return blocks


def theme() -> gr.themes.Base:
    """Colours and fonts; the fonts are those of the machine."""
    font, mono = ["system-ui", "sans-serif"], ["ui-monospace", "Consolas", "monospace"]
    sizes = {"spacing_size": "sm", "radius_size": "sm", "text_size": "sm"}
    return gr.themes.Default(primary_hue="indigo", neutral_hue="slate", font=font, font_mono=mono, **sizes)


def style() -> str:
    """The style sheet."""
    return (FOLDER / "page.css").read_text(encoding="utf-8")


def _build_songs() -> dict[str, Any]:
    with gr.Column(elem_classes="sg-panel", min_width=0):
        gr.HTML('<div class="sg-title">Queue</div>')
        queue = gr.HTML("", elem_id="sg-queue", js_on_load=views.CLICKS)
    with gr.Column(elem_classes="sg-panel", min_width=0):
        gr.HTML('<div class="sg-title">Songs</div>')
        songs = gr.HTML("", elem_id="sg-songs", js_on_load=views.CLICKS)
        again = gr.Button("Again with this seed", size="sm", visible=False, elem_id="sg-again")
    with gr.Column(elem_classes="sg-listen", min_width=0):
        players = {
            stem: gr.Audio(
                label=name,
                interactive=False,
                visible=False,
                buttons=["download"],
                elem_id=f"sg-play-{stem}",
                waveform_options=gr.WaveformOptions(
                    waveform_color="#94a3b8", waveform_progress_color="#4f46e5"
                ),
            )
            for stem, name in views.STEM_NAMES.items()
        }
        details = gr.HTML("", elem_id="sg-details")
    return {"queue": queue, "songs": songs, "players": players, "details": details, "again": again}


def _read(values: Sequence[Any]) -> Form:
    """The form of the components' values, in the order of Form's fields; what is empty is left open."""
    given = {item.name: value for item, value in zip(fields(Form), values, strict=True) if value is not None}
    if given.get("clip"):
        given["clip"] = Path(given["clip"])
    return Form(**given)


def _fill(form: Form) -> list[Any]:
    """The components' values of a form, in the order of Form's fields."""
    values = {item.name: getattr(form, item.name) for item in fields(Form)}
    values["clip"] = None if form.clip is None else str(form.clip)
    values["style"] = form.style or ""
    return [values[item.name] for item in fields(Form)]


def _tags_to_text(dimension: str) -> str:
    """The script by which the chips of a dimension, or the tempo, change the description."""
    is_tempo = dimension == "bpm"
    known = [BPM_TAG.pattern] if is_tempo else [re.escape(tag) for tag in DESCRIPTION_TAGS[dimension]]
    script = (FOLDER / "tags_to_text.js").read_text(encoding="utf-8")
    return script.replace("@PATTERN@", "|".join(known)).replace("@PREFIX@", "the bpm is " if is_tempo else "")


def text_to_tags_script() -> str:
    """The script by which chips and tempo follow the description."""
    groups = json.dumps([DESCRIPTION_TAGS[dimension] for dimension in CHIPS])
    return (FOLDER / "text_to_tags.js").read_text(encoding="utf-8").replace("@GROUPS@", groups)


def _wire_text(desk: Desk, parts: Parts) -> None:
    """The linter, the section and tag buttons."""
    form = parts.form
    lyrics, descriptions = form["lyrics"], form["descriptions"]
    checked = [lyrics, descriptions, form["generate_type"], form["max_seconds"]]

    def check(text: str, tags: str, kind: Any, seconds: str) -> list[Any]:
        found = desk.findings(Form(lyrics=text, descriptions=tags, generate_type=kind, max_seconds=seconds))
        shown = views.findings(found, is_empty=not text.strip())
        return [shown, gr.update(visible=any(finding.safe for finding in found))]

    def mend(text: str, tags: str, kind: Any) -> list[Any]:
        mended = desk.mended(Form(lyrics=text, descriptions=tags, generate_type=kind))
        return [mended.lyrics, mended.descriptions]

    for component in checked:
        component.change(check, checked, [parts.findings, parts.mend], trigger_mode="always_last", **QUIET)
    parts.mend.click(mend, checked[:3], [lyrics, descriptions], **QUIET)
    # In the browser alone: two quick clicks would each answer for the text as it was before the other.
    tags = [*parts.chips.values(), parts.bpm]
    descriptions.change(None, [descriptions, parts.bpm], tags, js=text_to_tags_script(), **QUIET)
    for dimension, group in parts.chips.items():
        group.input(None, [descriptions, group], descriptions, js=_tags_to_text(dimension), **QUIET)
    # `change`, as neither what is pasted nor a Backspace is an `input` to Gradio's text fields.
    parts.bpm.change(None, [descriptions, parts.bpm], descriptions, js=_tags_to_text("bpm"), **QUIET)


def _wire_songs(desk: Desk, parts: Parts) -> None:
    """The queue, the history and the players."""
    shown = gr.State({"selected": None, "follows": True, "songs": None, "queue": None})
    listen = [*parts.players.values(), parts.details, parts.again]

    def make(state: dict[str, Any], *values: Any) -> list[Any]:
        try:
            added = desk.add(_read(values))
        except ValueError as error:
            return [state, views.message(str(error), "bad")]
        text = f"{added.view.idx} is in the queue, seed {added.seed}"
        return [{**state, "follows": True}, views.message(text, "good")]

    def refresh(state: dict[str, Any]) -> list[Any]:
        return _refreshed(desk, state)

    def act(state: dict[str, Any], event: gr.EventData) -> list[Any]:
        action, wanted = getattr(event, "act", ""), str(getattr(event, "of", ""))
        if action == "cancel" and wanted.isascii() and wanted.isdecimal():
            desk.queue.cancel(int(wanted))
        elif action == "select":
            state = {**state, "selected": wanted, "follows": False, "songs": None}
        return _refreshed(desk, state)

    def again(state: dict[str, Any]) -> list[Any]:
        try:
            form, notes = desk.again(str(state["selected"]))
        except ValueError as error:
            return [*(gr.skip() for _ in parts.inputs), views.message(str(error), "bad")]
        text = "; ".join(notes) or f"filled in as {form.name} was made: press Make for the same song"
        kind = "note" if notes else "good"
        return [*_fill(form), views.message(text, kind)]

    shows = [shown, parts.queue, parts.songs, *listen]
    made = parts.make.click(make, [shown, *parts.inputs], [shown, parts.message], **QUIET)
    made.then(refresh, shown, shows, **QUIET)
    gr.Timer(TICK_SECONDS).tick(refresh, shown, shows, trigger_mode="once", **QUIET)
    for component in (parts.queue, parts.songs):
        component.click(act, shown, shows, **QUIET)
    parts.again.click(again, shown, [*parts.inputs, parts.message], **QUIET)


def _refreshed(desk: Desk, state: dict[str, Any]) -> list[Any]:
    """The state, queue, songs, players, details and button of a client; what it has already is left alone."""
    songs, queue = desk.history.songs(), views.queue(desk.queue.views())
    selected = state["selected"]
    if state["follows"] and songs:
        selected = songs[0].name
    names = [song.name for song in songs]
    listing: Any = gr.skip()
    listen: list[Any] = [gr.skip() for _ in range(len(views.STEM_NAMES) + 2)]
    if (names, selected) != state["songs"]:
        listing = views.history(songs, selected)
        song = next((song for song in songs if song.name == selected), None)
        if song is not None:
            stems = [song.stems.get(stem) for stem in views.STEM_NAMES]
            listen = [gr.update(value=file and str(file), visible=file is not None) for file in stems]
            listen += [views.details(song), gr.update(visible=True)]
    new = {**state, "selected": selected, "songs": (names, selected), "queue": queue}
    return [new, gr.skip() if queue == state["queue"] else queue, listing, *listen]
