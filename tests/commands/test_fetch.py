"""`songgen fetch`: what is shown and asked, where it goes, going on, and one clear line for each failure."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub

from songgen.commands import fetch, hub
from songgen.models import catalog

MODEL, RUNTIME = "lglg666/SongGeneration-base", "lglg666/SongGeneration-Runtime"
BLOOM = "CypressYang/SongBloom"
VAE, VAE_JSON, VOCABULARY = (
    "autoencoder_music_dsp1920.ckpt",
    "stable_audio_1920_vae.json",
    "vocab_g2p.yaml",
)


def repositories() -> dict[str, dict[str, bytes]]:
    """What the local hub holds."""
    noise = random.Random(0).randbytes
    return {
        MODEL: {"config.yaml": b"a: 1\n", "model.pt": noise(3000), "README.md": b"no"},
        RUNTIME: {"ckpt/vae/vae.json": b"{}", "third_party/q/vocab.json": b"{}", "a.py": b""},
        BLOOM: {
            "songbloom_full_150s.yaml": b"a: 1\n",
            "songbloom_full_150s.pt": noise(2000),
            VAE: noise(900),
            VAE_JSON: b"{}",
            VOCABULARY: b"[]\n",
        },
        "CypressYang/SongBloom_long": {
            "songbloom_full_240s.yaml": b"a: 2\n",
            "songbloom_full_240s.pt": noise(700),
        },
    }


@pytest.fixture
def server() -> Iterator[FakeHub]:
    """A local server that speaks like the hub."""
    with FakeHub(repositories()).serve() as served:
        yield served


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(endpoint: str, folder: Path, *arguments: str) -> subprocess.Popen[str]:
    environment = {
        **os.environ,
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "127.0.0.1",
    }
    code = "import sys; from songgen.commands.fetch import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_against(endpoint: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = start(endpoint, folder, *arguments)
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def brought(folder: Path) -> set[str]:
    """Every file of the download, part files included."""
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {path for path in files if not path.startswith("hf")}


def test_a_model_and_its_runtime_are_downloaded(server: FakeHub, here: Path) -> None:
    """Only what songgen needs comes, to where songgen looks; size, licence and the next command are shown."""
    done = run_against(server.endpoint, here, "base", "--yes")
    assert done.returncode == 0, done.stderr
    assert brought(here) == {
        "models/songgeneration_base/config.yaml",
        "models/songgeneration_base/model.pt",
        "models/runtime/ckpt/vae/vae.json",
        "models/runtime/third_party/q/vocab.json",
    }
    content = (here / "models/songgeneration_base/model.pt").read_bytes()
    assert content == server.repositories[MODEL]["model.pt"]
    assert "size: 3.0 kB in 2 files; 3.0 kB to download" in done.stdout
    assert "licence: academic" in done.stdout
    assert done.stdout.endswith(
        "Ready: songgen generate model=models/songgeneration_base input=lyrics.jsonl output.dir=output\n"
    )
    assert done.stderr == ""


def test_the_last_line_is_the_checkout_s_own_command_there(server: FakeHub, here: Path) -> None:
    (here / "generate.sh").write_text("")
    done = run_against(server.endpoint, here, "base", "--yes", "--dir", "my models")
    assert done.stdout.endswith(
        "Ready: sh generate.sh 'my models/songgeneration_base' sample/lyrics.jsonl output\n"
    )


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("songbloom_full_150s", ["songbloom_full_150s.yaml", "songbloom_full_150s.pt"]),
        ("songbloom-240s", ["songbloom_full_240s.yaml", "songbloom_full_240s.pt"]),
    ],
)
def test_another_family_brings_its_own_shared_files(
    server: FakeHub, here: Path, name: str, files: list[str]
) -> None:
    """The shared files of SongBloom lie in a repository of its models, and go to their own folder."""
    done = run_against(server.endpoint, here, name, "--yes")
    assert done.returncode == 0, done.stderr
    folder = files[0].removesuffix(".yaml")
    shared = {f"models/songbloom_runtime/{file}" for file in (VAE, VAE_JSON, VOCABULARY)}
    assert brought(here) == {f"models/{folder}/{file}" for file in files} | shared


@pytest.mark.parametrize(("name", "file"), [("runtime", "ckpt/vae/vae.json"), ("songbloom_runtime", VAE)])
def test_the_runtime_alone(server: FakeHub, here: Path, name: str, file: str) -> None:
    """The line that `find_runtime_file` prints must work."""
    done = run_against(server.endpoint, here, name, "--yes", "--dir", "my models")
    assert done.returncode == 0, done.stderr
    assert (here / "my models" / name / file).is_file()
    assert "Ready" not in done.stdout and done.stdout.endswith(f"{name} is complete\n")


def test_again_it_checks_and_downloads_only_what_is_damaged(server: FakeHub, here: Path) -> None:
    """Equal size is not enough: the hash tells. Nothing to download is nothing to ask."""
    assert run_against(server.endpoint, here, "base", "--yes").returncode == 0
    server.requests.clear()
    done = run_against(server.endpoint, here, "base")
    assert done.returncode == 0 and "all there already" in done.stdout
    assert not [path for _, path, _ in server.requests if "resolve" in path]
    model = here / "models/songgeneration_base/model.pt"
    model.write_bytes(bytes(model.stat().st_size))
    (here / "models/songgeneration_base/config.yaml").write_text("b: 2\n")
    assert run_against(server.endpoint, here, "base").returncode == 0
    assert model.read_bytes() == server.repositories[MODEL]["model.pt"]
    assert (here / "models/songgeneration_base/config.yaml").read_text() == "a: 1\n"


def test_a_pointer_of_a_clone_without_git_lfs_is_replaced(server: FakeHub, here: Path) -> None:
    folder = here / "models/songgeneration_base"
    folder.mkdir(parents=True)
    (folder / "model.pt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3000\n")
    assert run_against(server.endpoint, here, "base", "--yes").returncode == 0
    assert (folder / "model.pt").read_bytes() == server.repositories[MODEL]["model.pt"]


def test_a_killed_download_goes_on_where_it_was(server: FakeHub, here: Path) -> None:
    """The hub's own client throws a broken part away: after a kill, ten gigabytes would start again."""
    content = random.Random(1).randbytes(25 << 20)
    server.repositories[MODEL]["model.pt"] = content
    server.stall["model.pt"] = 22 << 20
    folder = here / "models/songgeneration_base"
    process = start(server.endpoint, here, "base", "--yes")
    deadline = time.monotonic() + 30
    while sum(part.stat().st_size for part in folder.glob(".model.pt.*.part")) < 10 << 20:
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    server.stall.clear()
    server.requests.clear()
    done = run_against(server.endpoint, here, "base", "--yes")
    assert done.returncode == 0, done.stderr
    (first,) = server.sent("model.pt")
    assert 10 << 20 <= first < 25 << 20 and "going on after" in done.stdout
    assert (folder / "model.pt").read_bytes() == content
    assert not list(folder.glob(".*"))


