"""Reading weight files and filling modules with them, strictly.

Modules are built without memory on the meta device and then take the tensors of the file; a missing, extra or
misshapen tensor is an error that lists names. Pickled files are opened with `weights_only=True`.
"""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from songgen.runtime.int8_weights import scales_among, unpack
from songgen.runtime.whole_files import is_lfs_pointer

Module = TypeVar("Module", bound=nn.Module)

NAMES_SHOWN = 8

UNPICKLE_ERRORS = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    OSError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
)
"""What torch.load throws at files that are cut off, damaged or something else (tried with thousands)."""


def read_tensors(path: Path, *, prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a .safetensors file or of a PyTorch pickle (flat, or under `state_dict`), on the CPU.

    Pickles are memory-mapped where their format allows. 8-bit weights of a .safetensors file
    (`int8_weights.py`) come as float32.

    Args:
        prefix: leave out, and do not read, tensors whose names begin otherwise.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a weight file: a Git-LFS pointer, a cut-off download, or other content than tensors.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    if is_lfs_pointer(path):
        raise ValueError(f"{path}: a Git-LFS pointer, not the weights; fetch the file itself")
    if not path.stat().st_size:
        raise ValueError(f"{path}: an empty file")
    if path.suffix != ".safetensors":
        tensors = _flat(unpickle(path, mmap=True), path)
        return {name: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    try:
        with safe_open(path, framework="pt") as file:
            names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118 (not a mapping)
            tensors = {name: file.get_tensor(name) for name in names}
    except (RuntimeError, OSError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read as weights (cut off?): {error}") from error
    try:
        return unpack(tensors)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of what `read_tensors` gives, without reading the weights where the format allows.

    Raises:
        FileNotFoundError, ValueError: as `read_tensors`.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return {name: tuple(tensor.shape) for name, tensor in read_tensors(path).items()}
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            shapes = {name: tuple(part.get_shape()) for name, part in slices.items()}
            packed = [name for name, part in slices.items() if part.get_dtype() == "I8"]
    except (RuntimeError, OSError, SafetensorError) as error:
        raise ValueError(f"{path}: cannot be read as weights (cut off?): {error}") from error
    try:
        scales = scales_among(shapes, packed)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return {name: shape for name, shape in shapes.items() if name not in scales}


def read_tensor(path: Path) -> Tensor:
    """The one tensor that a PyTorch pickle holds. Raises as `read_tensors`."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    content = unpickle(path, what="a tensor")
    if not isinstance(content, Tensor):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a tensor")
    return content


def unpickle(path: Path, *, what: str = "weights", mmap: bool = False) -> object:
    """What a PyTorch pickle holds, opened with `weights_only=True`.

    Args:
        what: named in errors.
        mmap: map the file instead of reading it, where its format allows.

    Raises:
        ValueError: it is cut off or damaged, or holds more than tensors.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except UNPICKLE_ERRORS as error:
        if mmap and "mmap" in str(error):  # the format of old PyTorch releases
            return unpickle(path, what=what)
        raise ValueError(f"{path}: cannot be read as {what} (cut off?): {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Why a file could not be opened, in a line; not PyTorch's advice to run what is in it."""
    if "weights_only" in str(error):
        found = re.search(r"\bGLOBAL (\S+)", str(error))
        return f"it holds more than tensors: {found[1]}" if found else "it is no PyTorch file of tensors"
    return f"{type(error).__name__}: {error}" if isinstance(error, LookupError) else str(error)


def _flat(content: object, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a table of tensors")
    tensors = {str(name): tensor for name, tensor in content.items() if isinstance(tensor, Tensor)}
    if not tensors:
        raise ValueError(f"{path}: holds no tensors")
    return tensors


def build(make: Callable[[], Module]) -> Module:
    """Build a module without memory, on the meta device."""
    with torch.device("meta"):
        return make()


def load_strictly(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    *,
    source: Path | str,
    is_unused: Callable[[str], bool] = lambda name: False,
    optional: Iterable[str] = (),
    dtype: torch.dtype,
    device: torch.device | Callable[[str], torch.device],
) -> None:
    """Give a module built by `build` its weights, in place.

    Args:
        tensors: the file's content; floating tensors are cast to `dtype` one by one.
        source: named in errors.
        is_unused: tells of a name in the file that inference does not use; it is left out.
        optional: names that the file may lack; the module keeps what it has (never a parameter on meta).
        device: where the tensors go; may depend on the name.

    Raises:
        ValueError: names missing, left over, or of another shape.
    """
    wanted = module.state_dict()
    given = {name: tensor for name, tensor in tensors.items() if name in wanted or not is_unused(name)}
    missing = [name for name in wanted if name not in given and name not in set(optional)]
    extra = [name for name in given if name not in wanted]
    misshapen = [
        f"{name} is {list(given[name].shape)}, must be {list(wanted[name].shape)}"
        for name in wanted
        if name in given and given[name].shape != wanted[name].shape
    ]
    problems = [
        f"{len(names)} {what}: {', '.join(names[:NAMES_SHOWN])}{', ...' if len(names) > NAMES_SHOWN else ''}"
        for what, names in (("missing", missing), ("unknown", extra), ("of another shape", misshapen))
        if names
    ]
    if problems:
        raise ValueError(f"{source}: these weights do not fit the model: {'; '.join(problems)}")
    where = device if callable(device) else lambda name: device
    placed = {name: _place(given[name], dtype, where(name)) for name in wanted if name in given}
    module.load_state_dict(placed, strict=False, assign=True)
    module.requires_grad_(False).eval()


def _place(tensor: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    if not tensor.is_floating_point():
        return tensor.to(device)
    return tensor.to(device=device, dtype=dtype)
