"""`songgen check`: what is wrong with a file of requests, and the same file mended.

Exit status: 0 if there is nothing to mend (hints alone do not count); 1 if a line is bad or a text has a
finding to mend, whether or not a mended copy was written; 2 if the file cannot be read or
the copy not written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from songgen.files import write_together
from songgen.linter import Finding, TextRules, lint_request, mend_request
from songgen.request_keys import given_keys
from songgen.requests import BadLine, GenerateType, SongRequest, read_requests


@dataclass(frozen=True)
class CheckedRequest:
    """A good line: the request, its findings, and the request with mended texts."""

    request: SongRequest
    findings: list[Finding]
    mended: SongRequest


@dataclass(frozen=True)
class Report:
    """What the check of a file found; `fix_to` is where the mended copy was written, if it was."""

    path: Path
    checked: list[CheckedRequest]
    bad_lines: list[BadLine]
    fix_to: Path | None = None

    @property
    def is_clean(self) -> bool:
        """Whether there is nothing to mend; hints do not count."""
        faults = (finding for checked in self.checked for finding in checked.findings)
        return not self.bad_lines and all(finding.severity == "hint" for finding in faults)


def main(argv: Sequence[str]) -> int:
    """Run the command: FILE [--fix OUT] [model=NAME]; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="songgen check",
        description="Find what in the lyrics and descriptions of a file of requests will hurt the songs.",
        epilog="exit status: 0 nothing to mend, 1 something to mend, 2 the file cannot be read",
    )
    parser.add_argument("file", type=Path, help="file of requests, one JSON object a line")
    parser.add_argument("--fix", type=Path, metavar="OUT", help="write a copy with what is safe mended")
    parser.add_argument(
        "model",
        nargs="?",
        default="",
        metavar="model=NAME",
        help="check against this model's limits instead of those of the v2 models",
    )
    args = parser.parse_intermixed_args(argv)
    key, _, name = args.model.partition("=")
    if args.model and (key != "model" or not name):
        parser.error(f"{args.model}: only model=NAME can be set")
    return run(args.file, args.fix, rules_of(name) if name else TextRules(), print)


def rules_of(name: str) -> TextRules:
    """What a model demands of its text; of a published name by the catalogue, without loading weights.

    Raises:
        ValueError, FileNotFoundError: there is no such model.
    """
    from songgen.models import catalog

    entry = catalog.find_entry(name)
    if entry is not None and entry.family == "songbloom" and not Path(name).is_dir():
        from songgen.models.songbloom.text import SongBloomText, published_vocabulary

        return SongBloomText(published_vocabulary()).rules(
            max_lyric_tokens=int(entry.sizes["lyric_max_len"]), max_seconds=entry.max_seconds
        )
    if entry is not None and not Path(name).is_dir():
        return TextRules(
            version="v1" if entry.version == "v1" else "v2",
            max_lyric_tokens=int(entry.sizes["lyric_max_len"]),
            max_description_tokens=int(entry.sizes["description_max_len"]),
            max_seconds=entry.max_seconds,
        )
    return catalog.load_model(name, device="cpu", memory="low").text_rules


def check_file(
    path: Path,
    rules: TextRules,
    fix_to: Path | None = None,
    *,
    default_generate_type: GenerateType = "mixed",
) -> Report:
    """Check a file of requests against a model's text rules.

    Args:
        fix_to: write every good line there, its texts mended and all else kept; bad lines are left out.
        default_generate_type: what the run makes of a line that does not say.

    Raises:
        FileNotFoundError, ValueError, OSError: the file cannot be read, or `fix_to` not be written.
    """
    if fix_to is not None and fix_to.resolve() == path.resolve():
        raise ValueError(f"--fix {fix_to} is the file itself: write the mended copy to another one")
    read = read_requests(path, default_generate_type=default_generate_type)
    checked = []
    for request in read.requests:
        findings = lint_request(request, rules, default_generate_type=default_generate_type)
        mended = mend_request(request, rules, default_generate_type=default_generate_type)
        checked.append(CheckedRequest(request, findings, mended))
    if fix_to is not None:
        lines = [json.dumps(mended_source(item), ensure_ascii=False) + "\n" for item in checked]
        write_together({fix_to: "".join(lines).encode("utf-8")})
    return Report(path, checked, read.bad_lines, fix_to)


def mended_source(checked: CheckedRequest) -> dict[str, Any]:
    """The line as given, with the mended texts under the names its own keys have."""
    source, names = dict(checked.request.source), given_keys(checked.request.source)
    if checked.mended.lyrics != checked.request.lyrics:
        source[names["gt_lyric"]] = checked.mended.lyrics
    if checked.mended.descriptions != checked.request.descriptions:
        name, text = names["descriptions"], checked.mended.descriptions
        source[name] = (text or "").split(", ") if isinstance(source[name], list) else text
    return source


def render(report: Report) -> list[str]:
    """The report as lines of text, in the order of the file, the summary last."""
    blocks = [(bad.line, [str(bad)]) for bad in report.bad_lines]
    blocks += [(item.request.line, _render_request(report.path, item)) for item in report.checked]
    lines = [line for _, block in sorted(blocks) for line in block]
    return [*lines, *_summary(report)]


def run(
    path: Path,
    fix_to: Path | None,
    rules: TextRules,
    write: Callable[[str], None],
    *,
    default_generate_type: GenerateType = "mixed",
) -> int:
    """Check a file and write the report line by line.

    Returns:
        The exit status: 0 nothing to mend, 1 something to mend, 2 the file not read or the copy not written.
    """
    try:
        report = check_file(path, rules, fix_to, default_generate_type=default_generate_type)
    except (ValueError, OSError) as error:
        write(f"songgen check: {error}")
        return 2
    for line in render(report):
        write(line)
    return 0 if report.is_clean else 1


def _render_request(path: Path, checked: CheckedRequest) -> list[str]:
    """The findings of one request, and its texts as they would be after mending."""
    where = f"{path}: line {checked.request.line}: {checked.request.idx}: "
    lines = []
    for finding in checked.findings:
        lines.append(f"{where}{finding}")
        if finding.mended is not None:
            lines.append(f"    {'mended' if finding.safe else 'suggested'}: {finding.mended}")
    if checked.mended.lyrics != checked.request.lyrics:
        lines.append(f"{where}mended lyrics: {checked.mended.lyrics}")
    if checked.mended.descriptions != checked.request.descriptions:
        lines.append(f"{where}mended descriptions: {checked.mended.descriptions or '(none)'}")
    return lines


def _summary(report: Report) -> list[str]:
    """How much there is to mend, and what became of it."""
    findings = [finding for checked in report.checked for finding in checked.findings]
    hints = sum(finding.severity == "hint" for finding in findings)
    safe = sum(finding.safe for finding in findings)
    by_hand = len(findings) - hints - safe
    counts = [
        _count(len(report.checked), "good line"),
        _count(len(report.bad_lines), "bad line"),
        f"{safe} to mend by itself",
        f"{by_hand} to mend by hand",
        _count(hints, "hint"),
    ]
    lines = [f"{report.path}: {', '.join(counts)}"]
    if report.fix_to is not None:
        left_out = f"; {_count(len(report.bad_lines), 'bad line')} left out" if report.bad_lines else ""
        lines.append(f"{report.fix_to}: {_count(len(report.checked), 'line')} written, mended{left_out}")
    elif safe:
        lines.append("write a mended copy with --fix OUT")
    return lines


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
