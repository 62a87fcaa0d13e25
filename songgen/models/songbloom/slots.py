"""The networks in B slots, a block at a time: a sketch token by token, then its latents.

All slots are in the same step of their blocks, each in a block of its own number. Slot b holds rows 2b
(conditional) and 2b + 1 (null) of the cache. A token step and the diffusion of a block are functions of
static tensors, so each is one CUDA graph. On the CPU latents are diffused slot by slot: a song's bits then do
not depend on how many songs are beside it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from songgen.models.songbloom.condition import SongBloomConditions
from songgen.models.songbloom.config import SongBloomConfig
from songgen.models.songbloom.diffusion import diffuse_block
from songgen.models.songbloom.network import BlockContext, SongBloomNetwork
from songgen.nn.attention import window_of
from songgen.nn.rectified_flow import flow_times
from songgen.nn.step_ops import TORCH_OPS, StepOps
from songgen.runtime.cuda_graph import StepGraph
from songgen.runtime.slots import per_row

Phase = Literal["first", "inner", "last"]
"""Which step of a block: what is fed is the block before, a token, or the last token, which chooses none."""


@dataclass(frozen=True)
class Diffusion:
    """How a block is diffused, as far as it is alike for all slots that are diffused together."""

    steps: int
    temperature: float


class BlockSlots:
    """Static tensors of B slots and what is computed on them.

    Args:
        max_blocks: blocks of the longest song.
        ops: the operations of a step.
        is_int8: whether keys and values are kept in 8 bits.
        is_captured: whether the diffusion of a block becomes a graph on CUDA.

    Attributes:
        latents_BTZ: of each slot's last block; zeros before its first.
        noise_BTZ: to be set before a block is diffused.
        hidden_BD: the hidden vectors of both rows of each slot, after the last step of a block.
    """

    def __init__(
        self,
        network: SongBloomNetwork,
        num_slots: int,
        *,
        max_blocks: int,
        ops: StepOps = TORCH_OPS,
        is_int8: bool = False,
        is_captured: bool = True,
    ) -> None:
        config, device = network.config, network.device
        self._network, self._ops, self.num_slots = network, ops, num_slots
        self._capacity = config.prefix_length + max_blocks * config.block_positions
        llama = network.ar_transformer
        self._cache = llama.new_cache(2 * num_slots, self._capacity, is_int8=is_int8)
        self._rope, self._diffusion_rope = llama.rotary_table(), network.diffusion_rope()
        block = (num_slots, config.block_size, config.latent_dim)
        self.latents_BTZ, self.noise_BTZ = (torch.zeros(block, device=device) for _ in range(2))
        self.hidden_BD = torch.zeros(2 * num_slots, config.width, dtype=network.dtype, device=device)
        self._feedback_BD = torch.zeros(num_slots, config.width, dtype=network.dtype, device=device)
        self._sketch_BT = torch.zeros(block[:2], dtype=torch.int64, device=device)
        self._cfg_coef_B = torch.zeros(num_slots, device=device)
        self._is_chosen_B = torch.zeros(num_slots, dtype=torch.bool, device=device)
        self._is_apart = device.type == "cpu"
        self._times: dict[int, Tensor] = {}
        self._prefixed: int | None = None
        self._diffusion, self._slots = Diffusion(1, 1.0), slice(0, num_slots)
        self._graph = StepGraph(self._diffuse, device, self.tensors, is_captured=is_captured)

    @property
    def config(self) -> SongBloomConfig:
        """Of the network."""
        return self._network.config

    def tensors(self) -> list[Tensor]:
        """The static tensors."""
        own = [value for value in vars(self).values() if isinstance(value, Tensor)]
        cache = self._cache
        kept = (cache.keys, cache.values, cache.key_scales, cache.value_scales)
        return [*own, *(tensor for tensor in kept if tensor is not None)]

    def place_(self, slot: int, conditions: SongBloomConditions, cfg_coef: float) -> None:
        """Reset a slot for a song and write its prefix; the null row is the same for all songs.

        Args:
            cfg_coef: guidance of the diffusion.
        """
        prefix_BSD = self._network.condition_provider.prefix(conditions)
        llama, row = self._network.ar_transformer, 2 * slot
        llama.prompt(prefix_BSD[:1], self._rope, self._cache, row)
        if self._prefixed is None:
            llama.prompt(prefix_BSD[1:], self._rope, self._cache, row + 1)
        elif self._prefixed != slot:
            self._cache.copy_row_(2 * self._prefixed + 1, row + 1, self.config.prefix_length)
        self._prefixed = slot
        self.latents_BTZ[slot] = 0
        self._feedback_BD[slot] = self._network.bos_token
        self._cfg_coef_B[slot] = cfg_coef

    def window(self, block: int) -> int:
        """Cache positions to read while no slot is past block number `block`, 0 if none are counted."""
        if self._ops.window_step is None:
            return self._capacity
        length = self.config.prefix_length + (block + 1) * self.config.block_positions
        return window_of(length, self._capacity, self._ops.window_step)

    def step(self, ids_B: Tensor, column_B: Tensor, phase: Phase, window: int) -> Tensor | None:
        """Feed one position per slot.

        Args:
            ids_B: the last token of each slot, fed unless the phase is `first`.
            column_B: tokens that each slot has written, before this block and in it.

        Returns:
            Logits `[2 B, V]` float32; None in the phase `last`, which keeps the hidden vectors instead.
        """
        network, config = self._network, self.config
        blocks_B = column_B.div(config.block_size, rounding_mode="floor")
        position_B = config.prefix_length + blocks_B * config.block_positions + column_B % config.block_size
        if phase == "last":
            position_B = position_B - 1
        inputs_BD = self._feedback_BD if phase == "first" else network.skeleton_emb(ids_B)
        hidden_BD = network.ar_transformer.step(
            per_row(inputs_BD),
            self._rope,
            self._cache,
            per_row(position_B.clamp(config.prefix_length, self._capacity - 1)),
            window=window,
            ops=self._ops,
        )
        if phase == "last":
            self.hidden_BD.copy_(hidden_BD)
            return None
        return network.logits(hidden_BD)

    def diffuse_(self, sketch_BT: Tensor, wanted: dict[int, Diffusion]) -> None:
        """Diffuse the blocks of some slots, and make their latents the next input.

        Args:
            sketch_BT: the tokens of each slot's block.
            wanted: slot to how its block is diffused.
        """
        self._sketch_BT.copy_(sketch_BT)
        for diffusion in dict.fromkeys(wanted.values()):
            chosen = [slot for slot, its in wanted.items() if its == diffusion]
            self._is_chosen_B.copy_(torch.tensor([slot in chosen for slot in range(self.num_slots)]))
            self._diffusion = diffusion
            if diffusion.steps not in self._times:
                self._times[diffusion.steps] = self._network.embed_times(flow_times(diffusion.steps))
            stretches = (
                [slice(slot, slot + 1) for slot in chosen] if self._is_apart else [slice(0, self.num_slots)]
            )
            for self._slots in stretches:
                self._graph(diffusion)

    def _diffuse(self) -> None:
        """Diffuse a stretch of slots on the static tensors, and keep what is made of the chosen ones."""
        network, slots = self._network, self._slots
        rows = slice(2 * slots.start, 2 * slots.stop)
        history_BTZ = self.latents_BTZ[slots]
        made_BTZ = diffuse_block(
            network,
            BlockContext(self.hidden_BD[rows], network.skeleton_emb(self._sketch_BT[slots]), history_BTZ),
            self.noise_BTZ[slots],
            self._diffusion_rope,
            times_ND=self._times[self._diffusion.steps],
            cfg_coef_B=self._cfg_coef_B[slots],
            temperature=self._diffusion.temperature,
        )
        is_chosen = self._is_chosen_B[slots]
        latents_BTZ = torch.where(is_chosen[:, None, None], made_BTZ, history_BTZ)
        feedback_BD = torch.where(is_chosen[:, None], network.feedback(made_BTZ), self._feedback_BD[slots])
        self.latents_BTZ[slots] = latents_BTZ
        self._feedback_BD[slots] = feedback_BD
