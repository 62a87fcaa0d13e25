"""Run recorded cases of the published systems through songgen's own modules and compare tensor by tensor.

    python tools/parity.py CASE_DIR...

Each CASE_DIR is one recorded case (`case.json` with a `kind`, tensors in safetensors files). Prints per
tensor the largest absolute error, the largest error relative to the largest expected value, the tolerance,
and ok or not. Exit status: 0 all within tolerance, 1 something out of tolerance, 2 a folder that could not be
run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from parity_cases import RUNNERS, Case, Check, left_out


def run_case(case_dir: Path, *, tokenizer: Path | None = None) -> list[Check]:
    """Run one case folder; what is recorded in it and was not compared fails.

    Raises:
        FileNotFoundError, ValueError: it is not a case that songgen knows.
    """
    case = Case(case_dir, tokenizer=tokenizer)
    if case.kind not in RUNNERS:
        raise ValueError(f"{case_dir}: unknown kind {case.kind!r}; known kinds: {', '.join(sorted(RUNNERS))}")
    with torch.inference_mode():
        checks = list(RUNNERS[case.kind](case))
    return [*checks, *left_out(case, checks)]


def reason_of(error: Exception) -> str:
    """Why a case could not be run, for one line."""
    if isinstance(error, KeyError):
        return f"case.json lacks {error}"
    is_told = isinstance(error, (FileNotFoundError, ValueError))
    return str(error) if is_told else f"{type(error).__name__}: {error}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases named on the command line and print the comparison."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("case_dirs", nargs="+", type=Path, metavar="CASE_DIR")
    parser.add_argument(
        "--quiet", action="store_true", help="print only what is out of tolerance, and totals"
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="DIR",
        help="the published Qwen2 vocabulary, for the tokenization case",
    )
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # with two a stem that is rounded to 16 bits came out one step off
    status = 0
    for case_dir in args.case_dirs:
        try:
            checks = run_case(case_dir, tokenizer=args.tokenizer)
        except Exception as error:  # the other cases are still run
            print(f"== {case_dir}: cannot run: {reason_of(error)}")
            status = 2
            continue
        bad = [check for check in checks if not check.ok]
        print(f"== {case_dir}: {len(checks) - len(bad)} of {len(checks)} ok")
        for check in bad if args.quiet else checks:
            print("   " + check.line())
        if bad or not checks:
            status = max(status, 1)
    return status


if __name__ == "__main__":
    sys.exit(main())
