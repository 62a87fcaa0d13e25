"""Summaries, published figures and the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from songgen.config_tree import config_folder
from songgen.evaluate.bootstrap import Bootstrap
from songgen.evaluate.measures import MEASURES
from songgen.evaluate.published import read_published
from songgen.evaluate.rows import Row
from songgen.evaluate.summary import Reference, Summary, group_rows
from songgen.evaluate.table import render_table

BOOTSTRAP = Bootstrap(200)


def row(name: str, model: str = "tiny", **measures: float) -> Row:
    return Row(name, model, measures=dict(measures), missing={"ended": "no record says how the song ended"})


def sung(name: str, errors: int, phonemes: int) -> Row:
    return Row(
        name,
        "tiny",
        measures={"per": errors / phonemes},
        details={"per": {"errors": errors, "phonemes": phonemes, "asr": f"ear {phonemes}"}},
    )


def test_a_group_is_a_model_with_means_reasons_and_failures(tmp_path: Path) -> None:
    rows = [
        row("a", loudness_lufs=-10.0),
        row("b", "other", loudness_lufs=-30.0),
        row("c", loudness_lufs=-20.0),
        Row("d", "tiny", error="broken"),
        row("e"),
    ]
    first, second = group_rows(tmp_path, rows, BOOTSTRAP)
    assert (first.model, first.songs, first.failed, first.folder) == ("tiny", 4, 1, str(tmp_path))
    assert first.measures["loudness_lufs"].value == -15.0 and first.measures["loudness_lufs"].songs == 2
    assert first.measures["loudness_lufs"].low == -20.0
    assert first.missing == {"ended": {"no record says how the song ended": 3}}
    assert (second.model, second.measures["loudness_lufs"].low) == ("other", None)


def test_an_error_rate_is_pooled_over_songs() -> None:
    """A short song with a bad rate must not weigh as much as a long one."""
    [group] = group_rows(Path("x"), [sung("a", 1, 90), sung("b", 9, 10)], BOOTSTRAP)
    assert group.measures["per"].value == pytest.approx(0.1) and group.asrs == ["ear 10", "ear 90"]


def test_the_summary_has_stable_keys_and_all_measures() -> None:
    groups = group_rows(Path("x"), [row("a", peak_dbfs=-1.0)], BOOTSTRAP)
    whole = Summary(
        groups, BOOTSTRAP, {"SongEval": "absent"}, [Reference("m", "paper", {"per": 0.1})]
    ).as_dict()
    assert list(whole) == ["version", "groups", "published", "bootstrap", "per_rule", "scorers_not_run"]
    [group] = json.loads(json.dumps(whole))["groups"]
    assert list(group["measures"]) == list(MEASURES) and group["measures"]["per"] is None
    assert group["measures"]["peak_dbfs"] == {"value": -1.0, "low": None, "high": None, "songs": 1}
    assert whole["published"][0]["source"] == "paper"


def test_the_table_has_measures_down_and_folders_across() -> None:
    rows = [row("a", peak_dbfs=-1.0), row("b", peak_dbfs=-3.0), Row("c", "tiny", error="x")]
    groups = [
        *group_rows(Path("runs/one"), rows, BOOTSTRAP),
        *group_rows(Path("two"), [row("a", "-")], BOOTSTRAP),
    ]
    text = render_table(
        Summary(
            groups,
            BOOTSTRAP,
            {"SongEval": "absent"},
            [Reference("big|model", "paper, table 2", {"per": 0.1}, "W")],
        )
    )
    assert text.splitlines()[:5] == [
        "| measure   | runs/one (tiny)   | two | big/model (published) |",
        "| --------- | ----------------- | --- | --------------------- |",
        "| songs     | 3, 1 failed       | 1   | -                     |",
        "| peak_dbfs | -2.0 [-3.0, -1.0] | -   | -                     |",
        "| per       | -                 | -   | 0.100                 |",
    ]
    assert "Mean over songs [95 % interval, 200 bootstrap resamples of the songs, seed 0]" in text
    assert "Published, not measured here: big|model: paper, table 2; PER heard by W." in text
    assert "SongEval did not run: absent" in text
    assert "Not measured: ended: no record says how the song ended (3)\n" in text


def test_a_table_that_holds_an_error_rate_names_the_rule_and_the_asr() -> None:
    text = render_table(Summary(group_rows(Path("x"), [sung("a", 1, 90)], BOOTSTRAP), BOOTSTRAP))
    assert "PER = (substitutions + deletions + insertions) / phonemes of the lyrics" in text
    assert "Heard by: ear 90.\n" in text
    assert (
        "Published figures: none are shipped; reference=FILE.yaml adds rows, each with its source "
        "(configs/reference/published.yaml says in what form).\n"
    ) in text


def test_many_folders_go_into_several_tables() -> None:
    groups = [g for n in range(5) for g in group_rows(Path(f"f{n}"), [row("a", peak_dbfs=n)], BOOTSTRAP)]
    text = render_table(Summary(groups, BOOTSTRAP))
    assert text.count("| measure") == 2 and "f4 (tiny)" in text


def test_most_frequent_reasons_come_first_and_the_rest_is_summed_up() -> None:
    rows = [Row(str(n), "m", missing={"per": reason}) for n, reason in enumerate("abbbccd")]
    text = render_table(Summary(group_rows(Path("x"), rows, BOOTSTRAP), BOOTSTRAP))
    assert "Not measured: per: b (3); c (2); other reasons\n" in text


def test_the_units_of_a_table_are_said_once() -> None:
    measured = row("a", **dict.fromkeys(MEASURES, 1.0))
    measured.details["per"] = {"errors": 1, "phonemes": 1, "asr": "x"}
    text = render_table(Summary(group_rows(Path("x"), [measured], BOOTSTRAP), BOOTSTRAP))
    assert "| lm_score_null (nat) " in text and "| duration_seconds " in text and "(s)" not in text


def test_no_published_figures_are_recorded_yet() -> None:
    """A figure belongs there only with its source; none is known in this checkout."""
    assert read_published(config_folder() / "reference" / "published.yaml") == []


def test_published_figures_come_with_their_source(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "rows:\n- {model: m, source: 'paper, table 1', asr: W, measures: {per: 0.1, audiobox_pq: 8}}\n"
    )
    assert read_published(path) == [Reference("m", "paper, table 1", {"per": 0.1, "audiobox_pq": 8.0}, "W")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("[", "p.yaml: is not YAML: "),
        ("3", "p.yaml: must hold the key `rows` with a list of published figures$"),
        ("{rows: 3}", "p.yaml: must hold the key `rows`"),
        ("{rows: [3]}", "row 1: must be a mapping with model, source and measures$"),
        ("{rows: [{model: m, measures: {per: 1}}]}", "row 1: source is missing: a published figure names"),
        ("{rows: [{source: s, measures: {per: 1}}]}", "row 1: model is missing"),
        ("{rows: [{model: m, source: s}]}", "row 1: measures is missing: name to number$"),
        ("{rows: [{model: m, source: s, asr: 3, measures: {per: 1}}]}", "row 1: asr is 3: must be text$"),
        ("{rows: [{model: m, source: s, note: x, measures: {per: 1}}]}", "row 1: unknown key 'note'$"),
        (
            "{rows: [{model: m, source: s, measures: {pre: 1}}]}",
            "'pre' is not a measure; did you mean per[?]$",
        ),
        ("{rows: [{model: m, source: s, measures: {per: .nan}}]}", "row 1: per is nan: must be a number$"),
        ("{rows: [{model: m, source: s, measures: {per: yes}}]}", "row 1: per is True: must be a number$"),
    ],
)
def test_published_figures_of_another_form_are_refused(tmp_path: Path, rows: Any, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(rows)
    with pytest.raises(ValueError, match=message):
        read_published(path)


def test_a_missing_file_of_published_figures(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no such file of published figures$"):
        read_published(tmp_path / "none.yaml")
