"""The two commands: what generate.sh makes of its arguments; how the environment is found, made and mended.

The scripts run in a scratch tree whose `songgen.cli` only says what it was called with. Where an environment
is made, a stand-in Python and a stand-in uv write down what they were asked for.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

SCRIPTS = (
    "generate.sh",
    "tools/setup_env.sh",
    "tools/find_browser.sh",
    "tools/find_singers.sh",
    "tools/gradio/run.sh",
    "tools/test.sh",
    "tools/check_dockerfiles.sh",
    "docker/Dockerfile",
    ".dockerignore",
    ".ci/run",
    "pyproject.toml",
    "requirements.txt",
    "requirements_nodeps.txt",
    "requirements_ui.txt",
    "requirements_dev.txt",
    "requirements_data.txt",
)
SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]

FAKE_CLI = """
import os, sys
def main() -> int:
    print("\\n".join(sys.argv))
    return int(os.environ.get("FAKE_STATUS", "0"))
"""

FAKE_PYTHON = """#!/bin/sh
here=$(dirname "$0")
case "$*" in
"- "*) cat >/dev/null; echo torch; exit 1 ;;
"-m venv "*) echo "venv" >>"$FAKE_LOG"; mkdir -p "$3/bin"; : >"$3/pyvenv.cfg"; cp "$0" "$3/bin/python" ;;
"-m pip config list") echo "global.find-links='/wheels /more'"; echo "global.extra-index-url='file:///i'" ;;
"-m pip --version") ;;
"-m pip install"*uv) exit 1 ;;
"-m pip install"*) echo "pip $*" >>"$FAKE_LOG"; sleep "${FAKE_SECONDS:-0}"; [ ! -e "$FAKE_LOG.broken" ] ;;
"-c "*generate* | "-c "*model=*) shift 2; echo "ran $*" ;;
esac
"""

FAKE_UV = """#!/bin/sh
echo "uv $* links=$UV_FIND_LINKS index=$UV_INDEX" >>"$FAKE_LOG"
[ ! -e "$FAKE_LOG.nouv" ]
"""


@pytest.fixture
def tree(tmp_path: Path, repository: Path) -> Path:
    """A checkout with a blank and an apostrophe in its path, and no model in it."""
    root = tmp_path / "it's a tree"
    for name in SCRIPTS:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, root / name)
    (root / "songgen").mkdir()
    (root / "songgen" / "__init__.py").write_text("")
    (root / "songgen" / "cli.py").write_text(FAKE_CLI)
    (root / "lyrics.jsonl").write_text("{}\n")
    return root


@pytest.fixture
def fake(tree: Path, tmp_path: Path) -> dict[str, str]:
    """An environment whose Python lacks everything, and whose uv obeys; both write to the log."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("python3", FAKE_PYTHON), ("uv", FAKE_UV)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    log = tmp_path / "log"
    log.write_text("")
    return {"PATH": f"{folder}:/usr/bin:/bin", "FAKE_LOG": str(log), "PYTHON": str(folder / "python3")}


def run(
    tree: Path,
    *arguments: str,
    script: str = "generate.sh",
    shell: str = "sh",
    cwd: Path | None = None,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run a script; by default with the Python that runs the tests, which has all that is needed."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PIP_"))}
    offline = {"UV_OFFLINE": "1", "PIP_NO_INDEX": "1"}
    full = {**clean, **offline, "PYTHON": sys.executable, **environment}
    command = [shell, str(tree / script), *arguments]
    return subprocess.run(
        command, cwd=cwd or tree, env=full, capture_output=True, text=True, timeout=60, check=False
    )


def log_of(fake: dict[str, str]) -> list[str]:
    return Path(fake["FAKE_LOG"]).read_text().splitlines()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        ([], []),
        (["--low_mem"], ["memory=low"]),
        (["--not_use_flash_attn"], ["attention=sdpa"]),
        (["--separate"], ["generate_type=separate"]),
        (["--bgm"], ["generate_type=bgm"]),
        (["--vocal", "--vocal"], ["generate_type=vocal"]),
        (["batch=4", "--low_mem", "output.format=flac"], ["batch=4", "memory=low", "output.format=flac"]),
        (["runtime_dir=/a b/c=d"], ["runtime_dir=/a b/c=d"]),
    ],
)
def test_arguments_become_settings(
    tree: Path, shell: str, arguments: Sequence[str], settings: Sequence[str]
) -> None:
    """Each flag is the setting that it stands for, under dash as under bash; the rest is passed on."""
    done = run(tree, "tiny", "lyrics.jsonl", "out", *arguments, shell=shell)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "songgen", "generate", "model=tiny", "input=lyrics.jsonl", "output.dir=out", *settings
    ]  # fmt: skip


