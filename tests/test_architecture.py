"""The house rules that a machine can hold: layers, who may import what, sizes, names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "songgen"
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "configs" not in path.parts)

LAYERS = {"nn": 1, "runtime": 2, "models": 3, "engine": 4, "commands": 5, "ui": 5, "evaluate": 5, "train": 5}
TOP = {"config": 5, "config_tree": 5, "config_keys": 5, "cli": 5, "api": 5}
"""Any other module at the top is in layer 0."""

ONLY_THERE = {
    "hydra": ("config_tree.py", "cli.py", "commands/"),
    "omegaconf": ("config_tree.py", "cli.py", "commands/"),
    "ray": ("engine/cluster.py",),
    "gradio": ("ui/",),
    "transformers": ("models/levo/text.py", "nn/musicfm.py", "models/levo/tiny.py", "evaluate/", "train/"),
    "soundfile": ("audio.py",),
    "matplotlib": ("engine/picture.py", "train/"),
    "tqdm": ("cli.py", "commands/", "train/"),
    "argparse": ("cli.py", "commands/", "ui/", "evaluate/", "train/"),
    "huggingface_hub": ("commands/hub.py",),
    "fcntl": ("records.py",),
}
MOST_MODULE, MOST_FUNCTION, MOST_POSITIONAL = 350, 60, 5


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions and for type checkers."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}: relative import"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(module: str) -> int:
    """The layer of `songgen.x.y`; the package itself (its version) is the lowest."""
    parts = module.split(".")[1:]
    if not parts:
        return 0
    return LAYERS[parts[0]] if parts[0] in LAYERS else TOP.get(parts[0], 0)


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    return (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_imports_only_from_its_own_or_lower_layers(path: Path) -> None:
    if path == PACKAGE / "__init__.py":
        return  # hands out the Python interface, on demand
    own = layer_of("songgen." + name_of(path).removesuffix(".py").replace("/", "."))
    wrong = [module for module in imports(path) if module.startswith("songgen.") and layer_of(module) > own]
    assert not wrong, f"layer {own} imports from above: {wrong}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_package_is_imported_only_where_it_belongs(path: Path) -> None:
    for module in imports(path):
        allowed = ONLY_THERE.get(module.partition(".")[0])
        assert allowed is None or name_of(path).startswith(allowed), f"{module} belongs in {allowed}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_families_do_not_import_each_other_and_nothing_imports_train(path: Path) -> None:
    family = path.parent.name if path.parent.parent.name == "models" else None
    for module in imports(path):
        parts = module.split(".")
        if (
            family
            and parts[:2] == ["songgen", "models"]
            and len(parts) > 2
            and (PACKAGE / "models" / parts[2]).is_dir()
        ):
            assert parts[2] == family, f"{family} imports {module}"
        if not name_of(path).startswith(("train/", "commands/train.py")):
            assert parts[:2] != ["songgen", "train"], module


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_text_and_results_know_no_torch(path: Path) -> None:
    """Layer 0 is what `songgen check` needs: it must start at once."""
    if layer_of("songgen." + name_of(path).removesuffix(".py").replace("/", ".")) == 0:
        assert not [module for module in imports(path) if module.split(".")[0] in ("torch", "transformers")]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_sizes(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_MODULE
    for function in functions(path):
        is_kernel = any(ast.unparse(item) == "triton.jit" for item in function.decorator_list)
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= MOST_FUNCTION, f"{function.name} has {lines} lines"
        positional = [item.arg for item in function.args.posonlyargs + function.args.args]
        positional = [name for name in positional if name not in ("self", "cls")]
        assert is_kernel or len(positional) <= MOST_POSITIONAL, (  # Triton has no keyword-only parameters
            f"{function.name} has {len(positional)} positional parameters"
        )


def test_no_file_without_a_meaning() -> None:
    assert not [
        name_of(path) for path in FILES if path.stem in ("utils", "util", "common", "helpers", "misc")
    ]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_every_module_and_public_name_says_what_it_is(path: Path) -> None:
    tree = tree_of(path)
    if path.name == "__init__.py" and not tree.body:
        return
    assert ast.get_docstring(tree, clean=False) is not None, "no module docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_one_place_catches_broadly(path: Path) -> None:
    broad = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ExceptHandler):
            names = (
                [item.id for item in ast.walk(node.type) if isinstance(item, ast.Name)] if node.type else [""]
            )
            gives_back = isinstance(node.body[-1], ast.Raise)
            broad += [name for name in names if name in ("", "Exception", "BaseException") and not gives_back]
    assert broad == (["Exception"] if name_of(path) == "engine/run.py" else [])


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_below_the_front_ends_prints_reads_the_environment_or_sets_up_logging(path: Path) -> None:
    calls = [node.func for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    names = {ast.unparse(function) for function in calls}
    if not name_of(path).startswith(("cli.py", "commands/", "ui/", "evaluate/", "train/")):
        assert not names & {"print", "sys.stdout.write", "sys.stderr.write"}
    if name_of(path) not in ("cli.py", "ui/server.py"):  # Gradio is told its folder in the environment alone
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\bos\.(environ|getenv)\b", text)
        assert not names & {"logging.basicConfig", "logger.addHandler", "logger.setLevel"}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_device_by_the_back_door(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\.cuda\(\)|set_default_device|set_default_dtype|weights_only=False", text)
    if not name_of(path).startswith("train/"):  # mixed precision, where weights stay float32
        assert not re.search(r"\bautocast\b", text)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_state_in_modules(path: Path) -> None:
    for node in ast.walk(tree_of(path)):
        assert not isinstance(node, ast.Global), f"line {node.lineno}: global"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_plain_ascii_outside_strings(path: Path) -> None:
    """Comments and docstrings are plain English; what users write in other scripts is escaped or in data."""
    tree = tree_of(path)
    texts = [
        ast.get_docstring(node) or ""
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    ]
    comments = [
        line.split("#", 1)[1] for line in path.read_text(encoding="utf-8").splitlines() if " # " in line
    ]
    strange = [text for text in [*texts, *comments, ast.get_docstring(tree) or ""] if not text.isascii()]
    assert not strange
