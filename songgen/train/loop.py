"""The training loop of all stages: schedule, mixed precision, averaged weights, checkpoints, loss curves.

It knows no model and no data: a stage makes batches from a random generator and turns them into a loss. Step
n has its own generator, made from the seed and n, so a run that was broken off and resumed computes what a
straight one does.
"""

from __future__ import annotations

import io
import logging
import math
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from songgen.files import write_together
from songgen.train.curves import LossLog
from songgen.train.optimizers import make_optimizers

CHECKPOINT = "checkpoint.pt"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopSettings:
    """How a stage is trained.

    Args:
        steps: optimizer steps of the whole run; with 0 the module is measured and saved as it is.
        learning_rate: the peak, after `warmup` steps; it falls along a cosine to `min_rate` times it.
        weight_decay: of tensors with two or more axes, decoupled (Loshchilov & Hutter, arXiv:1711.05101).
        clip: largest norm of the gradient.
        ema: decay of averaged weights a step, 0 for none; at step n at most (1 + n) / (10 + n).
        precision: "bf16" runs the loss under autocast, weights stay float32; "fp32".
        optimizer: "adamw", or "muon" for the matrices of hidden layers (Jordan et al. 2024) and AdamW for the
            rest.
        save_seconds: time between checkpoints.
        log_every, evaluate_every: steps between lines of losses.jsonl, and between held-out measurements
            (0: only at the end).
        seed: of all that is drawn.
        max_seconds: of this call; the run is then saved and can be resumed. None for no limit.
        prefetch: batches made ahead by as many threads.
    """

    steps: int
    learning_rate: float
    warmup: int = 100
    min_rate: float = 0.05
    weight_decay: float = 0.01
    clip: float = 1.0
    ema: float = 0.0
    precision: Literal["bf16", "fp32"] = "bf16"
    optimizer: Literal["adamw", "muon"] = "adamw"
    save_seconds: float = 120.0
    log_every: int = 20
    evaluate_every: int = 500
    seed: int = 0
    max_seconds: float | None = None
    prefetch: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of step 0 ... steps - 1."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        share = min(1.0, max(0.0, (step - self.warmup) / max(1, self.steps - self.warmup)))
        cosine = 0.5 * (1 + math.cos(math.pi * share))
        return self.learning_rate * warm * (self.min_rate + (1 - self.min_rate) * cosine)


class Stage(Protocol):
    """What a stage gives the loop."""

    name: str
    module: nn.Module
    """All that is trained, saved and averaged."""

    def batch(self, rng: np.random.Generator) -> Any:
        """The inputs of one step: a function of the generator alone."""
        ...

    def loss(self, batch: Any, step: int) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The loss to minimise, and what to log beside it. Called under autocast."""
        ...

    def evaluate(self) -> dict[str, float]:
        """Measurements on held-out songs; the module is in evaluation mode."""
        ...


def train(stage: Stage, settings: LoopSettings, folder: Path) -> Path:
    """Train a stage, from where a checkpoint in the folder left off.

    Args:
        folder: gets checkpoint.pt, losses.jsonl and losses.png.

    Returns:
        The checkpoint.

    Raises:
        ValueError: the checkpoint does not fit the stage, or the loss is not finite.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(stage, settings, folder)
    run.resume()
    run.go()
    return folder / CHECKPOINT


def load_trained(module: nn.Module, folder: Path, *, prefer_ema: bool = True) -> int:
    """Fill a module from a stage's checkpoint, with the averaged weights if there are any.

    Returns:
        Steps that it was trained for.

    Raises:
        FileNotFoundError: no checkpoint in the folder.
        ValueError: its tensors do not fit the module.
    """
    path = folder / CHECKPOINT
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; train this stage first (songgen train {folder.name})")
    saved = torch.load(path, map_location="cpu", weights_only=True)
    tensors = saved["ema"] if prefer_ema and saved["ema"] else saved["module"]
    _fill(module, tensors, path)
    return int(saved["step"])


def _fill(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{path}: does not fit the stage's sizes; train into another folder, or delete it: {error}"
        ) from None