def test_flags_may_stand_anywhere(tree: Path) -> None:
    done = run(tree, "--bgm", "tiny", "seed=1", "lyrics.jsonl", "--low_mem", "out")
    assert done.stdout.splitlines()[2:] == [
        "model=tiny", "input=lyrics.jsonl", "output.dir=out", "generate_type=bgm", "seed=1", "memory=low"
    ]  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS)
def test_paths_of_all_kinds_from_any_folder(tree: Path, tmp_path: Path, shell: str) -> None:
    """Blanks, quotes, commas, braces, dollars and equals signs reach songgen as they were typed."""
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    name = "it's \"my\", ${HOME} {a=b} [c] 歌 \\'.jsonl"
    (elsewhere / name).write_text("{}\n")
    done = run(tree, "tiny", f"./{name}", "./o=ut $(x)", shell=shell, cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[3:] == [f"input=./{name}", "output.dir=./o=ut $(x)"]


def test_a_path_that_exists_is_no_setting(tree: Path) -> None:
    """`my=songs/lyrics.jsonl` looks like key=value, and is the file that the user means."""
    (tree / "my=songs").mkdir()
    (tree / "my=songs" / "lyrics.jsonl").write_text("{}\n")
    done = run(tree, "tiny", "my=songs/lyrics.jsonl", "out", "seed=1")
    assert done.stdout.splitlines()[3:] == ["input=my=songs/lyrics.jsonl", "output.dir=out", "seed=1"]


def test_files_of_the_working_folder_hide_no_module(tree: Path, tmp_path: Path) -> None:
    """A user's random.py or songgen folder must not be imported in the place of the real one."""
    for name in ("random.py", "os.py", "songgen.py"):
        (tmp_path / name).write_text("raise SystemExit('hidden')\n")
    (tmp_path / "lyrics.jsonl").write_text("{}\n")
    done = run(tree, "tiny", "lyrics.jsonl", "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: sh generate.sh CKPT LYRICS OUT"),
        (["tiny", "lyrics.jsonl"], "usage: sh generate.sh CKPT LYRICS OUT"),
        (["tiny", "lyrics.jsonl", "batch=2"], "usage: sh generate.sh CKPT LYRICS OUT"),
        (
            ["tiny", "lyrics.jsonl", "out", "--lowmem"],
            "unknown flag --lowmem; the flags are --low_mem --not_use",
        ),
        (["tiny", "lyrics.jsonl", "out", "-x"], "unknown flag -x"),
        (["tiny", "lyrics.jsonl", "out", "--bgm", "--vocal"], "--bgm and --vocal exclude each other"),
        (["tiny", "lyrics.jsonl", "out", "more"], "one argument too many: more"),
        (["tiny", "none.jsonl", "out"], "none.jsonl: no such file"),
        (["tiny", "songgen", "out"], "songgen is a folder; name the JSON Lines file"),
        (["models/none", "lyrics.jsonl", "out"], "models/none: no such folder"),
        (["tiny", "", "out"], "an argument is empty"),
    ],
)
def test_bad_arguments_end_with_status_2(tree: Path, arguments: Sequence[str], message: str) -> None:
    done = run(tree, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert not done.stdout


def test_help_lists_every_flag(tree: Path) -> None:
    done = run(tree, "--help")
    assert done.returncode == 0
    for flag in ("--low_mem", "--not_use_flash_attn", "--separate", "--bgm", "--vocal"):
        assert flag in done.stdout


@pytest.mark.parametrize("status", ["1", "2"])
def test_the_exit_status_is_songgens(tree: Path, status: str) -> None:
    """A run in which songs failed must not look like a success to a script."""
    assert run(tree, "tiny", "lyrics.jsonl", "out", FAKE_STATUS=status).returncode == int(status)


PAGE = "tools/gradio/run.sh"


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("arguments", "settings"),
    [
        (["tiny"], []),
        (["tiny", "my songs"], ["output.dir=my songs"]),
        (["tiny", "./o=ut"], ["output.dir=./o=ut"]),
        (["--low_mem", "tiny", "--share"], ["memory=low", "ui.share=true"]),
        (["--not_use_flash_attn", "ui.port=7861", "tiny"], ["attention=sdpa", "ui.port=7861"]),
    ],
)
def test_the_script_of_the_page(
    tree: Path, shell: str, arguments: Sequence[str], settings: Sequence[str]
) -> None:
    done = run(tree, *arguments, script=PAGE, shell=shell)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["songgen", "ui", "model=tiny", *settings]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: sh tools/gradio/run.sh CKPT [OUT]"),
        (["tiny", "out", "more"], "one argument too many: more"),
        (["tiny", "--port"], "unknown flag --port; the flags are --low_mem"),
        (["models/none"], "models/none: no such folder"),
        ([""], "an argument is empty"),
    ],
)
def test_the_script_of_the_page_refuses_in_words(tree: Path, arguments: Sequence[str], message: str) -> None:
    done = run(tree, *arguments, script=PAGE)
    assert done.returncode == 2 and message in done.stderr and not done.stdout


