"""On a GPU: blocks from graphs are those of the same steps run one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from songgen.models.base import Draft, Job
from songgen.models.songbloom.compose import ComposeOptions, Composer
from songgen.models.songbloom.condition import SongBloomConditions
from songgen.models.songbloom.loading import load
from songgen.requests import SongRequest

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_graphs_write_what_single_steps_write(tiny_songbloom_folder: Path, dtype: str) -> None:
    model = load(tiny_songbloom_folder, device="cuda", dtype=dtype, batch=2)
    network = model.parts.network.get()

    def jobs() -> Iterator[Job]:
        for number in range(4):
            request = SongRequest(idx=str(number), lyrics="")
            conditions = SongBloomConditions((1, 40 + number, 50))
            yield Job(request.idx, request, number, model.sampling, 3.0 - 0.7 * (number % 2), conditions)

    def drafts(composer: Composer) -> dict[str, Draft]:
        return {draft.job.name: draft for draft in composer.compose(jobs())}

    graphs = drafts(Composer(network, ComposeOptions(2)))
    steps = drafts(Composer(network, ComposeOptions(2), on_logits=lambda logits: logits))
    for name, draft in graphs.items():
        assert torch.equal(draft.tokens, steps[name].tokens)
        assert draft.latents is not None and steps[name].latents is not None
        torch.testing.assert_close(draft.latents, steps[name].latents, rtol=1e-4, atol=1e-4)
