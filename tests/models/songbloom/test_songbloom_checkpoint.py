"""Weights: the published key lists at published sizes, and what a fine-tuned checkpoint may look like."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from songgen.models.songbloom.checkpoint import (
    DUPLICATE,
    MODEL,
    VAE,
    WeightFiles,
    build_network,
    load_vae,
    read_vae_config,
    read_vae_tensors,
)
from songgen.models.songbloom.config import read_config
from songgen.models.songbloom.lora import LoraOptions, fold_adapters
from songgen.models.songbloom.model import SongBloomModel
from songgen.models.songbloom.network import SongBloomNetwork
from songgen.nn.oobleck import OobleckVAE
from songgen.runtime.checkpoint import build, read_tensors

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "songbloom"
CPU = torch.device("cpu")
ADAPTED = "model.ar_transformer.layers.1.self_attn.q_proj"


def listed(name: str) -> dict[str, tuple[int, ...]]:
    """A published list of tensors: name to shape."""
    with (GOLDEN / f"{name}.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {row["name"]: tuple(int(size) for size in row["shape"].split("x")) for row in rows}


def shapes_of(state: Mapping[str, Tensor], prefix: str = "") -> dict[str, tuple[int, ...]]:
    return {prefix + name: tuple(tensor.shape) for name, tensor in state.items()}


def test_the_networks_have_the_published_tensors() -> None:
    config = read_config(GOLDEN / "songbloom_full_150s.yaml")
    network = build(lambda: SongBloomNetwork(config))
    assert shapes_of(network.state_dict(), MODEL) == listed("songbloom_model")
    trained = [name for name, _ in network.named_parameters() if not name.endswith("blank_emb")]
    assert sum(network.get_parameter(name).numel() for name in trained) + 1536 == 1_872_372_929


def test_the_vae_has_the_published_tensors() -> None:
    config = read_config(GOLDEN / "songbloom_full_150s.yaml")
    vae_config = read_vae_config(GOLDEN / "stable_audio_1920_vae.json", config)
    state = build(lambda: OobleckVAE(vae_config)).state_dict()
    assert shapes_of(state) == listed("autoencoder_music_dsp1920.state_dict")


def test_published_adapters_fit_the_published_layers() -> None:
    with torch.device("meta"):
        adapters = {name: torch.empty(shape) for name, shape in listed("lora_fork_defaults").items()}
        folded = fold_adapters(adapters, LoraOptions(rank=16), {})
    shapes = listed("songbloom_model")
    assert len(folded) == 84
    assert all(shapes[name] == tuple(tensor.shape) for name, tensor in folded.items())


@pytest.fixture
def tensors(tiny_songbloom_folder: Path) -> dict[str, Tensor]:
    return read_tensors(tiny_songbloom_folder / "tiny-songbloom.safetensors")


def weights_of(folder: Path, path: Path | None = None, **options: object) -> WeightFiles:
    published, vae = folder / "tiny-songbloom.safetensors", folder / "autoencoder_music_dsp1920.ckpt"
    return WeightFiles(published, path, vae, **options)  # type: ignore[arg-type]


def network_of(model: SongBloomModel, weights: WeightFiles) -> SongBloomNetwork:
    return build_network(model.config, weights.read(), source=weights.source, dtype=torch.float32, device=CPU)


def equal(first: SongBloomNetwork, second: SongBloomNetwork) -> bool:
    other = second.state_dict()
    return all(torch.equal(tensor, other[name]) for name, tensor in first.state_dict().items())


def test_a_lightning_checkpoint_takes_the_place_of_the_published(
    tiny_songbloom: SongBloomModel, tiny_songbloom_folder: Path, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    """Its weights lie under `state_dict`, with the VAE's beside them, which then win over the VAE's file."""
    vae = read_tensors(tiny_songbloom_folder / "autoencoder_music_dsp1920.ckpt")
    vae["decoder.layers.0.bias"] = vae["decoder.layers.0.bias"] + 1
    tensors[MODEL + "bos_token"] = tensors[MODEL + "bos_token"] + 1
    content = {**tensors, **{VAE + name: tensor for name, tensor in vae.items()}}
    torch.save({"state_dict": content, "epoch": 3}, tmp_path / "tuned.ckpt")
    weights = weights_of(tiny_songbloom_folder, tmp_path / "tuned.ckpt")
    tuned, published = network_of(tiny_songbloom, weights), tiny_songbloom.parts.network.get()
    torch.testing.assert_close(tuned.bos_token, published.bos_token + 1)
    own, source = read_vae_tensors(weights)
    assert source == tmp_path / "tuned.ckpt"
    assert torch.equal(own[VAE + "decoder.layers.0.bias"], vae["decoder.layers.0.bias"])
    vae_config = read_vae_config(tiny_songbloom_folder / "stable_audio_1920_vae.json", tiny_songbloom.config)
    decoder = load_vae(vae_config, own, source=source, device=CPU, has_encoder=False)
    assert decoder.encoder is None


def test_the_vae_copy_inside_the_conditioner_is_left_out(
    tiny_songbloom: SongBloomModel, tiny_songbloom_folder: Path, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    """The published 150 s files hold the VAE a third time, under the name that older code gave it."""
    torch.save({**tensors, DUPLICATE + "vae.decoder.layers.0.bias": torch.zeros(3)}, tmp_path / "old.pt")
    weights = WeightFiles(tmp_path / "old.pt", None, tiny_songbloom_folder / "autoencoder_music_dsp1920.ckpt")
    assert equal(network_of(tiny_songbloom, weights), tiny_songbloom.parts.network.get())


@pytest.mark.parametrize("has_base", [True, False])
def test_adapters_are_folded_in(
    tiny_songbloom: SongBloomModel,
    tiny_songbloom_folder: Path,
    tensors: dict[str, Tensor],
    tmp_path: Path,
    has_base: bool,
) -> None:
    """Whole checkpoints with wrapped layers, or the adapters alone beside the published weights."""
    width = tiny_songbloom.config.width
    down, up = torch.randn(2, width), torch.randn(width, 2)
    content = {ADAPTED + ".lora_A.weight": down, ADAPTED + ".lora_B.weight": up}
    if has_base:
        base = {**tensors, ADAPTED + ".base.weight": tensors[ADAPTED + ".weight"]}
        del base[ADAPTED + ".weight"]
        content |= base
    torch.save({"state_dict": content}, tmp_path / "tuned.ckpt")
    lora = LoraOptions(alpha=6.0, rank=2, targets=("q_proj",))
    read = weights_of(tiny_songbloom_folder, tmp_path / "tuned.ckpt", lora=lora).read()
    assert read.keys() == tensors.keys()
    torch.testing.assert_close(read[ADAPTED + ".weight"], tensors[ADAPTED + ".weight"] + 3 * up @ down)
    others = [name for name in tensors if name != ADAPTED + ".weight"]
    assert all(torch.equal(read[name], tensors[name]) for name in others)


def adapters(rank: int = 2, width: int = 4) -> dict[str, Tensor]:
    return {
        "model.q_proj.base.weight": torch.zeros(width, width),
        "model.q_proj.lora_A.weight": torch.ones(rank, width),
        "model.q_proj.lora_B.weight": torch.ones(width, rank),
    }


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        ({}, LoraOptions(rank=4), "lora.rank=4: the adapter of model.q_proj has rank 2"),
        ({}, LoraOptions(targets=("v_proj",)), "lora.targets=v_proj: the checkpoint has an adapter at"),
        ({"model.q_proj.lora_B.weight": None}, LoraOptions(), "has no model.q_proj.lora_B.weight"),
        ({"model.q_proj.lora_A.weight": None}, LoraOptions(), "lora_B.weight has no lora_A.weight beside"),
        ({"model.q_proj.base.weight": None}, LoraOptions(), "has no model.q_proj.base.weight"),
        (
            {"model.q_proj.lora_B.weight": torch.ones(3, 2)},
            LoraOptions(),
            r"is \[3, 2\] x \[2, 4\], its layer",
        ),
    ],
)
def test_adapters_that_do_not_fit_are_said(
    change: dict[str, Tensor | None], options: LoraOptions, said: str
) -> None:
    changed = {**adapters(), **change}
    with pytest.raises(ValueError, match=said):
        fold_adapters({name: value for name, value in changed.items() if value is not None}, options, {})


def test_files_that_are_no_such_weights_are_said(
    tiny_songbloom: SongBloomModel, tiny_songbloom_folder: Path, tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    path = tmp_path / "other.pt"
    torch.save({"audiolm.x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"other\.pt: no tensors named model\.\*; is this a SongBloom"):
        weights_of(tiny_songbloom_folder, path).read()
    torch.save({name: tensor for name, tensor in tensors.items() if "bos" not in name}, path)
    with pytest.raises(ValueError, match=r"1 missing: bos_token"):
        network_of(tiny_songbloom, weights_of(tiny_songbloom_folder, path))
    torch.save(tensors, path)
    with pytest.raises(ValueError, match="lora settings are given, but it holds no adapters"):
        weights_of(tiny_songbloom_folder, path, needs_adapters=True).read()


def test_a_vae_of_another_model_is_said(
    tiny_songbloom: SongBloomModel, tiny_songbloom_folder: Path, tmp_path: Path
) -> None:
    description = json.loads((tiny_songbloom_folder / "stable_audio_1920_vae.json").read_text())
    path = tmp_path / "vae.json"
    path.write_text(json.dumps({**description, "sample_rate": 44100}))
    with pytest.raises(ValueError, match=r"vae\.json: sample_rate is 44100, and this model needs 48000"):
        read_vae_config(path, tiny_songbloom.config)
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"vae\.json: VAE description: key 'model' is missing"):
        read_vae_config(path, tiny_songbloom.config)
