"""Reads a published config.yaml: plain YAML whose texts may hold `${...}` references.

Known forms are `${key}`, `${a.b}` (a path from the top of the file), `${eval:2*3+1}` (arithmetic),
`${load_yaml:conf/vocab.yaml}`, `${concat:${a},${b}}`, `${get_fname:}` and `${dynamic_path:???/name}`
(the download's folder), nested in each other as deep as one likes. Nothing is ever executed: arithmetic goes
through `ast`. Numbers are read as the publisher's reader does, so `1e-5` is a number and a date is a text.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

PARENT_LEVELS = 3
"""How many folders above the file are searched for the files that it loads."""

UNFILLED = "???/"
"""What `dynamic_path` has for the folder of a download."""

MAX_EXPRESSION = 200
"""Longest arithmetic expression, in characters."""

MAX_EXPONENT = 64

MAX_NUMBER = 1e15
"""Largest number that arithmetic may give on its way."""

_FLOAT = re.compile(r"^[-+]?(?:(?:[0-9][0-9_]*)\.?[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)$")

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}


def read_published_yaml(path: Path, *, search: Sequence[Path] = ()) -> dict[str, Any]:
    """Read a published config.yaml and resolve every reference in it.

    Args:
        path: the file.
        search: folders where a file that it loads is looked for, after its own folder and the folders above.

    Returns:
        Plain dicts, lists, texts, numbers, booleans and None.

    Raises:
        FileNotFoundError: the file is not there.
        ValueError: the file is no YAML mapping, or a reference in it cannot be resolved; names file and key.
    """
    path = Path(path)
    tree = _Resolver(path, tuple(search), ()).tree()
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: expected a mapping of keys to values, found {type(tree).__name__}")
    return tree


class _Loader(yaml.SafeLoader):
    """SafeLoader that reads `1e-5` as a float and dates as texts, and refuses duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """As SafeLoader does, after a look for keys that stand twice."""
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                continue
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} stands twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+0123456789."))


