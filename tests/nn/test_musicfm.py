"""MusicFM: sizes, names, layers, batches."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from songgen.nn.musicfm import FRAME_SAMPLES, MusicFm, MusicFmConfig

TINY = MusicFmConfig(conv_dim=3, dim=16, ffn_dim=24, num_heads=2, num_layers=4)


@pytest.fixture(scope="module")
def encoder() -> MusicFm:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return MusicFm(TINY).eval()


@pytest.fixture(scope="module")
def signal() -> torch.Tensor:
    return torch.randn(2, 20 * FRAME_SAMPLES, generator=torch.Generator().manual_seed(5)) * 0.1


@pytest.mark.parametrize(("codec", "num_layers"), [("codec_septoken", 7), ("codec_1rvq", 6)])
def test_published_names_and_shapes(codec: str, num_layers: int, repository: Path) -> None:
    """At published size every tensor of the encoder has its place or is known not to be needed."""
    lines = (repository / "tests" / "golden" / "manifest" / f"{codec}.tsv").read_text("utf-8").splitlines()
    rows = [line.split("\t") for line in lines if line.startswith("bestrq.")]
    published = {row[0].removeprefix("bestrq."): row[1] for row in rows}
    with torch.device("meta"):
        encoder = MusicFm(MusicFmConfig(num_layers=num_layers))
    held = {name: str(list(value.shape)) for name, value in encoder.state_dict().items()}
    assert {name: shape for name, shape in published.items() if not encoder.is_unused(name)} == held


@pytest.mark.parametrize(
    ("name", "unused"),
    [
        ("model.cls_token", True),
        ("model.linear.weight", True),
        ("model.conformer.layer_norm.bias", True),
        ("model.conformer.pos_conv_embed.conv.parametrizations.weight.original0", True),
        ("model.conformer.layers.4.ffn1.output_dense.bias", True),
        ("model.conformer.layers.11.final_layer_norm.weight", True),
        ("model.quantizer_melspec_2048_0.codebook", True),
        ("model.conformer.layers.3.ffn1.output_dense.bias", False),
        ("model.conformer.layers.0.something_new", False),
        ("model.conv.linear.weight", False),
        ("model.linear.weight.more", False),
    ],
)
def test_unused_names(encoder: MusicFm, name: str, unused: bool) -> None:
    """A name that means something must not be passed over when weights are loaded."""
    assert encoder.is_unused(name) is unused


def test_sizes_are_read_from_tensors(encoder: MusicFm) -> None:
    tensors = {f"bestrq.{name}": value for name, value in encoder.state_dict().items()}
    assert MusicFmConfig.from_tensors(tensors, 4) == TINY
    with pytest.raises(ValueError, match="has 4 layers, 5 are needed"):
        MusicFmConfig.from_tensors(tensors, 5)
    del tensors["bestrq.model.conv.linear.weight"]
    with pytest.raises(ValueError, match=r"no tensor bestrq.model.conv.linear.weight: not a MusicFM encoder"):
        MusicFmConfig.from_tensors(tensors, 4)


def test_one_feature_per_frame(encoder: MusicFm, signal: torch.Tensor) -> None:
    with torch.inference_mode():
        assert encoder(signal, 2).shape == (2, 20, 16)


def test_a_part_of_a_frame_is_not_heard(encoder: MusicFm, signal: torch.Tensor) -> None:
    longer = torch.cat([signal, torch.ones(2, FRAME_SAMPLES - 1)], dim=1)
    with torch.inference_mode():
        assert torch.equal(encoder(longer, 1), encoder(signal, 1))


def test_layers_build_on_each_other(encoder: MusicFm, signal: torch.Tensor) -> None:
    """Only the first layers run, and each count of them gives another state."""
    with torch.inference_mode():
        frames = encoder.embed(encoder.mel(signal))
        states = [encoder.encode(frames, layer) for layer in range(5)]
    assert torch.equal(states[0], frames)
    assert all(not torch.allclose(one, other) for one, other in pairwise(states))
    shallow = MusicFm(MusicFmConfig(conv_dim=3, dim=16, ffn_dim=24, num_heads=2, num_layers=2)).eval()
    shallow.load_state_dict(
        {name: value for name, value in encoder.state_dict().items() if not shallow.is_unused(name)}
    )
    with torch.inference_mode():
        assert torch.equal(shallow.encode(frames, 2), states[2])


@pytest.mark.parametrize("layer", [-1, 5])
def test_a_layer_that_is_not_built(encoder: MusicFm, signal: torch.Tensor, layer: int) -> None:
    with pytest.raises(ValueError, match=f"layer {layer} asked for, but 4 are built"):
        encoder(signal, layer)


def test_clips_of_a_batch_are_independent(encoder: MusicFm, signal: torch.Tensor) -> None:
    with torch.inference_mode():
        together, alone = encoder(signal, 4), encoder(signal[1:], 4)
    torch.testing.assert_close(together[1:], alone, rtol=0, atol=1e-5)


def test_frames_know_their_order(encoder: MusicFm, signal: torch.Tensor) -> None:
    """Without rotary positions the conformer's attention would not see a swap of distant frames."""
    with torch.inference_mode():
        frames = encoder.embed(encoder.mel(signal))
        angles = encoder.model.conformer.embed_positions
        before = encoder.encode(frames, 1)
        kept = angles.inv_freq.clone()
        angles.inv_freq.zero_()
        after = encoder.encode(frames, 1)
        angles.inv_freq.copy_(kept)
    assert not torch.allclose(before, after, atol=1e-6)
