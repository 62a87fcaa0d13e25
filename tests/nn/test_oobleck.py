"""The audio VAE: configuration, shapes, whole and chunked decoding."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from songgen.nn.oobleck import OobleckConfig, OobleckVAE, chunk_spans, needed_spans
from songgen.nn.weight_norm import fuse_weight_norm_

PUBLISHED_STRIDES = OobleckConfig(channels=2, c_mults=(1, 1, 1, 1, 1), latent_dim=4)
SMALL = OobleckConfig(channels=4, c_mults=(1, 2), strides=(2, 4), latent_dim=3, sample_rate=200)
PUBLISHED: dict[str, Any] = {
    "model_type": "autoencoder",
    "sample_rate": 48000,
    "audio_channels": 2,
    "model": {
        "encoder": {
            "type": "oobleck",
            "config": {
                "in_channels": 2,
                "channels": 128,
                "c_mults": [1, 2, 4, 8, 16],
                "strides": [2, 4, 4, 6, 10],
                "latent_dim": 128,
                "use_snake": True,
            },
        },
        "decoder": {
            "type": "oobleck",
            "config": {
                "out_channels": 2,
                "channels": 128,
                "c_mults": [1, 2, 4, 8, 16],
                "strides": [2, 4, 4, 6, 10],
                "latent_dim": 64,
                "use_snake": True,
                "final_tanh": False,
            },
        },
        "bottleneck": {"type": "vae"},
        "latent_dim": 64,
        "downsampling_ratio": 1920,
        "io_channels": 2,
    },
}


def build(config: OobleckConfig, seed: int = 3) -> OobleckVAE:
    torch.manual_seed(seed)
    vae = OobleckVAE(config).requires_grad_(False).eval()
    fuse_weight_norm_(vae)
    return vae


@pytest.fixture(scope="module")
def small() -> OobleckVAE:
    return build(SMALL)


def count_frames(vae: OobleckVAE, frames: list[int]) -> Any:
    def note(_: torch.nn.Module, args: tuple[Tensor]) -> None:
        frames.append(args[0].shape[-1])

    return vae.decoder.register_forward_pre_hook(note)


def test_published_description_is_read() -> None:
    """The published json must give the published sizes."""
    config = OobleckConfig.from_json_dict(PUBLISHED)
    assert config == OobleckConfig()
    assert config.hop == 1920


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("model", "bottleneck", "type"), "rvq", "bottleneck.type is 'rvq', only 'vae' is supported"),
        (("model_type",), "lm", "model_type is 'lm', only 'autoencoder'"),
        (("model", "decoder", "config", "use_snake"), False, "decoder.use_snake is False, only True"),
        (("model", "decoder", "config", "final_tanh"), True, "decoder.final_tanh is True, only False"),
        (("model", "encoder", "config", "latent_dim"), 64, "encoder.latent_dim is 64, only 128"),
        (("model", "downsampling_ratio"), 2048, "downsampling_ratio is 2048, only 1920"),
        (("model", "decoder", "config", "strides"), [2, 4], "differ in length"),
        (("model", "decoder", "config", "strides"), [2, 4, 4, 6, 5], "only even ones are supported"),
        (("sample_rate",), None, "key 'sample_rate' is missing"),
        (("model", "encoder"), None, "key 'encoder' is missing"),
    ],
)
def test_other_descriptions_are_refused(path: tuple[str, ...], value: object, message: str) -> None:
    """An autoencoder that we would compute wrongly must not load."""
    changed = copy.deepcopy(PUBLISHED)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    with pytest.raises(ValueError, match=message):
        OobleckConfig.from_json_dict(changed)


@pytest.mark.parametrize("has_encoder", [True, False])
def test_published_names_and_shapes(repository: Path, has_encoder: bool) -> None:
    """Strict loading needs exactly the published names and shapes; the decoder alone needs its part."""
    lines = (repository / "tests/golden/manifest/vae.tsv").read_text("utf-8").splitlines()
    rows = [line.split("\t")[:2] for line in lines if not line.startswith("#")]
    with torch.device("meta"):
        vae = OobleckVAE(OobleckConfig(), has_encoder=has_encoder)
    got = {name: str(list(value.shape)) for name, value in vae.state_dict().items()}
    assert got == {name: shape for name, shape in rows if has_encoder or name.startswith("decoder.")}


def test_lengths(small: OobleckVAE) -> None:
    """Latents are floor(samples / hop), audio is frames * hop."""
    mean, deviation = small.encode_moments(torch.randn(1, 2, 8 * 5 + 7))
    assert mean.shape == deviation.shape == (1, 3, 5)
    assert (deviation > 0).all()
    assert small.decode(torch.randn(2, 3, 5)).shape == (2, 2, 40)


def test_encoding_draws_with_the_given_noise(small: OobleckVAE) -> None:
    """The same noise gives the same latents; none gives the mean."""
    audio, noise = torch.randn(1, 2, 40), torch.randn(1, 3, 5)
    mean, deviation = small.encode_moments(audio)
    assert torch.equal(small.encode(audio, torch.zeros_like(noise)), mean)
    torch.testing.assert_close(small.encode(audio, noise), mean + deviation * noise)


@pytest.mark.parametrize(
    ("num_frames", "chunk", "overlap"),
    [
        (128, 128, 32),
        (129, 128, 32),
        (224, 128, 32),
        (225, 128, 32),
        (1000, 128, 32),
        (40, 16, 4),
        (9, 4, 3),
        (7, 2, 0),
    ],
)
def test_chunks_cover_every_frame_once(num_frames: int, chunk: int, overlap: int) -> None:
    """A gap would be silence, and a chunk that is kept to its edge a click."""
    covered = 0
    for start, first, end in chunk_spans(num_frames, chunk, overlap):
        assert first == covered and start <= first < end <= start + chunk <= num_frames
        assert first - start >= (overlap // 2 if start else 0)
        assert end == num_frames or start + chunk - end >= overlap // 2
        covered = end
    assert covered == num_frames


def test_chunked_equals_whole_with_the_published_strides() -> None:
    """There the decoder sees under 16 latents to each side, so seams are exact but for rounding."""
    vae = build(PUBLISHED_STRIDES)
    latents = torch.randn(1, 4, 230)
    whole = vae.decode(latents)
    torch.testing.assert_close(
        vae.decode_chunked(latents), whole, rtol=1e-5, atol=1e-5 * float(whole.abs().max())
    )


def test_memory_does_not_grow_with_the_length(small: OobleckVAE) -> None:
    """The decoder never sees more than a chunk at once."""
    frames: list[int] = []
    with count_frames(small, frames):
        small.decode_chunked(torch.randn(2, 3, 500), chunk=16, overlap=4)
    assert max(frames) == 16 and len(frames) == 42


def test_less_than_a_chunk_is_decoded_whole(small: OobleckVAE) -> None:
    """The published system fails here."""
    latents = torch.randn(1, 3, 100)
    assert torch.equal(small.decode_chunked(latents), small.decode(latents))
    assert torch.equal(small.decode_chunked(latents, num_frames=30), small.decode(latents)[..., :240])


def test_no_latents_are_no_samples(small: OobleckVAE) -> None:
    """An empty song must not fail in the decoder."""
    assert small.decode_chunked(torch.zeros(1, 3, 0)).shape == (1, 2, 0)
    assert small.decode_chunked(torch.zeros(1, 3, 200), num_frames=0).shape == (1, 2, 0)


@pytest.mark.parametrize("num_frames", [1, 100, 111, 112, 113, 300, 700])
def test_the_beginning_alone_costs_less_and_is_the_same(small: OobleckVAE, num_frames: int) -> None:
    """A short song's window is cut; decoding what is cut away would be wasted time."""
    latents, frames = torch.randn(1, 3, 300), list[int]()
    whole = small.decode_chunked(latents)
    with count_frames(small, frames):
        some = small.decode_chunked(latents, num_frames=num_frames)
    assert torch.equal(some, whole[..., : num_frames * 8])
    assert len(frames) == (1 if num_frames <= 112 else 2 if num_frames == 113 else 3)


