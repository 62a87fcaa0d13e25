"""The stages `vae` and `latents` on songs of a few tones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from songgen.nn.oobleck import OobleckConfig, OobleckVAE, SnakeBeta
from songgen.train import additive, fast_snake, latents, spectral_losses
from songgen.train.curves import read_losses
from songgen.train.fast_oobleck import make_fast_vae
from songgen.train.latents import (
    encode_song,
    latent_stats,
    latents_path,
    read_latents,
    write_all,
    write_statistics,
)
from songgen.train.levels import song_levels
from songgen.train.loop import CHECKPOINT, LoopSettings, train
from songgen.train.spectral_losses import MelDistance, MultiResolutionLoss, SpectralLoss
from songgen.train.stem_crops import StemCrops
from songgen.train.truth import FRAME_SAMPLES, SAMPLE_RATE
from songgen.train.vae import VaeSettings, VaeStage, load_vae, make_stage, scale_loss, trained_vae

SETTINGS = VaeSettings(
    channels=4,
    c_mults=(2, 2, 2),
    strides=(16, 10, 12),
    latent_dim=6,
    crop_frames=3,
    batch=2,
    fft_sizes=(256, 512),
    ffts_at_once=1,
    memory_gb=1e-3,
    held_out=1,
    held_out_seconds=0.2,
    latent_chunk=5,
    latent_margin=14,
)
LOOP = LoopSettings(
    steps=40, learning_rate=3e-3, warmup=5, log_every=5, evaluate_every=0, precision="fp32", ema=0.9
)


@dataclass
class Length:
    num_frames: int
    index: int

    @property
    def f0_hz(self) -> list[float]:
        return [200 + 50 * self.index + 60 * (frame + 0.5) / 25 for frame in range(self.num_frames)]


class Tones:
    """Songs of 26 frames: a tone that moves as vocal, two fixed ones as bgm; 16-bit samples."""

    train_indices = [0, 1]  # noqa: RUF012
    held_out_indices = [2]  # noqa: RUF012
    num_reads = 0

    def __len__(self) -> int:
        return 3

    def number(self, index: int) -> int:
        return 40 + index

    def truth(self, index: int) -> Length:
        return Length(26, index)

    def stems(self, index: int, start: int = 0, num_frames: int | None = None) -> Tensor:
        self.num_reads += 1
        seconds = torch.arange(26 * FRAME_SAMPLES) / SAMPLE_RATE
        vocal = 0.2 * torch.sin(2 * math.pi * (200 + 50 * index + 30 * seconds) * seconds)
        bgm = 0.1 * torch.sin(600 * seconds) + 0.1 * torch.sin(2000 * seconds)
        both = torch.stack([torch.stack([vocal, vocal]), torch.stack([bgm, 0.5 * bgm])])
        end = None if num_frames is None else (start + num_frames) * FRAME_SAMPLES
        return ((both * 32768).round() / 32768)[..., start * FRAME_SAMPLES : end]


@pytest.fixture(autouse=True)
def _nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiling takes longer than all these tests; one test does it."""

    def as_it_is(function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    for module in (fast_snake, spectral_losses):
        monkeypatch.setattr(module, "fused", as_it_is)


def new_stage(settings: VaeSettings = SETTINGS) -> VaeStage:
    torch.manual_seed(0)
    return VaeStage(Tones(), settings)


def test_the_fast_form_computes_what_the_plain_one_does() -> None:
    torch.manual_seed(0)
    config = OobleckConfig(channels=4, c_mults=(1, 2), strides=(2, 4), latent_dim=3)
    fast, plain = make_fast_vae(config), OobleckVAE(config)
    plain.load_state_dict(fast.state_dict())
    audio_BCN = torch.randn(2, 2, 96)
    found = []
    for vae in (fast, plain):
        for snake in (module for module in vae.modules() if isinstance(module, SnakeBeta)):
            torch.nn.init.constant_(snake.alpha, 0.2)
            torch.nn.init.constant_(snake.beta, 0.8)
        mean, deviation = vae.encode_moments(audio_BCN)
        decoded_BCN = vae.decode(mean + deviation)
        decoded_BCN.square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in vae.named_parameters()}
        found.append((mean, deviation, decoded_BCN, gradients))
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=1e-4)


