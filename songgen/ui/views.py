"""The parts of the page that are HTML of our own: findings, queue, history, a song's settings.

Plain values in, escaped HTML out. A button says what it asks for in `data-` attributes, which `CLICKS` hands
to the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from songgen.linter import Finding
from songgen.ui.history import PastSong
from songgen.ui.pace import Progress
from songgen.ui.queue import View

CLICKS = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('[data-act]');
  if (button) trigger('click', {act: button.dataset.act, of: button.dataset.of});
});
"""
"""Hands clicks on `data-act` buttons to Python; it listens on the element, whose content may change."""

STEM_NAMES = {"mixed": "Song", "vocal": "Vocals", "bgm": "Accompaniment"}
FILE_ROUTE = "gradio_api/file="
STAGES = {"prepare": "preparing", "compose": "composing", "render": "rendering", "save": "saving"}
STATES = {"waiting": "waiting", "made": "made", "failed": "failed", "cancelled": "cancelled"}
_MOST_SHOWN = 200


def header(summary: str, folder: Path) -> str:
    """The head of the page: what runs, and where songs go."""
    return (
        f'<div class="sg-head"><span class="sg-brand">songgen</span>'
        f'<span class="sg-sub">{escape(summary)}</span>'
        f'<span class="sg-sub sg-right">songs go to <code>{escape(str(folder))}</code></span></div>'
    )


def noise_notice(name: str) -> str:
    """What is said of a built-in model."""
    return (
        '<div class="sg-notice" role="note"><b>This model makes noise, not music.</b> '
        f"<code>{escape(name)}</code> is built in, with random weights, to show that everything works. "
        "For songs, start the page with a published model.</div>"
    )


def findings(found: Sequence[Finding], is_empty: bool) -> str:
    """What the linter found, the worst first."""
    if not found:
        text = "Write some lyrics: one section a line." if is_empty else "Nothing here will hurt the song."
        return f'<div class="sg-findings"><p class="sg-quiet">{text}</p></div>'
    order = {"error": 0, "warning": 1, "hint": 2}
    items = []
    for finding in sorted(found, key=lambda item: order[item.severity]):
        mend = ""
        if finding.mended is not None:
            word = "mended" if finding.safe else "suggested"
            mend = f'<div class="sg-mend">{word}: <code>{escape(finding.mended)}</code></div>'
        items.append(
            f'<li class="sg-{finding.severity}"><span class="sg-place">{escape(_place(finding))}</span> '
            f"{escape(finding.message)}{mend}</li>"
        )
    return f'<div class="sg-findings"><ul>{"".join(items)}</ul></div>'


def message(text: str, kind: str) -> str:
    """One line under the button: `good`, `note` or `bad`."""
    return f'<div class="sg-message sg-{kind}">{escape(text)}</div>' if text else ""


def queue(views: Sequence[View]) -> str:
    """The queue: first what is made and what waits, then what has ended, the last first."""
    live = [view for view in views if view.state in ("waiting", "making")]
    ended = [view for view in reversed(views) if view.state not in ("waiting", "making")]
    if not views:
        return '<p class="sg-quiet">Nothing is being made.</p>'
    return f'<div class="sg-queue">{"".join(_entry(view) for view in [*live, *ended])}</div>'


def history(songs: Sequence[PastSong], selected: str | None) -> str:
    """The songs of the folder, the newest first; each a button."""
    if not songs:
        return '<p class="sg-quiet">No songs in this folder yet.</p>'
    rows = []
    for song in songs[:_MOST_SHOWN]:
        chosen = ' aria-current="true"' if song.name == selected else ""
        rows.append(
            f'<button class="sg-song" data-act="select" data-of="{escape(song.name)}"{chosen}>'
            f"<b>{escape(song.name)}</b><span>{escape(_in_short(song))}</span></button>"
        )
    more = len(songs) - _MOST_SHOWN
    note = f'<p class="sg-quiet">and {more} older ones, see the records</p>' if more > 0 else ""
    return f'<div class="sg-songs">{"".join(rows)}{note}</div>'


