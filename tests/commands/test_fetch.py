"""`songgen fetch` and `songgen models`: what is asked for, where it goes, one clear line for each failure."""

from __future__ import annotations

import errno
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import errors

from songgen.commands import fetch, models

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:616dbe27\nsize 14959842\n"
REPOSITORIES: dict[str, dict[str, bytes]] = {
    "lglg666/SongGeneration-base": {"config.yaml": b"a: 1\n", "model.pt": b"x" * 1000, "README.md": b"no"},
    "lglg666/SongGeneration-Runtime": {
        "ckpt/vae/vae.json": b"{}",
        "third_party/q/vocab.json": b"{}",
        "a.py": b"",
    },
}
COMMIT = "a" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as a download of small files asks for."""

    def log_message(self, *args: object) -> None: ...

    def do_HEAD(self) -> None:
        self.answer(False)

    def do_GET(self) -> None:
        self.answer(True)

    def answer(self, with_body: bool) -> None:
        path = self.path.partition("?")[0].strip("/").removeprefix("api/models/")
        files = REPOSITORIES.get("/".join(path.split("/")[:2]))
        headers = {"X-Repo-Commit": COMMIT}
        if files is None:
            status, body, headers["X-Error-Code"] = 404, b"", "RepoNotFound"
        elif "/resolve/" in path:
            status, body = 200, files[path.partition(f"/resolve/{COMMIT}/")[2]]
        elif "/tree/" in path:
            items = [{"type": "file", "path": name, "size": len(files[name]), "oid": name} for name in files]
            status, body = 200, json.dumps(items).encode()
        else:
            listing = {"id": "a/b", "sha": COMMIT, "siblings": [{"rfilename": name} for name in files]}
            status, body = 200, json.dumps(listing).encode()
        headers |= {"Content-Length": str(len(body)), "ETag": f'"{hashlib.sha1(body).hexdigest()}"'}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


@pytest.fixture
def hub() -> Iterator[str]:
    """The address of a local server that speaks like the hub."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_against(endpoint: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "0",
    }
    code = "import sys; from songgen.commands.fetch import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def test_a_model_and_its_runtime_are_downloaded(hub: str, here: Path) -> None:
    """Only what songgen needs comes, to where songgen looks; the next command is printed."""
    done = run_against(hub, here, "base", "--yes")
    assert done.returncode == 0, done.stderr
    files = {str(path.relative_to(here)) for path in here.rglob("*") if path.is_file()}
    kept = {path for path in files if ".cache" not in path and not path.startswith("hf")}
    assert kept == {
        "models/songgeneration_base/config.yaml",
        "models/songgeneration_base/model.pt",
        "models/runtime/ckpt/vae/vae.json",
        "models/runtime/third_party/q/vocab.json",
    }
    assert "academic" in done.stdout
    assert "sh generate.sh models/songgeneration_base sample/lyrics.jsonl output" in done.stdout


def test_the_runtime_alone(hub: str, here: Path) -> None:
    """The line that `find_runtime_file` prints must work."""
    done = run_against(hub, here, "runtime", "--yes", "--dir", "my models")
    assert done.returncode == 0, done.stderr
    assert (here / "my models" / "runtime" / "ckpt" / "vae" / "vae.json").is_file()
    assert "Ready" not in done.stdout


def test_a_moved_repository(hub: str, here: Path) -> None:
    done = run_against(hub, here, "large", "--yes")
    assert done.returncode == 1
    assert "lglg666/SongGeneration-large is not on the hub (any more), or is private" in done.stderr


def test_no_network(here: Path) -> None:
    """Nothing listens there: one line, no traceback."""
    done = run_against("http://127.0.0.1:9", here, "base", "--yes")
    assert done.returncode == 1
    assert "the hub could not be reached" in done.stderr and "Traceback" not in done.stderr


def hub_error(kind: type[errors.HfHubHTTPError]) -> errors.HfHubHTTPError:
    error = kind.__new__(kind)
    OSError.__init__(error, "500 Server Error\nRequest id 1")
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (hub_error(errors.GatedRepoError), "is gated: accept its terms"),
        (hub_error(errors.HfHubHTTPError), "the hub answered: "),
        (errors.OfflineModeIsEnabled("off"), "HF_HUB_OFFLINE=1"),
        (OSError(errno.ENOSPC, "No space left on device"), "no room left on the disk of "),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (TimeoutError("slow"), "could not be reached"),
        (RuntimeError("reset\nby peer"), "the download broke off: reset\n"),
    ],
)
def test_each_failure_is_one_clear_line(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    message: str,
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", broken)
    assert fetch.main(["base", "--yes"]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("songgen fetch: ") and said.count("\n") == 1


def test_ctrl_c_says_that_it_can_go_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(huggingface_hub, "snapshot_download", stopped)
    assert fetch.main(["base", "--yes"]) == 130
    assert "goes on where it stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("base", {"config.yaml": b"a: 1", "model.pt": POINTER}, "model.pt is a Git-LFS pointer"),
        ("base", {"config.yaml": b"a: 1"}, "no model.safetensors or model.pt"),
        ("runtime", {"ckpt/x": b"1"}, "did not bring third_party"),
    ],
)
def test_what_came_is_checked(
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    files: dict[str, bytes],
    message: str,
) -> None:
    """A repository that no longer holds the files must not end in `Ready`."""

    def bring(repository: str, local_dir: Path, **kwargs: object) -> None:
        for relative, content in files.items():
            path = local_dir / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", bring)
    assert fetch.main([name, "--yes"]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [("tiny", "built in"), ("bas", "did you mean base"), ("songbloom_full_150s", "cannot run it yet")],
)
def test_names_that_cannot_be_fetched(capsys: pytest.CaptureFixture[str], name: str, message: str) -> None:
    assert fetch.main([name, "--yes"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("answer", ["n", "", None])
def test_nothing_is_downloaded_without_a_yes(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], answer: str | None
) -> None:
    """The licence is shown first; an empty answer, or no terminal, means no."""

    def ask(prompt: str) -> str:
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("builtins.input", ask)
    assert fetch.main(["base"]) == 1
    said = capsys.readouterr()
    assert "licence: academic" in said.out and "nothing was downloaded" in said.err
    assert not (here / "models").exists()


def test_the_list_shows_what_is_on_disk(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = here / "models" / "songgeneration_large"
    folder.mkdir(parents=True)
    for name in ("config.yaml", "model.pt"):
        (folder / name).write_text("x")
    assert models.main([]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert str(folder) in lines["songgeneration_large"] and "22 / 28 GB" in lines["songgeneration_large"]
    assert lines["songgeneration_base"].endswith("-") and "2 min 30 s" in lines["songgeneration_base"]
    assert "noise" in lines["tiny"]
    assert "no weights were published" in lines["songgeneration_v1.5_large:"]