def test_the_snake_is_exact_far_from_zero() -> None:
    x = torch.linspace(-40, 40, 1001).reshape(1, 7, 143).requires_grad_()
    plain = SnakeBeta(7)
    torch.nn.init.uniform_(plain.alpha, -1, 1)
    torch.nn.init.uniform_(plain.beta, -1, 1)
    ours, theirs = fast_snake.snake(x, plain.alpha, plain.beta), plain(x)
    torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    weights = torch.randn_like(ours)
    sources = (x, plain.alpha, plain.beta)
    torch.testing.assert_close(
        torch.autograd.grad((ours * weights).sum(), sources),
        torch.autograd.grad((theirs * weights).sum(), sources),
        atol=2e-3,
        rtol=1e-4,
    )
    half = fast_snake.snake(x.bfloat16(), plain.alpha, plain.beta)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), plain(x.bfloat16().float()), atol=0.13, rtol=0.01)


@pytest.mark.slow
@pytest.mark.skipif(not fast_snake.can_compile(), reason="no C++ compiler")
def test_compiled_functions_compute_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = torch.compile(fast_snake.snake_forward, dynamic=True)
    for shape in ((64, 16), (30, 8)):
        x, turns, height = torch.randn(shape), torch.rand(shape[1]), torch.rand(shape[1])
        torch.testing.assert_close(compiled(x, turns, height), fast_snake.snake_forward(x, turns, height))


def test_without_a_compiler_functions_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not fast_snake.can_compile()
    assert fast_snake.fused(abs) is abs


def test_the_loss_falls(tmp_path: Path) -> None:
    train(new_stage(), LOOP, tmp_path)
    losses = [line["loss"] for line in read_losses(tmp_path / "losses.jsonl") if "loss" in line]
    assert losses[-1] < 0.7 * losses[0]


def test_a_resumed_run_equals_a_straight_one(tmp_path: Path) -> None:
    settings = replace(LOOP, steps=3)
    train(new_stage(), settings, tmp_path / "straight")
    for _ in range(4):
        train(new_stage(), replace(settings, max_seconds=0.0), tmp_path / "pieces")
    one, other = (
        torch.load(tmp_path / name / CHECKPOINT, weights_only=True)["module"]
        for name in ("straight", "pieces")
    )
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_training_starts_at_the_scale_of_its_data() -> None:
    stage = new_stage()
    audio_BCN = torch.stack([stage.crops.held_out(2, 6, "mixed")])
    with torch.no_grad():
        mean, deviation = stage.module.encode_moments(audio_BCN)
        decoded_BCN = stage.module.decode(mean)
    assert 0.3 < float(mean.std()) < 3
    assert float(deviation.mean()) < 0.1
    assert 0.3 < float(decoded_BCN.std() / audio_BCN.std()) < 3


def test_every_parameter_is_trained_under_autocast() -> None:
    stage = new_stage()
    with torch.autocast("cpu", torch.bfloat16):
        loss, facts = stage.loss(stage.batch(np.random.default_rng(0)), 0)
    loss.backward()
    assert loss.dtype == torch.float32
    for name, parameter in stage.module.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
    assert {"bins", "mels", "convergence", "waveform", "divergence", "latent_std"} <= facts.keys()


def test_evaluation_is_by_stem() -> None:
    stage = new_stage()
    stage.module.eval()
    with torch.no_grad():
        found = stage.evaluate()
    assert {"mixed/mel_db", "vocal/mel_db", "bgm/bins"} <= found.keys()
    assert all(math.isfinite(value) for value in found.values())


def test_pieces_do_not_depend_on_where_they_come_from() -> None:
    kept_songs, read_songs = Tones(), Tones()
    kept, read = StemCrops(kept_songs, 10**9), StemCrops(read_songs, 0)
    for seed in range(4):
        pieces = [crops.draw(np.random.default_rng(seed), 3, "mixed") for crops in (kept, read)]
        torch.testing.assert_close(*pieces, atol=1e-7, rtol=0)
        assert pieces[0].shape == (2, 3 * FRAME_SAMPLES)
    assert kept_songs.num_reads <= 2 < read_songs.num_reads
    long = kept.draw(np.random.default_rng(0), 30, "vocal")
    assert long.shape == (2, 30 * FRAME_SAMPLES) and not long[:, 26 * FRAME_SAMPLES :].any()
    vocal, bgm, mixed = (kept.held_out(2, 4, stem) for stem in ("vocal", "bgm", "mixed"))
    torch.testing.assert_close(vocal + bgm, mixed)


