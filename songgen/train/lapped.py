"""An Oobleck autoencoder in closed form: a lapped cosine transform of 80 ms windows, upper bands as noise.

With one stage of stride s the network can be the modified discrete cosine transform of s bands exactly
(Princen & Bradley 1986), nonlinearities switched off. Latents are its coefficients: low bins one by one,
which keeps tones; higher ones by groups, of which a latent is one projection on random signs. Read back, all
bins of a group get that value with their signs: noise of the right level. What a latent network then has to
learn is levels; where the signs come out at random, a voice sounds rough and stays a voice.

For models too small to train a learned autoencoder and a network that writes its latents.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from songgen.nn.oobleck import OobleckVAE, ResidualUnit, SnakeBeta, Stage
from songgen.nn.weight_norm import WeightNorm
from songgen.train.filterbank import mdct_bank, strided

Groups = tuple[tuple[int, int], ...]
LINEAR_BETA = 40.0
"""Of a snake that is the identity: its bend is divided by e^40."""
NO_NOISE = -12.0
"""Of latents' deviations before softplus."""


@dataclass(frozen=True)
class LappedTransform:
    """Which coefficients become latents.

    Args:
        mid, side: of the half sum and half difference of the channels: (bin to reach, bins a latent), from
            bin 0 on; with a stride of 1920 at 48 kHz a bin is 12.5 Hz.
        seed: of the signs.
    """

    mid: Groups = ((90, 1), (180, 3), (372, 12), (852, 48))
    side: Groups = ((48, 8), (208, 40), (848, 160))
    seed: int = 0

    @property
    def num_latents(self) -> int:
        """Z."""
        return len(group_sizes(self.mid)) + len(group_sizes(self.side))


def group_sizes(groups: Groups) -> list[int]:
    """Bins of each latent. Raises ValueError if the groups do not fit between their bounds."""
    sizes: list[int] = []
    reached = 0
    for end, size in groups:
        if size < 1 or end <= reached or (end - reached) % size:
            raise ValueError(f"groups of {size} do not fill bins {reached} to {end}")
        sizes += [size] * ((end - reached) // size)
        reached = end
    return sizes


def projections(groups: Groups, num_bins: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """What turns coefficients into latents and latents into coefficients, `[latents, num_bins]` each."""
    sizes = group_sizes(groups)
    if sum(sizes) > num_bins:
        raise ValueError(f"groups reach bin {sum(sizes)}; there are {num_bins}")
    down, first = torch.zeros(len(sizes), num_bins), 0
    for latent, size in enumerate(sizes):
        signs = torch.randint(0, 2, (size,), generator=generator) * 2.0 - 1.0
        down[latent, first : first + size] = (signs if size > 1 else 1.0) / math.sqrt(size)
        first += size
    return down, down * torch.tensor(sizes).sqrt()[:, None]


@torch.no_grad()
def set_as_transform_(vae: OobleckVAE, transform: LappedTransform) -> None:
    """Make a VAE the transform.

    Raises:
        ValueError: it is not of one stage, of two channels and as many behind its stage as there are latents.
    """
    config = vae.config
    wanted = (1, 2, 2, transform.num_latents)
    given = (len(config.strides), config.channels, config.audio_channels, config.latent_dim)
    if given != wanted or config.widths[-1] < config.latent_dim:
        raise ValueError(
            "a lapped transform needs one stage, channels and audio_channels of 2, a latent_dim of "
            f"{transform.num_latents} and at least as wide a stage; stages, channels, audio_channels and "
            f"latent_dim are {given}, the stage's width is {config.widths[-1]}"
        )
    assert vae.encoder is not None
    stride, num_latents, width = config.strides[0], config.latent_dim, config.widths[-1]
    generator = torch.Generator().manual_seed(transform.seed)
    bank = mdct_bank(stride)
    down, up = torch.zeros(2, width, 2, 2 * stride)
    first = 0
    for channel, groups in enumerate((transform.mid, transform.side)):
        to_latents, to_bins = projections(groups, stride, generator)
        rows = slice(first, first + len(to_latents))
        down[rows, channel], up[rows, channel] = to_latents @ bank, to_bins @ bank
        first += len(to_latents)
    for module in vae.modules():
        if isinstance(module, SnakeBeta):
            module.beta.fill_(LINEAR_BETA)
        elif isinstance(module, ResidualUnit):
            for layer in module.layers:
                if isinstance(layer, WeightNorm):
                    _set(layer, torch.zeros_like(layer.effective_weight()))
    half_sums = torch.tensor([[0.5, 0.5], [0.5, -0.5]])
    encoder, decoder = vae.encoder.layers, vae.decoder.layers
    identity = torch.eye(width, num_latents)
    means = torch.cat([identity.T, torch.zeros_like(identity.T)])
    _set(encoder[0], _middle(half_sums, 7))
    _set(strided(_stage(encoder[1])), down)
    _set(encoder[-1], _middle(means, 3))
    bias = encoder[-1].bias
    assert isinstance(bias, Tensor)
    bias[num_latents:] = NO_NOISE
    _set(decoder[0], _middle(identity, 7))
    _set(strided(_stage(decoder[1])), up)
    _set(decoder[-1], _middle(2 * half_sums, 7))


def _middle(matrix: Tensor, taps: int) -> Tensor:
    """A convolution's weight that applies a matrix to each sample."""
    weight = torch.zeros(*matrix.shape, taps)
    weight[..., taps // 2] = matrix
    return weight


def _stage(layer: nn.Module) -> Stage:
    assert isinstance(layer, Stage)
    return layer


def _set(module: nn.Module, weight: Tensor) -> None:
    """Give a module a weight, also of rows that are zero, and biases of 0."""
    assert isinstance(module, WeightNorm)
    assert module.weight_g is not None and module.weight_v is not None
    norms = weight.flatten(1).norm(dim=1).reshape(module.weight_g.shape)
    module.weight_g.copy_(norms)
    module.weight_v.copy_(torch.where(norms > 0, weight, torch.ones_like(weight)))
    if module.bias is not None:
        module.bias.zero_()
