"""Which optimizer moves which tensor: AdamW all, or Muon the matrices of hidden layers and AdamW the rest."""

from __future__ import annotations

import re

import torch
from torch import nn

ADAM_BETAS = (0.9, 0.95)
NOT_HIDDEN = re.compile(
    r"(^|\.)(emb|embedding|wpe|lm_head|linears|output_proj|codebook|structure_emb|scale_shift_table)\b"
    r"|_emb\b|head"
)
"""Names of tables and output heads: no hidden matrices, AdamW moves them."""


def make_optimizers(
    module: nn.Module, kind: str, learning_rate: float, weight_decay: float
) -> list[torch.optim.Optimizer]:
    """The optimizers of a stage; each group keeps its rate at the schedule's peak as `peak_lr`.

    Muon moves a matrix by its orthogonalised momentum, scaled so that the entries move as AdamW's would
    (Liu et al. 2025, arXiv:2502.16982), so one learning rate serves both.

    Raises:
        ValueError: an unknown kind, or Muon without a PyTorch that has it.
    """
    if kind not in ("adamw", "muon"):
        raise ValueError(f"optimizer is {kind!r}; it must be adamw or muon")
    if kind == "muon" and not hasattr(torch.optim, "Muon"):
        raise ValueError(f"optimizer=muon needs PyTorch 2.9 or later, this is {torch.__version__}; use adamw")
    named = [(name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad]
    hidden = [
        parameter
        for name, parameter in named
        if kind == "muon" and parameter.ndim == 2 and not NOT_HIDDEN.search(name)
    ]
    taken = {id(parameter) for parameter in hidden}
    rest = [parameter for _, parameter in named if id(parameter) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([group for group in groups if group["params"]], lr=learning_rate, betas=ADAM_BETAS)
    ]
    if hidden:
        optimizers.append(
            torch.optim.Muon(
                hidden, lr=learning_rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = learning_rate
    return optimizers
