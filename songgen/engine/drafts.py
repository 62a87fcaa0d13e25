"""Drafts on disk: the tokens of a song with what is needed to render them again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, astuple, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from songgen.engine.plan import Plan
from songgen.lrc import TimedLine
from songgen.models.base import Draft, Job, LmScore, ModelFacts, StopReason
from songgen.request_keys import STEMS
from songgen.request_names import check_idx
from songgen.requests import GenerateType, SongRequest
from songgen.runtime.sampling import read_sampling

TOKENS_KEY, LATENTS_KEY, FACTS_KEY, TIMING_KEY = "tokens", "latents", "songgen", "timing"


def encode_draft(draft: Draft, model: ModelFacts) -> bytes:
    """A safetensors file: `tokens` `[K, T]` int32, and one JSON object as metadata, under `songgen`.

    A family that renders from latents has them too: `latents` `[Z, T]` float32.

    Equal drafts give equal bytes: no times, and one key of metadata, as the format does not order several.
    """
    job = draft.job
    request = {
        item.name: getattr(job.request, item.name) for item in fields(SongRequest) if item.name != "line"
    }
    facts = {
        "name": job.name,
        "seed": job.seed,
        "generate_type": job.request.generate_type,
        "stopped": draft.stopped,
        "max_seconds": job.max_seconds,
        "sampling": asdict(job.sampling),
        "request": {**request, "source": dict(job.request.source)},
        "model": model.name,
        "identity": model.identity,
    }
    if draft.timing is not None:
        facts[TIMING_KEY] = [astuple(line) for line in draft.timing]
    if draft.lm_score is not None:
        facts["lm_score"] = draft.lm_score.as_dict()
    tensors = {TOKENS_KEY: draft.tokens.to(torch.int32).contiguous()}
    if draft.latents is not None:
        tensors[LATENTS_KEY] = draft.latents.float().contiguous()
    return save(tensors, {FACTS_KEY: json.dumps(facts)})


def read_draft(path: Path, generate_type: GenerateType | None = None) -> tuple[Plan, Draft, str | None]:
    """A saved draft with its plan and the identity of the model that composed it, if the file says so.

    A file without metadata (only the key `tokens`) is taken as one of its file name, seed 0.

    Args:
        generate_type: the stems to render, None for those that the song was made with.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a safetensors file, or its tokens or metadata are not of the right form.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            if TOKENS_KEY not in file.keys():  # noqa: SIM118 (not a mapping)
                raise ValueError(f"{path}: has no key `{TOKENS_KEY}`, only {', '.join(sorted(file.keys()))}")
            tokens = file.get_tensor(TOKENS_KEY)
            latents = file.get_tensor(LATENTS_KEY) if LATENTS_KEY in file.keys() else None  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: cannot be read as safetensors: {error}") from error
    _check_tokens(path, tokens)
    tokens = tokens.to(torch.int64)
    if latents is not None:
        _check_latents(path, latents, tokens.shape[1])
        latents = latents.float()
    try:
        facts = json.loads(metadata.get(FACTS_KEY, "{}"))
        job, timing, lm_score = _job(path, facts, generate_type), _timing(facts), _lm_score(facts)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its metadata is not that of a song's tokens: {error}") from error
    stopped: StopReason = "eos" if facts.get("stopped") == "eos" else "length"
    recipe = {
        "tokens": hashlib.sha256(tokens.numpy().tobytes()).hexdigest(),
        **({} if latents is None else {"latents": hashlib.sha256(latents.numpy().tobytes()).hexdigest()}),
        "generate_type": job.request.generate_type,
        "seed": job.seed,
        "prompt_audio": job.request.prompt_audio_path,
        "auto_prompt_audio_type": job.request.auto_prompt_audio_type,
    }
    if timing is not None:
        recipe[TIMING_KEY] = facts[TIMING_KEY]
    draft = Draft(job, tokens, stopped, latents=latents, timing=timing, lm_score=lm_score)
    return Plan(job.request, job, (), recipe), draft, facts.get("identity")


def _check_tokens(path: Path, tokens: torch.Tensor) -> None:
    whole = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    if tokens.ndim != 2 or not whole or not tokens.numel():
        raise ValueError(
            f"{path}: `{TOKENS_KEY}` must be whole numbers [codebooks, frames], "
            f"not {tokens.dtype} {list(tokens.shape)}"
        )
    if int(tokens.min()) < 0:
        raise ValueError(f"{path}: `{TOKENS_KEY}` holds a negative id, {int(tokens.min())}")


def _check_latents(path: Path, latents: torch.Tensor, num_frames: int) -> None:
    if latents.ndim != 2 or not latents.is_floating_point() or latents.shape[1] != num_frames:
        raise ValueError(
            f"{path}: `{LATENTS_KEY}` is {latents.dtype} {list(latents.shape)}, "
            f"must be floats [Z, {num_frames}], a column a frame"
        )
    if not bool(latents.isfinite().all()):
        raise ValueError(f"{path}: `{LATENTS_KEY}` holds numbers that are not finite")


def _timing(facts: dict[str, Any]) -> tuple[TimedLine, ...] | None:
    if facts.get(TIMING_KEY) is None:
        return None
    lines = (TimedLine(float(start), str(text), bool(tag)) for start, text, tag in facts[TIMING_KEY])
    return tuple(lines)


def _lm_score(facts: dict[str, Any]) -> LmScore | None:
    found = facts.get("lm_score")
    return None if found is None else LmScore(float(found["conditional"]), float(found["null"]))


def _job(path: Path, facts: dict[str, Any], generate_type: GenerateType | None) -> Job:
    known = {item.name for item in fields(SongRequest)}
    given = {name: value for name, value in facts.get("request", {}).items() if name in known}
    request = SongRequest(**{"idx": path.stem, "lyrics": "", **given})
    kept = facts.get("generate_type", "mixed")
    wanted = generate_type or next((kind for kind in STEMS if kind == kept), None)
    if wanted is None:
        raise ValueError(f"generate_type is {kept!r}")
    name = str(facts.get("name", path.stem))
    if check_idx(name):
        raise ValueError(f"name is {name!r}, which cannot name a song's files")
    sampling = read_sampling(facts.get("sampling", {}))
    return Job(
        name,
        replace(request, generate_type=wanted),
        int(facts.get("seed", 0)),
        sampling,
        facts.get("max_seconds"),
    )
