"""Settings: what they default to, what they refuse, and that every refusal says what is right."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import yaml

from songgen.config import (
    EvaluateConfig,
    GenerateConfig,
    doctor_config,
    evaluate_config,
    generate_config,
    loading,
    named_sampling,
    render_config,
    ui_config,
)
from songgen.config_keys import BENCH_KEYS, KEYS, ConfigError, read_value
from songgen.config_tree import GROUPS, Command, config_folder, describe
from songgen.engine.settings import Engine, Output
from songgen.runtime.sampling import DiffusionSampling, Sampling, changed_sampling

NEEDED = ["model=tiny", "input=lyrics.jsonl"]


def config(*overrides: str) -> GenerateConfig:
    return generate_config([*NEEDED, *overrides])


def test_defaults_are_those_of_the_published_scripts() -> None:
    found = config()
    assert found.sampling == {}  # the model's own
    assert Sampling() == Sampling(0.8, 5000, 0.0, 1.5, 1.1, 50, 0.0)
    assert found.output == Output(Path("output"), "wav", None, False)
    assert (found.generate_type, found.lyrics, found.on_error) == ("mixed", "fix", "continue")
    assert (found.resume, found.seed, found.max_seconds, found.verbose) == (True, None, None, False)
    assert found.loading == loading("tiny")


def test_every_setting_reaches_its_field() -> None:
    given = [
        "runtime_dir=rt", "output.dir=o", "output.format=flac", "output.bits=24", "output.tokens=true",
        "output.plot=true", "output.lrc=true",
        "sampling.temperature=0.5", "sampling.top_k=3", "sampling.top_p=0.2", "sampling.cfg_coef=2",
        "sampling.penalty=1.2", "sampling.window=9", "sampling.frequency_penalty=0.3",
        "sampling.diffusion_steps=8", "sampling.diffusion_temperature=0.5", "sampling.diffusion_cfg_coef=3",
        "checkpoint=tuned.ckpt", "lora.alpha=8", "lora.rank=4", "lora.targets=q_proj,v_proj",
        "generate_type=separate", "stems=separator", "lyrics=asis", "num_samples=3", "keep=all",
        "max_seconds=20", "seed=5", "batch=4", "device=cuda", "dtype=bf16", "codec_dtype=fp16",
        "memory=low", "attention=sdpa",
        "gpu_memory=10GB", "kv_cache=int8", "threads=2", "on_error=stop", "resume=false", "verbose=true",
        "engine.kind=ray", "engine.address=host:6379", "engine.workers=3",
    ]  # fmt: skip
    known = {key for key, _, _ in describe("generate")} - set(GROUPS)
    assert {word.partition("=")[0] for word in [*given, *NEEDED]} == known
    found = config(*given)
    assert DiffusionSampling(**found.sampling) == DiffusionSampling(
        0.5, 3, 0.2, 2.0, 1.2, 9, 0.3, 8, 0.5, 3.0
    )
    assert found.output == Output(Path("o"), "flac", 24, True, True, True)
    assert (found.generate_type, found.lyrics, found.max_seconds, found.seed) == ("separate", "asis", 20.0, 5)
    assert found.num_samples == 3
    assert (found.on_error, found.resume, found.verbose) == ("stop", False, True)
    options = {"runtime_dir": Path("rt"), "device": "cuda", "dtype": "bf16", "memory": "low", "batch": 4}
    tuning = {"checkpoint": Path("tuned.ckpt"), "lora_alpha": 8.0, "lora_rank": 4}
    options |= {**tuning, "lora_targets": "q_proj,v_proj"}
    options["gpu_memory"] = "10 GB"
    assert found.loading == loading(
        "tiny", **options, codec_dtype="fp16", attention="sdpa", kv_cache="int8", threads=2
    )
    assert found.loading.gpu_memory == 10**10
    assert found.engine == Engine("ray", "host:6379", 3)
    assert (found.keep, config("keep=best").keep) == ("all", "best")


def test_every_setting_of_evaluate_reaches_its_field() -> None:
    given = [
        "requests=r", "prompts=p", "reference=f", "report=t", "transcripts=h", "language=zh",
        "asr.program=faster-whisper", "asr.model=large-v3", "asr.device=cuda:1", "audiobox.python=a",
        "audiobox.checkpoint=c", "songeval.dir=d", "songeval.python=s", "bootstrap.samples=200",
        "bootstrap.confidence=0.9", "bootstrap.seed=4", "verbose=true",
    ]  # fmt: skip
    assert {word.partition("=")[0] for word in given} == {key for key, _, _ in describe("evaluate")}
    assert evaluate_config(given) == EvaluateConfig(
        requests=Path("r"),
        prompts=Path("p"),
        reference=Path("f"),
        report=Path("t"),
        transcripts=Path("h"),
        language="zh",
        asr={"program": "faster-whisper", "model": "large-v3", "device": "cuda:1"},
        audiobox={"python": Path("a"), "checkpoint": Path("c")},
        songeval={"dir": Path("d"), "python": Path("s")},
        bootstrap={"samples": 200, "confidence": 0.9, "seed": 4},
        verbose=True,
    )
    described = {key for command in get_args(Command) for key, _, _ in describe(command)}
    assert {*KEYS, *BENCH_KEYS} == described - set(GROUPS)


def test_an_asr_needs_its_model_and_a_model_its_program() -> None:
    with pytest.raises(ConfigError, match=r"^asr\.model is not given: asr\.model=large-v3, or the folder"):
        evaluate_config(["asr.program=faster-whisper"])
    with pytest.raises(ConfigError, match=r"^asr\.model has no effect without asr\.program=faster-whisper$"):
        evaluate_config(["asr.model=large-v3"])
    assert evaluate_config([]).language is None and evaluate_config([]).reference.name == "published.yaml"


def test_groups_and_single_values_in_any_order() -> None:
    assert config("sampling=lowmem").sampling == {"temperature": 0.9, "top_k": 50}
    assert config("sampling=greedy").sampling["temperature"] == 0
    one, other = config("sampling=lowmem", "sampling.top_k=7"), config("sampling.top_k=7", "sampling=lowmem")
    assert one.sampling == other.sampling == {"temperature": 0.9, "top_k": 7}
    assert config("seed=1", "seed=2").seed == 2


@pytest.mark.parametrize(
    "name", ["a b(1)", "a=b", "a,b", "[x]{y}", "${z}", "'quoted\"", "歌词", "a#b", "null.x", "1"]
)
def test_file_names_may_hold_any_character(name: str) -> None:
    """Hydra's own override grammar stumbles over most of these."""
    found = generate_config([f"model={name}", f"input={name}.jsonl", f"output.dir={name}"])
    assert (found.loading.model, found.input, found.output.dir) == (name, Path(f"{name}.jsonl"), Path(name))


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/somewhere")
    assert config("output.dir=~/songs").output.dir == Path("/somewhere/songs")