def test_spectral_losses_see_what_they_should() -> None:
    torch.manual_seed(0)
    audio = 0.1 * torch.randn(2, 2, 2048)
    loss = SpectralLoss(512, SAMPLE_RATE)
    assert [float(value) for value in loss(audio, audio)] == [0, 0, 0]
    bins, mels, convergence = loss(2 * audio, audio)
    assert float(bins) == pytest.approx(math.log(2), rel=0.01)
    assert float(mels) == pytest.approx(math.log(2), rel=0.01)
    assert float(convergence) == pytest.approx(1.0, rel=0.01)
    swapped = audio.flip(1)
    assert float(loss(swapped, audio)[0]) > 0, "channels are told apart"
    sine = torch.sin(2 * math.pi * 3000 * torch.arange(2048) / SAMPLE_RATE).expand(1, 2, -1)
    peak = spectral_losses.magnitudes(loss.spectrum(sine))[0, 0, :, 8].max()
    assert float(peak) == pytest.approx(1.0, rel=0.01), "1 is a sine of full scale"


def test_resolutions_take_turns() -> None:
    loss = MultiResolutionLoss((256, 512, 1024), SAMPLE_RATE, at_once=2)
    torch.manual_seed(0)
    one, other = torch.randn(2, 1, 2, 4096)
    alone = [float(part(one, other)[0]) for part in loss.losses]
    for step, wanted in ((0, (0, 1)), (1, (2, 0)), (2, (1, 2)), (3, (0, 1))):
        mean = sum(alone[index] for index in wanted) / 2
        assert float(loss(one, other, step)[0]) == pytest.approx(mean, rel=1e-5)
    assert float(loss(one, other)[0]) == pytest.approx(sum(alone) / 3, rel=1e-5)


def test_mel_distance_is_in_decibels() -> None:
    torch.manual_seed(0)
    noise = 0.1 * torch.randn(2, 9600)
    assert MelDistance(SAMPLE_RATE)(noise, noise * 10 ** (3 / 20)) == pytest.approx(3.0, abs=0.01)


def test_the_scale_loss_is_least_at_unit_scale() -> None:
    torch.manual_seed(0)
    unit = torch.randn(8, 3, 500)
    assert float(scale_loss(unit)) < 0.01
    assert float(scale_loss(2 * unit)) > 0.5 and float(scale_loss(0.1 * unit)) > 1
    assert float(scale_loss(unit + 1)) > 0.4


def trained(work: Path) -> OobleckVAE:
    train(new_stage(), replace(LOOP, steps=1), work / "vae")
    return load_vae(work, SETTINGS)


def test_latents_in_chunks_are_those_of_the_whole(tmp_path: Path) -> None:
    vae = trained(tmp_path)
    audio_CN = Tones().stems(1).sum(0)
    whole_TZ = encode_song(vae, audio_CN, chunk=1000, margin=0)
    pieces_TZ = encode_song(vae, audio_CN, chunk=5, margin=14)
    assert whole_TZ.shape == (26, SETTINGS.latent_dim)
    torch.testing.assert_close(pieces_TZ, whole_TZ, atol=1e-5, rtol=1e-5)


