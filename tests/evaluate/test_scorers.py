"""Scorers of other projects, run as programs: stand-ins with their interfaces, and all ways to be absent."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest
from fake_audio import music

from songgen.audio import Audio, write_audio
from songgen.evaluate.measures import AUDIOBOX, SONGEVAL, NotMeasured
from songgen.evaluate.scorers import Audiobox, SongEval

AUDIOBOX_PACKAGE = """
class Predictor:
    def __init__(self, checkpoint):
        print("loading", checkpoint)
        self.base = 1.0 if checkpoint is None else 5.0
    def forward(self, batch):
        assert len(batch) == 1
        path = batch[0]["path"]
        if "bad" in path:
            raise RuntimeError("cannot decode")
        return [{"CE": self.base, "CU": 2.0, "PC": 3.0, "PQ": float("nan") if "nan" in path else 4.0}]
def initialize_predictor(ckpt=None):
    return Predictor(ckpt)
"""
SONGEVAL_PROGRAM = """
import argparse, json, os, sys
parser = argparse.ArgumentParser()
parser.add_argument("-i")
parser.add_argument("-o")
args = parser.parse_args()
assert os.path.exists("weights"), "not run in its checkout"
found = {}
for line in open(args.i):
    path = line.strip()
    size = os.path.getsize(path)
    name = os.path.basename(path).rsplit(".", 1)[0]
    if size > 50000:
        names = ("Coherence", "Musicality", "Memorability", "Clarity", "Naturalness")
        found[name] = dict(zip(names, (3.1, 3.2, 3.3, 3.4, 3.5)))
json.dump(found, open(os.path.join(args.o, "result.json"), "w"))
"""


def song(path: Path, seconds: float = 1.0) -> Path:
    write_audio(path, Audio(music(seconds), 48000))
    return path


@pytest.fixture
def other_python(tmp_path: Path) -> Path:
    """A Python that has a package `audiobox_aesthetics`, in a folder with a blank."""
    package = tmp_path / "other python" / "audiobox_aesthetics"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "infer.py").write_text(AUDIOBOX_PACKAGE)
    program = tmp_path / "other python" / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{package.parent}" exec "{sys.executable}" "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "SongEval"
    folder.mkdir()
    (folder / "eval.py").write_text(SONGEVAL_PROGRAM)
    (folder / "weights").write_text("")
    return folder


def test_audiobox_scores_by_the_python_that_has_it(other_python: Path, tmp_path: Path) -> None:
    paths = [song(tmp_path / name) for name in ("one.wav", "bad.wav", "nan.wav")]
    one, bad, nan = Audiobox(other_python).score(paths)
    assert one == {"audiobox_ce": 1.0, "audiobox_cu": 2.0, "audiobox_pc": 3.0, "audiobox_pq": 4.0}
    assert bad == "Audiobox Aesthetics: RuntimeError: cannot decode"
    assert nan == "Audiobox Aesthetics gave no PQ for it"
    assert tuple(one) == AUDIOBOX


def test_audiobox_gets_its_checkpoint(other_python: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.pt"
    with pytest.raises(NotMeasured, match=r"^audiobox\.checkpoint=.*weights\.pt: no such file$"):
        Audiobox(other_python, weights).score([song(tmp_path / "one.wav")])
    weights.write_text("")
    [found] = Audiobox(other_python, weights).score([song(tmp_path / "one.wav")])
    assert isinstance(found, dict) and found["audiobox_ce"] == 5.0


def test_audiobox_absent_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = song(tmp_path / "one.wav")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        NotMeasured, match=r"^audiobox_aesthetics is not installed here: .* audiobox\.python=PATH$"
    ):
        Audiobox().score([one])
    with pytest.raises(NotMeasured, match=r"^Audiobox Aesthetics: .*nowhere cannot be run: No such file"):
        Audiobox(tmp_path / "nowhere").score([one])
    monkeypatch.undo()
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    with pytest.raises(NotMeasured, match=r"failed with status 1: .*No module named 'audiobox_aesthetics'$"):
        Audiobox(bare).score([one])


def test_a_program_that_ends_early_has_no_scores(tmp_path: Path) -> None:
    quiet = tmp_path / "quiet"
    quiet.write_text("#!/bin/sh\nexit 0\n")
    quiet.chmod(0o755)
    with pytest.raises(NotMeasured, match=r"^Audiobox Aesthetics gave 0 scores for 1 songs$"):
        Audiobox(quiet).score([song(tmp_path / "one.wav")])


def test_songeval_scores_songs_of_any_name(checkout: Path, tmp_path: Path) -> None:
    """Two songs of one name in two folders are told apart."""
    paths = [song(tmp_path / "a" / "my.song 1.wav"), song(tmp_path / "b" / "my.song 1.wav", 0.1)]
    long, short = SongEval(checkout, Path(sys.executable)).score(paths)
    assert isinstance(long, dict) and tuple(long) == SONGEVAL
    assert long["songeval_coherence"] == 3.1 and long["songeval_naturalness"] == 3.5
    assert short == "SongEval gave no scores for it"


def test_songeval_absent_is_a_reason(checkout: Path, tmp_path: Path) -> None:
    one = [song(tmp_path / "one.wav")]
    with pytest.raises(NotMeasured, match=r"^SongEval's checkout is not named: songeval\.dir=PATH$"):
        SongEval().score(one)
    with pytest.raises(NotMeasured, match=r"^songeval\.dir=.*: holds no eval\.py$"):
        SongEval(tmp_path).score(one)
    (checkout / "eval.py").write_text("raise SystemExit('no GPU')")
    with pytest.raises(NotMeasured, match=r"^SongEval failed with status 1: no GPU$"):
        SongEval(checkout).score(one)
    (checkout / "eval.py").write_text("raise SystemExit(3)")
    with pytest.raises(NotMeasured, match=r"^SongEval failed with status 3: it printed no reason$"):
        SongEval(checkout).score(one)
    (checkout / "eval.py").write_text("")
    with pytest.raises(NotMeasured, match=r"^SongEval wrote no result\.json that can be read: "):
        SongEval(checkout).score(one)
    (checkout / "eval.py").write_text("import sys; open(sys.argv[4] + '/result.json', 'w').write('[]')")
    with pytest.raises(NotMeasured, match=r"^SongEval's result\.json is not one JSON object$"):
        SongEval(checkout).score(one)


def test_a_python_named_from_here_runs_in_the_checkout(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path means the user's folder, though SongEval runs in its own; a bare name is in PATH."""
    own = tmp_path / "bin" / "mypython"
    own.parent.mkdir()
    own.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    own.chmod(0o755)
    one = [song(tmp_path / "one.wav")]
    monkeypatch.chdir(tmp_path)
    [found] = SongEval(Path("SongEval"), Path("bin/mypython")).score(one)
    assert isinstance(found, dict)
    monkeypatch.setenv("PATH", str(own.parent), prepend=":")
    [again] = SongEval(checkout, Path("mypython")).score(one)
    assert again == found


def test_what_a_program_says_in_odd_bytes_is_still_said(checkout: Path, tmp_path: Path) -> None:
    (checkout / "eval.py").write_text("import sys; sys.stderr.buffer.write(b'bad \\xff'); sys.exit(1)")
    with pytest.raises(NotMeasured, match=r"bad \ufffd$"):
        SongEval(checkout).score([song(tmp_path / "one.wav")])
