"""From drafts to songs: stems of several songs together, in the order they end, no draft before its time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from songgen.models.base import Draft, Job, Song
from songgen.models.levo.codec import CodecConfig, LevoCodec
from songgen.models.levo.render import render
from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.nn.weight_norm import fuse_weight_norm_
from songgen.requests import GenerateType, SongRequest
from songgen.runtime.sampling import Sampling

HOP = 4
FRAME_SECONDS = 0.04
Networks = tuple[LevoCodec, OobleckVAE]


@pytest.fixture(scope="module")
def networks() -> Networks:
    torch.manual_seed(5)
    sizes = {"latent_dim": 3, "ssl_dim": 5, "codebook_size": 9700, "codebook_dim": 2, "mask_dim": 4}
    codec = LevoCodec(CodecConfig(num_layers=1, num_heads=1, inner_dim=20, num_positions=1000, **sizes))
    vae = OobleckVAE(
        OobleckConfig(channels=2, c_mults=(1, 2), strides=(2, 2), latent_dim=3, sample_rate=25 * HOP)
    )
    for module in (codec, vae):
        module.requires_grad_(False).eval()
        fuse_weight_norm_(module)
    return codec, vae


def draft(name: str, num_frames: int, kind: GenerateType = "mixed") -> Draft:
    seed = sum(map(ord, name))
    tokens = torch.randint(0, 9700, (3, num_frames), generator=torch.Generator().manual_seed(seed))
    request = SongRequest(idx=name, lyrics="[verse] la", generate_type=kind)
    return Draft(Job(name, request, seed, Sampling()), tokens, "length")


DRAFTS = [
    draft("long", 2000),
    draft("three", 800, "separate"),
    draft("voice", 30, "vocal"),
    draft("mixed", 1100),
    draft("other", 40, "separate"),
]


def name_of(song: Song) -> str:
    return song.draft.job.name


def recorded(drafts: list[Draft], pulled: list[str]) -> Iterator[Draft]:
    for one in drafts:
        pulled.append(one.job.name)
        yield one


@pytest.fixture(scope="module")
def alone(networks: Networks) -> list[Song]:
    """The songs of `DRAFTS`, one stem after the other."""
    return list(render(*networks, iter(DRAFTS), windows=1))


@pytest.mark.parametrize(("windows", "rows"), [(3, 2), (64, 64)])
def test_together_as_one_by_one(networks: Networks, alone: list[Song], windows: int, rows: int) -> None:
    """A song is the same song whoever it is rendered with; its stems come in the order of their files."""
    single = {name_of(song): song for song in alone}
    together = {name_of(song): song for song in render(*networks, iter(DRAFTS), windows=windows, rows=rows)}
    assert together.keys() == single.keys() == {one.job.name for one in DRAFTS}
    for name, song in together.items():
        assert list(song.stems) == list(single[name].stems)
        for stem, audio in song.stems.items():
            assert audio.sample_rate == 25 * HOP
            np.testing.assert_allclose(audio.samples, single[name].stems[stem].samples, rtol=1e-4, atol=1e-5)
    assert list(together["three"].stems) == ["mixed", "vocal", "bgm"]


def test_songs_come_as_they_end(networks: Networks, alone: list[Song]) -> None:
    """A long song holds nobody up, and one whose stems did not all fit is whole all the same."""
    assert [name_of(song) for song in alone] == [one.job.name for one in DRAFTS]
    assert [name_of(song) for song in render(*networks, iter(DRAFTS), windows=4)] == [
        "three", "voice", "long", "mixed", "other"
    ]  # fmt: skip


def test_no_more_stems_at_once_than_allowed(networks: Networks) -> None:
    """The bound is of stems, not of songs: memory does not follow `separate`."""
    codec, _ = networks
    rows: list[int] = []
    with codec.estimator.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[0] // 2)):
        list(render(*networks, iter(DRAFTS), windows=2))
    assert max(rows) == 2 and sum(rows) == 10 * (3 + 3 + 1 + 2 + 3)  # ten solver steps a window


def test_drafts_are_pulled_only_when_there_is_room_and_nothing_to_hand_over(networks: Networks) -> None:
    """In full memory the next draft is still to be composed: the first song must be on disk before that."""
    pulled: list[str] = []
    songs = render(*networks, recorded(DRAFTS, pulled), windows=1)
    for song, one in zip(songs, DRAFTS, strict=True):
        assert name_of(song) == one.job.name == pulled[-1]
    pulled.clear()
    songs = render(*networks, recorded(DRAFTS, pulled), windows=3)
    assert name_of(next(songs)) == "three" and pulled == ["long", "three", "voice"]
    assert name_of(next(songs)) == "voice" and pulled == ["long", "three", "voice"]
    assert name_of(next(songs)) == "long" and pulled == ["long", "three", "voice", "mixed", "other"]


def test_nothing_is_pulled_before_the_first_song_is_wanted(networks: Networks) -> None:
    pulled: list[str] = []
    render(*networks, recorded(DRAFTS, pulled), windows=4)
    assert pulled == []


def test_progress_and_seconds_are_of_the_song_alone(networks: Networks) -> None:
    """Each song goes up to 1 by its own windows, and the seconds of all add up to the time that passed."""
    seen: dict[str, list[float]] = {}
    songs = list(
        render(
            *networks,
            iter(DRAFTS),
            windows=3,
            report=lambda stage, name, part: seen.setdefault(name, []).append(part),
        )
    )
    counts = {"long": 3, "three": 3, "voice": 1, "mixed": 2, "other": 3}
    assert {name: len(parts) for name, parts in seen.items()} == counts
    for parts in seen.values():
        assert parts == sorted(parts) and parts[-1] == pytest.approx(1.0)
    assert all(song.seconds > 0 for song in songs)


def test_a_draft_without_frames_fails_and_says_why(networks: Networks) -> None:
    with pytest.raises(ValueError, match="ended the song before its first frame; try another seed"):
        list(render(*networks, iter([draft("empty", 0)]), windows=2))
