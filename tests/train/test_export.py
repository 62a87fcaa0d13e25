"""The export: tiny random networks become a folder that the real catalogue loads and makes songs with."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from tiny_song import TINY_TRUTH, write_song
from torch import Tensor, nn

from songgen.models import catalog
from songgen.models.base import Job
from songgen.models.built_in import randomise_
from songgen.models.levo.codec import LevoCodec
from songgen.models.levo.config_form import DUAL_FILE, MIXED_FILE
from songgen.models.levo.encode import DUAL_TRACKS, MIXED_TRACKS
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.loading import load
from songgen.models.levo.tiny_parts import CODEC, VAE, make_audio_tokenizer
from songgen.nn.oobleck import OobleckVAE
from songgen.requests import SongRequest
from songgen.runtime import int8_weights
from songgen.runtime.checkpoint import read_tensors
from songgen.runtime.sampling import Sampling
from songgen.train.export import (
    LM_FILE,
    VAE_FILE,
    ExportSettings,
    TrainedModel,
    export,
    write_checkpoint,
)
from songgen.train.fast_oobleck import make_fast_vae
from songgen.train.flow import FlowSettings
from songgen.train.lm import LmModule
from songgen.train.lm_files import LmSizes, ensure_text_files, load_text
from songgen.train.recipe import Recipe
from songgen.train.tokens import TokensModule, TokensSettings
from songgen.train.vae import VaeSettings

SIZES = LmSizes(
    width=32,
    num_heads=2,
    ffn_dim=48,
    num_layers=2,
    num_layers_sub=1,
    code_size=64,
    delay=5,
    max_seconds=10,
    lyric_positions=60,
)
SETTINGS = ExportSettings(prompts_per_genre=1)
LIBRARY = {"Pop/en/0": torch.arange(150, dtype=torch.int16).reshape(3, 50) % 64}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    folder = ensure_text_files(tmp_path_factory.mktemp("work"), SIZES, ["female, pop, the bpm is 100"])
    config, conditioner = load_text(folder)
    torch.manual_seed(1)
    with torch.no_grad():
        codec, vae = LevoCodec(replace(CODEC, steps=3, guidance=1.25)), OobleckVAE(VAE)
        lelm = LeLM(
            config,
            lyric_rows=conditioner.lyrics.num_rows,
            description_rows=conditioner.descriptions.num_rows,
        )
        for module in (codec, lelm):
            randomise_(module, lambda name: 1.0)
        codec.normfeat.counts.fill_(100_000)
        codec.normfeat.sum_x2.fill_(100_000)
        mixed, dual = (
            make_audio_tokenizer(tracks, SIZES.code_size) for tracks in (MIXED_TRACKS, DUAL_TRACKS)
        )
    return TrainedModel(vae, mixed, dual, codec, lelm, folder)


@pytest.fixture(scope="module")
def folder(model: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out") / "small"
    sizes = write_checkpoint(model, folder, SETTINGS, LIBRARY)
    assert sizes[LM_FILE] == (folder / LM_FILE).stat().st_size
    assert not [path for path in folder.parent.iterdir() if path != folder]
    return folder


def test_the_folder_makes_songs_by_its_path(folder: Path, repository: Path) -> None:
    song_model = catalog.load_model(folder, device="cpu", max_seconds=2)
    assert song_model.sampling == Sampling(0.8, 2, 0.0, 1.2, 1.0, 0)
    assert list(song_model.prompt_styles) == ["Pop", "Auto"]
    asked = {
        "plain": SongRequest(idx="a", lyrics="[verse] Light on the water.", descriptions="female, pop"),
        "clip": SongRequest(idx="b", lyrics="", prompt_audio_path=str(repository / "sample/prompt.ogg")),
        "drawn": SongRequest(idx="c", lyrics="[chorus] Go.", auto_prompt_audio_type="pop"),
    }
    for name, request in asked.items():
        request = replace(request, generate_type="separate", seed=1)
        job = Job(name, request, 1, song_model.sampling, 2.0, song_model.condition(request))
        song = next(song_model.render(song_model.compose(iter([job]))))
        assert set(song.stems) == {"mixed", "vocal", "bgm"}
        assert 0 < song.stems["mixed"].samples.shape[1] <= 2 * 48000


def test_no_network_changes_more_than_its_rounding(folder: Path, model: TrainedModel) -> None:
    for name, module, prefix in (
        (LM_FILE, model.lelm, "audiolm."),
        (DUAL_FILE, model.codec, ""),
        (VAE_FILE, model.vae.decoder, "decoder."),
    ):
        read = read_tensors(folder / name)
        expected = {prefix + key: tensor for key, tensor in module.state_dict().items()}
        assert read.keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(read[key].float(), tensor, rtol=0.01, atol=_step(tensor))
    with safe_open(folder / DUAL_FILE, "pt") as file:
        assert file.get_tensor("normfeat.counts") == 100_000
        assert file.get_tensor("rvq_bestrq_emb.quantizers.0.codebook.weight").dtype == torch.float16


def test_only_codebooks_that_tokens_are_found_in_take_16_bits(
    model: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_weights, "LEAST_ROW", 8)
    for has_encoders, dual in ((False, torch.int8), (True, torch.float16)):
        folder = tmp_path / str(has_encoders)
        write_checkpoint(model, folder, replace(SETTINGS, has_encoders=has_encoders), {})
        for name, dtype in ((MIXED_FILE, torch.float16), (DUAL_FILE, dual)):
            with safe_open(folder / name, "pt") as file:
                assert file.get_tensor("rvq_bestrq_emb.quantizers.0.codebook.weight").dtype == dtype


def _step(tensor: Tensor) -> float:
    return float(tensor.abs().max()) / 127


def test_the_config_tells_files_and_own_keys(folder: Path) -> None:
    text = (folder / "config.yaml").read_text("utf-8")
    assert "vae_model: ./ckpt/vae/autoencoder_music_1320k.safetensors" in text
    assert text.count("songgen:") == 1 and "languages: [en]" in text and "top_k: 2," in text
    assert "solver: {steps: 3, guidance: 1.25}" in text
    codec = load(folder, device="cpu", max_seconds=1.0, threads=1).parts.codec.get().codec
    assert (codec.config.steps, codec.config.guidance) == (3, 1.25)
    assert json.loads((folder / "ckpt/vae/stable_audio_1920_vae.json").read_text())["sample_rate"] == 48000
    assert "Apache-2.0" in (folder / "README.md").read_text("utf-8")


def test_encoders_and_wide_weights_are_options(model: TrainedModel, tmp_path: Path) -> None:
    settings = replace(SETTINGS, has_encoders=True, weights="fp16")
    write_checkpoint(model, tmp_path / "m", settings, {})
    assert read_tensors(tmp_path / "m" / VAE_FILE).keys() == model.vae.state_dict().keys()
    names = read_tensors(tmp_path / "m" / DUAL_FILE).keys()
    assert names == model.dual.state_dict().keys() | model.codec.state_dict().keys()
    assert not (tmp_path / "m/tools").exists()


def test_a_checkpoint_that_is_too_large_is_refused_and_leaves_the_old_one(
    model: TrainedModel, folder: Path
) -> None:
    before = (folder / LM_FILE).read_bytes()
    with pytest.raises(ValueError, match=r"would be \d+\.\d MB, more than export\.most_mega.*=0\.1 \(ckpt"):
        write_checkpoint(model, folder, replace(SETTINGS, most_megabytes=0.1), {})
    assert (folder / LM_FILE).read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["small"]


def test_another_folder_is_never_replaced(model: TrainedModel, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds something else than a checkpoint"):
        write_checkpoint(model, tmp_path, SETTINGS, {})


def test_networks_that_do_not_fit_each_other_are_found_before_anything_is_replaced(
    model: TrainedModel, tmp_path: Path
) -> None:
    wide = LeLM(replace(model.lelm.config, width=64), lyric_rows=56, description_rows=275)
    with pytest.raises(ValueError, match="another shape"):
        write_checkpoint(replace(model, lelm=wide), tmp_path / "m", SETTINGS, {})
    assert not (tmp_path / "m").exists()


TOKENS = {"conv_dim": 6, "dim": 32, "ffn_dim": 48, "num_heads": 4}
RECIPE = Recipe(
    {
        "vae": {"channels": 4, "c_mults": [1, 2, 2, 3, 3], "latent_dim": 16},
        "tokens-mixed": {**TOKENS, "tracks": "mixed"},
        "tokens-dual": {**TOKENS, "tracks": "dual", "learnt": {"num_codes": 64}},
        "flow": {
            **{"latent_dim": 16, "ssl_dim": 32, "mask_dim": 8, "num_codes": 64},
            **{"num_layers": 1, "num_heads": 4, "inner_dim": 208},
        },
        "lm-dual": {"part": "dual", "sizes": asdict(SIZES)},
        "export": {"weights": "fp16", "prompts_per_genre": 1},
    }
)


def save_checkpoint(module: nn.Module, folder: Path) -> None:
    """As the loop leaves a stage."""
    folder.mkdir(parents=True)
    torch.save({"module": module.state_dict(), "ema": {}, "step": 1}, folder / "checkpoint.pt")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work folder in which every stage has been trained, for no time at all."""
    work = tmp_path_factory.mktemp("work")
    torch.manual_seed(2)
    save_checkpoint(make_fast_vae(RECIPE.settings("vae", VaeSettings).config()), work / "vae")
    for name in ("tokens-mixed", "tokens-dual"):
        save_checkpoint(TokensModule(RECIPE.settings(name, TokensSettings)), work / name)
    codec = LevoCodec(RECIPE.settings("flow", FlowSettings).config())
    codec.normfeat.counts.fill_(100_000)
    save_checkpoint(codec, work / "flow")
    config, conditioner = load_text(ensure_text_files(work, SIZES, ["female, pop"]))
    rows = {"lyric_rows": conditioner.lyrics.num_rows, "description_rows": conditioner.descriptions.num_rows}
    save_checkpoint(LmModule(LeLM(config, **rows)), work / "lm-dual")
    return work


