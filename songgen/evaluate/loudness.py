"""Integrated loudness, ITU-R BS.1770-4, through pyloudnorm."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from songgen.evaluate.measures import NotMeasured

MIN_SECONDS = 0.4
"""One gating block of the standard."""

MAX_CHANNELS = 5


def loudness_lufs(samples_CN: npt.NDArray[np.float32], sample_rate: int) -> float:
    """Gated loudness in LUFS: K-weighting, blocks of 400 ms, gates at -70 LUFS and 10 LU below the mean.

    A sine of full scale at 997 Hz in one channel of two has -3.01 LUFS.

    Raises:
        NotMeasured: shorter than a block, more than five channels, below the gate, or no pyloudnorm.
    """
    if samples_CN.shape[1] < MIN_SECONDS * sample_rate:
        raise NotMeasured(f"shorter than {MIN_SECONDS} s, a block of the loudness standard")
    if samples_CN.shape[0] > MAX_CHANNELS:
        raise NotMeasured(f"has {samples_CN.shape[0]} channels; the standard weights up to {MAX_CHANNELS}")
    try:
        from pyloudnorm import Meter
    except ImportError:
        raise NotMeasured("pyloudnorm is not installed: pip install 'songgen[evaluate]'") from None
    with np.errstate(divide="ignore"):  # log of a block without sound, which the gate then drops
        found = float(Meter(sample_rate).integrated_loudness(samples_CN.T))
    if not math.isfinite(found):
        raise NotMeasured("nothing in the song is louder than the gate of -70 LUFS")
    return found
