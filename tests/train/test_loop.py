"""The training loop on a problem of two weights."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from songgen.train.curves import read_losses
from songgen.train.loop import CHECKPOINT, LoopSettings, load_trained, train
from songgen.train.optimizers import make_optimizers

SETTINGS = LoopSettings(
    steps=40, learning_rate=0.05, warmup=4, log_every=5, evaluate_every=20, precision="fp32", ema=0.9
)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


@dataclass
class Sine:
    """y = sum of x, with noise drawn inside the loss."""

    name: str = "sine"
    module: nn.Module = field(default_factory=small_network)
    is_broken: bool = False

    def batch(self, rng: np.random.Generator) -> Any:
        return torch.from_numpy(rng.normal(size=(16, 3)).astype(np.float32))

    def loss(self, batch: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor | float]]:
        noise = 0.01 * torch.randn(len(batch))
        error = self.module(batch)[:, 0] - batch.sum(1) / 4 + noise
        loss = error.square().mean()
        return (loss / 0 if self.is_broken else loss), {"step_seen": float(step)}

    def evaluate(self) -> dict[str, float]:
        assert not self.module.training
        fixed = torch.linspace(-1, 1, 30).reshape(10, 3)
        return {"loss": float((self.module(fixed)[:, 0] - fixed.sum(1) / 4).square().mean())}


def weights(folder: Path) -> dict[str, Tensor]:
    return torch.load(folder / CHECKPOINT, weights_only=True)["module"]


def test_the_loss_falls_and_is_written_down(tmp_path: Path) -> None:
    train(Sine(), SETTINGS, tmp_path)
    lines = read_losses(tmp_path / "losses.jsonl")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < losses[0] / 3
    assert [line["step"] for line in lines if "loss" in line] == list(range(5, 41, 5))
    assert [line["step"] for line in lines if "held_out/loss" in line] == [20, 40]
    assert (tmp_path / "losses.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_resumed_run_equals_a_straight_one(tmp_path: Path, optimizer: str, prefetch: int) -> None:
    settings = replace(
        SETTINGS, steps=6, log_every=2, evaluate_every=4, optimizer=optimizer, prefetch=prefetch
    )
    train(Sine(), settings, tmp_path / "straight")
    for _ in range(7):  # each call makes one step
        train(Sine(), replace(settings, max_seconds=0.0), tmp_path / "pieces")
    assert weights(tmp_path / "straight").keys() == weights(tmp_path / "pieces").keys()
    for name, tensor in weights(tmp_path / "straight").items():
        assert torch.equal(tensor, weights(tmp_path / "pieces")[name]), name
    straight, pieces = (
        [{key: value for key, value in line.items() if key != "seconds"} for line in read_losses(path)]
        for path in (tmp_path / "straight/losses.jsonl", tmp_path / "pieces/losses.jsonl")
    )
    assert straight == pieces


def test_lines_behind_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    """A killed run has written lines of steps that its checkpoint does not hold."""
    train(Sine(), replace(SETTINGS, steps=10), tmp_path)
    with (tmp_path / "losses.jsonl").open("a") as file:
        file.write('{"step": 15, "seconds": 1, "loss": 9}\n{"step": 2')
    train(Sine(), SETTINGS, tmp_path)
    steps = [line["step"] for line in read_losses(tmp_path / "losses.jsonl") if "loss" in line]
    assert steps == list(range(5, 41, 5))


def test_trained_weights_are_the_averaged_ones(tmp_path: Path) -> None:
    train(Sine(), SETTINGS, tmp_path)
    module, own = small_network(), small_network()
    assert load_trained(module, tmp_path) == 40
    load_trained(own, tmp_path, prefer_ema=False)
    saved = torch.load(tmp_path / CHECKPOINT, weights_only=True)
    assert torch.equal(module[0].weight, saved["ema"]["0.weight"])
    assert torch.equal(own[0].weight, saved["module"]["0.weight"])
    assert not torch.equal(own[0].weight, module[0].weight)


def test_the_schedule_warms_up_and_falls() -> None:
    rates = [SETTINGS.rate(step) for step in range(40)]
    assert rates[0] == pytest.approx(0.05 / 4)
    assert max(rates) == rates[3] == pytest.approx(0.05)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(0.05 * 0.05, rel=0.1)


def test_muon_takes_hidden_matrices_only() -> None:
    module = nn.ModuleDict({"layer": nn.Linear(4, 4), "lm_head": nn.Linear(4, 9), "emb": nn.Embedding(9, 4)})
    adam, muon = make_optimizers(module, "muon", 0.1, 0.01)
    assert [p.shape for p in muon.param_groups[0]["params"]] == [(4, 4)]
    assert sum(len(group["params"]) for group in adam.param_groups) == 4


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"sine: the loss of step 0 is (inf|nan); lower learning_rate"):
        train(Sine(is_broken=True), SETTINGS, tmp_path)
    with pytest.raises(ValueError, match="optimizer is 'sgd'; it must be adamw or muon"):
        make_optimizers(small_network(), "sgd", 0.1, 0.0)
    with pytest.raises(FileNotFoundError, match=r"checkpoint.pt: no such file; train this stage first"):
        load_trained(small_network(), tmp_path / "none")
    train(Sine(), replace(SETTINGS, steps=1), tmp_path)
    with pytest.raises(ValueError, match="does not fit the stage's sizes"):
        load_trained(nn.Linear(2, 2), tmp_path)
    with pytest.raises(ValueError, match="was trained with another optimizer"):
        train(Sine(), replace(SETTINGS, optimizer="muon"), tmp_path)


def test_muon_needs_a_pytorch_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ValueError, match=r"optimizer=muon needs PyTorch 2.9 or later"):
        make_optimizers(small_network(), "muon", 0.1, 0.0)
