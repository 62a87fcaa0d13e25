"""Sound to codes: segments, peak rules, tracks, names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from songgen.models.levo.encode import (
    DUAL_TRACKS,
    MIXED_TRACKS,
    SEGMENT_SAMPLES,
    AudioTokenizer,
    AudioTokenizerConfig,
    Track,
    limit_peak,
    num_codes,
    segments,
    sound2code,
)
from songgen.nn.musicfm import MusicFmConfig

SECOND = 48000


def make_tokenizer(tracks: tuple[Track, ...]) -> AudioTokenizer:
    """A tiny tokenizer with random weights."""
    num_layers = max(track.layer for track in tracks)
    musicfm = MusicFmConfig(conv_dim=6, dim=8, ffn_dim=8, num_heads=2, num_layers=num_layers)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        config = AudioTokenizerConfig(tracks, musicfm, codebook_size=50, codebook_dim=4)
        tokenizer = AudioTokenizer(config).eval()
    with torch.no_grad():
        tokenizer.bestrq.model.conv.linear.weight.mul_(30)  # else the biases decide, and all codes are one
    return tokenizer


@pytest.fixture(scope="module")
def dual() -> AudioTokenizer:
    return make_tokenizer(DUAL_TRACKS)


@pytest.fixture(scope="module")
def mixed() -> AudioTokenizer:
    return make_tokenizer(MIXED_TRACKS)


def noise(seconds: float, seed: int = 0) -> Tensor:
    """Stereo noise that swells and fades, so that codes differ along the clip."""
    generator = torch.Generator().manual_seed(seed)
    length = round(seconds * SECOND)
    swell = torch.sin(torch.arange(length) / 7000 * (seed + 1))
    return torch.randn(2, length, generator=generator) * 0.2 * swell


@pytest.mark.parametrize(
    ("samples", "codes"),
    [
        (1, 1),
        (1919, 1),
        (1920, 2),
        (6 * SECOND, 151),
        (10 * SECOND, 251),
        (10 * SECOND - 1, 250),
        (40 * SECOND, 1001),
    ],
)
def test_number_of_codes(samples: int, codes: int) -> None:
    """One more than the whole frames: the published count, which shifts everything behind a prompt."""
    assert num_codes(samples) == codes


def published_segments(clip_CN: Tensor) -> Tensor:
    """The published procedure: double up to 40 s, then once more, and cut to whole segments."""
    while clip_CN.shape[1] < SEGMENT_SAMPLES:
        clip_CN = torch.cat([clip_CN, clip_CN], 1)
    count = clip_CN.shape[1] // SEGMENT_SAMPLES + 1
    clip_CN = torch.cat([clip_CN, clip_CN], 1)[:, : count * SEGMENT_SAMPLES]
    return clip_CN.reshape(clip_CN.shape[0], count, SEGMENT_SAMPLES).transpose(0, 1)


@pytest.mark.parametrize(
    "samples", [1000, 10 * SECOND, 1_919_999, 1_920_000, 1_920_001, 41 * SECOND, 80 * SECOND]
)
def test_segments_are_the_published_ones(samples: int) -> None:
    clip_CN = torch.arange(samples, dtype=torch.float32).expand(2, -1)
    got, published = segments(clip_CN), published_segments(clip_CN)
    assert torch.equal(got, published[: got.shape[0]])
    assert got.shape[0] * 1000 >= num_codes(samples)


@pytest.mark.parametrize(("seconds", "count"), [(10, 1), (39, 1), (40, 2), (41, 2)])
def test_no_segment_is_encoded_in_vain(seconds: int, count: int) -> None:
    """A 10 s prompt takes one pass through the encoder, not two."""
    assert segments(torch.zeros(2, seconds * SECOND)).shape == (count, 2, SEGMENT_SAMPLES)


def test_peak_limit_scales_only_what_exceeds_it() -> None:
    loud, quiet = torch.tensor([[1.6, -0.4], [0.2, 0.0]]), torch.tensor([[0.8, -0.1], [0.0, 0.3]])
    torch.testing.assert_close(limit_peak(loud, 0.8, dim=(0, 1)), loud / 2)
    assert torch.equal(limit_peak(quiet, 0.8, dim=(0, 1)), quiet)
    per_channel = limit_peak(torch.tensor([[1.8, 0.9], [0.5, 0.1]]), 0.9, dim=-1)
    torch.testing.assert_close(per_channel, torch.tensor([[0.9, 0.45], [0.5, 0.1]]))


def test_mono_is_the_mean_of_the_channels(mixed: AudioTokenizer) -> None:
    clip = torch.tensor([[[0.5, 0.1], [0.1, -0.3]]])
    torch.testing.assert_close(mixed.mono(clip), torch.tensor([[0.3, -0.1]]))


def test_codes_of_both_tracks(dual: AudioTokenizer) -> None:
    (codes_KT,) = sound2code(dual, [[noise(3), noise(3, 1)]])
    assert codes_KT.dtype == torch.int64
    assert codes_KT.shape == (2, 76)
    assert 0 <= int(codes_KT.min()) <= int(codes_KT.max()) < 50
    assert len(codes_KT.unique()) > 3


def test_stems_are_cut_to_the_shorter(dual: AudioTokenizer) -> None:
    vocal, bgm = noise(3.3), noise(3.1, 1)
    (codes_KT,) = sound2code(dual, [[vocal, bgm]])
    (cut_KT,) = sound2code(dual, [[vocal[:, : bgm.shape[1]], bgm]])
    assert torch.equal(codes_KT, cut_KT)


def test_the_peak_rule_sees_what_is_cut_off(dual: AudioTokenizer) -> None:
    """Published: each stem is limited as a whole, then cut to the shorter. A vocal stem with a loud end
    beyond the accompaniment's got other codes when it was cut first."""
    vocal, bgm = noise(2), noise(1.9, 1)
    vocal[:, -100:] *= 10
    (codes_KT,) = sound2code(dual, [[vocal, bgm]])
    (limited_KT,) = sound2code(dual, [[limit_peak(vocal, 0.8, dim=(0, 1))[:, : bgm.shape[1]], bgm]])
    assert torch.equal(codes_KT, limited_KT)
    assert not torch.equal(codes_KT, sound2code(dual, [[vocal[:, : bgm.shape[1]], bgm]])[0])


