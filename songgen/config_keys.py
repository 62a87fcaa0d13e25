"""Every setting: what values it takes, and what it does, in a line.

A value comes as text (`key=value` on the command line) or as a plain value (from YAML or Python).
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from songgen.audio import FORMATS
from songgen.request_keys import MAX_SAMPLES, MAX_TOP_K

NULL_WORDS = ("null", "none", "")
DEVICE_PATTERN = r"auto|cpu|mps|cuda(:\d+)?"


class ConfigError(ValueError):
    """A setting that a user can mend."""


@dataclass(frozen=True)
class Key:
    """A setting: how its value is read, its line in the help, and what null means where it is allowed."""

    read: Callable[[object], Any]
    doc: str
    null: str = ""


def read_value(key: str, value: object, *, may_be_null: bool = True, command: str = "generate") -> Any:
    """The checked value of a setting; None for null, where the setting has it and the caller too.

    Raises:
        ConfigError: the value is not allowed; the message says what is.
    """
    setting = keys_of(command)[key]
    null = setting.null if may_be_null else ""
    if null and (value is None or (isinstance(value, str) and value.strip().lower() in NULL_WORDS)):
        return None
    try:
        return setting.read(value)
    except ValueError as error:
        or_null = f", or null ({null})" if null else ""
        raise ConfigError(f"{key}={value}: must be {error}{or_null}") from error


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean X?` for the known word nearest to a mistyped one, or nothing."""
    known = list(known)
    by_leaf = [name for name in known if name.rpartition(".")[2] == word]
    near = by_leaf or difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if not near:
        leaves = {name.rpartition(".")[2]: name for name in known}
        near = [leaves[leaf] for leaf in difflib.get_close_matches(word, leaves, n=1, cutoff=0.7)]
    return f"; did you mean {near[0]}?" if near else ""


def text(value: object) -> str:
    """Any text that is not empty."""
    if not isinstance(value, str | Path) or not str(value).strip():
        raise ValueError("text that is not empty")
    return str(value)


def path(value: object) -> Path:
    """A path; `~` is the home folder."""
    try:
        return Path(text(value)).expanduser()
    except (ValueError, RuntimeError):
        raise ValueError("a path") from None


def choice(*allowed: str) -> Callable[[object], str]:
    """One of some words."""

    def read_choice(value: object) -> str:
        if isinstance(value, str) and value in allowed:
            return value
        near = did_you_mean(value, allowed) if isinstance(value, str) else ""
        raise ValueError(f"one of {', '.join(allowed)}{near}")

    return read_choice


def pattern(expression: str, allowed: str) -> Callable[[object], str]:
    """Text of a certain form."""

    def read_pattern(value: object) -> str:
        if isinstance(value, str) and re.fullmatch(expression, value):
            return value
        raise ValueError(allowed)

    return read_pattern


def whole(low: int, high: int | None = None) -> Callable[[object], int]:
    """A whole number within bounds, both included."""
    allowed = f"a whole number, {low} or more" if high is None else f"a whole number from {low} to {high}"

    def read_whole(value: object) -> int:
        if isinstance(value, bool) or not re.fullmatch(r"[+-]?\d+", str(value).strip()):
            raise ValueError(allowed)
        number = int(str(value))
        if number < low or (high is not None and number > high):
            raise ValueError(allowed)
        return number

    return read_whole


def number(allowed: str, is_allowed: Callable[[float], bool]) -> Callable[[object], float]:
    """A finite number of some range."""

    def read_number(value: object) -> float:
        try:
            found = float(value) if isinstance(value, int | float | str) else math.nan
        except ValueError:
            found = math.nan
        if isinstance(value, bool) or not math.isfinite(found) or not is_allowed(found):
            raise ValueError(allowed)
        return found

    return read_number


def wholes(value: object) -> tuple[int, ...]:
    """Whole numbers of 1 or more with commas between, in the order given."""
    words = str(value).replace(" ", "").strip("[]()").split(",")
    try:
        return tuple(dict.fromkeys(whole(1)(word) for word in words))
    except ValueError:
        raise ValueError("whole numbers, 1 or more, with commas between") from None


def flag(value: object) -> bool:
    """True or false."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    found = value if isinstance(value, bool) else words.get(str(value).strip().lower())
    if found is None:
        raise ValueError("true or false")
    return found


def batch(value: object) -> int | None:
    """`auto`, which is None, or a number of songs."""
    if value == "auto":
        return None
    try:
        return whole(1)(value)
    except ValueError:
        raise ValueError("auto or a whole number, 1 or more") from None


def memory_size(value: object) -> int:
    """A size such as 10GB, 9.5 GiB or 10 (GB), in bytes."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(GB|GiB)?", str(value).strip(), re.IGNORECASE)
    size = 0.0 if found is None or isinstance(value, bool) else float(found[1])
    if found is None or size == 0:
        raise ValueError("a size such as 10GB, 10GiB or 10 (GB)")
    return int(size * (2**30 if (found[2] or "").lower() == "gib" else 10**9))


