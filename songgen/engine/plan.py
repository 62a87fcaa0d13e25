"""From a request to the songs it asks for: names, seeds, settings, and the recipe that resuming compares.

Names: a request makes `<idx>`, or `<idx>_s0`, `<idx>_s1`, ... when it asks for several samples.
Seeds: a request without a seed gets the first 32 bits of SHA-256 of `<run seed>:<idx>`; sample i adds i. So a
song's seed depends on nothing else: not on batch, order or neighbours.
Files: the stem decides the name, whatever else is made: `<name>` is the mix, `<name>_vocal` the voice,
`<name>_bgm` the accompaniment. (The published scripts call a lone voice `<idx>` too.)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from songgen.engine.settings import Settings
from songgen.files import content_digest
from songgen.linter import Finding, apply_policy
from songgen.models.base import Job, ModelFacts
from songgen.request_keys import STEMS
from songgen.request_names import song_names
from songgen.requests import SongRequest
from songgen.runtime.sampling import Sampling

SEED_LIMIT = 2**63


@dataclass(frozen=True)
class Plan:
    """A song about to be made.

    Args:
        given: the request as the user wrote it; `job.request` is what the model gets.
        findings: what the linter said.
        recipe: JSON-ready facts that decide the song's samples, the model apart.
    """

    given: SongRequest
    job: Job
    findings: tuple[Finding, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def mended(self) -> bool:
        """Whether the model gets another text than the user wrote."""
        job, given = self.job.request, self.given
        return (job.lyrics, job.descriptions) != (given.lyrics, given.descriptions)


Piece: TypeAlias = tuple[Plan, ...]
"""What is made as a whole: one song, or the takes of a request of which one is kept."""


class FileNames:
    """The files of the songs of a run, of which no two may have the same."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def claim(self, plan: Plan) -> None:
        """Enter a song's files.

        Raises:
            ValueError: one of them is another song's already.
        """
        name, stems = plan.job.name, STEMS[plan.job.request.generate_type or "mixed"]
        files = [f"tokens/{name}", *(f"audio/{stem_name(name, stem)}" for stem in stems)]
        for file in files:
            if file in self._owners:
                raise ValueError(
                    f"its file {file} is that of {self._owners[file]} already: choose another idx"
                )
        self._owners.update(dict.fromkeys(files, name))


def song_seed(request: SongRequest, sample: int, run_seed: int) -> int:
    """The seed of one sample of a request, 0 ... 2**63 - 1."""
    if request.seed is not None:
        return (request.seed + sample) % SEED_LIMIT
    digest = hashlib.sha256(f"{run_seed}:{request.idx}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "big") + sample


def stem_name(name: str, stem: str) -> str:
    """The file name, without suffix, of one stem of a song."""
    return name if stem == "mixed" else f"{name}_{stem}"


def plan_request(request: SongRequest, model: ModelFacts, settings: Settings) -> list[Plan]:
    """The songs of one request.

    Raises:
        ValueError: the text is refused, or a setting is out of the model's range.
        FileNotFoundError: the prompt audio is missing.
    """
    wanted = replace(
        request,
        generate_type=request.generate_type or settings.generate_type,
        stems=request.stems or settings.stems,
    )
    fixed, findings = apply_policy(wanted, model.text_rules, settings.lyrics)
    sampling = sampling_of(request, settings.sampling)
    max_seconds = seconds_limit(request.max_seconds or settings.max_seconds, model)
    plans = []
    for sample, name in enumerate(song_names(request.idx, request.num_samples)):
        seed = song_seed(request, sample, settings.seed)
        job = Job(name, replace(fixed, seed=seed), seed, sampling, max_seconds, wants_timing=settings.timing)
        recipe = recipe_of(job, model)
        if settings.keep == "best" and request.num_samples > 1:
            recipe["keep"] = f"best of {request.num_samples}"  # the song then stands for all takes
        plans.append(Plan(request, job, tuple(findings), recipe))
    return plans


def sampling_of(request: SongRequest, sampling: Sampling) -> Sampling:
    """The run's sampling with the request's own values in place."""
    names = ("temperature", "top_k", "top_p", "cfg_coef")
    own = {name: getattr(request, name) for name in names if getattr(request, name) is not None}
    return replace(sampling, **own)


def seconds_limit(max_seconds: float | None, model: ModelFacts) -> float:
    """The longest song allowed, seconds.

    Raises:
        ValueError: it is longer than the model can make.
    """
    if max_seconds is None:
        return model.max_seconds
    if max_seconds > model.max_seconds:
        raise ValueError(
            f"max_seconds={max_seconds:g} is more than {model.name} can make as it was loaded: "
            f"at most {model.max_seconds:g}"
        )
    return max_seconds


def recipe_of(job: Job, model: ModelFacts) -> dict[str, Any]:
    """What decides the samples of a song, the model's own files apart.

    Device, batch, dtype, memory and attention are left out on purpose: they say where a song is computed, and
    going on with a run elsewhere must not make all its songs again.
    """
    request = job.request
    prompt = request.prompt_audio_path
    return {
        "lyrics": request.lyrics,
        "descriptions": request.descriptions,
        "seed": job.seed,
        "sampling": asdict(job.sampling),
        "max_seconds": job.max_seconds,
        "generate_type": request.generate_type,
        "stems": request.stems,
        "prompt_audio": None if prompt is None else content_digest(Path(prompt)),
        "auto_prompt_audio_type": request.auto_prompt_audio_type,
        "prompt_files": model.prompt_identity(request),
    }
