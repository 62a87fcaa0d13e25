"""Measure what the decoding loop builds on: which shapes give a row the same bits whatever stands beside it.

    python tools/measure_rows.py

Prints, per width, whether the rows of a matrix product of M rows equal those of one of 64 rows bit for bit,
and the time of M rows over that of 2; then the same for attention of one query over a cache, ours and
torch's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from songgen.nn.attention import attend_step, window_of

ROWS = (2, 4, 6, 8, 16, 32)
SHAPES = ((64, 160), (128, 257), (1536, 1536), (1536, 8960), (8960, 1536))


def seconds(call: Callable[[], object], repeats: int = 20) -> float:
    """The median time of a call."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return sorted(times)[repeats // 2]


def matrix_products() -> None:
    """Rows of y = x W^T in products of different heights."""
    for width_in, width_out in SHAPES:
        weight, x = torch.randn(width_out, width_in), torch.randn(64, width_in)
        whole = functional.linear(x, weight)
        base = seconds(lambda x=x, weight=weight: functional.linear(x[:2], weight))
        cells = []
        for rows in ROWS:
            is_equal = torch.equal(functional.linear(x[:rows], weight), whole[:rows])
            took = seconds(lambda x=x, rows=rows, weight=weight: functional.linear(x[:rows], weight))
            cells.append(f"{rows}: {'same' if is_equal else 'DIFFERENT'} x{took / base:.1f}")
        print(f"linear {width_in:5} -> {width_out:5}   " + "   ".join(cells))


def torch_attention(q: Tensor, k: Tensor, v: Tensor, lengths: Tensor) -> Tensor:
    """The library's function with a mask over the unwritten positions."""
    mask = (torch.arange(k.shape[2]) < lengths[:, None])[:, None, None]
    return functional.scaled_dot_product_attention(q.unsqueeze(2), k, v, attn_mask=mask).squeeze(2)


def attention() -> None:
    """Two rows alone in a small window against the same rows among eight in a large one."""
    q, k, v = torch.randn(8, 12, 128), torch.randn(8, 12, 4700, 128), torch.randn(8, 12, 4700, 128)
    for length in (100, 700, 4600):
        small, lengths = window_of(length, 4700), torch.full((8,), length)
        cells, times = [], []
        for name, attend in (("ours", attend_step), ("torch", torch_attention)):
            alone = attend(q[:2], k[:2, :, :small], v[:2, :, :small], lengths[:2])
            is_equal = torch.equal(attend(q, k, v, lengths)[:2], alone)
            times.append(
                seconds(
                    lambda attend=attend, small=small, lengths=lengths: attend(
                        q[:2], k[:2, :, :small], v[:2, :, :small], lengths[:2]
                    )
                )
            )
            cells.append(f"{name}: {'same' if is_equal else 'DIFFERENT'}")
        print(
            f"attention over {length:4}   {'   '.join(cells)}   ours / torch time x{times[0] / times[1]:.2f}"
        )


def main() -> int:
    """Print both tables for one and for two threads."""
    torch.manual_seed(0)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        print(f"-- {threads} thread(s), torch {torch.__version__}")
        with torch.inference_mode():
            matrix_products()
            attention()
    return 0


if __name__ == "__main__":
    sys.exit(main())