def test_the_page_adds_to_the_environment_of_the_songs(tree: Path, fake: dict[str, str]) -> None:
    """generate.sh needs no Gradio; the page completes what is there, and both find it ready after that."""
    run(tree, "tiny", "lyrics.jsonl", "out", **fake)
    before = len(log_of(fake))
    for arguments, script in (
        (("tiny",), PAGE),
        (("tiny", "lyrics.jsonl", "out"), "generate.sh"),
        (("tiny",), PAGE),
    ):
        done = run(tree, *arguments, script=script, **fake)
        assert done.returncode == 0, done.stderr
    new = log_of(fake)[before:]
    assert [line.split()[0] for line in new] == ["uv", "uv", "uv"]
    assert f"-r {tree}/requirements_ui.txt" in new[0] and "requirements_dev" not in new[0]


@pytest.mark.parametrize("shell", SHELLS)
def test_an_environment_is_made_once(tree: Path, fake: dict[str, str], shell: str) -> None:
    """First run: .venv from the requirements by uv, which is told what pip is told. Second run: nothing."""
    arguments = ("tiny", "lyrics.jsonl", "out")
    first = run(tree, *arguments, shell=shell, **fake)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("ran generate model=tiny")
    log = log_of(fake)
    assert [line.split()[0] for line in log] == ["venv", "uv", "uv", "uv"]
    assert f"-r {tree}/requirements.txt" in log[1] and "requirements_dev" not in log[1]
    assert "links=/wheels,/more index=https://pypi.org/simple file:///i" in log[1]
    assert f"--no-deps -r {tree}/requirements_nodeps.txt" in log[2]
    assert f"--no-deps -e {tree}" in log[3]
    second = run(tree, *arguments, shell=shell, **fake)
    assert second.returncode == 0 and second.stderr == ""
    assert log_of(fake) == log
    assert not (tree / ".venv.lock").exists()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements_nodeps.txt", "pyproject.toml"])
def test_changed_requirements_are_installed(tree: Path, fake: dict[str, str], name: str) -> None:
    run(tree, "tiny", "lyrics.jsonl", "out", **fake)
    before = len(log_of(fake))
    (tree / name).write_text((tree / name).read_text() + "# changed\n")
    assert run(tree, "tiny", "lyrics.jsonl", "out", **fake).returncode == 0
    new = log_of(fake)[before:]
    assert [line.split()[0] for line in new] == ["uv", "uv", "uv"]


def test_pip_steps_in_for_uv(tree: Path, fake: dict[str, str]) -> None:
    """Neither an old uv nor its absence may stop the setup."""
    Path(fake["FAKE_LOG"] + ".nouv").write_text("")
    done = run(tree, "tiny", "lyrics.jsonl", "out", **fake)
    assert done.returncode == 0, done.stderr
    assert "uv failed; trying pip" in done.stderr
    assert sum(line.startswith("pip -m pip install") for line in log_of(fake)) == 3


def test_a_failed_setup_says_so_and_is_done_again(tree: Path, fake: dict[str, str]) -> None:
    """Half an environment must not be taken for a whole one: the next run starts from an empty one."""
    broken, no_uv = Path(fake["FAKE_LOG"] + ".broken"), Path(fake["FAKE_LOG"] + ".nouv")
    broken.write_text("")
    no_uv.write_text("")
    done = run(tree, "tiny", "lyrics.jsonl", "out", **fake)
    assert done.returncode == 2
    assert "installing failed, see above" in done.stderr and "it lacks: torch" in done.stderr
    assert not (tree / ".venv.lock").exists()
    broken.unlink()
    again = run(tree, "tiny", "lyrics.jsonl", "out", **fake)
    assert again.returncode == 0 and "broken off" in again.stderr
    assert log_of(fake).count("venv") == 2


