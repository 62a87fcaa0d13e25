"""Drafts on disk: the tokens of a song with what is needed to render them again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from songgen.engine.plan import Plan
from songgen.models.base import Draft, Job, LmScore, ModelFacts, StopReason
from songgen.request_keys import STEMS
from songgen.request_names import check_idx
from songgen.requests import GenerateType, SongRequest
from songgen.runtime.sampling import Sampling

TOKENS_KEY, FACTS_KEY = "tokens", "songgen"


def encode_draft(draft: Draft, model: ModelFacts) -> bytes:
    """A safetensors file: `tokens` `[K, T]` int32, and one JSON object as metadata, under `songgen`.

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
    if draft.lm_score is not None:
        facts["lm_score"] = draft.lm_score.as_dict()
    return save({TOKENS_KEY: draft.tokens.to(torch.int32).contiguous()}, {FACTS_KEY: json.dumps(facts)})


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
    except SafetensorError as error:
        raise ValueError(f"{path}: cannot be read as safetensors: {error}") from error
    _check_tokens(path, tokens)
    tokens = tokens.to(torch.int64)
    try:
        facts = json.loads(metadata.get(FACTS_KEY, "{}"))
        job, lm_score = _job(path, facts, generate_type), _lm_score(facts)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: its metadata is not that of a song's tokens: {error}") from error
    stopped: StopReason = "eos" if facts.get("stopped") == "eos" else "length"
    recipe = {
        "tokens": hashlib.sha256(tokens.numpy().tobytes()).hexdigest(),
        "generate_type": job.request.generate_type,
        "seed": job.seed,
        "prompt_audio": job.request.prompt_audio_path,
        "auto_prompt_audio_type": job.request.auto_prompt_audio_type,
    }
    return (
        Plan(job.request, job, (), recipe),
        Draft(job, tokens, stopped, lm_score=lm_score),
        facts.get("identity"),
    )


def _check_tokens(path: Path, tokens: torch.Tensor) -> None:
    whole = not (tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool)
    if tokens.ndim != 2 or not whole or not tokens.numel():
        raise ValueError(
            f"{path}: `{TOKENS_KEY}` must be whole numbers [codebooks, frames], "
            f"not {tokens.dtype} {list(tokens.shape)}"
        )
    if int(tokens.min()) < 0:
        raise ValueError(f"{path}: `{TOKENS_KEY}` holds a negative id, {int(tokens.min())}")


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
    sampling = Sampling(**facts.get("sampling", {}))
    return Job(
        name,
        replace(request, generate_type=wanted),
        int(facts.get("seed", 0)),
        sampling,
        facts.get("max_seconds"),
    )
