"""The folder of recorded SongBloom cases: an index of files, weights, and the sizes of the models."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from parity_cases.case import Case, Tensors
from songgen.models.songbloom.checkpoint import build_network, load_vae
from songgen.models.songbloom.config import SongBloomConfig, config_of
from songgen.models.songbloom.network import SongBloomNetwork
from songgen.models.songbloom.text import published_vocabulary
from songgen.nn.oobleck import OobleckConfig, OobleckVAE

CPU = torch.device("cpu")


class Recorded:
    """What the folder holds.

    Attributes:
        index: each file's `desc`, `meta` and tensors, by name.
    """

    def __init__(self, case: Case) -> None:
        self.case, self.folder = case, case.folder
        index = json.loads((case.folder / "index.json").read_text("utf-8"))
        self.index: Mapping[str, Mapping[str, Any]] = index["files"]

    def tensors(self, name: str) -> Tensors:
        """The tensors of a file."""
        return self.case.tensors(name)

    def meta(self, name: str) -> Mapping[str, Any]:
        """What is said of a file."""
        meta: Mapping[str, Any] = self.index[name]["meta"]
        return meta

    @cached_property
    def weights(self) -> Tensors:
        """All weights, in float32."""
        return self.tensors("model")

    @cached_property
    def config(self) -> SongBloomConfig:
        """The sizes in tiny_config.json, with the published vocabulary."""
        tree = json.loads((self.folder / "tiny_config.json").read_text("utf-8"))
        conditions = tree["model"]["condition_provider_cfg"]
        conditions["lyrics"]["vocab_list"] = list(published_vocabulary())
        return replace(config_of(tree), sample_rate=int(tree["sr"]))

    @cached_property
    def network(self) -> SongBloomNetwork:
        """The networks."""
        return self.network_of(self.weights)

    def network_of(
        self, weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32
    ) -> SongBloomNetwork:
        """The networks with other weights, or in another precision."""
        return build_network(self.config, weights, source=self.folder, dtype=dtype, device=CPU)

    @cached_property
    def vae(self) -> OobleckVAE:
        """The VAE with its encoder."""
        return self.vae_of("tiny_vae.json", self.weights)

    def vae_of(self, config: str, weights: Mapping[str, Tensor]) -> OobleckVAE:
        """A VAE by the name of its description."""
        described = OobleckConfig.from_json_dict(json.loads((self.folder / config).read_text("utf-8")))
        return load_vae(described, weights, source=self.folder, device=CPU, has_encoder=True)

    def ids(self, phonemes: str) -> tuple[int, ...]:
        """Rows of the vocabulary of a processed lyric string; what is not in it is dropped."""
        rows = {item: row for row, item in enumerate(self.config.vocabulary)}
        return tuple(rows[item] for item in phonemes.split(" ") if item in rows)