def test_a_track_hears_only_its_stem(dual: AudioTokenizer) -> None:
    (one,) = sound2code(dual, [[noise(2), noise(2, 1)]])
    (other,) = sound2code(dual, [[noise(2), noise(2, 2)]])
    assert torch.equal(one[0], other[0])
    assert not torch.equal(one[1], other[1])


def test_loudness_beyond_the_peak_rule_does_not_matter(mixed: AudioTokenizer) -> None:
    clip = noise(2)
    loud = clip / clip.abs().max()
    (one,), (other,) = sound2code(mixed, [[loud]]), sound2code(mixed, [[loud * 4]])
    assert torch.equal(one, other)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_clips_together_and_alone(mixed: AudioTokenizer, rows: int) -> None:
    """A prompt must not depend on the other prompts of a run: different lengths, one over 40 s."""
    clips = [noise(2), noise(41, 1), noise(0.5, 2)]
    together = sound2code(mixed, [[clip] for clip in clips], rows=rows)
    assert [codes.shape for codes in together] == [(1, 51), (1, 1026), (1, 13)]
    for codes, clip in zip(together, clips, strict=True):
        assert torch.equal(codes, sound2code(mixed, [[clip]])[0])


def test_no_clips_give_no_codes(mixed: AudioTokenizer) -> None:
    assert sound2code(mixed, []) == []


def test_codes_can_be_used_in_autograd(mixed: AudioTokenizer) -> None:
    """They are indices into embeddings later on; inference tensors would be refused there."""
    (codes,) = sound2code(mixed, [[noise(0.2)]])
    assert not codes.is_inference()


def test_every_track_needs_its_signal(dual: AudioTokenizer) -> None:
    with pytest.raises(ValueError, match=r"1 signals for a codec of 2 tracks \(vocal, bgm\)"):
        sound2code(dual, [[noise(1)]])


@pytest.mark.parametrize("shape", [(100,), (1, 100), (3, 100), (2, 0)])
def test_signals_must_be_stereo(mixed: AudioTokenizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"must be \[2, N\]"):
        sound2code(mixed, [[torch.zeros(shape)]])


@pytest.mark.parametrize(
    ("codec", "tracks"),
    [("codec_septoken", DUAL_TRACKS), ("codec_1rvq", MIXED_TRACKS), ("codec_1rvq_decode", MIXED_TRACKS)],
)
def test_published_names_and_shapes(codec: str, tracks: tuple[Track, ...], repository: Path) -> None:
    """At published size every tensor of a codec file has its place or is known not to be needed."""
    lines = (repository / "tests" / "golden" / "manifest" / f"{codec}.tsv").read_text("utf-8").splitlines()
    published = dict(line.split("\t")[:2] for line in lines if not line.startswith("#"))
    with torch.device("meta"):
        tokenizer = AudioTokenizer(AudioTokenizerConfig.published(tracks))
    held = {name: str(list(value.shape)) for name, value in tokenizer.state_dict().items()}
    needed = {
        name: shape for name, shape in published.items() if name in held or not tokenizer.is_unused(name)
    }
    assert needed == held


def test_sizes_are_read_from_tensors(dual: AudioTokenizer) -> None:
    tensors = dual.state_dict()
    assert AudioTokenizerConfig.from_tensors(tensors, DUAL_TRACKS) == dual.config
    tensors.pop("rvq_bestrq_emb.quantizers.0.codebook.weight")
    with pytest.raises(ValueError, match="not a codec"):
        AudioTokenizerConfig.from_tensors(tensors, DUAL_TRACKS)


@pytest.mark.parametrize(
    "name", ["rvq_bestrq_emb.quantizers.1.codebook.weight", "bestrq.model.extra", "something"]
)
def test_a_name_nobody_knows_is_not_passed_over(dual: AudioTokenizer, name: str) -> None:
    assert not dual.is_unused(name)
