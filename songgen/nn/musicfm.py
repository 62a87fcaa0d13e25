"""MusicFM, the self-supervised music encoder (Won et al. 2024, arXiv:2311.03318) whose hidden states become
tokens.

24 kHz mono -> mel in dB -> two strided residual convolutions -> conformer with rotary positions, 25 frames a
second. The conformer layers are those of transformers (imported when a model is built, as the import takes
seconds). Only as many layers are built as a model reads hidden states from; submodule names are those of
published checkpoints, and `UNUSED_IN_MUSICFM` lists what those hold besides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from songgen.nn.mel import MelSpectrogram, decibels

SAMPLE_RATE = 24000
FRAME_SAMPLES = 960
NUM_MELS = 128
MEL_MEAN = 6.768444971712967
MEL_STD = 18.417922652295623
DEPTHWISE_KERNEL = 31
ROTARY_BASE = 10000

UNUSED_IN_MUSICFM = re.compile(
    r"model\.cls_token|model\.linear\.(weight|bias)|model\.quantizer.*"
    r"|model\.conformer\.(pos_conv_embed\..*|layer_norm\.(weight|bias))"
)
"""Names below a published encoder that no hidden state depends on; see `MusicFm.is_unused`."""

LAYER_NAME = re.compile(r"model\.conformer\.layers\.(\d+)\.")


@dataclass(frozen=True)
class MusicFmConfig:
    """Sizes of an encoder.

    Args:
        conv_dim: channels of the convolutional front end.
        dim: D, width of the conformer.
        ffn_dim: inner width of its feed-forward layers.
        num_heads: attention heads.
        num_layers: conformer layers to build, at least the deepest one whose output is read.
    """

    conv_dim: int = 512
    dim: int = 1024
    ffn_dim: int = 4096
    num_heads: int = 16
    num_layers: int = 12

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Tensor], num_layers: int, prefix: str = "bestrq."
    ) -> MusicFmConfig:
        """Read the sizes off a checkpoint's tensors.

        Args:
            tensors: state dict (meta tensors will do).
            num_layers: layers to build.
            prefix: what stands before the encoder's own names.

        Raises:
            ValueError: a tensor that tells a size is missing, or the checkpoint has fewer layers.
        """
        shapes = {}
        for size, name in {
            "linear": "model.conv.linear.weight",
            "conv": "model.conv.conv.0.conv1.weight",
            "ffn": "model.conformer.layers.0.ffn1.intermediate_dense.weight",
            "rotary": "model.conformer.embed_positions.inv_freq",
        }.items():
            if prefix + name not in tensors:
                raise ValueError(f"no tensor {prefix + name}: not a MusicFM encoder")
            shapes[size] = tuple(tensors[prefix + name].shape)
        names = (name.removeprefix(prefix) for name in tensors if name.startswith(prefix))
        present = {int(match[1]) for match in map(LAYER_NAME.match, names) if match}
        if not present.issuperset(range(num_layers)):
            raise ValueError(f"{prefix}model.conformer has {len(present)} layers, {num_layers} are needed")
        dim = shapes["linear"][0]
        return cls(
            conv_dim=shapes["conv"][0],
            dim=dim,
            ffn_dim=shapes["ffn"][0],
            num_heads=dim // (2 * shapes["rotary"][0]),
            num_layers=num_layers,
        )


class _Preprocessor(nn.Module):
    """Normalised mel in dB."""

    def __init__(self) -> None:
        super().__init__()
        self.mel_stft = MelSpectrogram(sample_rate=SAMPLE_RATE, fft_size=2048, hop=240, num_mels=NUM_MELS)

    def forward(self, signal_BN: Tensor) -> Tensor:
        return (decibels(self.mel_stft(signal_BN))[..., :-1] - MEL_MEAN) / MEL_STD


class _ResidualConv(nn.Module):
    """A 3x3 pair and a 3x3 shortcut that halve both axes."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(in_channels, channels, 3, stride=2, padding=1)
        self.bn3 = nn.BatchNorm2d(channels)

    def forward(self, image: Tensor) -> Tensor:
        main = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(image)))))
        return F.relu(main + self.bn3(self.conv3(image)))


