"""The rules for containers: our own files keep them, and each broken one is found on its line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]


def check(root: Path, script: Path, shell: str = "sh") -> tuple[int, list[str]]:
    """Exit status and findings, the root taken off."""
    done = subprocess.run([shell, str(script), str(root)], capture_output=True, text=True)
    assert not done.stderr or done.returncode == 2, done.stderr
    return done.returncode, [line.removeprefix(f"{root}/") for line in done.stdout.splitlines()]


@pytest.fixture
def script(repository: Path) -> Path:
    """The check."""
    return repository / "tools" / "check_dockerfiles.sh"


@pytest.fixture
def tree(tmp_path: Path, repository: Path) -> Path:
    """A tree with our own container files, to break; a blank is in its path."""
    root = tmp_path / "a tree"
    (root / "docker").mkdir(parents=True)
    shutil.copy(repository / "docker" / "Dockerfile", root / "docker")
    shutil.copy(repository / ".dockerignore", root)
    return root


@pytest.mark.parametrize("shell", SHELLS)
def test_our_own_files_keep_the_rules(tree: Path, script: Path, shell: str) -> None:
    assert check(tree, script, shell) == (0, [])


UNPINNED = "FROM nvidia/cuda:12.8.1-base-ubuntu24.04 AS cuda"
APT_LISTS = "    && rm -rf /var/lib/apt/lists/*\n"


@pytest.mark.parametrize(
    ("old", "new", "finding"),
    [
        (UNPINNED, "FROM nvidia/cuda AS cuda", "FROM nvidia/cuda: pin the version"),
        (UNPINNED, "FROM reg:5000/cuda AS cuda", "FROM reg:5000/cuda: pin the version"),
        (UNPINNED, "FROM --platform=linux/amd64 nvidia/cuda:latest AS cuda", "latest is not a version"),
        ("ARG BASE=cuda", "ARG BASE=python", "FROM python: pin the version"),
        ("USER songgen\n", "", "the last stage has no USER"),
        ("USER songgen\n", "USER root\n", "USER root: the last stage must not run as root"),
        ("USER songgen\n", "USER songgen\nUSER 0:0\n", "USER 0:0: the last stage must not run as root"),
        (" \\\n" + APT_LISTS, "\n", "remove /var/lib/apt/lists in the same RUN"),
        (" --no-install-recommends", "", "add --no-install-recommends"),
        ("RUN apt-get update \\\n    && ", "RUN ", "update in the same RUN"),
        ("RUN apt-get update \\\n    && ", "RUN apt-get update\nRUN ", "update: install in the same RUN"),
        ("apt-get install -y", "apt install -y", "RUN apt: use apt-get"),
        ("install --no-cache-dir -r", "install -r", "RUN pip install: add --no-cache-dir"),
        ("install --no-cache-dir --no-deps", "install --no-deps", "RUN pip install: add --no-cache-dir"),
        ("COPY requirements.txt requirements_nodeps.txt ./", "COPY . ./", "COPY .: before the requirements"),
        ("COPY requirements.txt", "COPY songgen x\nCOPY requirements.txt", "COPY songgen: before the req"),
        ('ENTRYPOINT ["songgen"]', "ENTRYPOINT songgen", "ENTRYPOINT: write it as ["),
        ('ENTRYPOINT ["songgen"]\n', "", "the last stage has no ENTRYPOINT"),
        ('CMD ["doctor"]', "CMD doctor", "CMD: write it as ["),
        ("COPY configs configs", "ADD https://example.org/model.pt configs", "ADD of a URL"),
        ("COPY configs configs", "ADD configs configs", "ADD: use COPY"),
        ("COPY configs configs", "COPY configs .env ./", "COPY .env: a secret"),
        ("COPY configs configs", 'COPY ["keys/server.pem", "./"]', "COPY keys/server.pem: a secret"),
        ("COPY configs configs", "COPY .git .git", "COPY .git: a secret, or history"),
        ("ENV HOME=/var/lib/songgen", "ARG HF_TOKEN", "ARG HF_TOKEN: a secret would stay"),
        ("ENV HOME=/var/lib/songgen", "ENV HOME=/x DB_PASSWORD=x", "ENV DB_PASSWORD: a secret would stay"),
        ("ENV HOME=/var/lib/songgen", "ENV X=hf_abcdefghijklmnopqrstuvwx", "holds what looks like a key"),
        ("HEALTHCHECK NONE\n", "", "the last stage has no HEALTHCHECK"),
        ("WORKDIR /data", "WORKDIR data", "WORKDIR data: must be absolute"),
        ("RUN python3 -m", "RUN curl https://example.org/x | sh && python3 -m", "runs what it downloads"),
        ("RUN useradd", "RUN sudo useradd", "RUN sudo: "),
    ],
)  # fmt: skip
def test_a_broken_rule_is_found(tree: Path, script: Path, old: str, new: str, finding: str) -> None:
    path = tree / "docker" / "Dockerfile"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    status, found = check(tree, script)
    assert status == 1
    line = next(line for line in found if finding in line)
    assert len(found) <= 2 and line.startswith("docker/Dockerfile:")
    number = int(line.split(":")[1])
    assert 1 <= number <= len(path.read_text().splitlines())


def test_the_line_is_that_of_the_instruction(tree: Path, script: Path) -> None:
    (tree / "docker" / "Dockerfile.other").write_text(
        "# comment\nFROM ubuntu:24.04\n\nRUN apt-get update \\\n  # in between\n  && apt-get install -y x\n"
        'USER me\nHEALTHCHECK NONE\nENTRYPOINT ["x"]\n'
    )
    status, found = check(tree, script)
    assert status == 1 and len(found) == 2
    assert all(line.startswith("docker/Dockerfile.other:4: RUN apt-get install: ") for line in found)


def test_an_earlier_stage_may_be_root_and_needs_no_entrypoint(tree: Path, script: Path) -> None:
    (tree / "docker" / "Dockerfile").write_text(
        "FROM ubuntu@sha256:0123 AS build\nRUN make\nFROM scratch\nCOPY --from=build /a /a\nUSER me\n"
        'HEALTHCHECK NONE\nENTRYPOINT ["/a"]\n'
    )
    assert check(tree, script) == (0, [])


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("models\n*.safetensors\n", "output/audio/a.wav"),
        ("*\n!songgen\n", "songgen/model.pt"),
        (
            "**/*.pt\n**/*.pth\n**/*.ckpt\n**/*.safetensors\noutput*\n.venv\n**/__pycache__\n**/.env\n",
            ".git/config",
        ),
        ("*\n!models\n", "models/base/model.pt"),
    ],
)
def test_what_would_be_sent_to_the_build_is_found(tree: Path, script: Path, text: str, sent: str) -> None:
    (tree / ".dockerignore").write_text(text)
    status, found = check(tree, script)
    assert status == 1 and f".dockerignore:1: {sent} would be sent to the build" in found


def test_explicit_patterns_are_as_good_as_a_list_of_what_is_kept(tree: Path, script: Path) -> None:
    weights = [f"**/*.{suffix}" for suffix in ("pt", "pth", "ckpt", "safetensors")]
    patterns = [".git", ".venv", "/models/", "output*/", "**/.env", "**/__pycache__", *weights]
    (tree / ".dockerignore").write_text("# kept out\n\n" + "\n".join(patterns) + "\n")
    assert check(tree, script) == (0, [])


def test_without_files_there_is_nothing_to_say_yes_to(tree: Path, script: Path) -> None:
    (tree / ".dockerignore").unlink()
    assert check(tree, script)[0] == 1
    (tree / "docker" / "Dockerfile").unlink()
    assert check(tree, script) == (2, [])


def test_everything_that_is_copied_is_there_and_not_ignored(repository: Path) -> None:
    """The build cannot be run here: at least it must not miss a file."""
    lines = (repository / "docker" / "Dockerfile").read_text().splitlines()
    kept = {
        line[1:] for line in (repository / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    copied = {word for line in lines if line.startswith("COPY ") for word in line.split()[1:-1]}
    assert copied == kept and all((repository / name).exists() for name in copied)
