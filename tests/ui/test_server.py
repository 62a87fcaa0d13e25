"""The server: where it listens, what it serves, what it refuses, and what it leaves behind."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fake_audio import music
from fake_model import FakeModel

from songgen.audio import Audio, encode_audio
from songgen.config import ui_config
from songgen.ui.form import Form
from songgen.ui.server import PageServer

pytestmark = pytest.mark.filterwarnings("ignore:::gradio")

LYRICS = "[verse] One line of words."
WAV = encode_audio(Audio(music(0.2), 48000))[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_of(folder: Path, model: Any = None, *settings: str) -> PageServer:
    given = ["model=x", f"output.dir={folder}", f"ui.port={free_port()}", "ui.max_upload_mb=1", *settings]
    return PageServer(model or FakeModel(), ui_config(given))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PageServer]:
    """A page with one song in its folder."""
    with server_of(tmp_path_factory.mktemp("out")) as running:
        running.desk.queue.wait(running.desk.add(Form(lyrics=LYRICS, seed="5")).view.number, 20)
        yield running


def get(server: PageServer, path: str) -> httpx.Response:
    return httpx.get(f"{server.url}{path}", trust_env=False)


def upload(server: PageServer, name: str, data: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}gradio_api/upload", files={"files": (name, data)}, trust_env=False)


def send(server: PageServer, label: str, values: dict[str, Any]) -> dict[str, Any]:
    """Fire the first event of a component as a browser would; other inputs have their first value.

    Returns:
        The message of the end of the event.
    """
    config = get(server, "config").json()
    parts = {part["id"]: part["props"] for part in config["components"]}
    wanted = {props.get("elem_id"): number for number, props in parts.items()}
    event = next(
        item
        for item in config["dependencies"]
        if item["targets"][0][0] == wanted[label] and item["backend_fn"]
    )
    by_part = {wanted[name]: value for name, value in values.items()}
    data = [by_part.get(number, parts[number].get("value")) for number in event["inputs"]]
    body = {"data": data, "fn_index": event["id"], "session_hash": "s", "trigger_id": wanted[label]}
    httpx.post(f"{server.url}gradio_api/queue/join", json=body, trust_env=False).raise_for_status()
    with httpx.stream(
        "GET", f"{server.url}gradio_api/queue/data?session_hash=s", timeout=20, trust_env=False
    ) as stream:
        for line in stream.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line.startswith("data: ") else {}
            if message.get("msg") == "process_completed":
                return dict(message)
    raise AssertionError("the event did not end")


def test_it_listens_on_this_machine_alone(server: PageServer) -> None:
    assert server.config.host == "127.0.0.1" and not server.config.share and server.share_url is None
    assert server.url == f"http://127.0.0.1:{server.config.port}/"


def test_the_page_asks_for_nothing_from_elsewhere(server: PageServer) -> None:
    """No script, style, font or picture of another machine; links that a reader may follow are no request."""
    page = get(server, "").text
    asked = re.findall(r"<(?:script|link|img|iframe)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"", page)
    assert asked and not [address for address in asked if re.match(r"(?:[a-z]+:)?//", address)]
    sheet = get(server, "theme.css").text
    assert not re.findall(r"url\(['\"]?(?:https?:)?//", sheet)
    config = get(server, "config").json()
    assert config["analytics_enabled"] is False


def test_the_audio_is_served_and_nothing_else_of_the_machine(server: PageServer, tmp_path: Path) -> None:
    folder = server.config.output.dir
    song = folder / "audio" / "song.wav"
    assert get(server, f"gradio_api/file={song}").content == song.read_bytes()
    secret = tmp_path / "secret.wav"
    secret.write_bytes(WAV)
    refused = [
        "/etc/passwd", secret, folder / "jsonl" / "page.jsonl", f"{folder}/audio/../jsonl/page.jsonl",
        Path(__file__), "http://127.0.0.1:1/a.wav", "https://example.org/a.wav",
    ]  # fmt: skip
    for path in refused:
        assert get(server, f"gradio_api/file={path}").status_code == 403, path


def test_uploads_are_limited_in_size(server: PageServer) -> None:
    assert upload(server, "a.wav", WAV).status_code == 200
    assert upload(server, "a.wav", b"0" * 1_000_001).status_code == 413


def test_an_upload_becomes_the_prompt(server: PageServer) -> None:
    path = upload(server, "a b.wav", WAV).json()[0]
    assert Path(path).is_relative_to(server.temporary)
    clip = {"path": path, "meta": {"_type": "gradio.FileData"}}
    ended = send(server, "sg-make", {"sg-lyrics": LYRICS, "sg-clip": clip, "sg-name": "clip"})
    assert ended["success"] and "clip is in the queue" in json.dumps(ended["output"])
    server.desk.queue.wait(server.desk.queue.views()[-1].number, 20)
    song = server.desk.history.find("clip")
    assert song is not None and song.record["request"]["prompt_audio_path"].startswith(str(server.temporary))


def test_an_upload_of_another_type_is_refused(server: PageServer) -> None:
    for name, data in (("a.html", WAV), ("a.wav", b"<script>")):
        path = upload(server, name, data).json()[0]
        clip = {"path": path, "meta": {"_type": "gradio.FileData"}}
        ended = send(server, "sg-make", {"sg-lyrics": LYRICS, "sg-clip": clip})
        assert "sg-bad" in json.dumps(ended["output"]), name


def test_no_path_or_address_of_a_client_is_opened(server: PageServer, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(WAV)
    before = server.desk.queue.views()
    traversal = f"{server.temporary}/../{tmp_path.name}/secret.wav"
    for place in ("/etc/passwd", str(secret), traversal, "http://127.0.0.1:1/a.wav"):
        clip = {"path": place, "meta": {"_type": "gradio.FileData"}}
        ended = send(server, "sg-make", {"sg-lyrics": LYRICS, "sg-clip": clip})
        assert not ended["success"], place
    assert server.desk.queue.views() == before


def test_the_notice_of_a_noise_maker(server: PageServer, tmp_path: Path) -> None:
    assert "makes noise, not music" not in get(server, "config").text
    with server_of(tmp_path, FakeModel(name="tiny")) as noisy:
        assert "makes noise, not music" in get(noisy, "config").text


def test_a_page_leaves_nothing_behind(tmp_path: Path) -> None:
    before = dict(os.environ)
    with server_of(tmp_path) as running:
        upload(running, "a.wav", WAV)
        assert list(running.temporary.rglob("a.wav"))
    assert not running.temporary.exists()
    assert dict(os.environ) == before
    with pytest.raises(httpx.ConnectError):
        get(running, "")


def test_a_port_in_use_is_a_clear_error(server: PageServer, tmp_path: Path) -> None:
    port = server.config.port
    with (
        pytest.raises(OSError, match=rf"ui\.port={port}: cannot listen there .*ui\.port=7861"),
        server_of(tmp_path, None, f"ui.port={port}"),
    ):
        pass
