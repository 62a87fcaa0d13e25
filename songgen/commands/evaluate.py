"""`songgen evaluate`: scores of finished songs.

songgen evaluate OUT [OUT ...] [transcripts=FILE] [key=value ...]

Each folder gets `scores.jsonl` (a row a song) and `summary.json`, and `transcripts.jsonl` where an ASR
listened; the table over all folders is printed.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from songgen.commands.songs import help_on, split_words
from songgen.config import EvaluateConfig, evaluate_config
from songgen.config_tree import describe
from songgen.evaluate.bootstrap import Bootstrap
from songgen.evaluate.measures import MEASURES
from songgen.evaluate.published import read_published
from songgen.evaluate.rows import Row
from songgen.evaluate.score import Tools, add_scores, score_song
from songgen.evaluate.scorers import Audiobox, Scorer, SongEval
from songgen.evaluate.songs import FinishedSong, find_songs, song_folders
from songgen.evaluate.summary import Summary, group_rows
from songgen.evaluate.table import render_table
from songgen.evaluate.transcripts import FasterWhisper, Given, Listener, read_transcripts
from songgen.files import write_together
from songgen.records import encode_record
from songgen.requests import SongRequest, read_requests

logger = logging.getLogger(__name__)

SCORES_NAME, SUMMARY_NAME, TRANSCRIPTS_NAME = "scores.jsonl", "summary.json", "transcripts.jsonl"
ALL_SCORED, SOME_FAILED = 0, 1
EXIT_STATUS = "exit status: 0 all songs scored, 1 some could not be, 2 nothing could start, 130 interrupted"


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns 0 if all songs were scored, 1 if some could not be.

    Raises:
        ValueError, OSError: nothing could start.
    """
    if any(word in ("-h", "--help") for word in argv):
        _parser().print_help()
        return 0
    settings, paths = split_words(argv)
    config = evaluate_config(settings)
    if config.verbose:
        logging.getLogger("songgen").setLevel(logging.DEBUG)
    if not paths:
        raise ValueError("no songs are given: songgen evaluate OUT, the folder of a run")
    return _evaluate(config, song_folders(paths))


def _evaluate(config: EvaluateConfig, folders: Sequence[Path]) -> int:
    references = read_published(config.reference)
    tools = _tools(config, folders)
    scorers: tuple[Scorer, ...] = (Audiobox(**config.audiobox), SongEval(**config.songeval))
    requests = _requests(config.requests)
    bootstrap = Bootstrap(**config.bootstrap)
    total = Summary([], bootstrap, references=references)
    status = ALL_SCORED
    for folder in folders:
        songs = find_songs(folder, requests)
        if not songs:
            status = SOME_FAILED
            print(f"songgen: {folder}: its records name no songs", file=sys.stderr)
            continue
        rows = _score(folder, songs, tools[folder])
        reasons = {scorer.name: add_scores(rows, songs, scorer) for scorer in scorers}
        not_run = {name: reason for name, reason in reasons.items() if reason is not None}
        summary = Summary(group_rows(folder, rows, bootstrap), bootstrap, not_run, references)
        _write(folder, rows, summary)
        if config.asr["program"] is not None:
            _write_transcripts(folder, rows)
        total = replace(
            total, groups=[*total.groups, *summary.groups], not_run={**total.not_run, **summary.not_run}
        )
        for row in rows:
            if row.error is not None:
                status = SOME_FAILED
                print(f"songgen: {folder}: {row.name}: {row.error}", file=sys.stderr)
    table = render_table(total)
    if config.report is not None:
        write_together({config.report: table.encode()})
    print(table, end="")
    print(f"Scores: {', '.join(str(folder / SCORES_NAME) for folder in folders)}")
    return status


def _score(folder: Path, songs: Sequence[FinishedSong], tools: Tools) -> list[Row]:
    from tqdm import tqdm

    bar = tqdm(songs, desc=folder.name, unit="song", file=sys.stderr, disable=not sys.stderr.isatty())
    return [score_song(song, tools) for song in bar]


def _tools(config: EvaluateConfig, folders: Sequence[Path]) -> dict[Path, Tools]:
    """What each folder is scored with; its transcripts are its own, the ASR is loaded once."""
    from songgen.evaluate.pronunciation import Pronunciation

    asr: Listener | None = None
    if config.asr["program"] is not None:
        asr = FasterWhisper(config.asr["model"], config.asr["device"])
    tools = {folder: Tools(Pronunciation(), asr, config.language, config.prompts) for folder in folders}
    if config.transcripts is not None:
        for folder in folders:
            path = _transcripts_of(folder, config.transcripts, len(folders))
            tools[folder] = replace(tools[folder], listener=Given(read_transcripts(path), path, asr))
    return tools


def _transcripts_of(folder: Path, given: Path, num_folders: int) -> Path:
    """The transcripts within a folder, else the given ones of a single folder: names repeat over runs."""
    if not given.is_absolute() and (folder / given).exists():
        return folder / given
    if num_folders > 1:
        raise ValueError(
            f"transcripts={given}: {folder} holds none of that name; each of several folders needs its own"
        )
    return given


def _requests(path: Path | None) -> list[SongRequest]:
    if path is None:
        return []
    read = read_requests(path)
    for bad in read.bad_lines:
        logger.warning("%s", bad)
    return read.requests


def _write(folder: Path, rows: Sequence[Row], summary: Summary) -> None:
    lines = b"".join(encode_record(row.as_dict()) for row in rows)
    whole = json.dumps(summary.as_dict(), indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    write_together({folder / SCORES_NAME: lines, folder / SUMMARY_NAME: whole})


def _write_transcripts(folder: Path, rows: Sequence[Row]) -> None:
    """Keep what the ASR heard, for `transcripts=transcripts.jsonl` another time."""
    heard = [(row.name, row.details["per"]) for row in rows if "per" in row.details]
    lines = [{"name": name, "text": found["transcript"], "asr": found["asr"]} for name, found in heard]
    write_together({folder / TRANSCRIPTS_NAME: b"".join(map(encode_record, lines))})


def _parser() -> argparse.ArgumentParser:
    settings = help_on(describe("evaluate"))
    width = max(map(len, MEASURES))
    measures = "\n".join(f"  {name.ljust(width)}  {measure.doc}" for name, measure in MEASURES.items())
    return argparse.ArgumentParser(
        prog="songgen evaluate",
        usage="songgen evaluate OUT [OUT ...] [key=value ...]",
        description="Score the songs of some folders: each gets scores.jsonl and summary.json, and a table "
        "is printed. OUT is the output.dir of a run, a folder of such folders, or any folder of audio files.",
        epilog=f"settings and their defaults:\n{settings}\n\nmeasures:\n{measures}\n\n{EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
