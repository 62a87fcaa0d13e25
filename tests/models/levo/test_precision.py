"""Low precision in the flow network: how far songs move from float32, and that they do not drift."""

from __future__ import annotations

import copy
from pathlib import Path

import measure_precision
import pytest
import torch
from measure_precision import Settings, draw_song, errors, in_precision, recorded_networks, rounder
from torch import Tensor

from songgen.models.levo.codec import LevoCodec

SETTINGS = Settings(layers=3, frames=120, windows=4, steps=10, gate=0.3, vae_channels=16, seed=0)
DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@pytest.fixture(scope="module")
def codec(repository: Path) -> LevoCodec:
    """The recorded small codec."""
    return recorded_networks(repository / "tests/golden/levo/code2sound")[0]


@pytest.fixture(scope="module")
def exact(codec: LevoCodec) -> list[Tensor]:
    with torch.inference_mode():
        return draw_song(codec, SETTINGS)


def relative_errors(codec: LevoCodec, exact: list[Tensor]) -> list[float]:
    with torch.inference_mode():
        got = draw_song(codec, SETTINGS)
    return [errors(one.T, other.T)[0] for one, other in zip(got, exact, strict=True)]


@pytest.mark.parametrize(("precision", "limit"), [("fp16", 2.5e-4), ("bf16", 2e-3), ("tf32", 2.5e-4)])
def test_errors_are_small_and_do_not_grow_from_window_to_window(
    codec: LevoCodec, exact: list[Tensor], precision: str, limit: float
) -> None:
    """Each window starts from the end of the one before: an error that fed on itself ruins long songs."""
    with torch.inference_mode():
        found = relative_errors(in_precision(codec, precision), exact)
    assert 0 < max(found) < limit
    assert found[-1] < 1.3 * found[0]


@pytest.mark.parametrize("precision", DTYPES)
def test_what_is_measured_is_what_runs(codec: LevoCodec, exact: list[Tensor], precision: str) -> None:
    """On the CPU the tool rounds operands; the dtype itself, as songs are rendered with, errs as much."""
    converted = copy.deepcopy(codec)
    converted.estimator.convert_products_(DTYPES[precision])
    with torch.inference_mode():
        emulated = relative_errors(in_precision(codec, precision), exact)
    for real, predicted in zip(relative_errors(converted, exact), emulated, strict=True):
        assert real == pytest.approx(predicted, rel=0.15)


def test_rounding_to_ten_bits() -> None:
    """To nearest, ties to even, like the operands of a TF32 product; 16 bits are as the dtype has them."""
    step = 2.0**-10
    values = torch.tensor([1 + 0.4 * step, 1 + 0.6 * step, 1 + 0.5 * step, 1 + 1.5 * step, -3.0, 0.0])
    assert rounder("tf32")(values).tolist() == [1, 1 + step, 1, 1 + 2 * step, -3, 0]
    assert rounder("fp16")(values).tolist() == values.half().float().tolist()


def test_the_worst_channel_is_reported() -> None:
    total, worst = errors(torch.tensor([[1.0, 1.0], [2.0, 2.2]]), torch.tensor([[1.0, 1.0], [2.0, 2.0]]))
    assert worst == pytest.approx(0.1 / 2**0.5) and 0 < total < worst


def test_the_tool_prints_a_line_a_window(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = str(repository / "tests/golden/levo/code2sound")
    sizes = ["--frames", "40", "--windows", "2", "--steps", "2"]
    assert measure_precision.main(["--case", case, *sizes, "--device", "cpu", "--precision", "bf16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:12].strip() for line in lines[3:]] == ["| bf16 | 0 |", "| bf16 | 1 |"]
    assert all(line.count(" dB ") == 2 for line in lines[3:])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize(("precision", "limit"), [("fp16", 2.5e-4), ("bf16", 2e-3)])
def test_low_precision_on_a_gpu(codec: LevoCodec, exact: list[Tensor], precision: str, limit: float) -> None:
    """Real kernels, not rounded operands: float32 is that of the CPU, and 16 bit is as near as measured."""
    on_gpu = copy.deepcopy(codec).to("cuda")
    single = [latents.to("cuda") for latents in exact]
    assert max(relative_errors(on_gpu, single)) < 2e-5
    assert max(relative_errors(in_precision(on_gpu, precision), single)) < limit
