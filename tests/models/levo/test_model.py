"""The tiny checkpoint through the model's three verbs, and what loading refuses."""

from __future__ import annotations

import dataclasses
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from songgen.models.base import Draft, Job, Song
from songgen.models.levo.loading import load
from songgen.models.levo.model import LevoModel
from songgen.models.levo.tiny import ensure_tiny
from songgen.requests import GenerateType, SongRequest
from songgen.runtime.sampling import Sampling


def job(tiny: LevoModel, kind: GenerateType = "mixed", seconds: float = 1.0, name: str = "song") -> Job:
    request = SongRequest(idx=name, lyrics="[verse] La la.", descriptions="pop", generate_type=kind)
    return Job(name, request, 11, Sampling(), max_seconds=seconds, conditions=tiny.condition(request))


def sing(tiny: LevoModel, *kinds: GenerateType) -> list[Song]:
    def jobs() -> Iterator[Job]:
        for number, kind in enumerate(kinds):
            yield job(tiny, kind, name=f"song{number}")

    return list(tiny.render(tiny.compose(jobs())))


def test_a_song_has_the_length_of_its_frames(tiny: LevoModel) -> None:
    (song,) = sing(tiny, "mixed")
    audio = song.stems["mixed"]
    assert audio.sample_rate == 48000
    assert audio.samples.shape == (2, 25 * 1920)
    assert audio.samples.dtype == np.float32
    assert 0.01 < float(audio.samples.std()) < 1


def test_separate_equals_three_runs(tiny: LevoModel) -> None:
    """Same tokens, same noise: the stems decoded in one batch are those decoded one by one."""
    tokens = torch.randint(0, 1024, (3, 30), generator=torch.Generator().manual_seed(2))
    drafts = [Draft(job(tiny, kind), tokens, "length") for kind in ("separate", "mixed", "vocal", "bgm")]
    together, *single = tiny.render(iter(drafts))
    assert list(together.stems) == ["mixed", "vocal", "bgm"]
    for song in single:
        ((stem, audio),) = song.stems.items()
        np.testing.assert_allclose(together.stems[stem].samples, audio.samples, atol=2e-5)
    assert np.abs(together.stems["vocal"].samples - together.stems["bgm"].samples).max() > 0.01


def test_low_memory_gives_the_same_song(tiny: LevoModel, tiny_folder: Path) -> None:
    low = load(tiny_folder, device="cpu", memory="low")
    assert low.memory == "low" and not low.parts.codec.is_loaded
    drafts = list(low.compose(iter([job(low)])))
    low.release("compose")
    assert not low.parts.lelm.is_loaded
    songs = list(low.render(iter(drafts)))
    low.release("render")
    full = list(tiny.render(tiny.compose(iter([job(tiny)]))))
    np.testing.assert_array_equal(songs[0].stems["mixed"].samples, full[0].stems["mixed"].samples)
    assert next(low.compose(iter([job(low)]))).tokens.equal(drafts[0].tokens)  # loaded again when used


def test_an_empty_draft_says_what_to_do(tiny: LevoModel) -> None:
    draft = Draft(job(tiny), torch.zeros(3, 0, dtype=torch.int64), "eos")
    with pytest.raises(ValueError, match="ended the song before its first frame; try another seed"):
        list(tiny.render(iter([draft])))


def test_progress_reaches_one_in_both_stages(tiny: LevoModel) -> None:
    seen: dict[str, float] = {}
    drafts = list(
        tiny.compose(iter([job(tiny, "separate")]), lambda stage, name, part: seen.update({stage: part}))
    )
    list(tiny.render(iter(drafts), lambda stage, name, part: seen.update({stage: part})))
    assert seen["compose"] == 1.0 and seen["render"] == pytest.approx(1.0)


def test_a_song_longer_than_the_model_can_is_refused(tiny: LevoModel) -> None:
    with pytest.raises(ValueError, match="max_seconds is 600; tiny makes songs of up to 60 s"):
        tiny.condition(SongRequest(idx="a", lyrics="[verse] la", max_seconds=600))


def test_bgm_does_not_see_the_lyrics(tiny: LevoModel) -> None:
    first, second = (
        tiny.condition(SongRequest(idx="a", lyrics=text, generate_type="bgm", descriptions="jazz"))
        for text in ("[verse] la", "")
    )
    assert torch.equal(first.lyric_ids, second.lyric_ids)


