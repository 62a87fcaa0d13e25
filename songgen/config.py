"""The settings of each command as a frozen dataclass; `config_tree.py` composes and checks their values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from songgen.config_keys import ConfigError, read_value
from songgen.config_tree import choices_of, config_folder, tree_of, values_of
from songgen.engine.settings import Engine, Keep, LyricsPolicy, Output
from songgen.request_keys import StemSource
from songgen.requests import GenerateType


@dataclass(frozen=True)
class Loading:
    """Which model, and how it is run; `config_keys.KEYS` says what the values mean."""

    model: str
    runtime_dir: Path | None = None
    device: str = "auto"
    dtype: str = "auto"
    codec_dtype: str = "auto"
    memory: str = "auto"
    batch: int | None = None
    attention: str = "auto"
    kv_cache: str = "auto"
    threads: int | str = "auto"
    checkpoint: Path | None = None
    lora_alpha: float | None = None
    lora_rank: int | None = None
    lora_targets: str | None = None
    gpu_memory: int | None = None


@dataclass(frozen=True)
class GenerateConfig:
    """The settings of `songgen generate`; `sampling` is what changes of the model's own."""

    loading: Loading
    input: Path
    output: Output
    engine: Engine
    sampling: Mapping[str, Any]
    generate_type: GenerateType
    stems: StemSource
    lyrics: LyricsPolicy
    keep: Keep
    max_seconds: float | None
    num_samples: int
    seed: int | None
    on_error: Literal["continue", "stop"]
    resume: bool
    verbose: bool


@dataclass(frozen=True)
class DoctorConfig:
    """The settings of `songgen doctor`, as of `Loading`; `model` None looks at all that are found."""

    model: str | None
    runtime_dir: Path | None
    device: str
    dtype: str
    memory: str
    batch: int | None
    attention: str


@dataclass(frozen=True)
class RenderConfig:
    """The settings of `songgen render`; `generate_type` None keeps what each song was made with."""

    loading: Loading
    output: Output
    generate_type: GenerateType | None
    resume: bool
    verbose: bool


@dataclass(frozen=True)
class BenchConfig:
    """The settings of `songgen bench`."""

    model: str
    runtime_dir: Path | None
    weights: Literal["checkpoint", "random"]
    layers: int | None
    seconds: float
    batch: tuple[int, ...]
    render: bool
    baseline: bool
    profile: bool
    folder: Path
    device: str
    dtype: str
    attention: str
    kv_cache: str
    threads: int | str
    verbose: bool


@dataclass(frozen=True)
class EvaluateConfig:
    """The settings of `songgen evaluate`; `config_keys.KEYS` says what the values mean.

    `asr`, `audiobox`, `songeval` and `bootstrap` hold the settings of their group without its name.
    """

    requests: Path | None
    prompts: Path | None
    reference: Path
    report: Path | None
    transcripts: Path | None
    language: Literal["zh", "en"] | None
    asr: Mapping[str, Any]
    audiobox: Mapping[str, Any]
    songeval: Mapping[str, Any]
    bootstrap: Mapping[str, Any]
    verbose: bool


@dataclass(frozen=True)
class UiConfig:
    """The settings of `songgen ui`; `output` says what the form starts with, `max_upload_mb` is in 10**6
    bytes."""

    loading: Loading
    output: Output
    stems: StemSource
    lyrics: LyricsPolicy
    host: str
    port: int
    share: bool
    max_upload_mb: int
    verbose: bool


def generate_config(overrides: Sequence[str]) -> GenerateConfig:
    """The settings of `songgen generate` with some `key=value` in place.

    Raises:
        ConfigError: an unknown key, a value that is not allowed, or a missing setting.
    """
    values = values_of("generate", overrides)
    names = (
        "input",
        "generate_type",
        "stems",
        "lyrics",
        "keep",
        "max_seconds",
        "num_samples",
        "seed",
        "on_error",
        "resume",
        "verbose",
    )
    own = {name: values[name] for name in names}
    return GenerateConfig(
        loading=_loading(values),
        output=_output(values),
        engine=_engine(values),
        sampling=_sampling(values),
        **own,
    )


def render_config(overrides: Sequence[str]) -> RenderConfig:
    """The settings of `songgen render` with some `key=value` in place.

    Raises:
        ConfigError: as `generate_config`.
    """
    values = values_of("render", overrides)
    own = {name: values[name] for name in ("generate_type", "resume", "verbose")}
    return RenderConfig(loading=_loading(values), output=_output(values), **own)


