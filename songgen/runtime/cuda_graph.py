"""A function of static tensors, captured once per variant as a CUDA graph and then replayed.

The function takes nothing and returns nothing: it reads and writes tensors that were allocated before and
stay where they are. It must not look at their values on the host. Off CUDA it simply runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Address = tuple[int, torch.Size]


class StepGraph:
    """Runs a function as it is, or on CUDA from its second call of a variant on as a graph.

    The first call of a variant runs eagerly, which also warms up whatever compiles or allocates on first use.

    Args:
        function: what to run.
        device: where its tensors are.
        tensors: gives the static tensors; a call refuses to run if one was replaced or has another shape.
        is_captured: False runs the function as it is on CUDA too.
    """

    def __init__(
        self,
        function: Callable[[], None],
        device: torch.device,
        tensors: Callable[[], Iterable[Tensor]],
        *,
        is_captured: bool = True,
    ) -> None:
        self._function = function
        self._tensors = tensors
        self._addresses = [_address(tensor) for tensor in tensors()]
        self._is_captured = is_captured and device.type == "cuda"
        self._has_run: set[Hashable] = set()
        self._graphs: dict[Hashable, torch.cuda.CUDAGraph] = {}

    @property
    def num_graphs(self) -> int:
        """Variants captured so far."""
        return len(self._graphs)

    def __call__(self, variant: Hashable = None) -> None:
        """Run the function once.

        Args:
            variant: everything that the function reads besides the tensors; each has its own graph.

        Raises:
            RuntimeError: a static tensor is no longer what it was.
        """
        self._check()
        if not self._is_captured or variant not in self._has_run:
            self._has_run.add(variant)
            self._function()
            return
        graph = self._graphs.get(variant)
        if graph is None:
            graph = self._graphs[variant] = self._capture(variant)
        graph.replay()

    def _capture(self, variant: Hashable) -> torch.cuda.CUDAGraph:
        pool = next(iter(self._graphs.values())).pool() if self._graphs else None
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
            self._function()
        logger.debug("captured CUDA graph %d: %s", len(self._graphs) + 1, variant)
        return graph

    def _check(self) -> None:
        for tensor, address in zip(self._tensors(), self._addresses, strict=True):
            if _address(tensor) != address:
                raise RuntimeError(
                    f"a graph's tensor of shape {list(address[1])} is now {list(tensor.shape)} or lies "
                    "elsewhere; static tensors are written in place, and other shapes need a new graph"
                )


def _address(tensor: Tensor) -> Address:
    return tensor.data_ptr(), tensor.shape
