"""`songgen render`: audio from saved tokens through the same engine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_model import FakeModel
from safetensors.torch import save_file

from songgen.cli import main
from songgen.commands.render import token_files
from songgen.engine.drafts import read_draft

ONES = {"tokens": torch.ones(3, 4, dtype=torch.int32)}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    fake = FakeModel()
    monkeypatch.setattr("songgen.models.catalog.load_model", lambda name, **options: fake)
    return fake


@pytest.fixture
def tokens(tmp_path: Path, model: FakeModel) -> Path:
    """A folder of tokens of two songs, `a` and `b`."""
    rows = [{"idx": idx, "gt_lyric": "[verse] One line.", "note": 1} for idx in "ab"]
    (tmp_path / "in.jsonl").write_text("\n".join(map(json.dumps, rows)))
    words = [
        f"input={tmp_path / 'in.jsonl'}",
        f"output.dir={tmp_path / 'one'}",
        "output.tokens=true",
        "seed=3",
    ]
    assert main(["generate", "model=fake", *words]) == 0
    model.events.clear()
    return tmp_path / "one" / "tokens"


def render(tmp_path: Path, *words: str) -> int:
    return main(["render", "model=fake", f"output.dir={tmp_path / 'two'}", *words])


def records(tmp_path: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for line in (tmp_path / "two" / "jsonl" / "render.jsonl").read_text().splitlines()
    ]


def test_a_folder_gives_the_same_audio_without_composing(
    tmp_path: Path, model: FakeModel, tokens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    assert render(tmp_path, str(tokens)) == 0
    for name in ("a.wav", "b.wav"):
        one, two = ((tmp_path / folder / "audio" / name).read_bytes() for folder in ("one", "two"))
        assert one == two
    assert model.names("compose") == [] and capsys.readouterr().out.startswith("Songs: 2 made, in")
    assert records(tmp_path)[0]["request"]["note"] == 1 and records(tmp_path)[0]["status"] == "ok"
    assert render(tmp_path, str(tokens)) == 0
    assert model.names("render") == ["a", "b"]


def test_other_stems_are_made_anew(tmp_path: Path, model: FakeModel, tokens: Path) -> None:
    file = str(tokens / "a.safetensors")
    assert render(tmp_path, file) == 0
    assert render(tmp_path, file, "generate_type=separate") == 0
    assert set(records(tmp_path)[-1]["paths"]) == {"mixed", "vocal", "bgm"}


def test_tokens_without_metadata_are_rendered_under_the_files_name(tmp_path: Path, model: FakeModel) -> None:
    save_file({"tokens": torch.randint(0, 9, (3, 4))}, tmp_path / "mine.safetensors")
    assert render(tmp_path, str(tmp_path / "mine.safetensors")) == 0
    assert (tmp_path / "two" / "audio" / "mine.wav").is_file()


def test_two_files_of_the_same_song_do_not_overwrite_each_other(
    tmp_path: Path, model: FakeModel, tokens: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "copy.safetensors").write_bytes((tokens / "a.safetensors").read_bytes())
    assert render(tmp_path, str(tokens / "a.safetensors"), str(tmp_path / "copy.safetensors")) == 1
    assert "its file tokens/a is that of a already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"codes": torch.zeros(3, 4, dtype=torch.int32)}, None, "has no key `tokens`, only codes"),
        ({"tokens": torch.zeros(3, 4)}, None, r"must be whole numbers .* not torch.float32 \[3, 4\]"),
        ({"tokens": torch.zeros(4, dtype=torch.int32)}, None, r"not torch.int32 \[4\]"),
        ({"tokens": torch.zeros(3, 0, dtype=torch.int32)}, None, r"not torch.int32 \[3, 0\]"),
        ({"tokens": -torch.ones(3, 4, dtype=torch.int32)}, None, "holds a negative id, -1"),
        (
            {**ONES, "latents": torch.zeros(4)},
            None,
            r"`latents` is torch.float32 \[4\], must be floats \[Z, 4\]",
        ),
        ({**ONES, "latents": torch.zeros(2, 4).int()}, None, r"`latents` is torch.int32 \[2, 4\]"),
        (
            {**ONES, "latents": torch.full((2, 4), torch.nan)},
            None,
            "`latents` holds numbers that are not finite",
        ),
        (ONES, {"songgen": '{"name": "../x"}'}, "name is '../x', which cannot name a song's files"),
        (ONES, {"songgen": '{"name": 3, "request": 4}'}, "its metadata is not that of a song's tokens"),
        (ONES, {"songgen": '{"generate_type": "all"}'}, "generate_type is 'all'"),
        (ONES, {"songgen": '{"sampling": {"heat": 1}}'}, "its metadata is not that of a song's tokens"),
        (ONES, {"songgen": '{"seed": "x"}'}, "its metadata is not that of a song's tokens"),
        (ONES, {"songgen": "["}, "its metadata is not that of a song's tokens"),
        (ONES, {"songgen": "[]"}, "its metadata is not that of a song's tokens"),
    ],
)
def test_what_is_no_tokens_says_why(
    tmp_path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None, message: str
) -> None:
    save_file(tensors, tmp_path / "x.safetensors", metadata)
    with pytest.raises(ValueError, match=message):
        read_draft(tmp_path / "x.safetensors")


def test_files_and_folders_each_once(tmp_path: Path, tokens: Path) -> None:
    a, b = tokens / "a.safetensors", tokens / "b.safetensors"
    assert token_files([b, tokens]) == [b, a]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no tokens are given: songgen render TOKENS... with files or folders of them"),
        (["nowhere"], "nowhere: no such file or folder"),
        (["."], "holds no *.safetensors"),
        (["--all"], "--all: settings are written key=value, without dashes"),
    ],
)
def test_what_cannot_start_is_status_2(
    tmp_path: Path,
    model: FakeModel,
    words: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert render(tmp_path, *words) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "two").exists()


def test_a_file_name_may_hold_an_equals_sign(tmp_path: Path, model: FakeModel, tokens: Path) -> None:
    (tokens / "a.safetensors").rename(tmp_path / "x=y.safetensors")
    assert render(tmp_path, str(tmp_path / "x=y.safetensors")) == 0


def test_help_lists_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "-h"]) == 0
    assert "generate_type=null" in capsys.readouterr().out