class _Resolver:
    """One file, its raw tree, and the values of its keys resolved so far."""

    def __init__(self, path: Path, search: tuple[Path, ...], loading: tuple[Path, ...]) -> None:
        self._path = path
        self._search = search
        self._loading = (*loading, path.resolve())
        self._raw: Any = _read(path)
        self._active: list[str] = []
        self._done: dict[str, Any] = {}

    def tree(self) -> Any:
        return self._node(self._raw, "")

    def _fail(self, message: str) -> ValueError:
        key = self._active[-1] if self._active else ""
        return ValueError(f"{self._path}: {key or 'top'}: {message}")

    def _node(self, node: Any, key: str) -> Any:
        if isinstance(node, dict):
            return {name: self._child(value, key, name) for name, value in node.items()}
        if isinstance(node, list):
            return [self._child(value, key, index) for index, value in enumerate(node)]
        return self._text(node) if isinstance(node, str) and "${" in node else node

    def _child(self, node: Any, parent: str, name: object) -> Any:
        return self._keyed(node, f"{parent}.{name}" if parent else str(name))

    def _keyed(self, node: Any, key: str) -> Any:
        if key not in self._done:
            if key in self._active:
                circle = " -> ".join([*self._active[self._active.index(key) :], key])
                raise self._fail(f"circular reference: {circle}")
            self._active.append(key)
            self._done[key] = self._node(node, key)
            self._active.pop()
        return self._done[key]

    def _text(self, text: str) -> Any:
        """Resolve a text: one reference alone keeps its type, a mixture becomes text."""
        parts: list[Any] = []
        position = 0
        while (start := text.find("${", position)) >= 0:
            if start > position:
                parts.append(text[position:start])
            end = self._closing(text, start)
            parts.append(self._reference(text[start + 2 : end]))
            position = end + 1
        if position < len(text):
            parts.append(text[position:])
        if len(parts) == 1:
            return parts[0]
        for part in parts:
            if isinstance(part, dict | list):
                raise self._fail(f"{text!r} puts a list or mapping inside a text")
        return "".join("null" if part is None else str(part) for part in parts)

    def _closing(self, text: str, start: int) -> int:
        """Index of the brace that closes the reference starting at `start`."""
        depth = 0
        for index in range(start, len(text)):
            if text.startswith("${", index):
                depth += 1
            elif text[index] == "}":
                depth -= 1
                if depth == 0:
                    return index
        raise self._fail(f"{text!r} has a '${{' without its '}}'")

    def _reference(self, inside: str) -> Any:
        name, colon, argument = inside.partition(":")
        if not colon or "${" in name:
            return self._lookup(str(self._text(inside)).strip())
        resolvers: dict[str, Callable[[str], Any]] = {
            "eval": self._eval,
            "load_yaml": self._load_yaml,
            "concat": self._concat,
            "get_fname": self._get_fname,
            "dynamic_path": self._dynamic_path,
        }
        name = name.strip()
        if name not in resolvers:
            raise self._fail(f"unknown resolver {name!r}; known: {', '.join(resolvers)}")
        return resolvers[name](argument)

    def _lookup(self, dotted: str) -> Any:
        """The resolved value at a path such as `lm.dim` or `delays.0`."""
        value, key = self._raw, ""
        for name in dotted.split("."):
            if isinstance(value, str) and "${" in value:
                value = self._keyed(value, key)
            if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
                value = value[int(name)]
            elif isinstance(value, dict) and name in value:
                value = value[name]
            else:
                raise self._fail(f"'${{{dotted}}}' names no key of this file")
            key = f"{key}.{name}" if key else name
        return self._keyed(value, key)

    def _eval(self, argument: str) -> int | float:
        text = str(self._text(argument)).strip()
        try:
            if len(text) > MAX_EXPRESSION:
                raise ValueError(f"longer than {MAX_EXPRESSION} characters")
            return _arithmetic(ast.parse(text, mode="eval").body)
        except (SyntaxError, ValueError, ArithmeticError, RecursionError) as error:
            reason = "not arithmetic" if isinstance(error, SyntaxError) else str(error)
            raise self._fail(f"cannot work out {text[:60]!r}: {reason}") from None

    def _load_yaml(self, argument: str) -> Any:
        name = str(self._text(argument)).strip()
        folder = self._path.resolve().parent
        places = [folder, *list(folder.parents)[:PARENT_LEVELS], *self._search]
        found = next((place / name for place in places if (place / name).is_file()), None)
        if found is None:
            looked = "".join(f"\n  {place / name}" for place in places)
            raise self._fail(f"no file {name!r}; looked for{looked}")
        if found.resolve() in self._loading:
            raise self._fail(f"circular reference: {found} loads itself")
        return _Resolver(found, self._search, self._loading).tree()

    def _concat(self, argument: str) -> list[Any]:
        joined: list[Any] = []
        for part in self._arguments(argument):
            if not isinstance(part, list):
                raise self._fail(f"concat joins lists, and {part!r} is none")
            joined.extend(part)
        return joined

    def _get_fname(self, argument: str) -> str:
        """The name, without folder and ending, of the file given, or of this file."""
        text = str(self._text(argument)).strip()
        return Path(text).stem if text else self._path.stem

    def _dynamic_path(self, argument: str) -> str:
        """A name relative to the folder of the download, which is the file's own."""
        return str(self._text(argument)).strip().removeprefix(UNFILLED)

    def _arguments(self, text: str) -> list[Any]:
        """Split at the commas that stand outside of any reference, and resolve each piece."""
        pieces, depth = [""], 0
        for index, character in enumerate(text):
            depth += text.startswith("${", index) - (character == "}")
            if character == "," and depth == 0:
                pieces.append("")
            else:
                pieces[-1] += character
        return [self._text(piece.strip()) for piece in pieces]


def _read(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_Loader)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as YAML: {error}") from None


def _arithmetic(node: ast.expr) -> int | float:
    """Value of an expression of numbers, `+ - * / // % **` and brackets."""
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return node.value  # type: ignore[return-value]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        value = _arithmetic(node.operand)
        return -value if isinstance(node.op, ast.USub) else value
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _arithmetic(node.left), _arithmetic(node.right)
        if isinstance(node.op, ast.Pow) and abs(right) > MAX_EXPONENT:
            raise ValueError(f"exponent above {MAX_EXPONENT}")
        result: int | float = _BINARY[type(node.op)](left, right)
        if isinstance(result, complex):
            raise ValueError("the result is not a real number")
        if abs(result) > MAX_NUMBER:
            raise ValueError(f"a number above {MAX_NUMBER:.0e}")
        return result
    raise ValueError("only numbers, + - * / // % ** and brackets are allowed")
