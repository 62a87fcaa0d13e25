"""How a codebook is learnt: directions of what it quantises, as moving averages of the frames of each code.

Spherical k-means with moving averages (van den Oord et al. 2017, arXiv:1711.00937, appendix A, on the sphere
as Yu et al. 2021, arXiv:2110.04627); gradients pass straight through. Codes that nothing uses are given new
directions from recent frames. Knows no encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from songgen.models.levo.codec import FILL_BGM, FILL_VOCAL
from songgen.nn.rvq import VectorQuantizer

SILENT_SCALE = 4.0
"""Length of the codebook rows that mean "this stem is absent"; those of codes have length 1, other rows 2."""
SILENT_ROWS = (FILL_VOCAL, FILL_BGM)

KMEANS_ROUNDS = 8
LEAST_USE = 0.1
"""Share of the average use below which a code is dead."""


@torch.no_grad()
def finish_codebook_(codebook_VE: Tensor, num_codes: int) -> None:
    """Make a trained codebook whole: rows 0 ... num_codes - 1 of length 1, the others never found.

    A row is found by its direction, the first one on ties. Each further row has the direction of an earlier
    one, twice as long; the rows of `SILENT_ROWS` are `SILENT_SCALE` times as long, features that no code has.
    Factors are powers of two and rows have the precision of float16, so that directions are equal to the last
    bit, in files of 16 bits too.
    """
    rounded_VE = functional.normalize(codebook_VE[:num_codes], dim=-1).half().float()
    tiny = torch.finfo(torch.float16).tiny
    codebook_VE[:num_codes] = torch.where(rounded_VE.abs() < tiny, 0.0, rounded_VE)
    rows = torch.arange(num_codes, len(codebook_VE))
    codebook_VE[num_codes:] = 2 * codebook_VE[(rows - num_codes) % num_codes]
    for row in SILENT_ROWS:
        if num_codes <= row < len(codebook_VE):
            codebook_VE[row] *= SILENT_SCALE / 2


class CodebookTrainer(nn.Module):
    """The moving averages of one quantiser, and its training forward pass.

    Args:
        num_codes: rows that are searched.
        decay: of the averages a step.
        pool: recent frames that are kept to start from.
    """

    sums_VE: Tensor
    counts_V: Tensor
    pool_PE: Tensor
    pooled: Tensor
    is_started: Tensor

    def __init__(self, num_codes: int, codebook_dim: int, *, decay: float = 0.98, pool: int = 16384) -> None:
        super().__init__()
        self.num_codes, self.decay = num_codes, decay
        self.register_buffer("sums_VE", torch.zeros(num_codes, codebook_dim))
        self.register_buffer("counts_V", torch.zeros(num_codes))
        self.register_buffer("pool_PE", torch.zeros(pool, codebook_dim))
        self.register_buffer("pooled", torch.zeros((), dtype=torch.int64))
        self.register_buffer("is_started", torch.zeros((), dtype=torch.bool))

    def forward(
        self, quantizer: VectorQuantizer, features_BDT: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Quantise as inference does, with gradients.

        Returns:
            Features `[B, D, T]`, the commitment loss, and the codes `[B, T]`; before `start_` the features
            pass the projections alone, and there are no codes.
        """
        with torch.autocast(features_BDT.device.type, enabled=False):
            latents_BET = functional.normalize(quantizer.in_proj(features_BDT.float()), dim=1)
            if not self.is_started:
                return quantizer.out_proj(latents_BET), latents_BET.new_zeros(()), None
            codes_BT = self.search(quantizer, latents_BET)
            chosen_BET = functional.embedding(codes_BT, quantizer.codebook.weight).transpose(1, 2)
            commitment = (latents_BET - chosen_BET).square().sum(1).mean()
            passed = latents_BET + (chosen_BET - latents_BET).detach()
            return quantizer.out_proj(passed), commitment, codes_BT

    @torch.no_grad()
    def search(self, quantizer: VectorQuantizer, latents_BET: Tensor) -> Tensor:
        """The nearest of the searched rows, which have length 1: codes `[B, T]`."""
        scores = latents_BET.transpose(1, 2) @ quantizer.codebook.weight[: self.num_codes].t()
        return scores.argmax(-1)

    @torch.no_grad()
    def remember_(self, latents_NE: Tensor) -> None:
        """Keep frames in the pool, the latest ones."""
        size = len(self.pool_PE)
        kept = latents_NE[-size:]
        places = (self.pooled + torch.arange(len(kept))) % size
        self.pool_PE[places] = kept
        self.pooled += len(kept)

    @torch.no_grad()
    def start_(self, quantizer: VectorQuantizer) -> None:
        """Begin to quantise: codes by k-means of the pool."""
        pool = self.pool_PE[: int(self.pooled)]
        rows = pool[torch.randint(0, len(pool), (self.num_codes,))].clone()
        for _ in range(KMEANS_ROUNDS):
            sums, counts = self._gather((pool @ rows.t()).argmax(-1), pool)
            empty = counts == 0
            sums[empty] = pool[torch.randint(0, len(pool), (int(empty.sum()),))]
            rows = functional.normalize(sums, dim=-1)
        quantizer.codebook.weight[: self.num_codes] = rows
        self.counts_V.fill_(1.0)
        self.sums_VE.copy_(rows)
        self.is_started.fill_(True)

    @torch.no_grad()
    def update_(self, quantizer: VectorQuantizer, latents_NE: Tensor, codes_N: Tensor) -> None:
        """Move the codes towards their frames."""
        sums, counts = self._gather(codes_N, latents_NE)
        self.sums_VE.lerp_(sums, 1 - self.decay)
        self.counts_V.lerp_(counts, 1 - self.decay)
        quantizer.codebook.weight[: self.num_codes] = functional.normalize(self.sums_VE, dim=-1)

    @torch.no_grad()
    def revive_(self, quantizer: VectorQuantizer) -> int:
        """Give dead codes directions of frames in the pool; returns how many."""
        pool = self.pool_PE[: int(self.pooled)]
        mean = self.counts_V.mean()
        dead = (self.counts_V < LEAST_USE * mean).nonzero()[:, 0]
        rows = pool[torch.randint(0, len(pool), (len(dead),))]
        quantizer.codebook.weight[dead] = rows
        self.sums_VE[dead] = rows * mean
        self.counts_V[dead] = mean
        return len(dead)

    def _gather(self, codes_N: Tensor, latents_NE: Tensor) -> tuple[Tensor, Tensor]:
        sums = torch.zeros_like(self.sums_VE).index_add_(0, codes_N, latents_NE)
        return sums, torch.bincount(codes_N, minlength=self.num_codes).float()


def usage(codes: Tensor, num_codes: int) -> tuple[float, float]:
    """Share of the codes that occur, and the perplexity of their distribution."""
    shares = torch.bincount(codes.flatten(), minlength=num_codes).float() / max(1, codes.numel())
    used = shares[shares > 0]
    return len(used) / num_codes, float((-(used * used.log()).sum()).exp())
