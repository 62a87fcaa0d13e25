"""The Llama stack: a step over the cache equals a whole pass."""

from __future__ import annotations

import pytest
import torch

from songgen.nn.llama import Llama, LlamaConfig, RMSNorm, RotaryTable
from songgen.nn.step_ops import rotate

CONFIG = LlamaConfig(width=32, ffn_dim=48, num_heads=4, num_layers=3, rope_theta=10_000.0, num_positions=64)


@pytest.fixture(scope="module")
def llama() -> Llama:
    torch.manual_seed(1)
    stack = Llama(CONFIG)
    for parameter in stack.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return stack.requires_grad_(False)


@pytest.mark.parametrize("prompt_length", [1, 7])
def test_steps_equal_one_pass(llama: Llama, prompt_length: int) -> None:
    inputs = torch.randn(2, 20, CONFIG.width)
    rope = llama.rotary_table()
    whole = llama.prompt(inputs, rope, llama.new_cache(2, 64))
    cache = llama.new_cache(2, 64)
    parts = [llama.prompt(inputs[:, :prompt_length], rope, cache)]
    for place in range(prompt_length, 20):
        positions = torch.full((2,), place)
        parts.append(llama.step(inputs[:, place], rope, cache, positions, window=64).unsqueeze(1))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-5)


def test_rows_at_different_positions(llama: Llama) -> None:
    """A row refilled in mid-run has its own position: it must not see its neighbour's."""
    inputs, rope = torch.randn(1, 12, CONFIG.width), llama.rotary_table()
    whole = llama.prompt(inputs, rope, llama.new_cache(1, 64))
    cache = llama.new_cache(2, 64)
    llama.prompt(inputs[:, :5], rope, cache, first_row=0)
    llama.prompt(inputs[:, :11], rope, cache, first_row=1)
    fed = torch.stack([inputs[0, 5], inputs[0, 11]])
    got = llama.step(fed, rope, cache, torch.tensor([5, 11]), window=64)
    torch.testing.assert_close(got, torch.stack([whole[0, 5], whole[0, 11]]), rtol=1e-4, atol=1e-5)


def test_rotary_positions_are_relative() -> None:
    rope = RotaryTable.build(CONFIG, torch.float32, torch.device("cpu"))
    q, k = torch.randn(8), torch.randn(8)

    def score(at_q: int, at_k: int) -> torch.Tensor:
        return rotate(q, *rope.at(slice(at_q, at_q + 1))) @ rotate(k, *rope.at(slice(at_k, at_k + 1))).T

    torch.testing.assert_close(score(9, 4), score(25, 20), rtol=1e-4, atol=1e-5)


def test_norm_keeps_the_dtype_and_computes_in_float32() -> None:
    x = torch.full((1, 4), 300.0, dtype=torch.float16)  # the square overflows float16
    norm = RMSNorm(4).half()
    assert norm(x).dtype == torch.float16
    torch.testing.assert_close(norm(x), torch.ones(1, 4, dtype=torch.float16))