@pytest.mark.parametrize("word", ["null", "None", ""])
def test_null_is_written_in_several_ways(word: str) -> None:
    assert config("seed=3", f"seed={word}").seed is None


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("modle=x", r"modle is not a setting of `songgen generate`; did you mean model\?"),
        ("temperature=1", r"temperature is not a setting .*; did you mean sampling\.temperature\?"),
        ("sampling.tempratur=1", r"did you mean sampling\.temperature\?"),
        ("format=mp3", r"did you mean output\.format\?"),
        ("xyzzy=1", r"xyzzy is not a setting of `songgen generate`, which knows: sampling\.temperature, "),
        (
            "output=x",
            r"output is a group of settings: output\.dir, output\.format, output\.bits, output\.tokens, ",
        ),
        ("--batch=4", r"--batch=4: settings are written key=value, without dashes"),
        ("batch", r"batch: settings are written key=value"),
        (
            "sampling=gredy",
            r"sampling=gredy: must be one of fast, greedy, lowmem, upstream; did you mean greedy\?",
        ),
        ("output.format=aiff", r"output\.format=aiff: must be one of wav, flac, ogg, mp3, opus"),
        ("output.bits=8", r"output\.bits=8 is not possible for wav: must be 16 or 24 or 32"),
        ("generate_type=vocals", r"must be one of mixed, vocal, bgm, separate; did you mean vocal\?"),
        ("generate_type=null", r"generate_type=null: must be one of mixed, vocal, bgm, separate$"),
        ("lyrics=no", r"lyrics=no: must be one of fix, strict, asis"),
        ("on_error=go", r"on_error=go: must be one of continue, stop"),
        ("resume=maybe", r"resume=maybe: must be true or false"),
        ("seed=-1", r"seed=-1: must be a whole number from 0 to 9223372036854775807, or null \(the folder's"),
        ("seed=1.5", r"seed=1\.5: must be a whole number"),
        ("seed=9223372036854775808", r"must be a whole number from 0"),
        ("batch=0", r"batch=0: must be auto or a whole number, 1 or more, or null \(auto\)"),
        ("gpu_memory=ten", r"gpu_memory=ten: must be a size such as 10GB, 10GiB or 10 \(GB\), or null"),
        ("gpu_memory=0", r"gpu_memory=0: must be a size"),
        ("gpu_memory=10MB", r"gpu_memory=10MB: must be a size"),
        ("threads=0", r"threads=0: must be auto or a whole number, 1 or more"),
        ("max_seconds=0", r"max_seconds=0: must be a number above 0, or null \(the model's own limit\)"),
        ("max_seconds=inf", r"max_seconds=inf: must be a number above 0"),
        ("sampling.temperature=-1", r"must be a number, 0 or more"),
        ("sampling.temperature=warm", r"must be a number, 0 or more"),
        ("sampling.top_k=2.5", r"must be a whole number from 0 to 2147483647"),
        (f"sampling.top_k={2**63}", r"must be a whole number from 0 to 2147483647"),
        ("sampling.top_p=1.5", r"must be a number from 0 to 1"),
        ("sampling.cfg_coef=nan", r"must be a number"),
        ("sampling.penalty=0", r"must be a number above 0"),
        ("device=gpu", r"device=gpu: must be auto, cpu, mps, cuda or cuda:N"),
        ("engine=slurm", r"engine=slurm: must be one of local, ray"),
        ("keep=first", r"keep=first: must be one of all, best"),
        ("engine.workers=2", r"engine\.workers=2 has no effect without engine=ray"),
        (
            "engine.address=ray://host:1",
            r"engine\.address=ray://host:1: must be auto or host:port, or null \(one",
        ),
        ("dtype=fp8", r"dtype=fp8: must be one of auto, fp16, bf16, fp32"),
        ("memory=mid", r"memory=mid: must be one of auto, full, low"),
        ("attention=", r"attention=: must be one of auto, flash, triton, sdpa"),
        ("output.dir=", r"output\.dir=: must be a path"),
        ("model=null", r"model is not given: model=tiny, a published name"),
        ("input=null", r"input is not given: input=FILE\.jsonl"),
    ],
)
def test_what_is_wrong_is_said(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config(override)


def test_engine_ray_chooses_its_file_and_its_gpus_itself() -> None:
    assert config().engine == Engine()
    assert config("engine=ray", "engine.workers=2").engine == Engine("ray", None, 2)
    with pytest.raises(
        ConfigError, match="device=cuda:1 has no effect with engine=ray, which gives each worker"
    ):
        config("engine=ray", "device=cuda:1")
    assert config("engine=ray", "keep=best").keep == "best"


def test_a_setting_without_effect_on_render_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"sampling\.top_k has no effect on `songgen render`, which knows: model"
    ):
        render_config(["model=tiny", "sampling.top_k=3"])
    with pytest.raises(ConfigError, match="sampling has no effect on `songgen render`"):
        render_config(["model=tiny", "sampling=greedy"])