def test_latents_of_all_songs_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the song's number, as its tokens are; by its place they would be another song's behind a gap."""
    vae, songs = trained(tmp_path), Tones()
    assert not write_all(songs, tmp_path, vae, SETTINGS, seconds=-1.0)
    assert write_all(songs, tmp_path, vae, SETTINGS)
    wanted = encode_song(vae, songs.stems(2)[0], chunk=1000, margin=0)
    torch.testing.assert_close(read_latents(tmp_path, 42)["vocal"].float(), wanted, atol=2e-3, rtol=2e-3)
    monkeypatch.setattr(latents, "write_song", None)
    assert write_all(songs, tmp_path, vae, SETTINGS), "what is there is not made again"


def test_statistics_are_frozen_and_those_of_the_latents(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    mean, std = np.array([3.0, -1.0]), np.array([0.5, 2.0])
    for song in range(2):
        arrays = {stem: (mean + std * rng.normal(size=(4000, 2))) for stem in ("mixed", "vocal", "bgm")}
        latents_path(tmp_path, song).parent.mkdir(exist_ok=True)
        np.savez(
            latents_path(tmp_path, song), **{name: one.astype(np.float16) for name, one in arrays.items()}
        )
    write_statistics(tmp_path, [0, 1])
    stats = latent_stats(tmp_path)
    found_mean, found_std = stats.mean_and_std()
    torch.testing.assert_close(found_mean, torch.tensor(mean).float(), atol=0.05, rtol=0.02)
    torch.testing.assert_close(found_std, torch.tensor(std).float(), atol=0.05, rtol=0.02)
    moved = stats.updated(torch.randn(600, 2))
    assert torch.equal(moved.sum_x, stats.sum_x) and float(moved.counts) == 100_000


def test_sizes_are_read_from_a_trained_vae(tmp_path: Path) -> None:
    vae = trained(tmp_path)
    found = trained_vae(tmp_path)
    assert found.config == vae.config == SETTINGS.config()
    assert not found.training


def test_a_filterbank_start_is_one_of_the_settings() -> None:
    stage = new_stage(replace(SETTINGS, channels=8, c_mults=(8, 4, 4), filterbank=True))
    loss, _ = stage.loss(stage.batch(np.random.default_rng(0)), 0)
    assert torch.isfinite(loss)


ADDITIVE = VaeSettings(additive=True, held_out=1, held_out_seconds=0.4, memory_gb=1e-3)


def test_the_synthesiser_needs_no_steps_and_gives_songs_back(tmp_path: Path) -> None:
    stage = new_stage(ADDITIVE)
    train(stage, replace(LOOP, steps=0), tmp_path / "vae")
    found = read_losses(tmp_path / "vae/losses.jsonl")[-1]
    assert found["held_out/bgm/mel_db"] < 2.5 and found["held_out/vocal/mel_db"] < 2.5
    vae = trained_vae(tmp_path)
    assert vae.config == additive.config()
    load_vae(tmp_path, ADDITIVE)


def test_steps_that_could_train_nothing_of_the_synthesiser_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"vae\.loop\.steps=40: .* give vae\.loop\.steps=0, or vae\.additive=false"
    ):
        make_stage(tmp_path, tmp_path, ADDITIVE, LOOP)


def test_latents_of_the_synthesiser_are_levels(tmp_path: Path) -> None:
    assert write_all(Tones(), tmp_path, OobleckVAE(additive.config()), ADDITIVE)
    found = read_latents(tmp_path, 41)
    wanted = song_levels(Tones().stems(1), Length(26, 1).f0_hz)
    assert all(torch.equal(found[stem], wanted[stem].half()) for stem in ("mixed", "vocal", "bgm"))
    plain, told = latent_stats(tmp_path), latent_stats(tmp_path, additive=True)
    for found_one, wanted_one in zip(
        told.mean_and_std(), additive.scales(*plain.mean_and_std()), strict=True
    ):
        torch.testing.assert_close(found_one, wanted_one, atol=1e-4, rtol=1e-2)


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="FFT size 300; it must be one of 256, 512"):
        SpectralLoss(300, SAMPLE_RATE)
    with pytest.raises(ValueError, match="3 resolutions a step; there are 2"):
        MultiResolutionLoss((256, 512), SAMPLE_RATE, at_once=3)
    with pytest.raises(FileNotFoundError, match=r"000004.npz: no such file; write the latents first"):
        read_latents(tmp_path, 4)
    with pytest.raises(FileNotFoundError, match=r"statistics.npz: no such file; write the latents first"):
        latent_stats(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"vae/checkpoint.pt: no such file; train this stage first"):
        trained_vae(tmp_path)