def test_identity_changes_with_the_weights(tiny: LevoModel, tiny_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(tiny_folder, copy)
    assert load(copy, device="cpu").identity == tiny.identity
    tensors = torch.load(copy / "model.pt", weights_only=True)
    tensors["audiolm.mlp.0.bias"] += 1
    torch.save(tensors, copy / "model.pt")
    assert load(copy, device="cpu").identity != tiny.identity


def test_text_rules_tell_the_linter_what_it_needs(tiny: LevoModel) -> None:
    rules = tiny.text_rules
    assert (rules.version, rules.max_lyric_tokens, rules.max_seconds) == ("v2", 1200, 60)
    assert rules.count_lyric_tokens is not None and rules.count_lyric_tokens("[verse] la") == 5


def test_summary_says_where_and_how(tiny: LevoModel) -> None:
    assert tiny.summary.startswith("tiny (v2) on cpu, float32, attention=sdpa; memory=full: about ")


def test_only_the_products_of_the_flow_network_take_the_codecs_dtype(tiny_folder: Path) -> None:
    """Norms, tables, time and the VAE stay float32; the summary says what runs in what."""
    model = load(tiny_folder, device="cpu", codec_dtype="bf16")
    assert model.summary.startswith("tiny (v2) on cpu, float32, codec bfloat16, attention=sdpa; ")
    parts = model.parts.codec.get()
    low = {name for name, value in parts.codec.named_parameters() if value.dtype == torch.bfloat16}
    assert low and all(re.search(r"\.h\.\d+\.(attn|mlp)\.c_\w+\.(weight|bias)$", name) for name in low)
    assert {value.dtype for value in parts.vae.parameters()} == {torch.float32}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"attention": "flash9"}, "attention is 'flash9'; it must be one of auto, flash, triton, sdpa"),
        ({"device": "tpu"}, "device is 'tpu'"),
        ({"dtype": "int3"}, "dtype is 'int3'"),
        ({"codec_dtype": "tf32"}, "codec_dtype is 'tf32'; it must be one of auto, fp16, bf16, fp32"),
        ({"memory": "none"}, "memory is 'none'"),
        ({"batch": 0}, "batch is 0"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_wrong_settings_are_refused(tiny_folder: Path, setting: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(tiny_folder, **{"device": "cpu", **setting})  # type: ignore[arg-type]


def test_a_missing_runtime_file_is_named_with_the_way_to_get_it(tiny_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "deep" / "er" / "tiny"
    shutil.copytree(tiny_folder, copy)
    (copy / "ckpt/model_septoken/model_2.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model_2\.safetensors was not found[\s\S]*songgen fetch"):
        load(copy, device="cpu")


def test_a_codec_of_other_sizes_is_refused(tiny_folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tiny"
    shutil.copytree(tiny_folder, copy)
    text = (copy / "config.yaml").read_text("utf-8").replace("  estimator_heads: 4\n", "  separator: true\n")
    (copy / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="heads of an estimator 104 wide has to be given"):
        load(copy, device="cpu")


def test_the_tiny_checkpoint_is_made_once_and_always_the_same(tmp_path: Path) -> None:
    first = ensure_tiny(tmp_path / "a")
    stamp = (first / "model.pt").stat().st_mtime_ns
    assert ensure_tiny(tmp_path / "a") == first and (first / "model.pt").stat().st_mtime_ns == stamp
    second = ensure_tiny(tmp_path / "b")
    one, two = (torch.load(folder / "model.pt", weights_only=True) for folder in (first, second))
    assert one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)
    assert [path.name for path in (tmp_path / "a").iterdir()] == [first.parent.name]  # no leftovers


def test_the_tiny_checkpoint_does_not_disturb_the_random_state(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    ensure_tiny(tmp_path)
    assert torch.equal(torch.rand(1), expected)


def test_half_precision_runs(tiny_folder: Path) -> None:
    model = load(tiny_folder, device="cpu", dtype="bf16")
    (draft,) = model.compose(iter([job(model)]))
    assert draft.tokens.shape == (3, 25)
    assert dataclasses.asdict(model.plan)["batch"] == 1
