"""`songgen ui`: what it prints, what it refuses to start, and how it ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_model import FakeModel

from songgen.cli import main

CODE = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
sys.path.insert(0, {tests!r})
from fake_model import FakeModel
import songgen.models.catalog
songgen.models.catalog.load_model = lambda name, **options: FakeModel()
from songgen.cli import main
sys.exit(main({words!r}))
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def running(tmp_path: Path, repository: Path) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, with a temporary folder of its own, up to the line `Ctrl-C`."""
    words = ["ui", "model=fake", f"output.dir={tmp_path / 'out'}", f"ui.port={free_port()}"]
    code = CODE.format(tests=str(repository / "tests"), words=words)
    (tmp_path / "temporary").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=repository,
        env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path / "temporary"), "HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_end(
    running: subprocess.Popen[str], tmp_path: Path, number: signal.Signals
) -> None:
    """Either way it is no error, and its temporary folder is gone."""
    assert running.stdout is not None
    lines = []
    while "Ctrl-C ends it." not in lines and running.poll() is None:
        lines.append(running.stdout.readline().strip())
    assert lines[0].startswith("Page:    http://127.0.0.1:"), lines
    assert lines[1:] == [f"Songs:   {tmp_path / 'out' / 'audio'}", "Ctrl-C ends it."]
    address = lines[0].split()[1]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    assert b"songgen" in opener.open(address, timeout=20).read()
    assert list((tmp_path / "temporary").glob("songgen-page-*"))
    running.send_signal(number)
    _, error = running.communicate(timeout=60)
    assert running.returncode == 0
    assert "closing the page" in error and "Traceback" not in error
    assert not list((tmp_path / "temporary").glob("songgen-page-*"))


def test_without_gradio_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["ui", "model=tiny"]) == 2
    assert "pip install 'songgen[ui]'" in capsys.readouterr().err
    assert main(["ui", "model=tiny", "output.plot=true"]) == 2
    assert "pip install 'songgen[plot]'" in capsys.readouterr().err


def test_a_model_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ui"]) == 2
    assert "model is not given: model=tiny" in capsys.readouterr().err


def test_a_wider_address_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("songgen.models.catalog.load_model", lambda name, **options: FakeModel())
    monkeypatch.setattr("songgen.ui.server.PageServer.wait", lambda server: None)
    words = ["ui", "model=x", f"output.dir={tmp_path}", f"ui.port={free_port()}", "ui.host=0.0.0.0"]
    assert main(words) == 0
    assert "whoever reaches 0.0.0.0 can use this page" in capsys.readouterr().err