def details(song: PastSong) -> str:
    """A song's settings and files."""
    record = song.record
    rows = [
        ("Lyrics", str(record.get("lyrics") or "-")),
        ("Description", str(record.get("descriptions") or "-")),
        ("Style", _style(record)),
        ("Seed", str(record.get("seed", "-"))),
        ("Model", f"{record.get('model', '-')} on {record.get('device', '-')}"),
        ("Sampling", _pairs(record.get("sampling"))),
        ("Ended", _ending(record)),
        ("Took", _pairs(record.get("seconds"), unit=" s")),
    ]
    body = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows if value)
    links = " ".join(
        f'<a class="sg-file" href="{FILE_ROUTE}{quote(str(file))}" download="{escape(file.name)}">'
        f"{escape(file.name)} <span>{_size(file)}</span></a>"
        for file in song.stems.values()
    )
    return f'<dl class="sg-details">{body}</dl><div class="sg-files">{links}</div>'


def _entry(view: View) -> str:
    names = f" <span>{view.num_songs} takes</span>" if view.num_songs > 1 else ""
    button = ""
    if view.state in ("waiting", "making") and not view.is_cancelled:
        button = f'<button class="sg-cancel" data-act="cancel" data-of="{view.number}">Cancel</button>'
    bar = ""
    if view.progress is not None:
        percent = round(100 * view.progress.fraction)
        fill = f'<i style="width:{percent}%"></i>'
        bar = f'<div class="sg-bar" role="progressbar" aria-valuenow="{percent}">{fill}</div>'
    error = f'<div class="sg-error-text">{escape(view.error)}</div>' if view.error else ""
    return (
        f'<div class="sg-entry sg-{view.state}"><div class="sg-line"><b>{escape(view.idx)}</b>{names}'
        f'<span class="sg-state">{escape(_state(view))}</span>{button}</div>{bar}{error}</div>'
    )


def _state(view: View) -> str:
    if view.state != "making":
        return STATES[view.state]
    if view.is_cancelled:
        return "cancelling at the next step"
    return _in_words(view.progress) if view.progress else "preparing"


def _in_words(progress: Progress) -> str:
    words = STAGES[progress.stage]
    if progress.stage in ("compose", "render"):
        words += f" {progress.stage_fraction:.0%}"
    if progress.seconds_left is not None and progress.stage != "save":
        words += f", about {_clock(progress.seconds_left)} left"
    return words


def _place(finding: Finding) -> str:
    """Where, without the column: the editor shows another line than the model gets."""
    if finding.field == "descriptions":
        return "description"
    if finding.section is None:
        return "lyrics"
    return f"{finding.section} [{finding.tag}]" if finding.tag else "before the first tag"


def _in_short(song: PastSong) -> str:
    record = song.record
    when = str(record.get("finished", ""))[:16].replace("T", " ")
    stems = f"{len(song.stems)} stems" if len(song.stems) > 1 else STEM_NAMES.get(next(iter(song.stems)), "")
    parts = [_clock(float(record.get("duration") or 0)), stems, f"seed {record.get('seed')}", f"{when} UTC"]
    return ", ".join(parts)


def _style(record: Mapping[str, Any]) -> str:
    request = record.get("request")
    request = request if isinstance(request, Mapping) else {}
    clip, style = request.get("prompt_audio_path"), request.get("auto_prompt_audio_type")
    if clip:
        return f"a clip, {Path(str(clip)).name}"
    return f"{style}, from the library" if style else ""


def _ending(record: Mapping[str, Any]) -> str:
    why = {"eos": "the model ended it", "length": "at the longest length"}.get(
        str(record.get("stopped")), "-"
    )
    clipped = record.get("clipped")
    return why + (f"; {clipped} samples clipped" if clipped else "")


def _pairs(values: object, unit: str = "") -> str:
    if not isinstance(values, Mapping):
        return ""
    return ", ".join(f"{name} {value:g}{unit}" for name, value in values.items())


def _clock(seconds: float) -> str:
    """`12 s` or `2:05 min`."""
    whole = round(seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02} min"


def _size(file: Path) -> str:
    try:
        return f"{file.stat().st_size / 1e6:.1f} MB"
    except OSError:
        return ""
