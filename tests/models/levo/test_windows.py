"""Windows, prompts and cross-fades: from codes to audio for several streams at once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from songgen.models.levo import windows
from songgen.models.levo.codec import CodecConfig, LevoCodec
from songgen.models.levo.windows import (
    CodecPrompt,
    Stream,
    WindowDone,
    cross_fade,
    decode_streams,
    num_samples,
    num_windows,
    seeded_noise,
    tile_codes,
)
from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.nn.weight_norm import fuse_weight_norm_

HOP = 4
CODEC = CodecConfig(
    latent_dim=3,
    ssl_dim=5,
    codebook_size=30,
    codebook_dim=2,
    mask_dim=4,
    num_layers=1,
    num_heads=2,
    inner_dim=20,
    num_positions=1000,
)
VAE = OobleckConfig(channels=2, c_mults=(1, 2), strides=(2, 2), latent_dim=3, sample_rate=25 * HOP)


@pytest.fixture(scope="module")
def vae() -> OobleckVAE:
    torch.manual_seed(5)
    vae = OobleckVAE(VAE).requires_grad_(False).eval()
    fuse_weight_norm_(vae)
    return vae


@pytest.fixture(scope="module")
def codec() -> LevoCodec:
    torch.manual_seed(6)
    codec = LevoCodec(CODEC).requires_grad_(False).eval()
    for parameter in codec.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    codec.normfeat.counts.fill_(100_000)
    codec.normfeat.sum_x2.fill_(100_000)
    fuse_weight_norm_(codec)
    return codec


def stream(seed: int, num_frames: int, prompt: CodecPrompt | None = None) -> Stream:
    codes = torch.randint(0, 30, (2, num_frames), generator=torch.Generator().manual_seed(seed))
    return Stream(codes, seeded_noise(seed, "mixed", 3), prompt)


def prompt(seed: int, num_frames: int) -> CodecPrompt:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 30, (2, num_frames + 1), generator=generator)
    return CodecPrompt(torch.randn(3, num_frames, generator=generator), codes)


def decode_one(codec: LevoCodec, vae: OobleckVAE, one: Stream, *, steps: int = 2) -> Tensor:
    ((index, samples),) = decode_streams(codec, vae, [one], steps=steps)
    assert index == 0
    return samples


def doubled(codes_KT: Tensor) -> Tensor:
    """The published filling, step by step."""
    while codes_KT.shape[1] < 1000:
        codes_KT = torch.cat([codes_KT, codes_KT], dim=1)
        if codes_KT.shape[1] >= 1000:
            codes_KT = codes_KT[:, :1000]
    if (codes_KT.shape[1] - 250) % 750:
        need = math.ceil((codes_KT.shape[1] - 250) / 750) * 750 + 250
        while codes_KT.shape[1] < need:
            codes_KT = torch.cat([codes_KT, codes_KT], dim=1)
        codes_KT = codes_KT[:, :need]
    return codes_KT


@pytest.mark.parametrize("num_frames", [1, 7, 250, 500, 999, 1000, 1001, 1749, 1750, 1751, 2000, 2500, 6750])
def test_last_window_is_filled_as_published(num_frames: int) -> None:
    """Doubling and cutting is a repetition from the start."""
    codes = torch.arange(2 * num_frames).view(2, num_frames)
    filled = tile_codes(codes)
    assert torch.equal(filled, doubled(codes))
    assert filled.shape[1] == 250 + 750 * num_windows(num_frames)


def test_length_is_cut_as_published() -> None:
    """Doubles lose one sample for 467 of the lengths up to 7000 frames: the rule and the count are facts."""
    short = [frames for frames in range(1, 7001) if num_samples(frames, 48000) != 1920 * frames]
    assert len(short) == 467
    assert short[:7] == [29, 57, 58, 113, 114, 115, 116]
    assert all(num_samples(frames, 48000) == 1920 * frames - 1 for frames in short)


@pytest.mark.parametrize("num_frames", [1, 29, 700, 1000, 1001])
def test_audio_has_the_length_of_the_codes(codec: LevoCodec, vae: OobleckVAE, num_frames: int) -> None:
    """Also where the last window adds a single frame."""
    samples = decode_one(codec, vae, stream(0, num_frames), steps=1)
    assert samples.shape == (2, num_samples(num_frames, 100))
    assert samples.dtype == torch.float32 and samples.isfinite().all()


@pytest.mark.parametrize("with_prompt", [False, True])
def test_no_frames_are_no_samples(codec: LevoCodec, vae: OobleckVAE, with_prompt: bool) -> None:
    """A song that ends at once made the published decoder double an empty row for ever."""
    empty = stream(0, 0, prompt(0, 10) if with_prompt else None)
    assert decode_one(codec, vae, empty).shape == (2, 0)


def test_streams_do_not_depend_on_each_other(codec: LevoCodec, vae: OobleckVAE) -> None:
    """Alone or batched, refilled or not, empty neighbours or long ones: a song is the same song."""
    streams = [stream(1, 1800), stream(2, 40), stream(3, 0), stream(4, 1200, prompt(4, 250)), stream(5, 300)]
    alone = [decode_one(codec, vae, one) for one in streams]
    for batch, rows in ((2, 1), (2, 3), (5, 64)):
        batched = dict(decode_streams(codec, vae, iter(streams), batch=batch, steps=2, rows=rows))
        assert batched.keys() == set(range(5))
        for index, samples in enumerate(alone):
            torch.testing.assert_close(batched[index], samples, rtol=1e-4, atol=1e-5)


def test_streams_come_as_they_end_and_are_read_when_there_is_room(codec: LevoCodec, vae: OobleckVAE) -> None:
    """The first short song must not wait for a long one, nor all the songs be held in memory."""
    read: list[int] = []

    def lengths() -> object:
        for number, frames in enumerate((1800, 20, 30)):
            read.append(number)
            yield stream(number, frames)

    decoding = decode_streams(codec, vae, lengths(), batch=2, steps=1)  # type: ignore[arg-type]
    assert next(decoding)[0] == 1 and read == [0, 1]
    assert [index for index, _ in decoding] == [2, 0]


def test_an_ended_stream_makes_room_at_once(codec: LevoCodec, vae: OobleckVAE) -> None:
    """No barrier: while a long song runs, short ones pass beside it, and never more than the bound."""
    rows: list[int] = []
    streams = [stream(number, frames) for number, frames in enumerate((2500, 20, 0, 30, 40, 1001))]
    with codec.estimator.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0] // 2)):
        order = [index for index, _ in decode_streams(codec, vae, streams, batch=2, steps=1)]
    assert order == [1, 2, 3, 0, 4, 5]
    assert rows == [2, 2, 2, 1, 1]  # the first has three windows, the last two, the others one or none


def test_no_stream_is_read_while_one_waits_to_be_taken(codec: LevoCodec, vae: OobleckVAE) -> None:
    """The next song may yet have to be composed: even an empty one is handed over before it is asked for."""
    read: list[int] = []

    def lengths() -> Iterator[Stream]:
        for number, frames in enumerate((0, 20, 30, 40)):
            read.append(number)
            yield stream(number, frames)

    decoding = decode_streams(codec, vae, lengths(), batch=2, steps=1)
    assert [(index, len(read)) for index, _ in decoding] == [(0, 1), (1, 3), (2, 3), (3, 4)]


def test_seconds_are_shared_by_what_is_drawn_together(codec: LevoCodec, vae: OobleckVAE) -> None:
    """A song's record says what it cost, not how long the others made it wait."""
    done: list[WindowDone] = []
    streams = [stream(1, 1001), stream(2, 20)]
    list(decode_streams(codec, vae, streams, batch=2, steps=1, on_window=done.append))
    assert [(one.stream, one.window) for one in done] == [(0, 0), (1, 0), (0, 1)]
    assert done[0].seconds == done[1].seconds > 0