def test_the_environment_of_somebody_else_is_never_emptied(tree: Path, fake: dict[str, str]) -> None:
    """A .venv that was not made here is completed if its Python runs, and left alone if not."""
    (tree / ".venv" / "bin").mkdir(parents=True)
    (tree / ".venv" / "precious").write_text("")
    done = run(tree, "tiny", "lyrics.jsonl", "out", **fake)
    assert done.returncode == 2 and "was not made here" in done.stderr
    shutil.copy(fake["PYTHON"], tree / ".venv" / "bin" / "python")
    assert run(tree, "tiny", "lyrics.jsonl", "out", **fake).returncode == 0
    assert (tree / ".venv" / "precious").exists()
    assert "venv" not in log_of(fake)


def test_the_lock_of_a_dead_process_is_taken_over(tree: Path, fake: dict[str, str]) -> None:
    """A setup that was killed leaves its lock behind, and must not stop every later run."""
    lock = tree / ".venv.lock"
    lock.mkdir()
    gone = subprocess.Popen(["true"])
    gone.wait()
    (lock / "holder").write_text(f"{os.uname().nodename} {gone.pid}\n")
    assert run(tree, "tiny", "lyrics.jsonl", "out", **fake).returncode == 0
    assert not list(tree.glob(".venv.lock*"))


