"""The networks of SongBloom: the sketch language model and the diffusion transformer around shared tables.

The stream of the language model is BOS, the sketch of block 1, its latents as one vector, the sketch of block
2, and so on. The output at BOS or at a block's latents chooses the next block's first token; the output at a
block's last token is its hidden vector, which the diffusion gets. Submodule names are the published ones
(without `model.`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from einops import repeat
from torch import Tensor, nn

from songgen.models.songbloom.condition import ConditionEmbedder, SongBloomConditions
from songgen.models.songbloom.config import SongBloomConfig
from songgen.nn.dit import DiffusionTransformer
from songgen.nn.kv_cache import KVCache
from songgen.nn.llama import Llama, RotaryTable


@dataclass(frozen=True)
class BlockContext:
    """What a block's latents are diffused from, B rows.

    Args:
        hidden_BD: the hidden vector; zeros for no guidance.
        sketch_BTD: the embedded sketch tokens; zeros for no guidance.
        history_BTZ: the latents of the block before; zeros for the first.
    """

    hidden_BD: Tensor
    sketch_BTD: Tensor
    history_BTZ: Tensor


class SongBloomNetwork(nn.Module):
    """V = num_codes + 1: the codes and EOS."""

    def __init__(self, config: SongBloomConfig) -> None:
        super().__init__()
        self.config = config
        width, block_values = config.width, config.block_size * config.latent_dim
        self.condition_provider = ConditionEmbedder(config)
        self.bos_token = nn.Parameter(torch.zeros(width))
        self.skeleton_emb = nn.Embedding(config.num_codes + 2, width)
        self.ar_transformer = Llama(config.llama())
        self.skeleton_classifier = nn.Sequential(
            nn.Linear(width, width, bias=False), nn.SiLU(), nn.Linear(width, config.num_codes + 1)
        )
        self.block_conv = nn.Sequential(
            nn.Flatten(), nn.Linear(block_values, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.project_in = nn.Linear(config.latent_dim, width)
        self.project_out = nn.Linear(width, config.latent_dim)
        self.timestep_features = nn.Linear(1, config.time_features // 2, bias=False)
        self.to_timestep_embed = nn.Sequential(
            nn.Linear(config.time_features, width, bias=False), nn.SiLU(), nn.Linear(width, width)
        )
        self.nar_dit = DiffusionTransformer(config.dit())

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.bos_token.dtype

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.bos_token.device

    def prefill(
        self, conditions: SongBloomConditions, rope: RotaryTable, cache: KVCache, first_row: int
    ) -> None:
        """Write the prefix of one song (its conditional and its null row) into a cache."""
        self.ar_transformer.prompt(self.condition_provider.prefix(conditions), rope, cache, first_row)

    def logits(self, hidden: Tensor) -> Tensor:
        """`[..., D]` to `[..., V]` in float32."""
        logits: Tensor = self.skeleton_classifier(hidden)
        return logits.float()

    def feedback(self, latents_BTZ: Tensor) -> Tensor:
        """A finished block as the language model's next input, `[B, D]`."""
        vectors: Tensor = self.block_conv(latents_BTZ.to(self.dtype))
        return vectors

    def diffusion_rope(self) -> RotaryTable:
        """The angles of the diffusion's sequence: time, hidden vector, sketch, history, latents."""
        return self.nar_dit.rotary_table(2 + 3 * self.config.block_size)

    def embed_times(self, times: Tensor) -> Tensor:
        """Diffusion times `[n]` to `[n, D]`; the angles in float32."""
        angles = 2 * math.pi * times.to(self.device)[:, None] * self.timestep_features.weight.float().T
        features = torch.cat([angles.cos(), angles.sin()], dim=-1)
        embedded: Tensor = self.to_timestep_embed(features.to(self.dtype))
        return embedded

    def velocity(self, x_BTZ: Tensor, time_D: Tensor, context: BlockContext, rope: RotaryTable) -> Tensor:
        """The velocity of noisy latents at one time, `[B, T, Z]` float32.

        Args:
            x_BTZ: float32.
            time_D: a row of `embed_times`.
            rope: of `diffusion_rope`.
        """
        sequence = torch.cat(
            [
                repeat(time_D, "d -> b 1 d", b=x_BTZ.shape[0]),
                context.hidden_BD[:, None],
                context.sketch_BTD,
                self.project_in(context.history_BTZ.to(self.dtype)),
                self.project_in(x_BTZ.to(self.dtype)),
            ],
            dim=1,
        )
        hidden = self.nar_dit(sequence, rope)[:, -x_BTZ.shape[1] :]
        return self.project_out(hidden).float()