def test_render_keeps_the_stems_unless_told() -> None:
    assert render_config(["model=tiny"]).generate_type is None
    assert render_config(["model=tiny", "generate_type=bgm"]).generate_type == "bgm"


def test_doctor_needs_no_model() -> None:
    assert doctor_config([]).model is None and doctor_config(["model=x", "batch=2"]).batch == 2
    with pytest.raises(ConfigError, match="threads has no effect on `songgen doctor`"):
        doctor_config(["threads=2"])
    docs = {key: doc for key, _, doc in describe("doctor")}
    assert docs["model"].endswith("; null: all that are found")


def test_the_page_is_for_this_machine_alone_unless_told() -> None:
    found = ui_config(["model=tiny"])
    assert (found.host, found.port, found.share, found.max_upload_mb) == ("127.0.0.1", 7860, False, 20)
    assert (found.output, found.stems, found.lyrics) == (Output(Path("output")), "model", "fix")
    given = ["ui.host=0.0.0.0", "ui.port=80", "ui.share=true", "ui.max_upload_mb=5", "output.format=mp3"]
    found = ui_config(["model=tiny", "batch=2", "stems=separator", "lyrics=asis", *given])
    assert (found.host, found.port, found.share, found.max_upload_mb) == ("0.0.0.0", 80, True, 5)
    assert (found.output.format, found.stems, found.lyrics) == ("mp3", "separator", "asis")
    assert found.loading == loading("tiny", batch=2)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("ui.port=0", "ui.port=0: must be a whole number from 1 to 65535"),
        ("ui.max_upload_mb=0", "ui.max_upload_mb=0: must be a whole number, 1 or more"),
        ("port=7861", "port is not a setting of `songgen ui`; did you mean ui.port"),
        ("seed=1", "seed has no effect on `songgen ui`"),
        ("sampling=greedy", "sampling has no effect on `songgen ui`"),
    ],
)
def test_a_wrong_setting_of_the_page(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ui_config(["model=tiny", setting])


@pytest.mark.parametrize("command", ["generate", "render", "doctor", "bench", "ui"])
def test_the_help_is_true(command: str) -> None:
    """Every key of the file is described, with the default that the file has."""
    tree = yaml.safe_load((config_folder() / f"{command}.yaml").read_text())
    rows = {key: (default, doc) for key, default, doc in describe(command)}  # type: ignore[arg-type]
    for key, value in tree.items():
        if key in ("output", "lora", "ui"):
            assert all(f"{key}.{name}" in rows for name in value)
        elif key != "defaults":
            shown = str(value).lower() if isinstance(value, bool) else "null" if value is None else str(value)
            assert rows[key][0] == shown
    assert all(doc for _, doc in rows.values())
    assert ("sampling" in rows) == (command == "generate")


def test_every_sampling_file_is_complete() -> None:
    names = [file.stem for file in (config_folder() / "sampling").glob("*.yaml")]
    assert sorted(names) == ["fast", "greedy", "lowmem", "upstream"]
    for name in names:
        tree = yaml.safe_load((config_folder() / "sampling" / f"{name}.yaml").read_text())
        assert tree.keys() == {item.name for item in fields(DiffusionSampling)}
        changes = {key: value for key, value in tree.items() if value is not None}
        assert named_sampling(name) == changes
        assert changed_sampling(Sampling(), changes)
    with pytest.raises(ConfigError, match="sampling=best: must be one of"):
        named_sampling("best")


@pytest.mark.parametrize("word", ["auto", "null"])
def test_batch_auto_is_a_word_and_the_default(word: str) -> None:
    assert config(f"batch={word}").loading.batch is None
    assert [row[1] for row in describe("generate") if row[0] == "batch"] == ["auto"]


@pytest.mark.parametrize(
    ("text", "size"), [("10GB", 10**10), ("10 gib", 10 * 2**30), ("1.5", 1_500_000_000), (10, 10**10)]
)
def test_sizes_of_memory(text: object, size: int) -> None:
    assert read_value("gpu_memory", text) == size


def test_plain_values_are_checked_like_text() -> None:
    assert (read_value("batch", 3), read_value("resume", False), read_value("threads", 2)) == (3, False, 2)
    assert loading(Path("x"), threads=2).model == "x"
    for key, value in (
        ("batch", True),
        ("batch", 2.5),
        ("max_seconds", True),
        ("output.dir", 3),
        ("dtype", 16),
    ):
        with pytest.raises(ConfigError, match=f"{key}={value}: must be"):
            read_value(key, value)


def test_composing_leaves_no_trace_in_hydra() -> None:
    """A program that uses Hydra itself must be able to call songgen."""
    from hydra.core.global_hydra import GlobalHydra

    config()
    assert not GlobalHydra.instance().is_initialized()