class _Run:
    """One call of `train`: the state that a checkpoint holds."""

    def __init__(self, stage: Stage, settings: LoopSettings, folder: Path) -> None:
        self.stage, self.settings, self.folder = stage, settings, folder
        self.device = next(stage.module.parameters()).device
        self.optimizers = make_optimizers(
            stage.module, settings.optimizer, settings.learning_rate, settings.weight_decay
        )
        self.ema: dict[str, Tensor] = {}
        if settings.ema:
            self.ema = {name: value.detach().clone() for name, value in stage.module.state_dict().items()}
        self.step = 0
        self.seconds = 0.0
        self.log = LossLog(folder)

    def resume(self) -> None:
        """Take up the checkpoint, if there is one."""
        path = self.folder / CHECKPOINT
        if not path.is_file():
            self.log.cut(0)
            return
        saved = torch.load(path, map_location=self.device, weights_only=True)
        _fill(self.stage.module, saved["module"], path)
        if self.ema:
            self.ema = saved["ema"] or self.ema
        if len(saved["optimizers"]) != len(self.optimizers):
            raise ValueError(f"{path}: was trained with another optimizer; use it again, or another folder")
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.step, self.seconds = int(saved["step"]), float(saved["seconds"])
        self.log.cut(self.step)
        logger.info("%s: resumed at step %d of %d", self.stage.name, self.step, self.settings.steps)

    def save(self) -> None:
        """Write the checkpoint, whole or not at all."""
        state = {
            "module": self.stage.module.state_dict(),
            "ema": self.ema,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_together({self.folder / CHECKPOINT: buffer.getvalue()})
        self.log.draw()

    def go(self) -> None:
        """Steps until the run, or this call's time, is over."""
        settings, stage = self.settings, self.stage
        began = last = saved = time.monotonic()
        stage.module.train()
        for batch in self._batches():
            loss, facts = self._update(batch)
            now = time.monotonic()
            self.seconds, last = self.seconds + now - last, now
            self.step += 1
            if self.step % settings.log_every == 0 or self.step == settings.steps:
                self._note(loss, facts)
            if settings.evaluate_every and self.step % settings.evaluate_every == 0:
                self._evaluate()
            is_over = settings.max_seconds is not None and now - began >= settings.max_seconds
            if is_over or (now - saved >= settings.save_seconds and self.step < settings.steps):
                self.save()
                saved = time.monotonic()
            last = time.monotonic()
            if is_over:
                return
        if not (self.step and settings.evaluate_every and self.step % settings.evaluate_every == 0):
            self._evaluate()
        self.save()

    def _batches(self) -> Iterator[Any]:
        """The batches of the steps that are left."""
        settings = self.settings

        def make(step: int) -> Any:
            return self.stage.batch(np.random.default_rng([settings.seed, step]))

        steps = range(self.step, settings.steps)
        if not settings.prefetch:
            yield from map(make, steps)
            return
        with ThreadPoolExecutor(settings.prefetch) as pool:
            waiting: list[Future[Any]] = []
            try:
                for step in steps:
                    waiting.append(pool.submit(make, step))
                    if len(waiting) > settings.prefetch:
                        yield waiting.pop(0).result()
                while waiting:
                    yield waiting.pop(0).result()
            finally:
                for future in waiting:
                    future.cancel()

    def _update(self, batch: Any) -> tuple[Tensor, dict[str, Tensor | float]]:
        """One optimizer step."""
        settings = self.settings
        torch.manual_seed(settings.seed * 1_000_003 + self.step)
        autocast = torch.autocast(self.device.type, torch.bfloat16, enabled=settings.precision == "bf16")
        with autocast:
            loss, facts = self.stage.loss(batch, self.step)
        if not torch.isfinite(loss):
            raise ValueError(
                f"{self.stage.name}: the loss of step {self.step} is {loss.item()}; lower learning_rate or "
                f"clip and start again, or resume from {self.folder / CHECKPOINT}"
            )
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        parameters = [p for p in self.stage.module.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, settings.clip)
        scale = settings.rate(self.step) / settings.learning_rate
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * scale
            optimizer.step()
        self._average()
        return loss.detach(), facts | {"grad_norm": norm}

    @torch.no_grad()
    def _average(self) -> None:
        """Move the averaged weights."""
        if not self.ema:
            return
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        for name, value in self.stage.module.state_dict().items():
            if value.is_floating_point():
                self.ema[name].lerp_(value.to(self.ema[name].dtype), 1 - decay)
            else:
                self.ema[name].copy_(value)

    def _note(self, loss: Tensor, facts: dict[str, Tensor | float]) -> None:
        values = {name: float(value) for name, value in ({"loss": loss} | facts).items()}
        rate = self.settings.rate(self.step - 1)
        self.log.write(self.step, self.seconds, values | {"learning_rate": rate})
        shown = " ".join(f"{name} {value:.4g}" for name, value in values.items())
        where = f"{self.stage.name} {self.step}/{self.settings.steps} {self.seconds:.0f} s"
        logger.info("%s: %s", where, shown)

    def _evaluate(self) -> None:
        module = self.stage.module
        module.eval()
        with torch.no_grad(), averaged(module, self.ema):
            values = self.stage.evaluate()
        module.train()
        if values:
            self.log.write(self.step, self.seconds, {f"held_out/{name}": v for name, v in values.items()})
            shown = " ".join(f"{name} {value:.4g}" for name, value in values.items())
            logger.info("%s %d held out: %s", self.stage.name, self.step, shown)


@contextmanager
def averaged(module: nn.Module, ema: dict[str, Tensor]) -> Iterator[None]:
    """The module with averaged weights in it for a while; none leave it as it is."""
    if not ema:
        yield
        return
    own = {name: value.detach().clone() for name, value in module.state_dict().items()}
    module.load_state_dict(ema)
    try:
        yield
    finally:
        module.load_state_dict(own)
