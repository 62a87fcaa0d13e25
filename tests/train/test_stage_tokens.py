"""The tokenizer stages: codebooks, heads, crops and codes, on songs of seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_songs import write_small_songs
from torch.nn import functional

from songgen.config_keys import ConfigError
from songgen.models.levo.codec import FILL_BGM, FILL_VOCAL
from songgen.nn.rvq import ResidualVQ, VectorQuantizer
from songgen.train.curves import read_losses
from songgen.train.dataset import SongStore, frame_labels
from songgen.train.label_codes import NUM_LABEL_CODES, label_codebook, label_codes
from songgen.train.loop import LoopSettings, train
from songgen.train.recipe import Recipe
from songgen.train.token_audio import MelMaker, track_audio
from songgen.train.token_codebook import SILENT_SCALE, CodebookTrainer, finish_codebook_, usage
from songgen.train.token_codes import codes_path
from songgen.train.tokens import (
    LearntSettings,
    TokensSettings,
    TokensStage,
    load_tokenizer,
    make_stage,
    write_codes,
)

SETTINGS = TokensSettings(
    conv_dim=4,
    dim=16,
    ffn_dim=16,
    num_heads=2,
    codebook_size=9728,
    batch_seconds=4.0,
    crop_seconds=(2.0,),
    held_out=1,
)
DUAL = replace(SETTINGS, tracks="dual", learnt=LearntSettings(num_codes=16, head_width=16))
BY_TRACKS = {"mixed": SETTINGS, "dual": DUAL}
LOOP = LoopSettings(
    steps=16, learning_rate=5e-3, warmup=2, log_every=1, evaluate_every=0, precision="fp32", optimizer="muon"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_small_songs(folder)
    return folder


@pytest.fixture(scope="module")
def work(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both tokenizers, trained for a few steps."""
    folder = tmp_path_factory.mktemp("work")
    for tracks in ("mixed", "dual"):
        train(make_stage(data, folder, BY_TRACKS[tracks], LOOP), LOOP, folder / f"tokens-{tracks}")
    return folder


def stage(data: Path, **changes: object) -> TokensStage:
    return make_stage(data, Path(), replace(SETTINGS, **changes), LOOP)  # type: ignore[arg-type]


def quantizer(rows: int = 9728, dim: int = 4) -> VectorQuantizer:
    torch.manual_seed(0)
    return ResidualVQ(8, rows, dim).quantizer


