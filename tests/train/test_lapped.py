"""The autoencoder in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.train.lapped import LappedTransform, group_sizes, set_as_transform_

STRIDE = 24
FULL = LappedTransform(mid=((24, 1),), side=((24, 1),))


def vae_of(transform: LappedTransform) -> OobleckVAE:
    config = OobleckConfig(channels=2, c_mults=(24,), strides=(STRIDE,), latent_dim=transform.num_latents)
    vae = OobleckVAE(config)
    set_as_transform_(vae, transform)
    return vae


def through(vae: OobleckVAE, audio: Tensor) -> Tensor:
    with torch.no_grad():
        mean, deviation = vae.encode_moments(audio)
        assert deviation.max() < 1e-3
        return vae.decode(mean)


def test_with_a_latent_a_bin_a_signal_comes_back_but_for_half_a_window_at_its_ends() -> None:
    torch.manual_seed(0)
    audio = torch.randn(2, 2, 10 * STRIDE)
    back = through(vae_of(FULL), audio)
    inner = slice(STRIDE, -STRIDE)
    assert torch.allclose(back[..., inner], audio[..., inner], atol=1e-4)


def test_groups_keep_the_level_of_their_bins_and_low_bins_their_signal() -> None:
    """Noise of many bins a latent comes back as noise as loud; a tone below the groups as it was."""
    torch.manual_seed(0)
    grouped = replace(FULL, mid=((12, 1), (24, 12)), side=((24, 24),))
    noise = torch.randn(1, 1, 400 * STRIDE).expand(1, 2, -1)
    ratio = through(vae_of(grouped), noise).square().mean() / noise.square().mean()
    assert 0.8 < ratio < 1.25
    times = torch.arange(40 * STRIDE)
    tone = torch.sin(2 * torch.pi * 0.08 * times).expand(1, 2, -1)
    back = through(vae_of(grouped), tone)
    inner = slice(2 * STRIDE, -2 * STRIDE)
    assert (back - tone)[..., inner].square().mean() < 0.02 * tone.square().mean()


def test_the_shipped_transform_has_as_many_latents_as_its_recipe_says() -> None:
    assert LappedTransform().num_latents == 160
    assert group_sizes(((2, 1), (8, 3))) == [1, 1, 3, 3]


def test_what_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match="groups of 5 do not fill bins 2 to 8"):
        group_sizes(((2, 1), (8, 5)))
    with pytest.raises(ValueError, match="groups reach bin 30; there are 24"):
        set_as_transform_(
            OobleckVAE(OobleckConfig(channels=2, c_mults=(30,), strides=(24,), latent_dim=54)),
            LappedTransform(mid=((30, 1),), side=((24, 1),)),
        )
    with pytest.raises(
        ValueError, match="a lapped transform needs one stage, channels and audio_channels of 2"
    ):
        set_as_transform_(
            OobleckVAE(OobleckConfig(channels=4, c_mults=(2,), strides=(24,), latent_dim=3)), FULL
        )
