"""Weights in 8 bits: round trips through a file, what stays exact, strict errors, shapes without reading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from songgen.nn.weight_norm import WeightNormConv1d
from songgen.runtime.checkpoint import read_tensors, tensor_shapes
from songgen.runtime.int8_weights import pack


def some_tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "emb.weight": draw(7, 16),
        "conv.weight_v": draw(5, 4, 7) * 100,
        "conv.weight_g": draw(5, 1, 1),
        "image.weight": draw(3, 2, 3, 3),
        "bias": draw(5),
        "counts": torch.tensor([100_000.0]),
        "steps": torch.tensor(3),
        "huge": torch.tensor([1e6]),
        "zero.weight": torch.zeros(2, 32),
    }


def write(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    path = tmp_path / "w.safetensors"
    save_file(tensors, path)
    return path


def test_a_round_trip_is_within_half_a_step_of_each_row(tmp_path: Path) -> None:
    tensors = some_tensors()
    path = write(tmp_path, pack(tensors, is_exact=lambda name: name == "counts"))
    read = read_tensors(path)
    assert read.keys() == tensors.keys()
    for name in ("emb.weight", "conv.weight_v", "image.weight", "zero.weight"):
        assert read[name].dtype == torch.float32
        steps = tensors[name].flatten(1).abs().amax(1) / 127
        error = (read[name] - tensors[name]).flatten(1).abs().amax(1)
        assert (error <= steps * 0.5001).all()
    for name in ("conv.weight_g", "bias"):
        assert read[name].dtype == torch.float16
        torch.testing.assert_close(read[name].float(), tensors[name], rtol=1e-3, atol=1e-6)
    for name in ("counts", "steps", "huge"):
        assert read[name].dtype == tensors[name].dtype and torch.equal(read[name], tensors[name])


def test_shapes_know_nothing_of_scales(tmp_path: Path) -> None:
    tensors = some_tensors()
    path = write(tmp_path, pack(tensors))
    assert tensor_shapes(path) == {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert path.stat().st_size < write(tmp_path, tensors).stat().st_size


def test_a_prefix_reads_its_own_scales(tmp_path: Path) -> None:
    path = write(tmp_path, pack({"a.w": torch.ones(2, 16), "b.w": torch.ones(2, 16)}))
    torch.testing.assert_close(read_tensors(path, prefix="b."), {"b.w": torch.ones(2, 16)})


def test_a_doubled_codebook_row_keeps_its_direction(tmp_path: Path) -> None:
    row = torch.randn(1, 16, generator=torch.Generator().manual_seed(2))
    read = read_tensors(write(tmp_path, pack({"codebook.weight": torch.cat([row, 2 * row])})))
    assert torch.equal(2 * read["codebook.weight"][0], read["codebook.weight"][1])


def test_weight_normalised_convolutions_survive(tmp_path: Path) -> None:
    torch.manual_seed(3)
    conv = WeightNormConv1d(8, 4, 5).requires_grad_(False)
    signal = torch.randn(1, 8, 50)
    before = conv(signal)
    conv.load_state_dict(read_tensors(write(tmp_path, pack(dict(conv.state_dict())))))
    assert float((conv(signal) - before).norm() / before.norm()) < 0.01


@pytest.mark.parametrize(("weights", "dtype"), [("fp16", torch.float16), ("fp32", torch.float32)])
def test_wider_formats(weights: str, dtype: torch.dtype) -> None:
    packed = pack(some_tensors(), weights)  # type: ignore[arg-type]
    assert packed.keys() == some_tensors().keys() and packed["emb.weight"].dtype == dtype


def test_names_told_to_be_half_are() -> None:
    assert (
        pack(some_tensors(), is_half=lambda name: name == "emb.weight")["emb.weight"].dtype == torch.float16
    )


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"a": torch.ones(2, 3, dtype=torch.int8)}, "8-bit weights a have no scales: a.scale is missing"),
        (
            {"a": torch.ones(2, 3, dtype=torch.int8), "a.scale": torch.ones(2), "b.scale": torch.ones(2)},
            "b.scale is a scale without 8-bit weights: b is none",
        ),
    ],
)
def test_scales_and_weights_belong_together(tmp_path: Path, tensors: dict[str, Tensor], message: str) -> None:
    path = write(tmp_path, tensors)
    for read in (read_tensors, tensor_shapes):
        with pytest.raises(ValueError, match=rf"w\.safetensors: .*{message}"):
            read(path)


@pytest.mark.parametrize("scale", [torch.ones(3), torch.ones(2, 1), torch.ones(2, dtype=torch.int64)])
def test_a_scale_is_a_float_for_each_row(tmp_path: Path, scale: Tensor) -> None:
    path = write(tmp_path, {"a": torch.ones(2, 3, dtype=torch.int8), "a.scale": scale})
    with pytest.raises(ValueError, match=r"a\.scale is torch.* need a float for each of their rows"):
        read_tensors(path)


def test_a_parameter_called_scale_is_one_where_nothing_is_packed(tmp_path: Path) -> None:
    tensors = {"layer.scale": torch.ones(3)}
    assert read_tensors(write(tmp_path, tensors)).keys() == tensors.keys()
    with pytest.raises(ValueError, match=r"tensor layer\.scale ends in \.scale"):
        pack(tensors)


def test_numbers_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="tensor a holds numbers that are not finite"):
        pack({"a": torch.tensor([float("nan")])})