def threads(value: object) -> int | str:
    """`auto` or a number of threads."""
    if value == "auto":
        return "auto"
    try:
        return whole(1)(value)
    except ValueError:
        raise ValueError("auto or a whole number, 1 or more") from None


SEED_MAX = 2**63 - 1
POSITIVE = number("a number above 0", lambda value: value > 0)
NOT_NEGATIVE = number("a number, 0 or more", lambda value: value >= 0)
FRACTION = number("a number from 0 to 1", lambda value: 0 <= value <= 1)
STEMS = choice("mixed", "vocal", "bgm", "separate")
DEVICES = "auto, cpu, mps, cuda or cuda:N"

OWN_SAMPLING = "as published for the model"

KEYS: dict[str, Key] = {
    "model": Key(text, "tiny (built in), a published name, or a checkpoint folder", null="must be given"),
    "input": Key(path, "file of requests, one JSON object a line", null="must be given"),
    "output.dir": Key(path, "folder that gets audio/, jsonl/, tokens/, plots/ and lrc/"),
    "output.format": Key(choice(*FORMATS), f"audio file format: {', '.join(FORMATS)}"),
    "output.bits": Key(
        whole(1), "sample width: 16, 24 or 32 (float) for wav; 16, 24 for flac", null="16, where there is one"
    ),
    "output.tokens": Key(flag, "also keep each song's tokens, for `songgen render`"),
    "output.plot": Key(flag, "also draw each song: waveform, spectrogram, about where its sections lie"),
    "output.lrc": Key(flag, "also write the lyrics with times, approximate, from a LeVo model's attention"),
    "generate_type": Key(
        STEMS, "stems: mixed, vocal, bgm, or separate (all three)", null="as they were made"
    ),
    "stems": Key(
        choice("model", "separator"), "model decodes vocals and bgm, separator takes them from the mix"
    ),
    "lyrics": Key(
        choice("fix", "strict", "asis"), "faulty text: fix mends what is safe, strict refuses, asis leaves it"
    ),
    "keep": Key(
        choice("all", "best"),
        "takes of a request (num_samples): best renders the one to which the request adds most by lm_score",
    ),
    "max_seconds": Key(POSITIVE, "longest song, in seconds", null="the model's own limit"),
    "num_samples": Key(whole(1, MAX_SAMPLES), "songs to make from each line that does not say"),
    "seed": Key(
        whole(0, SEED_MAX),
        "the run's seed, kept in the records",
        null="the folder's, or a random one",
    ),
    "sampling.temperature": Key(NOT_NEGATIVE, "0 = the most likely token", null=OWN_SAMPLING),
    "sampling.top_k": Key(
        whole(0, MAX_TOP_K), "choose among the k most likely tokens; 0 = all", null=OWN_SAMPLING
    ),
    "sampling.top_p": Key(FRACTION, "nucleus sampling; 0 = off, else wins over top_k", null=OWN_SAMPLING),
    "sampling.cfg_coef": Key(number("a number", lambda value: True), "guidance; 1 = none", null=OWN_SAMPLING),
    "sampling.penalty": Key(
        POSITIVE, "divides the logit of tokens seen in the window; 1 = none", null=OWN_SAMPLING
    ),
    "sampling.window": Key(whole(0), "frames that the penalty looks back", null=OWN_SAMPLING),
    "sampling.frequency_penalty": Key(
        NOT_NEGATIVE,
        "taken off a token's logit each time it occurred in the song; 0 = off",
        null=OWN_SAMPLING,
    ),
    "sampling.diffusion_steps": Key(whole(1), "SongBloom: solver steps of a block", null=OWN_SAMPLING),
    "sampling.diffusion_temperature": Key(
        NOT_NEGATIVE, "SongBloom: where noise enters a block, 1 = its start; less is tamer", null=OWN_SAMPLING
    ),
    "sampling.diffusion_cfg_coef": Key(
        number("a number", lambda value: True), "SongBloom: guidance of its diffusion", null="cfg_coef"
    ),
    "engine.kind": Key(
        choice("local", "ray"), "this process, or workers on all GPUs; engine=local|ray sets it"
    ),
    "engine.address": Key(
        pattern(r"auto|[^\s/:]+:\d+", "auto or host:port"),
        "a running Ray cluster: auto, or its host:port",
        null="one is started on this machine",
    ),
    "engine.workers": Key(
        whole(1), "workers that each hold the model", null="one on each GPU, else on each machine"
    ),
    "on_error": Key(choice("continue", "stop"), "bad lines: continue with the others, or stop at once"),
    "resume": Key(flag, "skip songs that are there already, made from the same request"),
    "batch": Key(
        batch, "songs at once; auto: 1 on the CPU, else as many of the run's as fit in memory", null="auto"
    ),
    "device": Key(pattern(DEVICE_PATTERN, DEVICES), f"where to run: {DEVICES}"),
    "dtype": Key(choice("auto", "fp16", "bf16", "fp32"), "precision of the language model"),
    "codec_dtype": Key(
        choice("auto", "fp16", "bf16", "fp32"), "precision of the codec's flow network (its VAE is fp32)"
    ),
    "memory": Key(
        choice("auto", "full", "low"),
        "low loads one stage at a time, and streams layers that do not fit; same songs",
    ),
    "gpu_memory": Key(
        memory_size, "GPU memory to use, as if there were no more: 10GB", null="all that is free"
    ),
    "attention": Key(
        choice("auto", "flash", "triton", "sdpa"), "attention of decoding steps; sdpa runs everywhere"
    ),
    "kv_cache": Key(choice("auto", "int8"), "int8 halves the memory of songs under way; other songs"),
    "threads": Key(threads, "CPU threads: auto or a number"),
    "checkpoint": Key(
        path,
        "fine-tuned SongBloom weights (a Lightning checkpoint) instead of the published",
        null="published",
    ),
    "lora.alpha": Key(POSITIVE, "strength of its low-rank adapters times their rank", null="32"),
    "lora.rank": Key(whole(1), "rank that its adapters must have", null="any"),
    "lora.targets": Key(
        text, "parts of the names of the layers that have adapters, between commas: q_proj,v_proj", null="any"
    ),
    "runtime_dir": Key(path, "folder with the runtime files: ckpt/, third_party/", null="the usual places"),
    "requests": Key(path, "file of requests, for songs without records", null="the records say"),
    "prompts": Key(path, "folder in which style prompts are looked for", null="where the requests say"),
    "reference": Key(path, "YAML file of published figures to show beside", null="configs/reference"),
    "report": Key(path, "file that gets the table, as Markdown", null="it is only printed"),
    "transcripts": Key(
        path, "what was heard, also within each OUT: JSON Lines of name and text, or .txt files", null="none"
    ),
    "language": Key(choice("auto", "zh", "en"), "of the lyrics; auto reads it off each song"),
    "asr.program": Key(choice("faster-whisper"), "ASR that writes transcripts: faster-whisper", null="none"),
    "asr.model": Key(
        text, "its model: a folder, or a size such as large-v3", null="must be given with a program"
    ),
    "asr.device": Key(pattern(r"auto|cpu|cuda(:\d+)?", "auto, cpu, cuda or cuda:N"), "where the ASR runs"),
    "audiobox.python": Key(path, "Python that has audiobox_aesthetics", null="songgen's own"),
    "audiobox.checkpoint": Key(path, "its weights", null="the package finds or downloads them"),
    "songeval.dir": Key(path, "checkout of SongEval, with eval.py and its weights", null="it does not run"),
    "songeval.python": Key(path, "Python that has what SongEval needs", null="songgen's own"),
    "bootstrap.samples": Key(whole(100, 100_000), "resamples behind a confidence interval"),
    "bootstrap.confidence": Key(
        number("a number between 0 and 1", lambda value: 0 < value < 1), "of the intervals"
    ),
    "bootstrap.seed": Key(whole(0, SEED_MAX), "of the resamples"),
    "ui.host": Key(text, "address to listen on: 127.0.0.1 for this machine alone, 0.0.0.0 for all"),
    "ui.port": Key(whole(1, 65535), "port to listen on"),
    "ui.share": Key(flag, "also open a public address through gradio.live, for anybody who knows it"),
    "ui.max_upload_mb": Key(whole(1), "largest clip that can be uploaded, in megabytes"),
    "verbose": Key(flag, "log more, with the traceback of each error"),
}

BENCH_KEYS: dict[str, Key] = {
    "weights": Key(
        choice("checkpoint", "random"), "random: of the published sizes, made in memory, no files needed"
    ),
    "layers": Key(
        whole(1), "layers of each transformer, for machines that cannot hold all", null="the published"
    ),
    "seconds": Key(POSITIVE, "length of the songs that are measured"),
    "batch": Key(wholes, "songs at once: one number, or several with commas to measure each"),
    "render": Key(flag, "also measure codec and VAE, which take minutes a song on a CPU"),
    "baseline": Key(flag, "also time a plain eager loop of the same model, one song"),
    "profile": Key(flag, "also write a Chrome trace of one step of the first batch to output.dir"),
    "output.dir": Key(path, "folder that gets the trace"),
}
"""What `songgen bench` has besides, or means otherwise."""


def keys_of(command: str) -> dict[str, Key]:
    """The settings that a command may have."""
    return {**KEYS, **BENCH_KEYS} if command == "bench" else KEYS
