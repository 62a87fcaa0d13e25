"""A case folder, and one comparison of a tensor with its recorded value."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor


class Tensors(dict[str, Tensor]):
    """Tensors by name; asking for one that a case does not hold is an error that names it."""

    def __init__(self, tensors: Mapping[str, Tensor], prefix: str) -> None:
        super().__init__(tensors)
        self.prefix = prefix

    def __missing__(self, name: str) -> Tensor:
        raise ValueError(f"the case holds no tensor {self.prefix}{name}")


def under(tensors: Mapping[str, Tensor], prefix: str) -> Tensors:
    """The tensors below a prefix, without it."""
    start = prefix + "."
    found = {name[len(start) :]: value for name, value in tensors.items() if name.startswith(start)}
    return Tensors(found, getattr(tensors, "prefix", "") + start)


class Case:
    """A recorded case: `meta` is its case.json, tensors are read when first asked for, float16 as float32.

    Args:
        tokenizer: folder with the published vocabulary, for cases whose own folder has none.
    """

    def __init__(self, folder: Path, *, tokenizer: Path | None = None) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder}: no such folder")
        path = folder / "case.json"
        self.meta: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        if not self.meta and (folder / "expected.json").is_file():
            self.meta = {"kind": "tokenization"}
        if not self.meta and (folder / "index.json").is_file():
            self.meta = {"kind": "songbloom"}
        if "kind" not in self.meta:
            raise FileNotFoundError(f"{folder}: no case.json with a 'kind', and no index.json")

    @property
    def kind(self) -> str:
        """The name of the runner, such as `lm_greedy`."""
        return str(self.meta["kind"])

    @property
    def subs(self) -> Mapping[str, Mapping[str, Any]]:
        """The sub-cases; their tensors are named `<sub>.<name>`."""
        subs: Mapping[str, Mapping[str, Any]] = self.meta.get("sub", {})
        return subs

    def tensors(self, name: str) -> Tensors:
        """All tensors of `<name>.safetensors`. 16-bit floats are storage only: returned as float32."""
        path = self.folder / f"{name}.safetensors"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing")
        tensors = load_file(path)
        full = {
            key: value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
            for key, value in tensors.items()
        }
        return Tensors(full, f"{name}: ")

    @cached_property
    def inputs(self) -> Tensors:
        """Tensors of inputs.safetensors."""
        return self.tensors("inputs")

    @cached_property
    def expected(self) -> Tensors:
        """Tensors of expected.safetensors."""
        return self.tensors("expected")

    def inputs_of(self, sub: str) -> Tensors:
        """The inputs of one sub-case, by name without the prefix; some have those of another one."""
        return under(self.inputs, self.subs[sub].get("same_inputs_as", sub))

    def setting(self, sub: str, name: str, default: Any) -> Any:
        """A number of a sub-case: its own, else the whole case's, else the published one."""
        return self.subs[sub].get(name, self.meta.get(name, default))

    def expected_of(self, sub: str) -> Tensors:
        """The recorded tensors of one sub-case, by name without the prefix."""
        return under(self.expected, sub)


@dataclass(frozen=True)
class Check:
    """One comparison.

    Args:
        name: tensor name.
        max_abs: largest absolute error (for integers: number of unequal entries).
        max_rel: max_abs over the largest absolute expected value.
        tolerance: largest allowed max_rel; None means equality.
        note: said behind the line, such as a wrong shape.
    """

    name: str
    max_abs: float
    max_rel: float
    tolerance: float | None
    ok: bool
    note: str = ""

    def line(self) -> str:
        """One line of the report."""
        limit = "equal" if self.tolerance is None else f"{self.tolerance:.0e}"
        verdict = "ok" if self.ok else "FAIL"
        errors = f"abs {self.max_abs:.2e}  rel {self.max_rel:.2e}"
        return f"{verdict:4} {self.name:48} {errors}  ({limit}) {self.note}".rstrip()


