"""A real Ray cluster of two workers on this machine: the songs of one process, also if a worker is killed."""

from __future__ import annotations

import builtins
import functools
import json
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from fake_model import FakeModel

from songgen.cli import main
from songgen.engine.cluster import Cluster
from songgen.engine.journal import Journal
from songgen.engine.run import record_all
from songgen.engine.settings import Engine, Output, Settings
from songgen.engine.spread import SpreadRun
from songgen.models.catalog import load_model
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

LYRICS = "[verse] One line of words."
PATIENCE_SECONDS = 120.0


@pytest.fixture(scope="module", autouse=True)
def quiet_ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ray keeps its token in a home of the test's and calls nobody; workers find songgen and this file."""
    tests = Path(__file__).resolve().parents[1]
    places = (tests.parent, tests, tests / "engine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", os.pathsep.join(map(str, places)))
        yield


@pytest.fixture(scope="module")
def running_ray(quiet_ray: None) -> Iterator[None]:
    """A cluster that outlives the runs on it."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level=logging.WARNING)
    yield
    ray.shutdown()


def signed(folder: Path, load: Any) -> Any:
    """Load a model, and leave the number of the process in a folder."""
    (folder / str(os.getpid())).touch()
    return load()


def kill_self(model: Any) -> None:
    """As a driver's fault or the system's memory killer would."""
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_mid_song(signatures: Path, records: Path) -> None:
    """Once the first song is recorded, kill the worker that loaded first; it has songs that wait.

    It is not waited for the other one: on a busy machine that loaded when the first had made all songs.
    """
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        loaded = sorted(signatures.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        if loaded and records.exists() and records.read_bytes().count(b"\n"):
            os.kill(int(loaded[0].name), signal.SIGKILL)
            return
        time.sleep(0.05)


def made_in(folder: Path) -> dict[str, bytes]:
    """The files of the songs of a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for kind in ("audio", "tokens")
        for path in (folder / kind).iterdir()
    }


def facts_in(folder: Path) -> list[tuple[Any, ...]]:
    """What the records say of how songs came out, each song once."""
    keys = ("name", "status", "kept", "seed", "frames", "lm_score", "fingerprint", "paths")
    records = map(json.loads, (folder / "jsonl" / "in.jsonl").read_text().splitlines())
    return sorted(
        (tuple(record.get(key) for key in keys) for record in records), key=lambda facts: str(facts)
    )


@pytest.mark.slow
@pytest.mark.parametrize(("keep", "number", "takes"), [("all", 7, 1), ("best", 4, 2)])
def test_two_workers_make_the_songs_of_one_process_also_if_one_is_killed(
    tmp_path: Path,
    tiny_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    keep: str,
    number: int,
    takes: int,
) -> None:
    rows = [
        {"idx": f"s{i}", "gt_lyric": LYRICS, "max_seconds": 1, "num_samples": takes} for i in range(number)
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    signatures = tmp_path / "signatures"
    signatures.mkdir()

    def generate(out: str, *words: str) -> int:
        given = [f"model={tiny_folder}", f"input={tmp_path / 'in.jsonl'}", f"output.dir={tmp_path / out}"]
        return main(
            ["generate", *given, "device=cpu", "seed=7", f"keep={keep}", "output.tokens=true", *words]
        )

    load = functools.partial(load_model, str(tiny_folder), device="cpu")
    monkeypatch.setattr(
        "songgen.commands.generate.loader",
        lambda loading, **sizes: functools.partial(signed, signatures, load),
    )
    records = tmp_path / "two" / "jsonl" / "in.jsonl"
    killer = threading.Thread(target=kill_in_mid_song, args=(signatures, records))
    killer.start()
    status = generate("two", "engine=ray", "engine.workers=2")
    killer.join()
    err = capsys.readouterr().err
    assert status == 0, err
    assert "is replaced" in err and "; workers: 2" in err
    assert not ray.is_initialized()
    assert generate("one") == 0
    one, two = (made_in(tmp_path / out) for out in ("one", "two"))
    assert one == two and len(one) == 2 * number
    assert facts_in(tmp_path / "one") == facts_in(tmp_path / "two")
    assert generate("two", "engine=local") == 0
    assert f"{number * takes} there already" in capsys.readouterr().out


@pytest.mark.slow
def test_a_song_that_kills_its_workers_is_recorded_and_the_others_are_made(
    tmp_path: Path, running_ray: None
) -> None:
    faults: dict[tuple[str, str], Any] = {("compose", "deadly"): kill_self}
    load = functools.partial(signed, tmp_path, functools.partial(FakeModel, batch=2, faults=faults))
    requests = [SongRequest(name, LYRICS) for name in ("a", "b", "deadly", "c", "d", "e")]
    requests.append(SongRequest("clip", LYRICS, prompt_audio_path=str(tmp_path / "none.wav")))
    settings = Settings(Sampling(), 7)
    with (
        Cluster(Engine("ray", workers=2), load, device="cpu") as cluster,
        Journal(Output(tmp_path / "out"), "songs") as journal,
    ):
        model = cluster.model
        run = SpreadRun(cluster, settings, is_done=lambda plan: journal.is_done(plan, model))
        ended = {r["name"]: r for _, r in record_all(run.songs(requests), journal, model, 7) if r}
    assert ray.is_initialized()
    failed = {name: record["error"] for name, record in ended.items() if record["status"] == "failed"}
    assert failed.keys() == {"deadly", "clip"} and len(ended) == 7
    assert failed["deadly"].startswith(
        "WorkerLost: it was tried 3 times, and each time its worker was lost; "
    )
    assert ended["deadly"]["stage"] == "cluster"
    assert failed["clip"].startswith("FileNotFoundError: ")


@pytest.mark.slow
def test_what_loading_raises_is_the_runs_own_error(running_ray: None) -> None:
    wrong = functools.partial(load_model, "no-such-model", device="cpu")
    with (
        pytest.raises(ValueError, match="model 'no-such-model' is neither a folder nor a name") as caught,
        Cluster(Engine("ray", workers=2), wrong, device="cpu"),
    ):
        pass
    assert type(caught.value) is ValueError


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_ray(name: str, *args: Any, **options: Any) -> Any:
        if name == "ray":
            raise ImportError("No module named 'ray'")
        return imported(name, *args, **options)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", no_ray)
    with (
        pytest.raises(ImportError, match=r"engine=ray needs Ray: pip install 'songgen\[ray\]'"),
        Cluster(Engine("ray"), FakeModel),
    ):
        pass


def test_an_address_where_nothing_listens_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray alone would try for two minutes."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # not listening
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with (
            pytest.raises(ConnectionError, match=rf"engine\.address={address}: .* \(.*refused.*\)"),
            Cluster(Engine("ray", address), FakeModel),
        ):
            pass


def test_an_address_where_no_cluster_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(address: str, **options: Any) -> None:
        raise ConnectionError(f"Could not find any running Ray instance at {address}.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", init)
    with (
        pytest.raises(ConnectionError, match=r"engine\.address=auto: no Ray cluster can be joined there"),
        Cluster(Engine("ray", "auto"), FakeModel),
    ):
        pass