def test_a_connection_that_is_cut_is_taken_up_again(server: FakeHub, here: Path) -> None:
    content = random.Random(2).randbytes(24 << 20)
    server.repositories[MODEL]["model.pt"] = content
    server.cut["model.pt"] = 15 << 20
    done = run_against(server.endpoint, here, "base", "--yes")
    assert done.returncode == 0, done.stderr
    assert len(server.sent("model.pt")) > 1 and server.sent("model.pt")[1] > 0
    assert (here / "models/songgeneration_base/model.pt").read_bytes() == content


def test_a_damaged_file_is_not_kept(server: FakeHub, here: Path) -> None:
    server.corrupt.add("model.pt")
    done = run_against(server.endpoint, here, "base", "--yes")
    assert done.returncode == 1
    assert (
        done.stderr
        == f"songgen fetch: {MODEL}: model.pt came damaged and was removed; run the same line again\n"
    )
    assert not any("model.pt" in path for path in brought(here))


def test_a_moved_repository_is_followed_and_said(server: FakeHub, here: Path) -> None:
    server.repositories["somebody/Renamed"] = server.repositories.pop(MODEL)
    server.moved[MODEL] = "somebody/Renamed"
    done = run_against(server.endpoint, here, "base", "--yes")
    assert done.returncode == 0, done.stderr
    assert "it has moved there: it is called somebody/Renamed now" in done.stdout


def one_line_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr.removeprefix("songgen fetch: ").rstrip()


def test_a_repository_that_is_gone(server: FakeHub, here: Path) -> None:
    done = run_against(server.endpoint, here, "large", "--yes")
    assert one_line_of(done) == "lglg666/SongGeneration-large is not on the hub (any more), or is private"


def test_a_gated_repository(server: FakeHub, here: Path) -> None:
    server.gated.add(MODEL)
    done = run_against(server.endpoint, here, "base", "--yes")
    assert "it is gated: its terms must have been accepted" in done.stdout
    assert one_line_of(done).startswith(
        f"{MODEL} is gated: accept its terms on its page of the hub and log in"
    )


def test_a_repository_with_another_layout(server: FakeHub, here: Path) -> None:
    """Said before anything is asked or downloaded."""
    del server.repositories[RUNTIME]["third_party/q/vocab.json"]
    said = one_line_of(run_against(server.endpoint, here, "runtime", "--yes"))
    assert said == f"{RUNTIME} holds no third_party/*; is it still the model's repository?"
    del server.repositories[MODEL]["model.pt"]
    server.repositories[RUNTIME]["third_party/q/vocab.json"] = b"{}"
    said = one_line_of(run_against(server.endpoint, here, "base", "--yes"))
    assert (
        said.startswith(f"{MODEL} did not bring what a checkpoint needs")
        and "no model.safetensors or" in said
    )


