"""The graph of a step: runs as it is without CUDA, refuses tensors that moved, is captured on a GPU."""

from __future__ import annotations

import pytest
import torch

from songgen.runtime.cuda_graph import StepGraph

CPU = torch.device("cpu")


class Counter:
    """Counts in a static tensor, by a stride that is part of the variant."""

    def __init__(self, device: torch.device) -> None:
        self.count = torch.zeros(2, device=device)
        self.stride, self.runs = 1, 0

    def tensors(self) -> list[torch.Tensor]:
        return [self.count]

    def __call__(self) -> None:
        self.runs += 1
        self.count += self.stride


def test_without_cuda_the_function_runs_every_time() -> None:
    counter = Counter(CPU)
    graph = StepGraph(counter, CPU, counter.tensors)
    for variant in ("a", "a", "b"):
        graph(variant)
    assert (counter.runs, counter.count.tolist(), graph.num_graphs) == (3, [3, 3], 0)


@pytest.mark.parametrize("other", [torch.zeros(2), torch.zeros(3)])
def test_a_tensor_that_was_replaced_is_refused(other: torch.Tensor) -> None:
    counter = Counter(CPU)
    graph = StepGraph(counter, CPU, counter.tensors)
    counter.count = other
    with pytest.raises(
        RuntimeError, match=r"shape \[2\] is now \[\d\] or lies elsewhere; .* written in place"
    ):
        graph()
    assert counter.runs == 0


@pytest.mark.gpu
def test_variants_are_captured_once_and_replayed() -> None:
    """Needs a CUDA GPU: eager, then captured, then replayed, per variant."""
    device = torch.device("cuda")
    counter = Counter(device)
    graph = StepGraph(counter, device, counter.tensors)
    for stride in (1, 1, 1, 1, 10, 10, 10, 1):
        counter.stride = stride
        graph(stride)
    assert counter.count.tolist() == [35, 35]
    assert (counter.runs, graph.num_graphs) == (4, 2)
