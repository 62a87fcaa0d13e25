"""What the benchmark stands on: the plain loop computes the same songs, bytes are those read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_sizes import SIZES

from songgen.models.base import Job
from songgen.models.levo.baseline import compose_plainly
from songgen.models.levo.bench import random_conditions
from songgen.models.levo.compose import ComposeOptions, Composer
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.loading import load
from songgen.models.levo.pattern import from_sequence
from songgen.models.levo.random_model import published_config, random_lelm
from songgen.models.levo.tiny import ensure_tiny
from songgen.models.levo.traffic import traffic_of, weight_bytes
from songgen.nn.llama import Llama
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def lelm() -> LeLM:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return random_lelm(SIZES, 60, dtype=torch.float32, device=CPU)


def compose(lelm: LeLM, frames: int, sampling: Sampling) -> torch.Tensor:
    request = SongRequest(idx="a", lyrics="")
    job = Job("a", request, 0, sampling, (frames + 0.5) / 25, random_conditions(lelm.config, lelm, 0))
    (draft,) = Composer(lelm, ComposeOptions(1)).compose(iter([job]))
    return draft.tokens


@pytest.mark.parametrize("penalty", [1.0, 1.1])
def test_the_plain_loop_writes_the_same_greedy_song(lelm: LeLM, penalty: float) -> None:
    sampling = Sampling(temperature=0, penalty=penalty)
    columns = compose_plainly(lelm, random_conditions(lelm.config, lelm, 0), 40, sampling, 0)
    assert columns.shape == (3, 1 + 40 + 250)
    assert torch.equal(from_sequence(columns, lelm.config.delays), compose(lelm, 40, sampling))


def test_the_plain_loop_writes_the_same_greedy_song_of_one_codebook(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """With its guidance on log-probabilities and its penalty by frequency."""
    fast = load(ensure_tiny(tmp_path_factory.mktemp("cache"), "tiny-fast"), device="cpu").parts.lelm.get()
    sampling = replace(fast.config.sampling, temperature=0)
    columns = compose_plainly(fast, random_conditions(fast.config, fast, 0), 30, sampling, 0)
    assert torch.equal(columns[:, 1:], compose(fast, 30, sampling))


@pytest.mark.parametrize("frames", [30, 300])
def test_bytes_and_steps_are_those_of_a_run(lelm: LeLM, frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted at every step of each transformer: its weights, and what each row of its cache has written."""
    config, read, steps = lelm.config, 0.0, Llama.step
    heads = {id(lelm.stacks[0]): [lelm.transformer.lm_head], id(lelm.stacks[1]): [lelm.mlp, lelm.linears]}

    def counted(self: Llama, x: torch.Tensor, *args: object, **options: object) -> torch.Tensor:
        nonlocal read
        lengths = options["lengths_B"]
        assert isinstance(lengths, torch.Tensor)
        seen = int(lengths[:2].sum())  # the slot beside the song's idles
        read += sum(weight_bytes(part) for part in (self, *heads[id(self)]))
        read += seen * self.config.num_layers * 2 * config.width * 4
        return steps(self, x, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Llama, "step", counted)
    compose(lelm, frames, Sampling())
    traffic = traffic_of(lelm, frames, 1)
    # the last look comes up to 24 steps late
    assert traffic.ours <= read < traffic.ours * (1 + 24 / (frames - 24) if frames > 100 else 2.5)
    assert traffic.plain_steps == frames + 250 and traffic.steps <= traffic.plain_steps
    assert traffic.ours < traffic.plain
    assert traffic_of(lelm, frames, 1, is_int8=True).ours < traffic.ours < traffic_of(lelm, frames, 2).ours


def test_random_weights_are_reproducible_in_size_and_run_to_the_limit(lelm: LeLM) -> None:
    config = published_config(SIZES, 60)
    assert lelm.config == config and config.delays == (0, 250, 250)
    assert compose(lelm, 60, Sampling()).shape == (3, 60)


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ["auto", "triton", "sdpa"])
@pytest.mark.parametrize("kv_cache", ["auto", "int8"])
def test_graphs_write_what_eager_steps_write(attention: str, kv_cache: str, tmp_path: Path) -> None:
    """Needs a CUDA GPU: greedy songs in all phases, with captured steps and without."""
    device = torch.device("cuda")
    torch.manual_seed(0)
    lelm = random_lelm(SIZES, 60, dtype=torch.float16, device=device)
    found = []
    for captures in (True, False):
        composer = Composer(lelm, ComposeOptions(2, attention=attention, kv_cache=kv_cache))
        composer.decoder._graph._is_captured = captures
        jobs = []
        for seed, frames in enumerate((60, 400, 330)):
            conditions = random_conditions(lelm.config, lelm, seed)
            request = SongRequest(idx=str(seed), lyrics="")
            jobs.append(Job(str(seed), request, seed, Sampling(), (frames + 0.5) / 25, conditions))
        found.append({draft.job.name: draft.tokens.tolist() for draft in composer.compose(iter(jobs))})
        assert (composer.decoder._graph.num_graphs > 0) == captures
    assert found[0] == found[1]
