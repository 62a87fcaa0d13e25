"""The settings: Hydra composes `configs/`, and this file turns the tree at once into frozen dataclasses.

Hydra's part is the files and the groups (`sampling=greedy` chooses `configs/sampling/greedy.yaml`). A
`key=value` is then set here and not by Hydra's override grammar, so that a file name may hold any character.
Nothing outside this file sees a Hydra or OmegaConf object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from songgen.config_keys import ConfigError, did_you_mean, keys_of, read_value
from songgen.engine.settings import LyricsPolicy, Output
from songgen.request_keys import StemSource
from songgen.requests import GenerateType

Command = Literal["generate", "render", "bench", "doctor", "evaluate"]
GROUPS = ("sampling",)
REQUIRED = {
    "model": "model=tiny, a published name (see `songgen models`) or a checkpoint folder",
    "input": "input=FILE.jsonl",
}
OPTIONAL = {("doctor", "model"): "all that are found"}
"""Commands that can do without what others require, and what they do then."""


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
    sampling: Mapping[str, Any]
    generate_type: GenerateType
    stems: StemSource
    lyrics: LyricsPolicy
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
    seconds: float
    batch: tuple[int, ...]
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


def generate_config(overrides: Sequence[str]) -> GenerateConfig:
    """The settings of `songgen generate` with some `key=value` in place.

    Raises:
        ConfigError: an unknown key, a value that is not allowed, or a missing setting.
    """
    values = _values("generate", overrides)
    names = (
        "input",
        "generate_type",
        "stems",
        "lyrics",
        "max_seconds",
        "num_samples",
        "seed",
        "on_error",
        "resume",
        "verbose",
    )
    own = {name: values[name] for name in names}
    return GenerateConfig(loading=_loading(values), output=_output(values), sampling=_sampling(values), **own)


def render_config(overrides: Sequence[str]) -> RenderConfig:
    """The settings of `songgen render` with some `key=value` in place.

    Raises:
        ConfigError: as `generate_config`.
    """
    values = _values("render", overrides)
    own = {name: values[name] for name in ("generate_type", "resume", "verbose")}
    return RenderConfig(loading=_loading(values), output=_output(values), **own)


def bench_config(overrides: Sequence[str]) -> BenchConfig:
    """The settings of `songgen bench` with some `key=value` in place.

    Raises:
        ConfigError: as `generate_config`.
    """
    values = _values("bench", overrides)
    return BenchConfig(folder=values.pop("output.dir"), **values)


def doctor_config(overrides: Sequence[str]) -> DoctorConfig:
    """The settings of `songgen doctor` with some `key=value` in place.

    Raises:
        ConfigError: as `generate_config`, but a model need not be given.
    """
    return DoctorConfig(**_values("doctor", overrides))


def evaluate_config(overrides: Sequence[str]) -> EvaluateConfig:
    """The settings of `songgen evaluate` with some `key=value` in place.

    Raises:
        ConfigError: as `generate_config`; or a program without its model, and the reverse.
    """
    values = _values("evaluate", overrides)
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


def named_sampling(name: str) -> dict[str, Any]:
    """The sampling settings of a file in `configs/sampling`: what it changes of a model's own.

    Raises:
        ConfigError: there is no such file.
    """
    tree = _tree("generate", {"sampling": name})
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


def describe(command: Command) -> list[tuple[str, str, str]]:
    """Each setting of a command: key, default as text, and one line of explanation."""
    tree = _tree(command, {})
    rows: list[tuple[str, str, str]] = []
    for key, setting in keys_of(command).items():
        if key not in tree:
            continue
        group, value = key.partition(".")[0], tree[key]
        if group in GROUPS and all(row[0] != group for row in rows):
            rows.append((group, _default_choice(group), f"named settings: {', '.join(_choices(group))}"))
        shown = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        null = OPTIONAL.get((command, key), setting.null)
        rows.append((key, shown, setting.doc + (f"; null: {null}" if value is None else "")))
    return rows


def config_folder() -> Path:
    """The folder of the configuration files, of an installed songgen or of a checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "configs", package.parent / "configs"):
        if (folder / "generate.yaml").is_file():
            return folder
    raise FileNotFoundError(f"configs/generate.yaml is neither in {package} nor in {package.parent}")


def _values(command: Command, overrides: Sequence[str]) -> dict[str, Any]:
    """All settings of a command by key, checked and complete."""
    given = dict(_split(override) for override in overrides)
    choices = {group: given.pop(group) for group in GROUPS if group in given}
    tree = _tree(command, choices)
    for key in given:
        if key not in tree:
            raise ConfigError(_unknown(key, command, tree))
    values = {
        key: read_value(
            key,
            given.get(key, default),
            may_be_null=(command, key) != ("generate", "generate_type"),
            command=command,
        )
        for key, default in tree.items()
    }
    for key, example in REQUIRED.items():
        if key in values and values[key] is None and (command, key) not in OPTIONAL:
            raise ConfigError(f"{key} is not given: {example}")
    return values


def _split(override: str) -> tuple[str, str]:
    key, separator, value = override.partition("=")
    if key.startswith("-"):
        raise ConfigError(f"{override}: settings are written key=value, without dashes")
    if not separator:
        raise ConfigError(f"{override}: settings are written key=value")
    return key.strip(), value


def _unknown(key: str, command: Command, tree: Mapping[str, object]) -> str:
    inner = [name for name in tree if name.startswith(f"{key}.")]
    if inner:
        return f"{key} is a group of settings: {', '.join(inner)}"
    if key in keys_of(command):
        return f"{key} has no effect on `songgen {command}`, which knows: {', '.join(tree)}"
    near = did_you_mean(key, [*tree, *GROUPS])
    return f"{key} is not a setting of `songgen {command}`{near or ', which knows: ' + ', '.join(tree)}"


def _tree(command: Command, choices: Mapping[str, str]) -> dict[str, object]:
    """The composed configuration as plain values by dotted key."""
    for group, choice in choices.items():
        allowed = _choices(group)
        if command != "generate":
            raise ConfigError(f"{group} has no effect on `songgen {command}`")
        if choice not in allowed:
            raise ConfigError(
                f"{group}={choice}: must be one of {', '.join(allowed)}{did_you_mean(choice, allowed)}"
            )
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    with initialize_config_dir(config_dir=str(config_folder()), version_base=None):
        composed = compose(command, overrides=[f"{group}={choice}" for group, choice in choices.items()])
        plain = OmegaConf.to_container(composed, resolve=True)
    flat: dict[str, object] = {}
    assert isinstance(plain, dict)
    for key, value in plain.items():
        if isinstance(value, dict):
            flat.update({f"{key!s}.{name!s}": item for name, item in value.items()})
        else:
            flat[str(key)] = value
    unknown = sorted(flat.keys() - keys_of(command).keys())
    assert not unknown, f"configs/{command}.yaml has unknown keys: {unknown}"
    return flat


def _choices(group: str) -> list[str]:
    return sorted(file.stem for file in (config_folder() / group).glob("*.yaml"))


def _default_choice(group: str) -> str:
    import yaml

    tree = yaml.safe_load((config_folder() / "generate.yaml").read_text(encoding="utf-8"))
    return next(str(entry[group]) for entry in tree["defaults"] if isinstance(entry, dict) and group in entry)


def _loading(values: Mapping[str, Any]) -> Loading:
    return Loading(**{item.name: values[_loading_key(item.name)] for item in fields(Loading)})


def _loading_key(name: str) -> str:
    """The setting of a field of `Loading`: those of adapters are a group."""
    return name.replace("lora_", "lora.", 1)


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