@pytest.mark.parametrize(("chunk", "overlap"), [(32, 32), (16, -1)])
def test_chunks_must_advance(small: OobleckVAE, chunk: int, overlap: int) -> None:
    """An overlap of a whole chunk would never end."""
    with pytest.raises(
        ValueError, match=f"overlap {overlap} must be >= 0 and less than the chunk of {chunk}"
    ):
        small.decode_chunked(torch.zeros(1, 3, 50), chunk=chunk, overlap=overlap)


def test_rows_are_independent(small: OobleckVAE) -> None:
    """Stems decoded together are the stems decoded one by one."""
    latents = torch.randn(3, 3, 20)
    together = small.decode_chunked(latents, chunk=8, overlap=2)
    for row in range(3):
        alone = small.decode_chunked(latents[row : row + 1], chunk=8, overlap=2)
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-5)


LENGTHS, WANTED = (50, 3, 0, 20, 24), (50, 3, 0, 11, 0)


@pytest.mark.parametrize("chunk", [8, None])
@pytest.mark.parametrize("rows", [1, 3, 99])
def test_pieces_of_several_latents_are_those_of_each(chunk: int | None, rows: int) -> None:
    """Chunks of different songs share a pass; each song's audio is what it is alone, whatever the others."""
    vae = build(SMALL)
    latents = [torch.randn(3, length) for length in LENGTHS]
    passes: list[tuple[int, ...]] = []
    audio = [torch.full((2, wanted * 8), torch.nan) for wanted in WANTED]
    with vae.decoder.register_forward_pre_hook(lambda _, args: passes.append(tuple(args[0].shape))):
        pieces = vae.decode_pieces(latents, WANTED, chunk=chunk, overlap=2, rows=rows)
        for which, first, piece in pieces:
            audio[which][:, first * 8 : first * 8 + piece.shape[1]] = piece
    assert all(shape[0] <= rows and shape[2] <= (chunk or 50) for shape in passes)
    assert sum(shape[0] for shape in passes) == (11 if chunk else 3)
    for one, wanted, got in zip(latents, WANTED, audio, strict=True):
        alone = (
            vae.decode(one[None])[0, :, : wanted * 8]
            if chunk is None and wanted
            else vae.decode_chunked(one[None], chunk=chunk or 8, overlap=2, num_frames=wanted)[0]
        )
        torch.testing.assert_close(got, alone, rtol=1e-5, atol=1e-5)


def test_pieces_are_made_when_they_are_taken() -> None:
    """Audio leaves piece by piece: no more than `rows` chunks are held at once."""
    vae, passes = build(SMALL), 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    with vae.decoder.register_forward_pre_hook(count):
        pieces = vae.decode_pieces([torch.randn(3, 50)], [50], chunk=8, overlap=2, rows=2)
        assert passes == 0
        for made, _ in enumerate(pieces):
            assert passes == made // 2 + 1


def test_needed_spans_stop_where_nothing_more_is_wanted() -> None:
    assert [span.end for span in needed_spans(50, 20, 8, 2)] == [7, 13, 19, 20]
    assert list(needed_spans(50, 0, 8, 2)) == []
