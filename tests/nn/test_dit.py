"""The diffusion transformer."""

from __future__ import annotations

import torch

from songgen.nn.dit import DiffusionTransformer, DitConfig

CONFIG = DitConfig(width=128, ffn_dim=96, num_heads=2, num_layers=2)


def make() -> DiffusionTransformer:
    torch.manual_seed(0)
    return DiffusionTransformer(CONFIG).eval()


@torch.inference_mode()
def test_half_of_a_head_is_rotated_and_at_least_32() -> None:
    assert CONFIG.rotary_dim == 32
    assert DitConfig(width=256, ffn_dim=1, num_heads=2, num_layers=1).rotary_dim == 64
    assert DitConfig(width=64, ffn_dim=1, num_heads=2, num_layers=1).rotary_dim == 32
    table = make().rotary_table(50)
    assert table.cos.shape == (50, 32)
    torch.testing.assert_close(table.cos[:, 0], torch.arange(50.0).cos())


@torch.inference_mode()
def test_every_position_sees_every_other() -> None:
    stack = make()
    x = torch.randn(1, 10, 128)
    rope = stack.rotary_table(10)
    before = stack(x, rope)
    x[:, -1] += 1
    assert (stack(x, rope) - before).abs().amax(-1).min() > 0


@torch.inference_mode()
def test_positions_matter_and_rows_are_apart() -> None:
    stack = make()
    x = torch.randn(2, 10, 128)
    rope = stack.rotary_table(10)
    torch.testing.assert_close(stack(x[:1], rope), stack(x, rope)[:1])
    turned = stack(x.flip(1), rope).flip(1)
    assert (turned - stack(x, rope)).abs().max() > 1e-3


@torch.inference_mode()
def test_the_norms_bias_is_a_buffer() -> None:
    names = [name for name, _ in make().named_parameters()]
    assert not [name for name in names if name.endswith("beta")]
    assert "layers.0.pre_norm.beta" in make().state_dict()