def test_numbers_that_are_not_finite_fail_their_stream(codec: LevoCodec, vae: OobleckVAE) -> None:
    """A dtype too narrow for some checkpoint would be written as silence or noise."""
    bad = Stream(stream(1, 20).codes_KT, lambda window: torch.full((1000, 3), torch.inf))
    message = "stream 1: the codec computed latents that are not finite.*codec_dtype is too narrow"
    with pytest.raises(ValueError, match=message):
        list(decode_streams(codec, vae, [stream(0, 20), bad], batch=2, steps=1))


def test_seams_are_faded(codec: LevoCodec, vae: OobleckVAE) -> None:
    """Where windows overlap the audio goes linearly from one to the other; elsewhere it is one window's."""
    latents: dict[int, Tensor] = {}

    def keep(done: WindowDone) -> None:
        assert (done.stream, done.num_windows) == (0, 2)
        latents[done.window] = done.latents_ZT

    ((_, samples),) = decode_streams(codec, vae, [stream(7, 1750)], steps=2, on_window=keep)
    first, second = (vae.decode_chunked(latents[window][None])[0] for window in (0, 1))
    assert torch.equal(samples[:, : 750 * HOP], first[:, : 750 * HOP])
    assert torch.equal(samples[:, 1000 * HOP :], second[:, 250 * HOP :])
    overlap = slice(750 * HOP, 1000 * HOP)
    ratio = torch.linspace(0, 1, 250 * HOP)
    torch.testing.assert_close(
        samples[:, overlap], first[:, overlap] * (1 - ratio) + second[:, : 250 * HOP] * ratio
    )
    assert torch.equal(latents[1][:, :250].round(decimals=4), latents[0][:, 750:].round(decimals=4))


