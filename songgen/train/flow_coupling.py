"""How noise and data are paired, and errors weighed, where latents are coefficients of a spectrum.

Most of them are small, few are large, and the signs of the large ones follow from nothing that is known.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def even_weights(data_BWZ: Tensor, floor: float) -> Tensor:
    """Weights of squared errors, mean 1: the inverse of the energy around each value, with a floor.

    Latents that are coefficients of a spectrum are small in most places and large in few, where their signs
    cannot be known; unweighted, those few drown what can be learnt of all others. The energy is a mean over
    three frames and five channels: nearly a function of what is sung and played, so that the weighted optimum
    is nearly the plain one.
    """
    energy_B1WZ = data_BWZ.square()[:, None]
    smooth_BWZ = functional.avg_pool2d(energy_B1WZ, (3, 5), stride=1, padding=(1, 2))[:, 0]
    weights_BWZ = 1 / (smooth_BWZ + floor)
    return weights_BWZ / weights_BWZ.mean()


def coupled_noise(data_BWZ: Tensor, noise_BWZ: Tensor, floor: float) -> Tensor:
    """Noise that leads to the data: the data over its level, which is about standard normal.

    A flow may pair any noise with any data, as long as all noise together is normal (Tong et al. 2024,
    arXiv:2302.00482). Of coefficients whose signs are arbitrary the nearest noise has their signs; paths are
    then straight, and what is learnt is by how much noise is to grow or shrink. Levels are means over five
    frames of each channel; below `floor` there is noise of its own.
    """
    energy_BZW = functional.avg_pool1d(
        data_BWZ.square().transpose(1, 2), 5, stride=1, padding=2, count_include_pad=False
    )
    level_BWZ = (energy_BZW.transpose(1, 2) + floor**2).sqrt()
    return (data_BWZ + floor * noise_BWZ) / level_BWZ
