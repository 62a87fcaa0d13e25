"""True stems through a checkpoint's codec: the autoencoder alone, and tokens and back.

It uses the encode and decode halves that songs and prompts go through, with weights as exported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from songgen.models.levo.checkpoint import load_audio_tokenizer, load_codec, tensor_shapes
from songgen.models.levo.codec import LevoCodec, track_codes
from songgen.models.levo.config import read_config
from songgen.models.levo.encode import (
    DUAL_TRACKS,
    ENCODER_PREFIX,
    MIXED_TRACKS,
    AudioTokenizer,
    sound2code,
)
from songgen.models.levo.windows import Stream, decode_streams, seeded_noise
from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.request_keys import Stem
from songgen.runtime.noise import seeded_normal
from songgen.train import additive
from songgen.train.levels import song_levels
from songgen.train.tokens import trained_tokenizer
from songgen.train.vae import trained_vae

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Codec:
    """Both halves of a checkpoint's codec, on the CPU."""

    mixed: AudioTokenizer
    dual: AudioTokenizer
    codec: LevoCodec
    vae: OobleckVAE

    def codes(self, vocal_CN: Tensor, bgm_CN: Tensor) -> Tensor:
        """48 kHz stereo stems `[2, N]` of whole frames -> mixed, vocal and bgm codes, int64 `[3, T]`."""
        num_frames = vocal_CN.shape[-1] // self.vae.config.hop
        mixed_T = self.mixed.tokens([vocal_CN + bgm_CN], MIXED_TRACKS[0])[0]
        dual_KT = sound2code(self.dual, [[vocal_CN, bgm_CN]])[0]
        return torch.cat([mixed_T[None], dual_KT])[:, :num_frames]

    def render(self, codes_KT: Tensor, stem: Stem, seed: int) -> Array:
        """Codes of all tracks to a stem `[2, N]`, as a song of that seed is rendered."""
        noise = seeded_noise(seed, "flow", self.vae.config.latent_dim)
        streams = [Stream(track_codes(codes_KT, stem), noise)]
        ((_, samples_CN),) = decode_streams(self.codec, self.vae, streams)
        return np.asarray(samples_CN.numpy())

    @torch.inference_mode()
    def through_vae(
        self, stems: Mapping[Stem, Array], f0_hz: Sequence[float], seed: int
    ) -> dict[Stem, Array]:
        """Stems `[2, N]` as latents and back: means of the encoder, or levels where the VAE has none.

        Args:
            f0_hz: the voice's pitch in each frame; only levels need it.
        """
        if self.vae.config != additive.config():
            latents = {
                stem: self.vae.encode_moments(torch.from_numpy(samples)[None])[0]
                for stem, samples in stems.items()
            }
        else:
            both = torch.stack([torch.from_numpy(stems[stem]) for stem in ("vocal", "bgm")])
            levels = song_levels(both, f0_hz)
            noise_TZ = seeded_normal(seed, "levels", len(f0_hz), self.vae.config.latent_dim)
            latents = {stem: additive.completed(levels[stem], noise_TZ).T[None] for stem in stems}
        return {stem: self.vae.decode_chunked(one)[0].numpy() for stem, one in latents.items()}


def load_codec_halves(folder: Path, work: Path) -> Codec:
    """The codec of a checkpoint's folder, with the encode half, which only prompts use. No language model.

    Args:
        work: the folder of the stages. Encoders that were left out of the checkpoint are taken from there.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: the checkpoint has no tokenizer of the mixture, or its files do not fit.
    """
    config = read_config(folder / "config.yaml")
    files, device = config.files, torch.device("cpu")
    if files.mixed_codec is None:
        raise ValueError(f"{folder}/config.yaml: names no audio_tokenizer_checkpoint; the report needs it")
    vae_config = OobleckConfig.from_json_dict(json.loads((folder / files.vae_config).read_text("utf-8")))
    decoding = load_codec(
        folder / files.codec,
        folder / files.vae_model,
        vae_config,
        num_heads=config.own.estimator_heads,
        solver=config.own.solver,
        needs_encoder=False,
        device=device,
    )
    has_encoder = any(name.startswith(ENCODER_PREFIX) for name in tensor_shapes(folder / files.codec))
    return Codec(
        mixed=load_audio_tokenizer(folder / files.mixed_codec, MIXED_TRACKS, device),
        dual=load_audio_tokenizer(folder / files.codec, DUAL_TRACKS, device)
        if has_encoder
        else trained_tokenizer(work, "dual", config.code_size),
        codec=decoding.codec,
        vae=decoding.vae if decoding.vae.encoder is not None else trained_vae(work),
    )
