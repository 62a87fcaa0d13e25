"""The tiny SongBloom model through the real command line: songs, records, resuming, tokens, stems, memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from songgen.audio import read_audio
from songgen.cli import main
from songgen.models import catalog
from songgen.models.base import Draft, Job
from songgen.models.built_in import has_separator
from songgen.models.families import family_of
from songgen.models.songbloom.loading import load
from songgen.models.songbloom.model import SongBloomModel
from songgen.models.songbloom.tiny import ensure_tiny, write_tiny
from songgen.requests import SongRequest
from songgen.runtime.checkpoint import read_tensors
from songgen.runtime.sampling import Sampling

REPOSITORY = Path(__file__).resolve().parents[3]
LYRICS = "[intro] [intro] , [verse] HH AH0 L OW1 W ER1 L D , [outro]"
"""Phonemes as they are: these tests need no dictionaries."""
PROMPT = str(REPOSITORY / "sample" / "prompt.ogg")

Generate = Callable[..., int]


def write_lines(path: Path, *songs: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(song) + "\n" for song in songs))
    return path


def song(idx: str, **keys: Any) -> dict[str, Any]:
    return {"idx": idx, "gt_lyric": LYRICS, "max_seconds": 1.5, **keys}


@pytest.fixture
def generate(tiny_songbloom_folder: Path, tmp_path: Path) -> Generate:
    def run(*words: str, out: str = "out", model: Path = tiny_songbloom_folder) -> int:
        given = [f"model={model}", f"input={tmp_path / 'in.jsonl'}", f"output.dir={tmp_path / out}"]
        return main(["generate", *given, "seed=1", "device=cpu", *words])

    return run


def records(folder: Path, name: str = "in") -> dict[str, dict[str, Any]]:
    lines = (folder / "jsonl" / f"{name}.jsonl").read_text("utf-8").splitlines()
    return {record["name"]: record for record in map(json.loads, lines)}


def test_songs_and_their_records(generate: Generate, tmp_path: Path) -> None:
    """Shorter than a chunk of the VAE, where the published program fails; samples differ by their seeds."""
    write_lines(
        tmp_path / "in.jsonl",
        song("a", prompt_audio_path=PROMPT),
        song("b", max_seconds=5.6, descriptions="pop", num_samples=1),
    )
    assert generate("output.format=flac", "num_samples=2") == 0
    made = records(tmp_path / "out")
    assert {name: record["frames"] for name, record in made.items()} == {"a_s0": 37, "a_s1": 37, "b": 140}
    assert {record["status"] for record in made.values()} == {"ok"}
    assert {record["stopped"] for record in made.values()} == {"length"}
    assert made["a_s0"]["sampling"]["diffusion_steps"] == 4
    assert made["a_s0"]["notes"]["prompt_seconds"] == 10.0
    assert made["b"]["lyrics"] == LYRICS
    assert {finding["field"] for finding in made["b"]["findings"]} >= {"descriptions", "prompt"}
    audio = {name: read_audio(tmp_path / "out" / "audio" / f"{name}.flac").samples for name in made}
    assert audio["a_s0"].shape == (2, 37 * 1920) and audio["b"].shape == (2, 140 * 1920)
    assert not np.array_equal(audio["a_s0"], audio["a_s1"])


def test_a_run_goes_on_where_it_was(generate: Generate, tmp_path: Path) -> None:
    write_lines(tmp_path / "in.jsonl", song("a"))
    assert generate() == 0
    before = (tmp_path / "out" / "audio" / "a.wav").stat().st_mtime_ns
    write_lines(tmp_path / "in.jsonl", song("a"), song("b"))
    assert generate() == 0
    assert (tmp_path / "out" / "audio" / "a.wav").stat().st_mtime_ns == before
    assert generate("sampling.diffusion_steps=2") == 0
    assert (tmp_path / "out" / "audio" / "a.wav").stat().st_mtime_ns != before


def test_batch_and_memory_do_not_change_songs(generate: Generate, tmp_path: Path) -> None:
    songs = [song("a", prompt_audio_path=PROMPT), song("b", max_seconds=0.6), song("c", seed=5)]
    write_lines(tmp_path / "in.jsonl", *songs)
    assert generate() == 0
    assert generate("batch=3", "memory=low", out="other") == 0
    for name in ("a", "b", "c"):
        first, second = ((tmp_path / out / "audio" / f"{name}.wav").read_bytes() for out in ("out", "other"))
        assert first == second


def test_kept_drafts_are_rendered_again(
    generate: Generate, tiny_songbloom_folder: Path, tmp_path: Path
) -> None:
    """Sketch and latents are kept; the prompt, which only composing needs, may be gone."""
    prompt = shutil.copy(PROMPT, tmp_path / "prompt.ogg")
    write_lines(tmp_path / "in.jsonl", song("a", prompt_audio_path=str(prompt)))
    assert generate("output.tokens=true") == 0
    kept = tmp_path / "out" / "tokens" / "a.safetensors"
    tensors = read_tensors(kept)
    assert tensors["tokens"].shape == (1, 37) and tensors["latents"].shape == (16, 37)
    Path(prompt).unlink()
    given = [str(kept), f"model={tiny_songbloom_folder}", f"output.dir={tmp_path / 'again'}", "device=cpu"]
    assert main(["render", *given]) == 0
    first, second = ((tmp_path / out / "audio" / "a.wav").read_bytes() for out in ("out", "again"))
    assert first == second


@pytest.mark.skipif(not has_separator(), reason="needs demucs")
def test_stems_come_from_the_separator(generate: Generate, tmp_path: Path) -> None:
    write_lines(tmp_path / "in.jsonl", song("a", generate_type="separate"))
    assert generate("stems=separator", "output.format=wav", "output.bits=32") == 0
    mixed, vocal, bgm = (
        read_audio(tmp_path / "out" / "audio" / f"a{end}.wav").samples for end in ("", "_vocal", "_bgm")
    )
    np.testing.assert_allclose(vocal + bgm, mixed, atol=1e-5)


def test_what_a_request_cannot_have_is_said(generate: Generate, tmp_path: Path) -> None:
    write_lines(
        tmp_path / "in.jsonl",
        song("stems", generate_type="vocal"),
        song("library", auto_prompt_audio_type="Pop"),
        song("gone", prompt_audio_path="absent.wav"),
        song("long", max_seconds=999),
        song("good"),
    )
    assert generate() == 1
    made = records(tmp_path / "out")
    assert made["good"]["status"] == "ok"
    assert "stems=separator takes them from the finished mix" in made["stems"]["error"]
    assert "has no library of prompts: give prompt_audio_path" in made["library"]["error"]
    assert "absent.wav" in made["gone"]["error"]
    assert "max_seconds=999 is more than tiny-songbloom can make as it was" in made["long"]["error"]


def test_a_song_that_ends_at_once_has_a_clear_record(
    generate: Generate, tiny_songbloom_folder: Path, tmp_path: Path
) -> None:
    """The published program returns zeros and then fails to decode them."""
    folder = tmp_path / "tiny-songbloom"
    shutil.copytree(tiny_songbloom_folder, folder)
    tensors = read_tensors(folder / "tiny-songbloom.safetensors")
    tensors["model.skeleton_classifier.2.bias"][-1] = 60.0
    (folder / "tiny-songbloom.safetensors").unlink()
    torch.save(tensors, folder / "tiny-songbloom.pt")
    write_lines(tmp_path / "in.jsonl", song("a"))
    assert generate(model=folder) == 1
    record = records(tmp_path / "out")["a"]
    assert record["error"] == "the model ended the song before its first frame"
    assert record["stage"] == "compose"


def test_a_fine_tuned_checkpoint_makes_other_songs(
    generate: Generate, tiny_songbloom_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = read_tensors(tiny_songbloom_folder / "tiny-songbloom.safetensors")
    layer = "model.ar_transformer.layers.0.self_attn.v_proj"
    width = tensors[layer + ".weight"].shape[0]
    adapter = {layer + ".lora_A.weight": torch.ones(1, width), layer + ".lora_B.weight": torch.ones(width, 1)}
    torch.save({"state_dict": adapter}, tmp_path / "tuned.ckpt")
    write_lines(tmp_path / "in.jsonl", song("a"))
    assert generate() == 0
    tuned = f"checkpoint={tmp_path / 'tuned.ckpt'}"
    assert generate(tuned, "lora.alpha=2", "lora.rank=1", "lora.targets=q_proj,v_proj", out="tuned") == 0
    first, second = ((tmp_path / out / "audio" / "a.wav").read_bytes() for out in ("out", "tuned"))
    assert first != second
    capsys.readouterr()
    assert generate("lora.alpha=2", out="no") == 2
    assert "lora.alpha=2.0 has no effect without checkpoint=FILE" in capsys.readouterr().err
    assert generate(f"checkpoint={tmp_path / 'absent.ckpt'}", out="no") == 2
    assert "absent.ckpt: no such file" in capsys.readouterr().err


def test_the_catalogue_loads_the_family(
    tiny_songbloom_folder: Path, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("songgen.models.songbloom.tiny.ensure_tiny", lambda: tiny_songbloom_folder)
    assert catalog.load_model("Tiny_SongBloom", device="cpu").name == "tiny-songbloom"
    assert family_of(tiny_songbloom_folder) == "songbloom"
    assert family_of(tiny_folder) == "levo"
    assert family_of(tiny_folder / "absent") is None
    with pytest.raises(
        ValueError, match=r"checkpoint=x\.ckpt: fine-tuned checkpoints are read for SongBloom"
    ):
        catalog.load_model(tiny_folder, device="cpu", checkpoint=Path("x.ckpt"))


def test_a_missing_file_is_named_with_the_way_to_get_it(tiny_songbloom_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tiny-songbloom"
    shutil.copytree(tiny_songbloom_folder, folder)
    (folder / "autoencoder_music_dsp1920.ckpt").unlink()
    with pytest.raises(FileNotFoundError, match=r"dsp1920\.ckpt was not found(.|\n)*songgen fetch songbloom"):
        load(folder, device="cpu")
    shutil.copy(tiny_songbloom_folder / "autoencoder_music_dsp1920.ckpt", folder)
    (folder / "tiny-songbloom.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"its weights, tiny-songbloom\.pt or .* are not beside it"):
        load(folder, device="cpu")


def test_half_precision_and_shorter_caches(tiny_songbloom_folder: Path) -> None:
    model = load(tiny_songbloom_folder, device="cpu", dtype="bf16", max_seconds=2.0, kv_cache="int8")
    assert model.max_seconds == 2.56  # in whole blocks
    assert "bfloat16" in model.summary
    conditions = model.condition(SongRequest(idx="a", lyrics=LYRICS))
    job = Job("a", SongRequest(idx="a", lyrics=LYRICS), 1, model.sampling, None, conditions)
    (draft,) = model.compose(iter([job]))
    assert draft.tokens.shape == (1, 64)


def test_shrinking_halves_the_batch(tiny_songbloom_folder: Path) -> None:
    model = load(tiny_songbloom_folder, device="cpu", batch=3)
    assert model.shrink() and model.batch == 1
    assert not model.shrink()


def test_fp16_is_warned_of(tiny_songbloom_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    load(tiny_songbloom_folder, device="cpu", dtype="fp16", codec_dtype="bf16")
    assert "dtype=fp16 is narrow for SongBloom" in caplog.text
    assert "codec_dtype has no effect on SongBloom" in caplog.text


def test_drafts_of_another_family_are_not_rendered(tiny_songbloom: SongBloomModel) -> None:
    job = Job("a", SongRequest(idx="a", lyrics=""), 0, Sampling())
    with pytest.raises(ValueError, match="these are tokens alone, and this model renders from latents"):
        next(tiny_songbloom.render(iter([Draft(job, torch.zeros(1, 4, dtype=torch.int64), "length")])))
    other = Draft(job, torch.zeros(1, 4, dtype=torch.int64), "length", latents=torch.zeros(8, 4))
    with pytest.raises(ValueError, match="latents of 8 channels; this model has 16"):
        next(tiny_songbloom.render(iter([other])))


def test_the_linter_knows_the_model(tiny_songbloom: SongBloomModel) -> None:
    rules = tiny_songbloom.text_rules
    assert (rules.family, rules.max_lyric_tokens, rules.max_seconds) == ("songbloom", 200, 40.32)
    assert rules.count_lyric_tokens is not None
    assert rules.count_lyric_tokens("[verse] " + " ".join(["L"] * 300)) == 301


def test_lyrics_behind_the_models_positions_are_cut(tiny_songbloom: SongBloomModel) -> None:
    """As published; the linter says so before."""
    network = tiny_songbloom.parts.network.get()
    long, cut = (
        tiny_songbloom.condition(SongRequest(idx="a", lyrics="[verse] " + " ".join(["L"] * count)))
        for count in (300, 199)
    )
    provider = network.condition_provider
    assert torch.equal(provider.prefix(long), provider.prefix(cut))


def test_the_tiny_model_is_made_once_and_always_the_same(tmp_path: Path) -> None:
    first = ensure_tiny(tmp_path / "one")
    assert ensure_tiny(tmp_path / "one") == first
    torch.rand(1)
    write_tiny(tmp_path / "two")
    name = "tiny-songbloom.safetensors"
    assert (first / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
