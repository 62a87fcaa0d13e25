"""The fields of the page: the components that a form is filled in with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from songgen.audio import FORMATS
from songgen.config import sampling_names
from songgen.lyrics import SECTION_TAGS
from songgen.tags import DESCRIPTION_TAGS
from songgen.ui import views
from songgen.ui.desk import Desk
from songgen.ui.form import OVERRIDES, Form, section_insert
from songgen.ui.uploads import SUFFIXES

SCRIPT = Path(__file__).resolve().parent / "page.js"
MAKE_CHOICES = [
    ("Song", "mixed"), ("Vocals", "vocal"), ("Accompaniment", "bgm"), ("All three", "separate"),
]  # fmt: skip
MOST_TAKES = 16
CHIPS = tuple(dimension for dimension in DESCRIPTION_TAGS if dimension != "bpm")
LYRICS_HINT = """[intro-short]
[verse] Harbour lights are burning low. Tell me which way I should go.
[outro-short]"""
QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
"""Of every event: no spinner over the page, and no place in a public interface."""


def build_fields(desk: Desk) -> dict[str, Any]:
    """Draw the form.

    Returns:
        Its components: `form` by the names of Form's fields, `chips` by dimension, and the others by name.
    """
    form: dict[str, Any] = {}
    start = desk.empty_form()
    with gr.Column(elem_classes="sg-panel", min_width=0):
        findings, mend = _build_lyrics(form)
    with gr.Column(elem_classes="sg-panel", min_width=0):
        chips, bpm = _build_descriptions(form)
    _build_prompt(desk, form)
    _build_settings(form, start, desk.model.max_seconds)
    with gr.Row(equal_height=True, elem_classes="sg-go"):
        form["name"] = gr.Textbox(
            label="Name",
            show_label=False,
            placeholder="name of the song (song)",
            elem_id="sg-name",
            scale=2,
            container=False,
        )
        make = gr.Button("Make", variant="primary", elem_id="sg-make", scale=3)
    message = gr.HTML("", elem_id="sg-message")
    return {
        "form": form, "chips": chips, "bpm": bpm, "findings": findings, "mend": mend, "make": make,
        "message": message,
    }  # fmt: skip


def _build_lyrics(form: dict[str, Any]) -> tuple[Any, Any]:
    """The editor with its section buttons; returns the findings beside it and their button."""
    with gr.Row(elem_classes="sg-sections"):
        buttons = {
            tag: gr.Button(tag, size="sm", min_width=0, elem_id=f"sg-add-{tag}") for tag in SECTION_TAGS
        }
    with gr.Row():
        with gr.Column(scale=3, min_width=380):
            form["lyrics"] = gr.Textbox(
                label="Lyrics: a section a line",
                lines=8,
                max_lines=8,
                elem_id="sg-lyrics",
                placeholder=LYRICS_HINT,
            )
        with gr.Column(scale=2, min_width=240):
            findings = gr.HTML(views.findings([], is_empty=True), elem_id="sg-findings")
            mend = gr.Button("Mend what is safe", size="sm", visible=False, elem_id="sg-mend")
    insert = SCRIPT.read_text(encoding="utf-8")
    for tag, button in buttons.items():
        script = insert.replace("@INSERT@", section_insert(tag))
        button.click(None, form["lyrics"], form["lyrics"], js=script, **QUIET)
    return findings, mend


def _build_descriptions(form: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The description; returns the tags to choose from by dimension, and the tempo."""
    with gr.Row():
        form["descriptions"] = gr.Textbox(
            label="Description: tags with commas, your own or these",
            lines=1,
            scale=6,
            elem_id="sg-descriptions",
            placeholder="female, warm, folk, guitar, the bpm is 90",
        )
        bpm = gr.Textbox("", label="bpm", max_length=3, scale=1, elem_id="sg-bpm", min_width=80)
    chips = {
        dimension: gr.CheckboxGroup(
            list(DESCRIPTION_TAGS[dimension]),
            label=dimension,
            elem_classes="sg-chips",
            elem_id=f"sg-tags-{dimension}",
        )
        for dimension in CHIPS
    }
    return chips, bpm


def _build_prompt(desk: Desk, form: dict[str, Any]) -> None:
    limit = f"{', '.join(SUFFIXES)}; up to {desk.config.max_upload_mb} MB"
    with (
        gr.Accordion("Style from a clip or from the model's library", open=False, elem_id="sg-style"),
        gr.Row(),
    ):
        form["clip"] = gr.Audio(
            label=f"Clip: its first 10 s set the style ({limit})",
            sources=["upload"],
            type="filepath",
            editable=False,
            elem_id="sg-clip",
        )
        form["style"] = gr.Dropdown(
            [("none", ""), *desk.model.prompt_styles],
            value="",
            label="Style of the library",
            elem_id="sg-auto",
            visible=bool(desk.model.prompt_styles),
        )


def _build_settings(form: dict[str, Any], start: Form, longest: float) -> None:
    with gr.Row(elem_classes="sg-panel sg-settings", equal_height=True):
        form["generate_type"] = gr.Dropdown(
            MAKE_CHOICES, value=start.generate_type, label="Make", elem_id="sg-type", min_width=130
        )
        form["takes"] = gr.Number(
            value=1,
            precision=0,
            minimum=1,
            maximum=MOST_TAKES,
            label="Takes",
            elem_id="sg-takes",
            min_width=70,
        )
        form["seed"] = gr.Textbox(label="Seed", placeholder="random", elem_id="sg-seed", min_width=110)
        form["max_seconds"] = gr.Textbox(
            label="Longest, s", placeholder=f"{longest:g}", elem_id="sg-seconds", min_width=90
        )
        form["format"] = gr.Dropdown(
            list(FORMATS), value=start.format, label="Format", elem_id="sg-format", min_width=90
        )
    with (
        gr.Accordion("Sampling and stems", open=False, elem_id="sg-sampling"),
        gr.Row(elem_classes="sg-settings"),
    ):
        form["sampling"] = gr.Dropdown(
            sampling_names(), value=start.sampling, label="Sampling", min_width=120, elem_id="sg-preset"
        )
        for name in OVERRIDES:
            form[name] = gr.Textbox(label=name, placeholder="as named", min_width=90, elem_id=f"sg-{name}")
        form["stems"] = gr.Dropdown(
            [("the model", "model"), ("a separator", "separator")],
            value=start.stems,
            label="Stems from",
            min_width=120,
            elem_id="sg-stems",
        )
