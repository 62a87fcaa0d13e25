"""The flow stage on a tiny problem: latents that follow from the codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from songgen.models.levo.codec import FILL_BGM, FILL_VOCAL, FlowWindow, LevoCodec
from songgen.nn.flow_matching import SIGMA_MIN, interpolate
from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.train import additive
from songgen.train.curves import read_losses
from songgen.train.flow import (
    FlowSettings,
    FlowStage,
    check_additive,
    load_flow,
    make_codec,
    solved,
    trained_quantizers,
)
from songgen.train.flow_data import FlowBatch, FlowSongs, WindowOdds, draw_batch
from songgen.train.latents import frozen_stats, latents_path
from songgen.train.loop import CHECKPOINT, LoopSettings, train
from songgen.train.optimizers import make_optimizers
from songgen.train.token_codes import codes_path

NUM_CODES = 8
SETTINGS = FlowSettings(
    latent_dim=4,
    ssl_dim=8,
    codebook_dim=4,
    mask_dim=4,
    num_layers=2,
    num_heads=2,
    inner_dim=32,
    num_codes=NUM_CODES,
    windows=WindowOdds(lengths=(20, 40), batch_frames=160, context=0.5),
    held_out=2,
    solved=1,
)
MEAN, STD = torch.tensor([1.0, -2.0, 0.0, 0.5]), torch.tensor([2.0, 1.0, 0.5, 3.0])
LOOP = LoopSettings(steps=60, learning_rate=0.01, warmup=5, evaluate_every=0, precision="fp32", ema=0.9)


def new_codec() -> LevoCodec:
    torch.manual_seed(0)
    quantizers = dict(LevoCodec(SETTINGS.config()).state_dict())
    return make_codec(SETTINGS, quantizers, frozen_stats(MEAN, STD))


def write_songs(work: Path, count: int = 3) -> None:
    """Latents are a table of the two codes, scaled; songs of 30, 31, ... frames."""
    rng = np.random.default_rng(0)
    vocal, bgm = rng.normal(size=(2, NUM_CODES, SETTINGS.latent_dim))
    for song in range(count):
        codes_KT = rng.integers(NUM_CODES, size=(3, 30 + song)).astype(np.int16)
        path = codes_path(work, song)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, codes_KT)
        parts = {"vocal": vocal[codes_KT[1]], "bgm": bgm[codes_KT[2]]}
        parts["mixed"] = parts["vocal"] + parts["bgm"]
        latents = {name: (MEAN + STD * torch.from_numpy(part)).half().numpy() for name, part in parts.items()}
        latents_path(work, song).parent.mkdir(parents=True, exist_ok=True)
        np.savez(latents_path(work, song), **latents)


def new_stage(work: Path) -> FlowStage:
    return FlowStage(new_codec(), SETTINGS, FlowSongs(work, [0, 1]), FlowSongs(work, [2]))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    write_songs(folder)
    return folder


def a_batch(work: Path, **changes: Tensor) -> FlowBatch:
    batch = draw_batch(FlowSongs(work, [0, 1]), SETTINGS.windows, np.random.default_rng(5))
    return replace(batch, **changes)


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_losses(folder / "losses.jsonl") if "loss" in line]


def test_the_loss_falls_and_drawn_latents_come_near(work: Path, tmp_path: Path) -> None:
    stage = new_stage(work)
    before = solved(stage, [2])["mixed/latent_error"]
    train(stage, replace(LOOP, steps=200, log_every=20, optimizer="muon"), tmp_path)
    found = losses(tmp_path)
    assert found[-1] < 0.7 * found[0]
    assert solved(stage, [2])["mixed/latent_error"] < 0.8 * before


def test_a_resumed_run_equals_a_straight_one(work: Path, tmp_path: Path) -> None:
    settings = replace(LOOP, steps=4, optimizer="muon")
    train(new_stage(work), settings, tmp_path / "straight")
    for _ in range(5):
        train(new_stage(work), replace(settings, max_seconds=0.0), tmp_path / "pieces")
    one, other = (
        torch.load(tmp_path / name / CHECKPOINT, weights_only=True)["module"]
        for name in ("straight", "pieces")
    )
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


def test_gradients_reach_the_network_and_the_mask_and_nothing_else(work: Path) -> None:
    stage = new_stage(work)
    for parameter in stage.module.estimator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    stage.loss(a_batch(work), 0)[0].backward()
    for name, parameter in stage.module.named_parameters():
        is_trained = name.startswith(("cfm_wrapper.", "mask_emb."))
        assert parameter.requires_grad == is_trained, name
        assert (parameter.grad is not None and bool(parameter.grad.any())) == is_trained, name
    assert not stage.module.mask_emb.weight.grad[0].any()


def test_the_velocity_is_that_of_inference(work: Path) -> None:
    """What the loss is the error of, and what `draw_latents` steps along, are one."""
    stage = new_stage(work)
    for parameter in stage.module.estimator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    batch = a_batch(work)
    error_BW, is_solved_BW = stage.errors(batch)
    for row in range(len(batch.time_B)):
        given = int(batch.num_context_B[row])
        stats = stage.module.normfeat.value
        data_WZ = stats.normalise(batch.latents_BWZ[row])
        is_context = (torch.arange(len(data_WZ)) < given)[None, :, None]
        features = stage.module.features(batch.codes_BKW[row : row + 1])
        features = torch.zeros_like(features) if batch.is_null_B[row] else features
        velocity = stage.module.velocity(features, data_WZ[None] * is_context, is_context, 1.0)
        time = batch.time_B[row]
        noise_WZ = batch.noise_BWZ[row]
        found = velocity(interpolate(noise_WZ, data_WZ, time)[None], time[None])[0]
        wanted = data_WZ - (1 - SIGMA_MIN) * noise_WZ
        torch.testing.assert_close(error_BW[row], (found - wanted).square().mean(-1))
        assert is_solved_BW[row].tolist() == [frame >= given for frame in range(len(data_WZ))]


def test_given_frames_carry_no_loss_but_are_seen(work: Path) -> None:
    stage = new_stage(work)
    for parameter in stage.module.estimator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    batch = a_batch(work)
    rows = len(batch.time_B)
    batch = replace(batch, num_context_B=torch.full((rows,), 10))
    changed = batch.noise_BWZ.clone()
    changed[:, :10] += 1
    error, _ = stage.errors(batch)
    loss, _ = stage.loss(batch, 0)
    torch.testing.assert_close(loss, error[:, 10:].mean())
    assert not torch.allclose(stage.errors(replace(batch, noise_BWZ=changed))[0][:, 10:], error[:, 10:])


def test_windows_without_features_do_not_depend_on_codes(work: Path) -> None:
    stage = new_stage(work)
    for parameter in stage.module.estimator.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    batch = a_batch(work, is_null_B=torch.tensor([True, False, False, False]))
    other = replace(batch, codes_BKW=(batch.codes_BKW + 1) % NUM_CODES)
    is_equal = [
        torch.allclose(one, two)
        for one, two in zip(stage.errors(batch)[0], stage.errors(other)[0], strict=True)
    ]
    assert is_equal == [True, False, False, False]


def test_windows_are_cut_as_inference_cuts_them(work: Path) -> None:
    songs = FlowSongs(work, [0, 1])
    codes_KW, latents_WZ = songs.window(0, "mixed", 0, 40)
    assert codes_KW.shape == (2, 40) and latents_WZ.shape == (40, 4)
    assert torch.equal(codes_KW[:, 30:], codes_KW[:, :10]), "a short song is repeated"
    vocal_KW, _ = songs.window(0, "vocal", 3, 8)
    bgm_KW, _ = songs.window(0, "bgm", 3, 8)
    assert torch.equal(vocal_KW[0], codes_KW[0, 3:11]) and (vocal_KW[1] == FILL_BGM).all()
    assert torch.equal(bgm_KW[1], codes_KW[1, 3:11]) and (bgm_KW[0] == FILL_VOCAL).all()


def test_batches_are_a_function_of_the_generator(work: Path) -> None:
    songs, odds = FlowSongs(work, [0, 1]), SETTINGS.windows
    one, same, other = (draw_batch(songs, odds, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.noise_BWZ, same.noise_BWZ) and torch.equal(one.codes_BKW, same.codes_BKW)
    assert one.noise_BWZ.shape != other.noise_BWZ.shape or not torch.equal(one.noise_BWZ, other.noise_BWZ)
    assert one.codes_BKW.shape[0] * one.codes_BKW.shape[2] == 160
    uniform = draw_batch(songs, replace(odds, time_spread=0.0), np.random.default_rng(1))
    assert ((uniform.time_B >= 0) & (uniform.time_B < 1)).all()
    assert (draw_batch(songs, replace(odds, time_zero=1.0), np.random.default_rng(1)).time_B == 0).all()
    often = draw_batch(songs, replace(odds, time_zero=0.5), np.random.default_rng(1)).time_B == 0
    assert 0 < often.sum() < len(often)


def test_stems_are_drawn_by_their_odds(work: Path) -> None:
    songs, rng = FlowSongs(work, [0, 1]), np.random.default_rng(0)
    drawn = draw_batch(songs, replace(SETTINGS.windows, stems=(0.0, 1.0, 0.0), batch_frames=400), rng)
    assert (drawn.codes_BKW[:, 1] == FILL_BGM).all() and (drawn.codes_BKW[:, 0] != FILL_VOCAL).any()
    drawn = draw_batch(songs, replace(SETTINGS.windows, stems=(0.0, 0.0, 1.0), batch_frames=400), rng)
    assert (drawn.codes_BKW[:, 0] == FILL_VOCAL).all()
    for stems in ((0.5, 0.5, 0.5), (1.5, -0.5, 0.0)):
        with pytest.raises(ValueError, match=r"windows.stems=\[.* give odds .* that make 1"):
            WindowOdds(stems=stems)


def test_drawn_latents_keep_what_is_given(work: Path) -> None:
    codec = new_codec()
    codes_KW, latents_WZ = FlowSongs(work, [0]).window(0, "mixed", 0, 30)
    window = FlowWindow(codes_KW, torch.randn(30, 4), latents_WZ, 12, codec.normfeat.value)
    (drawn_WZ,), _ = codec.draw_latents([window], steps=2)
    torch.testing.assert_close(drawn_WZ[:12], latents_WZ[:12], atol=1e-4, rtol=1e-4)


def test_silent_stems_have_features_that_no_code_has(work: Path) -> None:
    codec = new_codec()
    codes = torch.tensor([[[0, FILL_VOCAL], [0, FILL_BGM]]])
    rows = [quantizer.quantizer.codebook.weight for quantizer in codec.quantizers]
    assert float(rows[0][FILL_VOCAL].norm()) > 3 * float(rows[0][:NUM_CODES].norm(dim=1).max())
    features = codec.features(codes)
    assert not torch.allclose(features[:, 0], features[:, 1])


def test_features_have_the_scale_of_latents() -> None:
    features = new_codec().features(torch.arange(NUM_CODES).expand(1, 2, -1))
    for track in features.chunk(2, dim=-1):
        assert float(track.std()) == pytest.approx(1.0, rel=1e-3)


def test_muon_leaves_tables_alone() -> None:
    adam, muon = make_optimizers(new_codec(), "muon", 0.01, 0.0)
    shapes = {tuple(parameter.shape) for parameter in muon.param_groups[0]["params"]}
    assert shapes == {(28, 84), (28, 28), (28, 32), (32, 28), (168, 28)}
    assert any(parameter.shape == (6, 28) for group in adam.param_groups for parameter in group["params"])


def test_evaluation_names_stems_and_times(work: Path) -> None:
    stage = new_stage(work)
    stage.module.eval()
    with torch.no_grad():
        found = stage.evaluate()
    assert {"loss", "loss/0.125", "loss/0.875", "vocal/latent_error", "bgm/latent_error"} <= found.keys()
    assert found["loss"] == pytest.approx(
        np.mean([found[f"loss/{time}"] for time in (0.125, 0.375, 0.625, 0.875)])
    )


def test_a_trained_network_is_loaded_with_its_statistics(work: Path, tmp_path: Path) -> None:
    stage = new_stage(work)
    train(stage, replace(LOOP, steps=2), tmp_path / "flow")
    codec = load_flow(tmp_path, SETTINGS)
    mean, std = codec.normfeat.value.mean_and_std()
    torch.testing.assert_close(mean, MEAN)
    torch.testing.assert_close(std, STD)
    assert not codec.training and not any(parameter.requires_grad for parameter in codec.parameters())


def test_what_is_missing_or_does_not_fit_is_said(work: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"tokens-dual/checkpoint.pt: no such file; train this stage"):
        trained_quantizers(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"000007.npy: no such file; write the codes first"):
        FlowSongs(work, [7])
    quantizers = dict(LevoCodec(replace(SETTINGS, ssl_dim=16, num_heads=2).config()).state_dict())
    with pytest.raises(
        ValueError, match=r"of the tokens is \[4, 16, 1\].* \[4, 8, 1\]: give tokens-dual and flow the same"
    ):
        make_codec(SETTINGS, quantizers, frozen_stats(MEAN, STD))
    with pytest.raises(
        ValueError, match=r"codebook.weight of the tokens is missing|of the tokens is missing"
    ):
        make_codec(SETTINGS, {}, frozen_stats(MEAN, STD))


def test_quantizers_are_read_from_the_tokens(tmp_path: Path) -> None:
    weights = {"tokenizer.rvq_bestrq_emb.x": torch.ones(1), "heads.y": torch.ones(1)}
    (tmp_path / "tokens-dual").mkdir()
    torch.save({"ema": {}, "module": weights}, tmp_path / "tokens-dual/checkpoint.pt")
    assert list(trained_quantizers(tmp_path)) == ["rvq_bestrq_emb.x"]


ADDITIVE = replace(
    SETTINGS,
    latent_dim=additive.NUM_LATENTS,
    ssl_dim=12,
    mask_dim=8,
    num_heads=4,
    additive=True,
    steps=3,
    guidance=1.0,
    windows=WindowOdds(lengths=(20,), batch_frames=80, context=0.5, null=0.0),
)


def additive_codec() -> LevoCodec:
    torch.manual_seed(0)
    quantizers = dict(LevoCodec(ADDITIVE.config()).state_dict())
    mean_Z, std_Z = additive.scales(torch.zeros(ADDITIVE.latent_dim), torch.ones(ADDITIVE.latent_dim))
    return make_codec(ADDITIVE, quantizers, frozen_stats(mean_Z, std_Z))


def additive_batch(latents_BWZ: Tensor) -> FlowBatch:
    rows, length, _ = latents_BWZ.shape
    return FlowBatch(
        torch.zeros(rows, 2, length, dtype=torch.long),
        latents_BWZ,
        torch.zeros(rows, dtype=torch.long),
        torch.zeros(rows, dtype=torch.bool),
        torch.randn(latents_BWZ.shape, generator=torch.Generator().manual_seed(0)),
        torch.full((rows,), 0.5),
    )


def test_of_levels_only_what_tokens_tell_is_to_be_learnt(tmp_path: Path) -> None:
    """A network that moves nothing is wrong by levels and clock; plain latents stay the noise they are."""
    write_songs(tmp_path)
    songs = FlowSongs(tmp_path, [0])
    stage = FlowStage(additive_codec(), ADDITIVE, songs, songs)
    moved: list[Tensor] = []
    stage.module.velocity = lambda *args, **kwargs: lambda x, time: moved.append(x) or torch.zeros_like(x)  # type: ignore[method-assign, assignment, func-returns-value]
    batch = additive_batch(torch.zeros(2, 20, ADDITIVE.latent_dim))
    stage.errors(batch)
    plain = moved[0][..., additive.PLAIN]
    torch.testing.assert_close(plain, batch.noise_BWZ[..., additive.PLAIN], atol=1e-3, rtol=1e-3)
    ticks = (moved[0] - 0.5 * batch.noise_BWZ)[0, :, -len(additive.CLOCK) :]
    wanted = stage.module.normfeat.value.normalise(additive.completed(batch.latents_BWZ, batch.noise_BWZ))[
        0, :, -len(additive.CLOCK) :
    ]
    torch.testing.assert_close(ticks, 0.5 * wanted, atol=1e-2, rtol=1e-2)


def test_a_new_network_for_levels_knows_the_clock_by_its_positions() -> None:
    table = additive_codec().estimator.wpe.weight.detach()
    waves = additive.clock_waves(len(table))
    torch.testing.assert_close(table[:, : waves.shape[1]], waves, atol=0.2, rtol=0)


def test_latents_of_the_other_kind_are_refused() -> None:
    synthesiser = OobleckVAE(additive.config(), has_encoder=False)
    other = OobleckVAE(OobleckConfig(2, (4,), (8,), 4), has_encoder=False)
    for settings, right, wrong in ((ADDITIVE, synthesiser, other), (SETTINGS, other, synthesiser)):
        check_additive(settings, right)
        with pytest.raises(ValueError, match=f"flow.additive is {settings.additive}, .* the same `additive`"):
            check_additive(settings, wrong)


def test_steps_and_guidance_of_the_recipe_are_the_codecs_own() -> None:
    """Without guidance only told features are computed."""
    codec, seen = additive_codec(), []
    forward = codec.estimator.forward
    codec.estimator.forward = lambda x, *args, **kwargs: seen.append(len(x)) or forward(x, *args, **kwargs)  # type: ignore[method-assign, func-returns-value]
    zeros_WZ = torch.zeros(20, ADDITIVE.latent_dim)
    window = FlowWindow(torch.zeros(2, 20, dtype=torch.long), zeros_WZ, zeros_WZ, 0, codec.normfeat.value)
    codec.draw_latents([window])
    codec.draw_latents([window], steps=1, guidance=1.5)
    assert seen == [1, 1, 1, 2]