def test_mels_are_those_of_the_tokenizer(data: Path) -> None:
    """The faster front end differs from inference's by rounding."""
    tokenizer = stage(data).module.tokenizer
    audio = track_audio(SongStore(data).stems(0), "mixed")[None]
    expected = tokenizer.bestrq.mel(tokenizer.rsq48tobestrq(tokenizer.mono(audio)))
    torch.testing.assert_close(MelMaker(tokenizer)(audio), expected, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("num_codes", [16, 2048])
def test_a_finished_codebook_is_searched_in_its_first_rows_only(num_codes: int) -> None:
    vq = quantizer()
    finish_codebook_(vq.codebook.weight.data, num_codes)
    assert torch.equal(vq.codebook.weight.data.half().float(), vq.codebook.weight.data)
    latents = torch.randn(2, 4, 4000, generator=torch.Generator().manual_seed(1))
    codes = vq.nearest(latents)
    assert int(codes.max()) < num_codes
    rows = functional.normalize(vq.codebook.weight[:num_codes], dim=-1)
    cosines = functional.normalize(latents, dim=1).transpose(1, 2) @ rows.t()
    chosen = cosines.gather(-1, codes[..., None])[..., 0]
    torch.testing.assert_close(chosen, cosines.amax(-1), rtol=0, atol=1e-5)


def test_rows_of_silence_are_unlike_any_other() -> None:
    vq = quantizer()
    finish_codebook_(vq.codebook.weight.data, 2048)
    lengths = vq.codebook.weight.detach().norm(dim=-1)
    torch.testing.assert_close(
        lengths[[FILL_VOCAL, FILL_BGM]], torch.full((2,), SILENT_SCALE), rtol=1e-3, atol=0
    )
    others = torch.ones(9728, dtype=torch.bool)
    others[[FILL_VOCAL, FILL_BGM]] = False
    assert float(lengths[others].max()) < 2.01


def test_what_training_quantises_is_what_inference_does() -> None:
    """Features and codes of the training pass are those of search and lookup."""
    vq = quantizer(rows=100)
    trainer = CodebookTrainer(16, 4)
    features = torch.randn(2, 8, 30)
    latents = functional.normalize(vq.in_proj(features), dim=1)
    trainer.remember_(latents.detach().transpose(1, 2).flatten(0, 1))
    trainer.start_(vq)
    finish_codebook_(vq.codebook.weight.data, 16)
    quantised, commitment, codes = trainer(vq, features)
    assert codes is not None and float(commitment.detach()) > 0
    assert torch.equal(codes, vq.nearest(vq.in_proj(features)))
    torch.testing.assert_close(quantised, vq.lookup(codes))
    quantised.sum().backward()
    assert vq.in_proj.weight_v is not None and vq.in_proj.weight_v.grad is not None


def test_codes_move_to_their_frames_and_dead_ones_come_back() -> None:
    vq = quantizer(rows=8, dim=2)
    trainer = CodebookTrainer(8, 2, decay=0.5)
    angles = torch.linspace(0, 1, 400)
    frames = torch.stack([angles.cos(), angles.sin()], dim=1)
    trainer.remember_(frames)
    trainer.start_(vq)
    vq.codebook.weight.data[0] = trainer.sums_VE[0] = torch.tensor([-1.0, 0.0])  # far from all frames
    for _ in range(12):
        trainer.update_(vq, frames, trainer.search(vq, frames.t()[None]).flatten())
    share, _ = usage(trainer.search(vq, frames.t()[None]), 8)
    assert share == 7 / 8
    assert trainer.revive_(vq) == 1
    share, perplexity = usage(trainer.search(vq, frames.t()[None]), 8)
    assert share == 1 and perplexity > 5
    worst = (frames @ vq.codebook.weight.detach().t()).amax(-1).min()
    assert float(worst) > 0.98


def test_a_batch_is_a_function_of_the_generator(data: Path) -> None:
    own = stage(data, tracks="dual")
    one, same, other = (own.batch(np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert sorted(one.mels) == ["bgm", "vocal"]
    assert one.mels["vocal"].shape == (2, 128, 200) and one.targets.vocal_BT.shape == (2, 50)
    assert torch.equal(one.mels["vocal"], same.mels["vocal"])
    assert not torch.equal(one.mels["vocal"], other.mels["vocal"])


def test_tracks_leave_the_encoder_after_their_own_layers(data: Path) -> None:
    module = stage(data, tracks="dual").module.eval()
    mels = {stem: torch.randn(1, 128, 80) for stem in ("vocal", "bgm")}
    features = module.features(mels)
    for stem, layer in (("vocal", 7), ("bgm", 3)):
        frames = module.tokenizer.bestrq.embed(mels[stem])
        expected = module.tokenizer.bestrq.encode(frames, layer).transpose(1, 2)
        torch.testing.assert_close(features[stem], expected, rtol=1e-4, atol=1e-4)


def test_dropout_is_off(data: Path) -> None:
    module = stage(data).module.train()
    for norm in module.modules():
        if isinstance(norm, torch.nn.modules.batchnorm._BatchNorm):
            norm.eval()
    mels = {"mixed": torch.randn(1, 128, 80)}
    assert torch.equal(module.features(mels)["mixed"], module.features(mels)["mixed"])


@pytest.mark.parametrize("tracks", ["mixed", "dual"])
def test_the_loss_falls_and_codes_are_found(data: Path, tmp_path: Path, tracks: str) -> None:
    loop = replace(LOOP, steps=60)
    own = TokensStage(SongStore(data), BY_TRACKS[tracks], 60)
    train(own, loop, tmp_path)
    losses = [line["loss"] for line in read_losses(tmp_path / "losses.jsonl") if "loss" in line]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])
    measured = own.module.eval() and own.evaluate()
    labelled = "mixed" if tracks == "mixed" else "vocal"
    assert measured[f"{labelled}/phoneme"] > 0.3
    assert tracks == "mixed" or measured["bgm/used"] > 1 / 16  # a chord and clicks need few
    assert not own.module.tokenizer.bestrq.training


def test_the_codebook_of_labels_stays_as_it_is_and_is_searched_by_both_codecs(data: Path, work: Path) -> None:
    for tracks in ("mixed", "dual"):
        tokenizer = load_tokenizer(work, BY_TRACKS[tracks])
        codebook = tokenizer.quantizer(tokenizer.config.tracks[0]).quantizer.codebook.weight
        expected = functional.normalize(label_codebook(NUM_LABEL_CODES), dim=-1)
        torch.testing.assert_close(codebook[:NUM_LABEL_CODES], expected, rtol=0, atol=5e-4)
        found = tokenizer.quantizer(tokenizer.config.tracks[0]).quantizer.nearest(expected.t()[None])
        assert torch.equal(found[0], torch.arange(NUM_LABEL_CODES))


def test_codes_are_written_once_as_the_truth_tells_and_as_inference_encodes(data: Path, work: Path) -> None:
    assert write_codes(data, work, DUAL, seconds=-1.0) is False
    assert write_codes(data, work, DUAL) is True
    store = SongStore(data)
    paths = [codes_path(work, store.number(song)) for song in range(len(store))]
    times = [path.stat().st_mtime_ns for path in paths]
    for song, path in enumerate(paths):
        codes, told = np.load(path), label_codes(frame_labels(store.truth(song)))
        assert codes.dtype == np.int16 and codes.shape == (3, store.truth(song).num_frames)
        assert codes[0].tolist() == told["mixed"].tolist() and codes[1].tolist() == told["vocal"].tolist()
        assert codes[2].min() >= 0 and codes[2].max() < DUAL.learnt.num_codes
    paths[1].unlink()
    assert write_codes(data, work, DUAL) is True
    assert [path.stat().st_mtime_ns == time for path, time in zip(paths, times, strict=True)] == [
        True,
        False,
        True,
    ]
    tokenizer = load_tokenizer(work, DUAL)
    track = tokenizer.config.tracks[1]
    with torch.inference_mode():
        features = tokenizer.features(track_audio(store.stems(0), "bgm")[None], track)
        expected = tokenizer.quantizer(track).encode(features)[0, 0]
    assert (torch.from_numpy(np.load(paths[0])[2]) == expected).float().mean() > 0.95


def test_an_untrained_tokenizer_is_said_to_be_missing(data: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="tokens-dual"):
        write_codes(data, tmp_path, DUAL)


def test_settings_that_the_mixed_tokenizer_has_no_use_for_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`learnt` has no effect on mixed tokens, .* tokens-dual has it"):
        TokensSettings(tracks="mixed", learnt=LearntSettings(num_codes=16))
    given = {"tracks": "mixed", "learnt": {"commitment": 0.5}}
    with pytest.raises(ConfigError, match="`learnt` has no effect on mixed tokens"):
        Recipe({"tokens-mixed": given}).settings("tokens-mixed", TokensSettings)
    assert Recipe({"x": {**given, "tracks": "dual"}}).settings("x", TokensSettings).learnt.commitment == 0.5