def test_two_setups_at_once(tree: Path, fake: dict[str, str]) -> None:
    """The second waits for the first and then installs nothing."""
    Path(fake["FAKE_LOG"] + ".nouv").write_text("")
    environment = {**os.environ, **fake, "FAKE_SECONDS": "0.3"}
    command = ["sh", str(tree / "generate.sh"), "tiny", "lyrics.jsonl", "out"]
    both = []
    for _ in range(2):
        both.append(
            subprocess.Popen(
                command, cwd=tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        time.sleep(0.2)
    results = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], results
    assert "waiting for it" in results[1][1]
    assert log_of(fake).count("venv") == 1
    assert sum(line.startswith("pip -m pip install") for line in log_of(fake)) == 3


def test_no_python_is_a_clear_error(tree: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python3.10"):
        (old / name).write_text("#!/bin/sh\nexit 1\n")
        (old / name).chmod(0o755)
    done = run(tree, "tiny", "lyrics.jsonl", "out", PATH=f"{old}:/usr/bin:/bin", PYTHON=str(old / "python3"))
    assert done.returncode == 2
    assert "no Python 3.10 or newer was found" in done.stderr


def test_the_tests_command_runs_offline(tree: Path) -> None:
    """tools/test.sh: pytest in the checkout's root, the hub switched off, arguments and status passed on."""
    (tree / "tests").mkdir()
    (tree / "tests" / "test_x.py").write_text(
        "import os\n"
        "def test_offline():\n    assert os.environ['HF_HUB_OFFLINE'] == '1'\n"
        "def test_bad():\n    assert False\n"
    )
    environment = {**os.environ, "PYTHON": sys.executable}
    for chosen, status in (("offline", 0), ("bad", 1)):
        command = ["sh", str(tree / "tools" / "test.sh"), "-p", "no:cacheprovider", "-k", chosen]
        done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stdout + done.stderr
        assert "1 deselected" in done.stdout


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_ci_runs_every_check_and_fails_if_one_does(tree: Path) -> None:
    """A failing test must not be hidden by a clean lint, nor stop the checks after it."""
    pytest.importorskip("ruff")
    pytest.importorskip("mypy")
    (tree / "tests").mkdir()
    (tree / "tests" / "test_x.py").write_text("def test_bad():\n    assert 1 == 2\n")
    chromium = tree / "bin" / "chromium"  # so that no browser is installed
    chromium.parent.mkdir()
    chromium.write_text("#!/bin/sh\n")
    chromium.chmod(0o755)
    path = f"{chromium.parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PYTHON": sys.executable, "PATH": path}
    command = ["bash", str(tree / ".ci" / "run")]
    done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    for check in ("ruff check", "ruff format", "mypy", "check_dockerfiles"):
        assert re.search(rf"^== .*{check}", done.stdout, re.MULTILINE)


def test_requirements_and_package_agree(repository: Path) -> None:
    """What pyproject.toml asks for is installed by the bootstrap; torch is pinned, and first."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]

    def names(lines: Sequence[str]) -> list[str]:
        plain = [line for line in lines if line and not line.startswith("#")]
        return [re.split(r"[^A-Za-z0-9_.-]", line)[0].lower().replace("-", "_") for line in plain]

    def file(name: str) -> list[str]:
        lines = (repository / name).read_text().splitlines()
        nested = [line.removeprefix("-r ") for line in lines if line.startswith("-r ")]
        own = [line for line in lines if not line.startswith("-r ")]
        return own + [line for inner in nested for line in file(inner)]

    installed = names(file("requirements.txt"))
    assert next(line for line in file("requirements.txt") if not line.startswith("#")) == "torch==2.13.0"
    assert set(names(project["dependencies"])) <= set(installed)
    extras = project["optional-dependencies"]
    assert set(names(extras["prompt"])) <= set(installed) | set(names(file("requirements_nodeps.txt")))
    assert set(names(extras["ui"])) == set(names(file("requirements_ui.txt")))
    assert set(names(extras["data"])) == set(names(file("requirements_data.txt")))
    tested = ("dev", "plot", "evaluate", "ray", "slurm", "ui")
    dev = names([line for extra in tested for line in extras[extra]])
    assert set(dev) == set(names(file("requirements_dev.txt")))
    assert not {"torchaudio", "torchvision"} & set(installed)


@pytest.mark.parametrize(
    ("apt", "uid", "message"),
    [
        ("install", "0", "installing Debian's Chromium"),
        ("fail", "0", "apt-get install chromium failed: the tests of the page in a browser are skipped"),
        ("install", "1000", "no Chromium, and this is not root on a Debian"),
    ],
)
def test_the_browser_is_debians_or_its_tests_are_skipped(
    repository: Path, tmp_path: Path, apt: str, uid: str, message: str
) -> None:
    """A machine without Chromium gets it where apt-get can, and a sentence where not; never a failure."""
    put = f"printf '#!/bin/sh\\n' >'{tmp_path}/chromium'; chmod +x '{tmp_path}/chromium'"
    action = f'case "$*" in *install*) {put} ;; esac' if apt == "install" else "exit 1"
    for name, body in (("apt-get", action), ("id", f"echo {uid}"), ("timeout", 'shift; exec "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("sh", "chmod", "env"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    tools = repository / "tools"
    script = (
        f"songgen_root={repository}; . {tools}/setup_env.sh; . {tools}/find_browser.sh; "
        "songgen_find_browser && songgen_find_browser && echo went on"
    )
    shell = str(shutil.which("sh"))
    done = subprocess.run(
        [shell, "-c", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    assert message in done.stderr
    assert (tmp_path / "chromium").exists() == (apt == "install" and uid == "0")


@pytest.mark.parametrize(
    ("apt", "packages", "uid", "message"),
    [
        ("install", "yes", "0", "installing Debian's espeak-ng and FluidSynth"),
        ("install", "no", "0", "no pyworld or pyfluidsynth in"),
        ("fail", "yes", "0", "apt-get install espeak-ng failed: tests that sing are skipped"),
        ("install", "yes", "1000", "no espeak-ng or FluidSynth, and this is not root on a Debian"),
    ],
)
def test_what_sings_is_debians_or_its_tests_are_skipped(
    repository: Path, tmp_path: Path, apt: str, packages: str, uid: str, message: str
) -> None:
    """As for the browser: a sentence where something is missing, never a failure."""
    put = f": >'{tmp_path}/there'"
    action = f'case "$*" in *install*) {put} ;; esac' if apt == "install" else "exit 1"
    python = f'case "$*" in -) cat >/dev/null; [ -e {tmp_path}/there ] ;; *) [ {packages} = yes ] ;; esac'
    bodies = {"apt-get": action, "id": f"echo {uid}", "timeout": 'shift; exec "$@"', "a-python": python}
    for name, body in bodies.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("sh", "cat", "env"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    tools = repository / "tools"
    script = (
        f"songgen_root={tmp_path}; songgen_python=a-python; . {tools}/setup_env.sh; "
        f". {tools}/find_singers.sh; songgen_find_singers && songgen_find_singers && echo went on"
    )
    shell = str(shutil.which("sh"))
    done = subprocess.run(
        [shell, "-c", script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "went on\n"), done.stderr
    assert message in done.stderr


@pytest.mark.parametrize("script", ["generate.sh", "tools/gradio/run.sh"])
def test_the_help_of_a_script_names_every_model(repository: Path, script: str) -> None:
    """SongBloom's models could be run for a while before the help said so."""
    from songgen.models import catalog

    shown = subprocess.run(
        ["sh", script, "--help"], cwd=repository, capture_output=True, text=True, timeout=30, check=True
    ).stdout
    words = {word.strip(".,()") for word in shown.split()}
    assert words >= set(catalog.BUILT_IN)
    for entry in catalog.entries():
        assert words & {entry.name, *entry.aliases}, entry.name