def test_a_song_that_ends_inside_a_seam_has_the_same_fade(codec: LevoCodec, vae: OobleckVAE) -> None:
    """The fade keeps its full length even if only its start is heard."""
    tail, head = torch.randn(2, 1000), torch.randn(2, 1000)
    whole = cross_fade(tail, head, 1000)
    assert torch.equal(cross_fade(tail[:, :300], head[:, :300], 1000), whole[:, :300])
    assert torch.equal(whole[:, 0], tail[:, 0]) and torch.equal(whole[:, -1], head[:, -1])
    assert torch.equal(cross_fade(tail[:, 300:700], head[:, 300:700], 1000, 300), whole[:, 300:700])


def test_prompt_is_continued_and_not_heard(codec: LevoCodec, vae: OobleckVAE) -> None:
    """The prompt's latents steer the first window; the audio begins behind them."""
    first: list[Tensor] = []
    one = stream(8, 600, prompt(8, 200))
    ((_, samples),) = decode_streams(
        codec, vae, [one], steps=2, on_window=lambda done: first.append(done.latents_ZT)
    )
    assert samples.shape == (2, 600 * HOP) and first[0].shape == (3, 800)
    assert torch.equal(samples, vae.decode_chunked(first[0][None], num_frames=600)[0])
    assert (samples - decode_one(codec, vae, stream(8, 600, prompt(9, 200)))).abs().max() > 1e-3


def test_short_songs_do_not_decode_the_rest_of_the_window(codec: LevoCodec, vae: OobleckVAE) -> None:
    """A window has 1000 frames; 20 frames of song need one chunk of the VAE, not eleven."""
    chunks: list[int] = []
    with vae.decoder.register_forward_pre_hook(lambda _, args: chunks.append(args[0].shape[-1])):
        short = decode_one(codec, vae, stream(9, 20))
    assert chunks == [128]
    assert short.shape == (2, 80)


def test_whole_windows_can_be_decoded_at_once(codec: LevoCodec, vae: OobleckVAE) -> None:
    """v2-fast decodes windows whole; the two differ at the seams only, and little."""
    one = stream(10, 1000)
    ((_, whole),) = decode_streams(codec, vae, [one], steps=1, chunk=None)
    ((_, chunked),) = decode_streams(codec, vae, [one], steps=1)
    assert (whole - chunked).abs().max() < 0.05 * whole.abs().max()


def test_noise_follows_from_seed_and_label() -> None:
    """Windows may be asked for in any order, and songs must not share noise by accident."""
    noise = seeded_noise(1, "mixed", 3)
    assert noise(2).shape == (1000, 3)
    assert torch.equal(noise(2), seeded_noise(1, "mixed", 3)(2))
    others = (noise(1), seeded_noise(2, "mixed", 3)(2), seeded_noise(1, "vocal", 3)(2))
    assert not any(torch.equal(noise(2), other) for other in others)
    assert abs(float(noise(0).mean())) < 0.1 and abs(float(noise(0).std()) - 1) < 0.1