class _ConvFrontEnd(nn.Module):
    """Mel image `[B, 128, 4 T]` -> `[B, T, D]`."""

    def __init__(self, config: MusicFmConfig) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            _ResidualConv(1, config.conv_dim), _ResidualConv(config.conv_dim, config.conv_dim)
        )
        self.linear = nn.Linear(config.conv_dim * NUM_MELS // 4, config.dim)

    def forward(self, mel: Tensor) -> Tensor:
        frames: Tensor = self.linear(self.conv(mel[:, None]).flatten(1, 2).transpose(1, 2))
        return frames


class _RotaryAngles(nn.Module):
    """Cosines and sines `[2, T, 1, 1, head width]`; not cached, as the module may change its device."""

    inv_freq: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        steps = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
        self.register_buffer("inv_freq", 1.0 / ROTARY_BASE**steps)

    def forward(self, num_frames: int) -> Tensor:
        angles = (
            torch.arange(num_frames, device=self.inv_freq.device)[:, None].to(self.inv_freq) * self.inv_freq
        )
        doubled = torch.cat((angles, angles), dim=-1)[:, None, None]
        return torch.stack((doubled.cos(), doubled.sin()))


class _Conformer(nn.Module):
    """The conformer layers; the rotation is applied to the normed input of the query and key projections."""

    def __init__(self, config: MusicFmConfig) -> None:
        super().__init__()
        from transformers import Wav2Vec2ConformerConfig
        from transformers.models.wav2vec2_conformer.modeling_wav2vec2_conformer import (
            Wav2Vec2ConformerEncoderLayer,
        )

        options: dict[str, Any] = {
            "hidden_size": config.dim,
            "num_attention_heads": config.num_heads,
            "intermediate_size": config.ffn_dim,
            "hidden_act": "swish",
            "conv_depthwise_kernel_size": DEPTHWISE_KERNEL,
            "position_embeddings_type": "rotary",
            "attn_implementation": "eager",
        }
        layer_config = Wav2Vec2ConformerConfig(**options)
        self.embed_positions = _RotaryAngles(config.dim // config.num_heads)
        self.layers = nn.ModuleList(
            Wav2Vec2ConformerEncoderLayer(layer_config) for _ in range(config.num_layers)
        )

    def forward(self, frames_BTD: Tensor, num_layers: int) -> Tensor:
        angles = self.embed_positions(frames_BTD.shape[1]).to(frames_BTD.dtype)
        for layer in self.layers[:num_layers]:
            output = layer(frames_BTD, relative_position_embeddings=angles)
            frames_BTD = output[0] if isinstance(output, tuple) else output  # a tuple before transformers 5
        return frames_BTD


class _Model(nn.Module):
    """The level of names between the checkpoint's `bestrq.` and the parts."""

    def __init__(self, config: MusicFmConfig) -> None:
        super().__init__()
        self.preprocessor_melspec_2048 = _Preprocessor()
        self.conv = _ConvFrontEnd(config)
        self.conformer = _Conformer(config)


class MusicFm(nn.Module):
    """The encoder. Call `eval()` before use: its batch norms and dropouts follow the module's mode."""

    def __init__(self, config: MusicFmConfig) -> None:
        super().__init__()
        self.config = config
        self.model = _Model(config)

    def is_unused(self, name: str) -> bool:
        """Whether a published name is one that this encoder does not build, as it needs it for nothing."""
        layer = LAYER_NAME.match(name)
        beyond = layer is not None and int(layer[1]) >= self.config.num_layers
        return beyond or UNUSED_IN_MUSICFM.fullmatch(name) is not None

    def mel(self, signal_BN: Tensor) -> Tensor:
        """24 kHz mono `[B, N]` -> normalised mel `[B, 128, N // 240]`."""
        mel: Tensor = self.model.preprocessor_melspec_2048(signal_BN)
        return mel

    def embed(self, mel_BMT: Tensor) -> Tensor:
        """Normalised mel `[B, 128, 4 T]` -> conformer input `[B, T, D]`."""
        frames: Tensor = self.model.conv(mel_BMT)
        return frames

    def encode(self, frames_BTD: Tensor, layer: int) -> Tensor:
        """Conformer input -> output of its first `layer` layers, `[B, T, D]`; 0 returns the input."""
        if not 0 <= layer <= self.config.num_layers:
            raise ValueError(f"layer {layer} asked for, but {self.config.num_layers} are built")
        frames: Tensor = self.model.conformer(frames_BTD, layer)
        return frames

    def forward(self, signal_BN: Tensor, layer: int) -> Tensor:
        """Hidden states after `layer` layers.

        Args:
            signal_BN: 24 kHz mono, `[B, N]`, cut to whole 25 Hz frames; at least two of them.
            layer: 0 ... num_layers.

        Returns:
            `[B, N // 960, D]`.
        """
        whole = signal_BN.shape[-1] // FRAME_SAMPLES * FRAME_SAMPLES
        return self.encode(self.embed(self.mel(signal_BN[..., :whole])), layer)
