"""Weight-normalised convolutions: the published form and the fused form are the same function."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from songgen.nn.weight_norm import WeightNormConv1d, WeightNormConvTranspose1d, fuse_weight_norm_


def convolution(kind: str) -> WeightNormConv1d | WeightNormConvTranspose1d:
    torch.manual_seed(0)
    if kind == "plain":
        module: WeightNormConv1d | WeightNormConvTranspose1d = WeightNormConv1d(3, 5, 4, stride=2, padding=1)
    elif kind == "dilated":
        module = WeightNormConv1d(3, 5, 7, dilation=3, padding=9, bias=False)
    else:
        module = WeightNormConvTranspose1d(3, 5, 4, stride=2, padding=1)
    assert module.weight_g is not None
    nn.init.uniform_(module.weight_g, 0.5, 2.0)
    return module


KINDS = ["plain", "dilated", "transposed"]


@pytest.mark.parametrize("kind", KINDS)
def test_fusing_does_not_change_the_result(kind: str) -> None:
    """A fused convolution that differs would make inference differ from the published system."""
    module, x = convolution(kind), torch.randn(2, 3, 20)
    before = module(x)
    fuse_weight_norm_(module)
    assert torch.equal(module(x), before)
    fuse_weight_norm_(module)
    assert torch.equal(module(x), before)


@pytest.mark.parametrize("kind", ["plain", "transposed"])
def test_same_function_as_the_frameworks_own_weight_norm(kind: str) -> None:
    """The norm must be over all axes but the first, for transposed convolutions too."""
    ours = convolution(kind)
    plain = nn.Conv1d(3, 5, 4, 2, 1) if kind == "plain" else nn.ConvTranspose1d(3, 5, 4, 2, 1)
    theirs = parametrizations.weight_norm(plain)
    names = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    theirs.load_state_dict({names.get(name, name): value for name, value in ours.state_dict().items()})
    x = torch.randn(2, 3, 20)
    torch.testing.assert_close(ours(x), theirs(x))


def test_state_dict_names_before_and_after_fusing() -> None:
    """Published files hold g and v; loading them into a fused module must be refused, not ignored."""
    module = convolution("plain")
    published = module.state_dict()
    assert set(published) == {"weight_g", "weight_v", "bias"}
    fuse_weight_norm_(module)
    assert set(module.state_dict()) == {"weight", "bias"}
    with pytest.raises(RuntimeError, match="weight_g"):
        module.load_state_dict(published)


def test_weights_loaded_before_fusing_are_the_ones_used() -> None:
    """Fusing must not keep a weight from before the load."""
    source, target, x = (
        convolution("plain"),
        WeightNormConv1d(3, 5, 4, stride=2, padding=1),
        torch.randn(1, 3, 9),
    )
    target(x)
    target.load_state_dict(source.state_dict())
    fuse_weight_norm_(target)
    torch.testing.assert_close(target(x), source(x))


def test_fused_weight_follows_a_move_to_another_dtype() -> None:
    """A fused weight outside the parameters would stay behind when the module is converted."""
    module = convolution("plain")
    fuse_weight_norm_(module)
    assert module.double()(torch.randn(1, 3, 9, dtype=torch.float64)).dtype == torch.float64


def test_builds_without_memory() -> None:
    """Published sizes are built on the meta device before loading."""
    with torch.device("meta"):
        module = WeightNormConvTranspose1d(3, 5, 4, stride=2, padding=1)
    assert {name: tuple(value.shape) for name, value in module.state_dict().items()} == {
        "weight_g": (3, 1, 1),
        "weight_v": (3, 5, 4),
        "bias": (5,),
    }
