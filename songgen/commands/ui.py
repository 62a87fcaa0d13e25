"""`songgen ui`: a page that makes songs, served from this machine.

songgen ui model=tiny ui.port=7860 [key=value ...]
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING

from songgen.commands.songs import ALL_MADE, check_output, help_on, load
from songgen.config import UiConfig, ui_config
from songgen.config_tree import describe

if TYPE_CHECKING:
    from songgen.ui.server import PageServer

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main(argv: Sequence[str]) -> int:
    """Serve the page until Ctrl-C or SIGTERM. Returns 0.

    Raises:
        ValueError, OSError: nothing could start.
    """
    if any(word in ("-h", "--help") for word in argv):
        _parser().print_help()
        return ALL_MADE
    config = ui_config(argv)
    if config.verbose:
        logging.getLogger("songgen").setLevel(logging.DEBUG)
    check_output(config.output)
    if importlib.util.find_spec("gradio") is None:
        raise ValueError(
            "the page needs Gradio, which is not installed: pip install 'songgen[ui]', "
            "or start it with `sh tools/gradio/run.sh CKPT`"
        )
    return _serve(config)


def _serve(config: UiConfig) -> int:
    from songgen.ui.server import PageServer

    model = load(config.loading)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with PageServer(model, config) as server:
            _show(server, config)
            with suppress(KeyboardInterrupt):
                server.wait()
            print("songgen: closing the page; what is under way is cancelled", file=sys.stderr)
    except KeyboardInterrupt:
        print("songgen: closed before the page was there", file=sys.stderr)
    finally:
        signal.signal(signal.SIGTERM, before)
    return ALL_MADE


def _show(server: PageServer, config: UiConfig) -> None:
    """Say where the page is, and who can reach it."""
    print(f"Page:    {server.url}")
    if server.share_url:
        print(f"Public:  {server.share_url} (anybody who knows it can use this page)")
    elif config.share:
        print("songgen: ui.share=true: no public address could be opened", file=sys.stderr)
    if config.host not in LOOPBACK:
        print(f"songgen: whoever reaches {config.host} can use this page", file=sys.stderr)
    print(f"Songs:   {config.output.dir / 'audio'}")
    print("Ctrl-C ends it.", flush=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        prog="songgen ui",
        usage="songgen ui model=MODEL [output.dir=OUT] [ui.port=7860] [key=value ...]",
        description="Serve a page that makes songs: lyrics checked as one types, a queue, players, "
        "the songs of a folder. It listens on this machine alone unless told otherwise.",
        epilog=f"settings and their defaults:\n{help_on(describe('ui'))}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
