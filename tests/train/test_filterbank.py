"""A VAE that starts as a filterbank."""

from __future__ import annotations

import pytest
import torch

from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.train.filterbank import mdct_bank, start_as_filterbank_

CONFIG = OobleckConfig(channels=4, c_mults=(4, 4), strides=(8, 4), latent_dim=3)


def test_the_bank_takes_a_signal_apart_and_back() -> None:
    """Overlapping windows cancel their aliases, but for the ends, which have one window only."""
    bank, signal = mdct_bank(8), torch.randn(80)
    bands = signal.unfold(0, 16, 8) @ bank.T
    back = torch.zeros(80)
    for place, piece in enumerate(bands @ bank):
        back[place * 8 : place * 8 + 16] += piece
    assert torch.allclose(back[8:-8], signal[8:-8], atol=1e-5)
    assert torch.allclose(bank @ bank.T, torch.eye(8), atol=1e-5)


def test_the_ends_of_a_started_vae_return_the_signal_nearly() -> None:
    """Snakes and residual branches bend it a little; the channels between are left as they were."""
    torch.manual_seed(0)
    vae = OobleckVAE(CONFIG)
    start_as_filterbank_(vae, entry=0.2)
    assert vae.encoder is not None
    audio = 0.1 * torch.randn(1, 2, 256)
    with torch.no_grad():
        plain = vae.encoder.layers[0](audio)
        down, up = vae.encoder.layers[1].layers[-1], vae.decoder.layers[2].layers[1]
        back = vae.decoder.layers[-1](up(down(plain)))
    inner = slice(16, -16)
    error = (back - audio)[..., inner].square().mean() / audio[..., inner].square().mean()
    assert error < 0.2


def test_too_few_channels_are_named() -> None:
    vae = OobleckVAE(OobleckConfig(channels=4, c_mults=(2, 4), strides=(8, 4), latent_dim=3))
    with pytest.raises(ValueError, match="a filterbank of 8 bands needs 2 audio channels"):
        start_as_filterbank_(vae, entry=0.2)
