"""Rendering the songs of a model whose tokens are of the mixture only (v2-fast)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from songgen.models.base import Draft, Job
from songgen.models.levo.codec import CodecConfig, LevoCodec
from songgen.models.levo.render import render
from songgen.models.levo.windows import CodecPrompt, Stream, decode_streams, seeded_noise
from songgen.models.stems import check_generate_type
from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.nn.weight_norm import fuse_weight_norm_
from songgen.request_keys import GenerateType
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

CODEC = CodecConfig(
    latent_dim=4,
    ssl_dim=6,
    codebook_size=20,
    codebook_dim=3,
    num_tracks=1,
    mask_dim=2,
    num_layers=1,
    num_heads=2,
    inner_dim=64,
)
VAE = OobleckConfig(channels=4, c_mults=(1, 2, 2, 3, 3), strides=(2, 4, 4, 6, 10), latent_dim=4)
"""Small, with the published strides."""


@pytest.fixture(scope="module")
def networks() -> tuple[LevoCodec, OobleckVAE]:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        codec, vae = LevoCodec(CODEC), OobleckVAE(VAE)
        for parameter in [*codec.parameters(), *vae.parameters()]:
            parameter.data += 0.05 * torch.randn_like(parameter)
    codec.normfeat.counts.fill_(100_000)
    codec.normfeat.sum_x2.fill_(100_000)
    for network in (codec, vae):
        network.requires_grad_(False).eval()
        fuse_weight_norm_(network)
    return codec, vae


def draft(name: str, num_frames: int, seed: int, generate_type: GenerateType | None = None) -> Draft:
    generator = torch.Generator().manual_seed(seed)
    tokens_KT = torch.randint(0, CODEC.codebook_size, (1, num_frames), generator=generator)
    request = SongRequest(idx=name, lyrics="[verse] la", generate_type=generate_type)
    return Draft(Job(name, request, seed, Sampling()), tokens_KT, "eos")


@pytest.mark.parametrize("generate_type", [None, "mixed"])
def test_a_mixed_song_has_one_stem(
    networks: tuple[LevoCodec, OobleckVAE], generate_type: GenerateType | None
) -> None:
    """Songs together, each as long as its tokens say and the same as alone."""
    drafts = [draft("a", 12, 1, generate_type), draft("b", 30, 2, generate_type)]
    songs = list(render(*networks, iter(drafts), windows=2))
    assert [list(song.stems) for song in songs] == [["mixed"], ["mixed"]]
    for song, one in zip(songs, drafts, strict=True):
        audio = song.stems["mixed"]
        assert audio.samples.shape == (2, one.tokens.shape[1] * 1920)
        (alone,) = render(*networks, iter([one]), windows=1)
        np.testing.assert_allclose(audio.samples, alone.stems["mixed"].samples, atol=1e-5)


@pytest.mark.parametrize("generate_type", ["vocal", "bgm", "separate"])
def test_stems_are_refused_with_the_reason(generate_type: GenerateType) -> None:
    """They would be the mixture under another name; a model with three codebooks makes them."""
    check_generate_type(generate_type, 3)
    with pytest.raises(ValueError, match=f"generate_type is {generate_type}: .*hold no vocals or acc"):
        check_generate_type(generate_type, 1)


@pytest.mark.parametrize("generate_type", [None, "mixed"])
@pytest.mark.parametrize("num_codebooks", [1, 3])
def test_mixed_is_for_every_model(generate_type: GenerateType | None, num_codebooks: int) -> None:
    check_generate_type(generate_type, num_codebooks)


def test_kept_tokens_of_the_mixture_give_no_stems(networks: tuple[LevoCodec, OobleckVAE]) -> None:
    """`songgen render` gets tokens from a file, and may be asked for anything."""
    with pytest.raises(ValueError, match="stem 'vocal' from tokens of the mixture alone"):
        list(render(*networks, iter([draft("a", 3, 1, "separate")]), windows=1))


@pytest.mark.parametrize("num_prompt", [0, 155])
def test_whole_windows_and_chunks_agree(networks: tuple[LevoCodec, OobleckVAE], num_prompt: int) -> None:
    """The published script decodes a window whole, songgen in chunks of bounded memory: with the published
    strides what a chunk leaves out is out of reach."""
    codes_KT = draft("a", 900, 5).tokens
    prompt = None
    if num_prompt:
        latents_ZT = torch.randn(CODEC.latent_dim, num_prompt, generator=torch.Generator().manual_seed(0))
        prompt = CodecPrompt(latents_ZT, draft("p", num_prompt + 1, 6).tokens)
    stream = Stream(codes_KT, seeded_noise(1, "flow", CODEC.latent_dim), prompt)
    ((_, whole_CN),) = decode_streams(*networks, [stream], steps=2, chunk=None)
    ((_, chunked_CN),) = decode_streams(*networks, [stream], steps=2)
    assert float(whole_CN.std()) > 1e-3
    torch.testing.assert_close(chunked_CN, whole_CN, rtol=0, atol=1e-5 * float(whole_CN.abs().max()))