def test_a_file_name_that_would_leave_the_folder_is_refused(server: FakeHub, here: Path) -> None:
    server.repositories[RUNTIME]["ckpt/../../../x"] = b"evil"
    assert "would leave the folder" in one_line_of(run_against(server.endpoint, here, "runtime", "--yes"))


@pytest.mark.parametrize(
    ("listing", "message"),
    [((500, b""), "the hub answered: "), ((200, b"<html>"), "does not speak like the hub")],
)
def test_a_hub_that_is_not_well(
    server: FakeHub, here: Path, listing: tuple[int, bytes], message: str
) -> None:
    server.listing = listing
    assert message in one_line_of(run_against(server.endpoint, here, "base", "--yes"))


def test_no_network(here: Path) -> None:
    """Nothing listens there."""
    said = one_line_of(run_against("http://127.0.0.1:9", here, "base", "--yes"))
    assert said == f"{MODEL}: the hub could not be reached; is there a network?"


FILE = hub.HubFile("model.pt", 3000, None, "b" * 40)
LISTING = hub.Listing(MODEL, "a" * 40, False, (FILE,))


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that lists one file a repository."""
    monkeypatch.setattr(fetch, "list_files", lambda repository, patterns, needed: LISTING)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "no room left on the disk of "),
        (OSError(errno.EDQUOT, "Quota exceeded"), "no room left on the disk of "),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
        (TimeoutError("slow"), "the download broke off (slow); the same line goes on where it stopped"),
        (RuntimeError("reset\nby peer"), "the download broke off (reset); "),
    ],
)
def test_each_failure_is_one_clear_line(
    here: Path,
    listed: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    message: str,
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.file_download.http_get", broken)
    assert fetch.main(["base", "--yes"]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("songgen fetch: ") and said.count("\n") == 1


def test_the_hub_switched_off(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert fetch.main(["base", "--yes"]) == 1
    assert capsys.readouterr().err == "songgen fetch: the hub is switched off by HF_HUB_OFFLINE=1\n"


def test_a_disk_without_room_is_said_before_asking(
    here: Path, listed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The bytes that are there already are not counted."""
    usage = shutil.disk_usage(here)
    monkeypatch.setattr("songgen.commands.hub.shutil.disk_usage", lambda path: usage._replace(free=5000))
    assert fetch.main(["base"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(
        f"songgen fetch: not enough room on the disk of {here}: 6.0 kB to download, 5.0 kB free"
    )
    part = FILE.part_of(here / "models/songgeneration_base/model.pt")
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(2000))
    monkeypatch.setattr("builtins.input", lambda prompt: "n")
    assert fetch.main(["base"]) == 1
    assert "nothing was downloaded" in capsys.readouterr().err


def test_ctrl_c_says_that_it_can_go_on(
    here: Path, listed: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fetch, "download", stopped)
    assert fetch.main(["base", "--yes"]) == 130
    assert "goes on where it stopped" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tiny", "tiny is built in (noise, not music); there is nothing to download"),
        ("nano", "nano is built in"),
        ("bas", "did you mean base"),
        ("songbloom_full_15s", "did you mean songbloom-"),
        ("songgeneration_v1.5_base", "no weights were published"),
    ],
)
def test_names_that_cannot_be_fetched(capsys: pytest.CaptureFixture[str], name: str, message: str) -> None:
    assert fetch.main([name, "--yes"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("answer", ["n", "", None])
def test_nothing_is_downloaded_without_a_yes(
    here: Path,
    listed: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: str | None,
) -> None:
    """Size and licence are shown first; an empty answer, or no terminal, means no."""

    def ask(prompt: str) -> str:
        assert prompt == "Download 6.0 kB? [y/N] "
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("builtins.input", ask)
    assert fetch.main(["base"]) == 1
    said = capsys.readouterr()
    assert "size: 3.0 kB in 1 files" in said.out and "licence: academic" in said.out
    assert "nothing was downloaded" in said.err
    assert not (here / "models").exists()


def test_every_entry_says_where_its_shared_files_are() -> None:
    """What `fetch NAME` brings is decided by data: no entry may name shared files that are not described."""
    runtimes = catalog.runtime_entries()
    for entry in catalog.entries():
        both = fetch.wanted_entries(entry.name)
        assert both == (entry, runtimes[entry.runtime]) and both[1].family == entry.family


def test_sizes_are_readable() -> None:
    sizes = [hub.readable_size(size) for size in (0, 999, 1000, 14_959_842, 11_300_000_000)]
    assert sizes == ["0 bytes", "999 bytes", "1.0 kB", "15.0 MB", "11.3 GB"]