def test_statistics_do_not_leak_from_song_to_song(codec: LevoCodec, vae: OobleckVAE) -> None:
    """With a checkpoint that still counts, the published system changes every later song."""
    counts, sum_x2 = codec.normfeat.counts.clone(), codec.normfeat.sum_x2.clone()
    codec.normfeat.counts.fill_(50)
    codec.normfeat.sum_x2.fill_(50)
    try:
        one = stream(11, 1100)
        assert torch.equal(decode_one(codec, vae, one), decode_one(codec, vae, one))
        filled = Stream(one.codes_KT, one.noise, filler=seeded_noise(12, "filler", 3))
        assert not torch.equal(decode_one(codec, vae, one), decode_one(codec, vae, filled))
    finally:
        codec.normfeat.counts.copy_(counts)
        codec.normfeat.sum_x2.copy_(sum_x2)
    assert torch.equal(decode_one(codec, vae, one), decode_one(codec, vae, filled))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            Stream(torch.zeros(3, 5, dtype=torch.int64), seeded_noise(0, "", 3)),
            "stream 0: 3 rows of codes; the codec has 2",
        ),
        (
            Stream(torch.full((2, 5), 30), seeded_noise(0, "", 3)),
            r"stream 0: codes 30 ... 30; the codec has 0 ... 29",
        ),
        (stream(0, 5, prompt(0, 251)), "stream 0: prompt of 251 frames; at most 250"),
    ],
)
def test_streams_that_do_not_fit(codec: LevoCodec, vae: OobleckVAE, bad: Stream, message: str) -> None:
    """End-of-song tokens and foreign codecs must be named, not looked up."""
    with pytest.raises(ValueError, match=message):
        decode_one(codec, vae, bad)


def test_codec_and_vae_have_to_fit(codec: LevoCodec, vae: OobleckVAE) -> None:
    """Another VAE would fail deep in a convolution."""
    other = OobleckVAE(OobleckConfig(channels=2, c_mults=(1,), strides=(2,), latent_dim=4))
    with pytest.raises(ValueError, match="codec with 3 latent channels, VAE with 4"):
        next(decode_streams(codec, other, []))
    short = LevoCodec(CodecConfig(latent_dim=3, ssl_dim=5, mask_dim=4, num_heads=2, num_positions=999))
    with pytest.raises(ValueError, match="codec with 999 positions; a window has 1000"):
        next(decode_streams(short, vae, []))
    with pytest.raises(ValueError, match="batch of 0 streams; at least 1"):
        next(decode_streams(codec, vae, [], batch=0))
    with pytest.raises(ValueError, match="0 rows of VAE chunks; at least 1"):
        next(decode_streams(codec, vae, [], rows=0))


def test_windows_are_those_of_the_published_system() -> None:
    """Windows of 40 s every 30 s; other numbers run, and sound wrong."""
    assert (windows.WINDOW_FRAMES, windows.HOP_FRAMES, windows.OVERLAP_FRAMES) == (1000, 750, 250)


def test_windows_need_not_be_filled(codec: LevoCodec, vae: OobleckVAE) -> None:
    """A song is then as long as it is; its audio still does not depend on what is drawn with it."""
    lengths = (3, 700, 1001, 1700)
    streams = [replace(stream(seed, length), fills_window=False) for seed, length in enumerate(lengths)]
    drawn: list[WindowDone] = []
    together = dict(decode_streams(codec, vae, streams, batch=3, steps=2, on_window=drawn.append))
    assert [together[index].shape[1] for index in range(4)] == [length * HOP for length in lengths]
    frames = {(window.stream, window.window): window.latents_ZT.shape[1] for window in drawn}
    assert frames == {(0, 0): 3, (1, 0): 700, (2, 0): 1000, (2, 1): 251, (3, 0): 1000, (3, 1): 950}
    for index, one in enumerate(streams):
        torch.testing.assert_close(together[index], decode_one(codec, vae, one))
