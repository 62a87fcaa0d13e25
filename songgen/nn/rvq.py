"""Vector quantiser with a low-dimensional, cosine-searched codebook (Yu et al. 2021, arXiv:2110.04627).

A frame's feature is projected to the codebook's width, replaced by the row of the smallest angle, and
projected back. Submodule names are those of published checkpoints, which hold a list of one quantiser.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from songgen.nn.weight_norm import WeightNormConv1d


class VectorQuantizer(nn.Module):
    """One codebook `[codebook_size, codebook_dim]` between two 1x1 convolutions."""

    def __init__(self, dim: int, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.in_proj = WeightNormConv1d(dim, codebook_dim, 1)
        self.out_proj = WeightNormConv1d(codebook_dim, dim, 1)
        self.codebook = nn.Embedding(codebook_size, codebook_dim)

    def nearest(self, latents_BET: Tensor) -> Tensor:
        """The row with the largest cosine, the first one on ties: codes `[B, T]`, int64."""
        rows_BTE = functional.normalize(latents_BET.transpose(1, 2), dim=-1)
        codebook_VE = functional.normalize(self.codebook.weight, dim=-1)
        # |a|^2 - 2 a.b + |b|^2 written out: near-ties round as in the published system.
        distances_BTV = (
            rows_BTE.square().sum(-1, keepdim=True)
            - 2 * rows_BTE @ codebook_VE.t()
            + codebook_VE.square().sum(-1)
        )
        return distances_BTV.argmin(-1)

    def lookup(self, codes_BT: Tensor) -> Tensor:
        """Codes to features `[B, dim, T]`, from the codebook's rows as they are (not normalised)."""
        return self.out_proj(self.codebook(codes_BT).transpose(1, 2))


class ResidualVQ(nn.Module):
    """The published container of one `VectorQuantizer`; no published model has a second, residual one."""

    def __init__(self, dim: int, codebook_size: int, codebook_dim: int) -> None:
        super().__init__()
        self.quantizers = nn.ModuleList([VectorQuantizer(dim, codebook_size, codebook_dim)])

    @property
    def quantizer(self) -> VectorQuantizer:
        """The quantiser."""
        quantizer = self.quantizers[0]
        assert isinstance(quantizer, VectorQuantizer)
        return quantizer

    def project(self, features_BDT: Tensor) -> Tensor:
        """Features `[B, dim, T]` to what is searched in the codebook, `[B, codebook_dim, T]`."""
        latents: Tensor = self.quantizer.in_proj(features_BDT)
        return latents

    def encode(self, features_BDT: Tensor) -> Tensor:
        """Features `[B, dim, T]` to codes `[B, 1, T]`, int64, 0 ... codebook_size - 1."""
        return self.quantizer.nearest(self.project(features_BDT)).unsqueeze(1)

    def from_codes(self, codes_B1T: Tensor) -> Tensor:
        """Codes `[B, 1, T]` to features `[B, dim, T]`."""
        return self.quantizer.lookup(codes_B1T.squeeze(1))