def compare(name: str, got: Tensor, expected: Tensor, tolerance: float | None = None) -> Check:
    """Compare with a recorded tensor: floats by relative maximum error, integers (tolerance None): equal.

    Infinities must stand in the same places and are then left out.
    """
    got = got.detach().cpu()
    if got.shape != expected.shape:
        note = f"shape {list(got.shape)}, recorded {list(expected.shape)}"
        return Check(name, float("inf"), float("inf"), tolerance, False, note)
    if tolerance is None:
        unequal = int((got != expected).sum())
        return Check(name, unequal, unequal / max(1, expected.numel()), None, unequal == 0)
    finite = expected.isfinite()
    if not torch.equal(got.isfinite(), finite) or not torch.equal(got.isposinf(), expected.isposinf()):
        return Check(name, float("inf"), float("inf"), tolerance, False, "infinities in other places")
    difference = (got.double() - expected.double())[finite].abs()
    max_abs = float(difference.max()) if difference.numel() else 0.0
    scale = float(expected[finite].double().abs().max()) if difference.numel() else 0.0
    max_rel = max_abs / scale if scale > 0 else max_abs
    return Check(name, max_abs, max_rel, tolerance, max_rel <= tolerance)


PICK = re.compile(r"_(every|first|last|dense)_?(\d+)$")
DENSE_LENGTH = 2400


def split_pick(name: str) -> tuple[str, str]:
    """A recorded name as (name of the whole tensor, how it was picked): `wav_every5` -> `wav`, `_every5`."""
    match = PICK.search(name)
    return (name[: match.start()], match[0]) if match else (name, "")


def pick(tensor: Tensor, suffix: str, dim: int = -1, dense_length: int = DENSE_LENGTH) -> Tensor:
    """What a case keeps of a tensor: every N-th entry of an axis, the first or last N, or a piece from N on.

    Args:
        suffix: `_everyN`, `_firstN`, `_lastN`, `_denseN` or `_dense_N`; empty for everything.
        dim: the axis.
        dense_length: entries of a piece; cases differ.
    """
    if not suffix:
        return tensor
    match = PICK.fullmatch(suffix)
    if match is None:
        raise ValueError(f"{suffix!r} is not a way to pick; known: _everyN, _firstN, _lastN, _dense_N")
    count = int(match[2])
    slices = {
        "every": slice(None, None, count),
        "first": slice(count),
        "last": slice(max(0, tensor.shape[dim] - count), None),
        "dense": slice(count, count + dense_length),
    }
    return tensor.movedim(dim, 0)[slices[match[1]]].movedim(0, dim)


def pick_like(tensor: Tensor, suffix: str, expected: Tensor, dim: int = -1) -> Tensor:
    """What a case keeps of a tensor, on the axis that gives the recorded shape: `dim`, the last, or another.

    Pieces of `_dense_N` are as long as the recorded one.
    """
    if not suffix or tensor.ndim != expected.ndim:
        return tensor
    axes = [dim, -1, *range(tensor.ndim)]
    picked = [pick(tensor, suffix, axis, dense_length=expected.shape[axis]) for axis in axes]
    return next((piece for piece in picked if piece.shape == expected.shape), picked[0])


INFORMATION = re.compile(r"(.*\.)?(cos_margin|margin_\w+)")
"""Recorded for the reader, not compared."""
NOT_COMPARED = {
    "sampling": re.compile(r"(logits|history|ignore)\..*"),
    "fast_sampling": re.compile(r"(logits|history|banned|q|companion_probs)\..*"),
    "fast_greedy": re.compile(r".*\.(companion_out|out|tokens)"),
    "fast_e2e": re.compile(r".*\.(lm|codec)_prompt_codes"),
}
"""By kind: inputs among the expected tensors, and what the fast variant's runners leave out on purpose."""


def failed(name: str, note: str, tolerance: float | None = None) -> Check:
    """A check of what could not be compared."""
    return Check(name, float("inf"), float("inf"), tolerance, False, note)


def left_out(case: Case, checks: Iterable[Check]) -> Iterator[Check]:
    """A failing check for each recorded tensor that none of the checks is named after."""
    if not (case.folder / "expected.safetensors").is_file():
        return
    compared, exempt = {check.name for check in checks}, NOT_COMPARED.get(case.kind, INFORMATION)
    for name in case.expected:
        if name not in compared and not INFORMATION.fullmatch(name) and not exempt.fullmatch(name):
            yield failed(name, "recorded, but not computed here")