def test_a_work_folder_becomes_a_model_with_prompts_from_held_out_songs(work: Path, tmp_path: Path) -> None:
    write_song(tmp_path / "data", 0)
    write_song(tmp_path / "data", 1)
    (work / "codes").mkdir()
    for number in (0, 1):
        np.save(work / "codes" / f"{number:06d}.npy", np.full((3, 50), number, np.int16))
    export(work, tmp_path / "nano", RECIPE, data=tmp_path / "data")
    model = catalog.load_model(tmp_path / "nano", device="cpu", max_seconds=1)
    assert list(model.prompt_styles) == [TINY_TRUTH.genre.title(), "Auto"]
    request = SongRequest(idx="a", lyrics="[verse] Go.", auto_prompt_audio_type="Auto", generate_type="mixed")
    assert model.condition(request).prompt_ids[0, 0, 1:].tolist() == [0] * 50  # song 0, the only one held out


def test_a_stage_that_is_not_trained_is_named(work: Path, tmp_path: Path) -> None:
    for name in ("vae", "tokens-mixed", "tokens-dual", "flow", "lm-dual"):
        assert (work / name / "checkpoint.pt").is_file()
    lacking = tmp_path / "work"
    shutil.copytree(work, lacking)
    shutil.rmtree(lacking / "flow")
    with pytest.raises(FileNotFoundError, match=r"train this stage first \(songgen train flow\)"):
        export(lacking, tmp_path / "nano", RECIPE)
    shutil.rmtree(lacking / "text")
    shutil.copytree(work / "flow", lacking / "flow")
    with pytest.raises(FileNotFoundError, match="train the language model first"):
        export(lacking, tmp_path / "nano", RECIPE)


def test_a_language_model_of_another_recipe_is_refused(work: Path, tmp_path: Path) -> None:
    other = {**RECIPE.sections, "lm-dual": {"part": "dual", "sizes": asdict(replace(SIZES, width=64))}}
    with pytest.raises(ValueError, match="written for another recipe"):
        export(work, tmp_path / "nano", Recipe(other))
