"""A start for an Oobleck VAE whose first stage is long: a filterbank that takes a signal apart and back.

The modified discrete cosine transform of s bands has windows of 2 s samples every s, which is what a stage of
stride s has, and returns the signal exactly (Princen & Bradley 1986). Sum and difference of the two channels
go through it into the first 2 s channels; the other channels start small, so training begins from bands and
need not find them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from songgen.nn.oobleck import OobleckVAE, SnakeBeta, Stage
from songgen.nn.weight_norm import WeightNorm, WeightNormConv1d, WeightNormConvTranspose1d

LINEAR_BETA = 2.0
"""Of all snakes: e^-2 of a squared sine bends a signal little."""
OTHERS = 0.3
"""Size of the weights of other channels, relative to a fresh network's."""


def mdct_bank(num_bands: int) -> Tensor:
    """The windows of the transform, `[num_bands, 2 num_bands]`, orthonormal with shifts by `num_bands`."""
    bands = torch.arange(num_bands)[:, None]
    times = torch.arange(2 * num_bands)[None] + 0.5
    window = torch.sin(math.pi / (2 * num_bands) * times)
    angles = math.pi / num_bands * (times + num_bands / 2) * (bands + 0.5)
    return window * math.sqrt(2 / num_bands) * torch.cos(angles)


def set_weight_(module: WeightNorm, weight: Tensor, entry: float) -> None:
    """Give a weight-normed module a weight; entries of its direction get a root mean square of `entry`."""
    assert isinstance(module.weight_g, Tensor) and isinstance(module.weight_v, Tensor)
    norms = weight.flatten(1).norm(dim=1).clamp(min=1e-6).reshape(module.weight_g.shape)
    module.weight_g.data.copy_(norms)
    directions = weight / norms
    sizes = directions.flatten(1).square().mean(1).sqrt().clamp(min=1e-6).reshape(norms.shape)
    module.weight_v.data.copy_(directions * entry / sizes)


@torch.no_grad()
def start_as_filterbank_(vae: OobleckVAE, *, entry: float) -> None:
    """Set the stages at the waveform's ends.

    Args:
        entry: size of the entries of directions, as of `set_weight_`.

    Raises:
        ValueError: there are fewer than two channels, or than two a band.
    """
    config = vae.config
    num_bands, width = config.strides[0], config.widths[1]
    if config.audio_channels != 2 or config.channels < 2 or width < 2 * num_bands:
        raise ValueError(
            f"a filterbank of {num_bands} bands needs 2 audio channels, channels of 2 or more and "
            f"{2 * num_bands} channels behind its stage, not {config.audio_channels}, {config.channels}, "
            f"{width}"
        )
    assert vae.encoder is not None
    bank = mdct_bank(num_bands)
    both = torch.tensor([[1.0, 1.0], [1.0, -1.0]]) / math.sqrt(2)
    first, last = vae.encoder.layers[0], vae.decoder.layers[-1]
    down, up = strided(_stages(vae.encoder)[0]), strided(_stages(vae.decoder)[-1])
    for module, rows, columns in ((first, 2, None), (last, None, 2)):
        assert isinstance(module, WeightNormConv1d)
        weight = module.effective_weight() * OTHERS
        weight[slice(rows), slice(columns)] = 0
        weight[:2, :2, weight.shape[2] // 2] = both
        set_weight_(module, weight, entry)
    for module in (down, up):
        weight = module.effective_weight() * OTHERS
        for channel in range(2):
            bands = slice(channel * num_bands, (channel + 1) * num_bands)
            weight[bands] = 0
            weight[bands, channel] = bank
        set_weight_(module, weight, entry)
    for module in vae.modules():
        if isinstance(module, SnakeBeta):
            module.beta.fill_(LINEAR_BETA)


def _stages(half: Stage) -> list[Stage]:
    return [layer for layer in half.layers if isinstance(layer, Stage)]


def strided(stage: Stage) -> WeightNorm:
    """The convolution of a stage that changes the rate."""
    return next(
        layer
        for layer in stage.layers
        if isinstance(layer, WeightNormConv1d | WeightNormConvTranspose1d) and layer.stride > 1
    )
