"""Low-rank adapters (Hu et al. 2022, arXiv:2106.09685) in a fine-tuned checkpoint, folded into the weights.

A wrapped linear layer X is stored as `X.base.weight`, `X.lora_A.weight` `[r, in]` and `X.lora_B.weight`
`[out, r]`; y = base(x) + B(A(x)) alpha / r. The files tell which layers are wrapped and the rank, but not
alpha.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

BASE, DOWN, UP = ".base.weight", ".lora_A.weight", ".lora_B.weight"
PUBLISHED_ALPHA = 32.0
"""Of the training script that writes such checkpoints."""


@dataclass(frozen=True)
class LoraOptions:
    """What is said of the adapters in a checkpoint.

    Args:
        alpha: their strength is alpha / rank.
        rank: what the file must hold; None for any.
        targets: parts of names, such as `q_proj`, of which each adapter's layer must have one; None for any.
    """

    alpha: float = PUBLISHED_ALPHA
    rank: int | None = None
    targets: tuple[str, ...] | None = None


def has_adapters(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a checkpoint holds low-rank adapters."""
    return any(name.endswith(DOWN) for name in tensors)


def fold_adapters(
    tensors: Mapping[str, Tensor], options: LoraOptions, base: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """The weights of a checkpoint with its adapters folded in, under plain names.

    Args:
        tensors: the checkpoint's.
        base: weights for the layers whose own the checkpoint does not hold.

    Raises:
        ValueError: half an adapter, one of another shape than its layer, or not what the options say.
    """
    layers = [name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN)]
    _check_targets(layers, options.targets)
    plain = {
        name.removesuffix(BASE) + ".weight" if name.endswith(BASE) else name: tensor
        for name, tensor in tensors.items()
        if not name.endswith((DOWN, UP))
    }
    orphans = [name for name in tensors if name.endswith(UP) and name.removesuffix(UP) not in layers]
    if orphans:
        raise ValueError(f"{orphans[0]} has no {DOWN.strip('.')} beside it")
    for layer in layers:
        weight = plain.get(layer + ".weight", base.get(layer + ".weight"))
        if weight is None or layer + UP not in tensors:
            missing = layer + (UP if weight is not None else BASE)
            raise ValueError(f"the adapter of {layer} has no {missing}")
        down, up = tensors[layer + DOWN].float(), tensors[layer + UP].float()
        rank = down.shape[0]
        if (up.shape[0], rank, down.shape[1]) != (weight.shape[0], up.shape[1], weight.shape[1]):
            shapes = f"{list(up.shape)} x {list(down.shape)}"
            raise ValueError(f"the adapter of {layer} is {shapes}, its layer {list(weight.shape)}")
        if options.rank not in (None, rank):
            raise ValueError(f"lora.rank={options.rank}: the adapter of {layer} has rank {rank}")
        plain[layer + ".weight"] = (weight.float() + up @ down * (options.alpha / rank)).to(weight.dtype)
    return plain


def _check_targets(layers: Sequence[str], targets: Sequence[str] | None) -> None:
    if targets is None:
        return
    strange = [layer for layer in layers if not any(target in layer for target in targets)]
    if strange:
        raise ValueError(
            f"lora.targets={','.join(targets)}: the checkpoint has an adapter at {strange[0]} too"
        )
