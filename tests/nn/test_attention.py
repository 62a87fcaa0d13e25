"""Attention over the static cache: right, and independent of neighbours and window to the last bit."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from songgen.nn.attention import attend_prompt, attend_step, backends, choose_attention, window_of
from songgen.nn.kv_cache import LayerCache

CPU = torch.device("cpu")


def random_rows(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_step_equals_reference_attention(length: int) -> None:
    q, k, v = random_rows(3, 2, 16), random_rows(3, 2, 256, 16), random_rows(3, 2, 256, 16) + 1
    got = attend_step(q, LayerCache(k, v), torch.full((3,), length), 256)
    expected = functional.scaled_dot_product_attention(q.unsqueeze(2), k[:, :, :length], v[:, :, :length])
    torch.testing.assert_close(got, expected.squeeze(2))


def test_rows_see_their_own_length_only() -> None:
    q, k, v = random_rows(2, 2, 16), random_rows(2, 2, 128, 16), random_rows(2, 2, 128, 16) + 1
    lengths = torch.tensor([5, 90])
    before = attend_step(q, LayerCache(k, v), lengths, 128)
    k[0, :, 5:], v[0, :, 5:] = 1e3, 1e3
    assert torch.equal(attend_step(q, LayerCache(k, v), lengths, 128), before)


@pytest.mark.parametrize("length", [3, 64, 130, 700])
def test_bits_do_not_depend_on_batch_or_window(length: int) -> None:
    q, k, v = random_rows(8, 4, 16), random_rows(8, 4, 1024, 16), random_rows(8, 4, 1024, 16) + 1
    small = window_of(length, 1024, 64)
    alone = attend_step(q[:2], LayerCache(k[:2], v[:2]), torch.full((2,), length), small)
    together = attend_step(q, LayerCache(k, v), torch.full((8,), length), 1024)
    assert torch.equal(together[:2], alone)


def test_prompt_is_causal() -> None:
    q, k, v = random_rows(1, 2, 10, 8), random_rows(1, 2, 10, 8) + 1, random_rows(1, 2, 10, 8) + 2
    whole = attend_prompt(q, k, v)
    torch.testing.assert_close(attend_prompt(q[:, :, :4], k[:, :, :4], v[:, :, :4]), whole[:, :, :4])


def test_a_later_part_of_a_prompt_sees_what_came_before() -> None:
    q, k, v = random_rows(1, 2, 10, 8), random_rows(1, 2, 10, 8) + 1, random_rows(1, 2, 10, 8) + 2
    torch.testing.assert_close(attend_prompt(q[:, :, 6:], k, v), attend_prompt(q, k, v)[:, :, 6:])


@pytest.mark.parametrize(("length", "window"), [(1, 64), (64, 64), (65, 128), (190, 190)])
def test_window_is_rounded_up_within_the_capacity(length: int, window: int) -> None:
    assert window_of(length, 190, 64) == min(window, 190)
    assert window_of(length, 10_000, 512) % 512 == 0


def test_the_cpu_has_sdpa_and_says_why_not_the_others() -> None:
    found = backends(CPU)
    assert list(found) == ["flash", "triton", "sdpa"]
    assert found["sdpa"] is None
    assert found["flash"] == found["triton"] == "it needs a CUDA GPU, and this is cpu"
    assert choose_attention("auto", CPU, torch.float32) == "sdpa"


@pytest.mark.parametrize("name", ["flash", "triton"])
def test_a_backend_that_cannot_run_is_refused_with_the_reason(name: str) -> None:
    with pytest.raises(ValueError, match=f"attention={name} cannot run here: it needs a CUDA GPU"):
        choose_attention(name, CPU, torch.float32)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="attention is 'fast'; it must be one of auto, flash, triton, sdpa"):
        choose_attention("fast", CPU, torch.float32)


def with_gpu(
    monkeypatch: pytest.MonkeyPatch, packages: set[str], capability: tuple[int, int]
) -> torch.device:
    """A machine that has a GPU as far as `choose_attention` asks."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in packages else None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    return torch.device("cuda")


@pytest.mark.parametrize(
    ("packages", "capability", "dtype", "is_int8", "chosen"),
    [
        ({"flash_attn", "triton"}, (9, 0), torch.float16, False, "flash"),
        ({"flash_attn", "triton"}, (9, 0), torch.float16, True, "triton"),
        ({"flash_attn", "triton"}, (9, 0), torch.float32, False, "triton"),
        ({"flash_attn", "triton"}, (7, 5), torch.float16, False, "triton"),
        ({"triton"}, (9, 0), torch.float16, False, "triton"),
        (set(), (9, 0), torch.float16, False, "sdpa"),
    ],
)
def test_auto_takes_the_first_that_can_run(
    monkeypatch: pytest.MonkeyPatch,
    packages: set[str],
    capability: tuple[int, int],
    dtype: torch.dtype,
    is_int8: bool,
    chosen: str,
) -> None:
    device = with_gpu(monkeypatch, packages, capability)
    assert choose_attention("auto", device, dtype, is_int8=is_int8) == chosen


@pytest.mark.parametrize(
    ("packages", "capability", "dtype", "is_int8", "reason"),
    [
        ({"triton"}, (9, 0), torch.float16, False, "the package flash_attn is not installed"),
        ({"flash_attn"}, (7, 5), torch.float16, False, "compute capability 8.0 or more"),
        ({"flash_attn"}, (9, 0), torch.float32, False, "16 bit only, and dtype is fp32"),
        ({"flash_attn"}, (9, 0), torch.float16, True, "it cannot read an 8-bit cache"),
    ],
)
def test_flash_says_what_it_cannot_do(
    monkeypatch: pytest.MonkeyPatch,
    packages: set[str],
    capability: tuple[int, int],
    dtype: torch.dtype,
    is_int8: bool,
    reason: str,
) -> None:
    device = with_gpu(monkeypatch, packages, capability)
    with pytest.raises(ValueError, match=reason):
        choose_attention("flash", device, dtype, is_int8=is_int8)
