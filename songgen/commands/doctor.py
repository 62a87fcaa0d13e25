"""`songgen doctor`: what this machine has, which checkpoints are whole, what fits, and the line to type.

    songgen doctor [model=NAME] [key=value ...]

Nothing is loaded and nothing downloaded: weight files are judged by head, tail and size.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence

import songgen
from songgen.commands import packages

CAN_RUN, CANNOT_RUN = 0, 1


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns 0, or 1 if songs could not be made, of the named model or at all.

    Raises:
        ConfigError: a setting that is not allowed.
    """
    software = [
        f"  songgen {songgen.__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}"
    ]
    missing = packages.missing_packages()
    if missing:  # nothing below can even be imported
        _print_section("Machine", software)
        _print_section("Packages", packages.about_packages())
        _print_section("To type", [f"  {packages.INSTALL}"])
        return CANNOT_RUN
    if any(word in ("-h", "--help") for word in argv):
        _parser().print_help()
        return CAN_RUN
    return _examine(argv, software)


def _examine(argv: Sequence[str], software: list[str]) -> int:
    from songgen.commands import machine
    from songgen.commands.examination import Examination, about, attention_problems, name_of
    from songgen.config import doctor_config
    from songgen.runtime.device import choose_device

    config, problems = doctor_config(argv), []
    try:
        device = choose_device(config.device)
    except ValueError as error:
        problems.append(str(error))
        device = choose_device("auto")
    problems += attention_problems(config.attention, device)
    examination = Examination(config, device)
    patients, not_found = examination.patients()
    problems += not_found
    if config.model:
        problems += [fault for patient in patients for fault in patient.inspection.faults]
    _print_section("Machine", [*software, f"  {machine.about_pytorch()}"])
    _print_section("Devices (* is the one that songs would be made on)", machine.about_devices(device))
    _print_section(f"Attention on {device}", machine.about_attention(device))
    _print_section("Packages", packages.about_packages())
    lines = [line for patient in patients for line in about(patient)]
    _print_section("Checkpoints", lines or ["  none found"])
    _print_section(
        f"What fits, by the catalogue ({device}, {name_of(examination.dtype)})", examination.about_fit()
    )
    if problems:
        _print_section("Problems", [f"  {line}" for problem in problems for line in problem.split("\n")])
    _print_section("To type", [f"  {line}" for line in examination.lines(patients, is_well=not problems)])
    return CANNOT_RUN if problems else CAN_RUN


def _print_section(title: str, lines: Sequence[str]) -> None:
    print("\n".join([title, *lines, ""]))


def _parser() -> argparse.ArgumentParser:
    from songgen.commands.songs import help_on
    from songgen.config_tree import describe

    return argparse.ArgumentParser(
        prog="songgen doctor",
        usage="songgen doctor [model=NAME] [key=value ...]",
        description="Say what this machine has, which checkpoints are there and whole, what fits, and what "
        "to type. Loads and downloads nothing.",
        epilog=f"settings and their defaults:\n{help_on(describe('doctor'))}\n\n"
        "exit status: 0 songs can be made, 1 the named model could not run, or nothing could; "
        "2 a setting is not allowed",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