def bench_config(overrides: Sequence[str]) -> BenchConfig:
    """The settings of `songgen bench` with some `key=value` in place.

    Raises:
        ConfigError: as `generate_config`.
    """
    values = values_of("bench", overrides)
    return BenchConfig(folder=values.pop("output.dir"), **values)


def doctor_config(overrides: Sequence[str]) -> DoctorConfig:
    """The settings of `songgen doctor` with some `key=value` in place.

    Raises:
        ConfigError: as `generate_config`, but a model need not be given.
    """
    return DoctorConfig(**values_of("doctor", overrides))


def evaluate_config(overrides: Sequence[str]) -> EvaluateConfig:
    """The settings of `songgen evaluate` with some `key=value` in place.

    Raises:
        ConfigError: as `generate_config`; or a program without its model, and the reverse.
    """
    values = values_of("evaluate", overrides)
    own: dict[str, Any] = {name: values[name] for name in ("requests", "prompts", "report", "transcripts")}
    own |= {name: _group(values, name) for name in ("asr", "audiobox", "songeval", "bootstrap")}
    asr = own["asr"]
    if asr["program"] and not asr["model"]:
        raise ConfigError("asr.model is not given: asr.model=large-v3, or the folder of a converted model")
    if asr["model"] and not asr["program"]:
        raise ConfigError("asr.model has no effect without asr.program=faster-whisper")
    return EvaluateConfig(
        **own,
        verbose=values["verbose"],
        reference=values["reference"] or config_folder() / "reference" / "published.yaml",
        language=None if values["language"] == "auto" else values["language"],
    )


def ui_config(overrides: Sequence[str]) -> UiConfig:
    """The settings of `songgen ui` with some `key=value` in place.

    Raises:
        ConfigError: as `generate_config`.
    """
    values = values_of("ui", overrides)
    own = {name: values[name] for name in ("stems", "lyrics", "verbose")}
    page = {name: values[f"ui.{name}"] for name in ("host", "port", "share", "max_upload_mb")}
    return UiConfig(loading=_loading(values), output=_output(values), **own, **page)


def sampling_names() -> list[str]:
    """The files in `configs/sampling`, for whoever lets a user choose."""
    return choices_of("sampling")


def named_sampling(name: str) -> dict[str, Any]:
    """The sampling settings of a file in `configs/sampling`: what it changes of a model's own.

    Raises:
        ConfigError: there is no such file.
    """
    tree = tree_of("generate", {"sampling": name})
    return _sampling(
        {key: read_value(key, value) for key, value in tree.items() if key.startswith("sampling.")}
    )


def loading(model: str | Path, **options: object) -> Loading:
    """Checked `Loading` from plain values, for the Python API.

    Raises:
        ConfigError: a value that is not allowed.
    """
    return Loading(
        str(model), **{name: read_value(_loading_key(name), value) for name, value in options.items()}
    )


def _loading(values: Mapping[str, Any]) -> Loading:
    return Loading(**{item.name: values[_loading_key(item.name)] for item in fields(Loading)})


def _loading_key(name: str) -> str:
    """The setting of a field of `Loading`: those of adapters are a group."""
    return name.replace("lora_", "lora.", 1)


def _engine(values: Mapping[str, Any]) -> Engine:
    engine = Engine(**{item.name: values[f"engine.{item.name}"] for item in fields(Engine)})
    device = values["device"]
    if engine.kind == "ray" and ":" in device:
        raise ConfigError(f"device={device} has no effect with engine=ray, which gives each worker its GPU")
    for name in ("address", "workers"):
        if engine.kind == "local" and getattr(engine, name) is not None:
            raise ConfigError(f"engine.{name}={getattr(engine, name)} has no effect without engine=ray")
    return engine


def _output(values: Mapping[str, Any]) -> Output:
    try:
        return Output(**{item.name: values[f"output.{item.name}"] for item in fields(Output)})
    except ValueError as error:
        raise ConfigError(f"output.{error}") from error


def _sampling(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is to change of the model's own sampling."""
    return {name: value for name, value in _group(values, "sampling").items() if value is not None}


def _group(values: Mapping[str, Any], group: str) -> dict[str, Any]:
    """The settings of a group without its name."""
    return {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{group}.")}
