"""The Python interface: load a model, make songs, keep them or not.

It runs the same engine as the command line, without the folder: nothing is written unless `save` is called.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from songgen.audio import Audio, AudioFormat
from songgen.config import loading, named_sampling
from songgen.config_keys import read_value
from songgen.engine.settings import Keep, LyricsPolicy, Output, Settings
from songgen.request_keys import StemSource
from songgen.requests import GenerateType, SongRequest, parse_request, read_requests

if TYPE_CHECKING:
    import torch

    from songgen.engine.outcome import Outcome
    from songgen.models.base import LmScore, Report, Song, SongModel
    from songgen.runtime.sampling import Sampling

Request: TypeAlias = "SongRequest | Mapping[str, Any]"
OnError = Literal["raise", "yield"]


class SongError(RuntimeError):
    """A song could not be made; `failed` says which and why."""

    def __init__(self, failed: FailedSong) -> None:
        super().__init__(f"{failed.name}: {failed.error}")
        self.failed = failed


@dataclass(frozen=True)
class FailedSong:
    """A song that could not be made.

    Args:
        name: the song's name; of an unreadable line, its place in the file.
        request: what was asked for, None if that could not be read.
        stage: where it failed: `read`, `plan`, `condition`, `compose` or `render`.
        error: `<exception type>: <message>`.
    """

    name: str
    request: SongRequest | None
    stage: str
    error: str


@dataclass(frozen=True)
class GeneratedSong:
    """A finished song.

    Args:
        song: as the engine made it.
        request: what was asked for.
        findings: what the linter said of its text.
        mended: whether the model was given another text than the request's.
        model: the model that made it.
    """

    song: Song
    request: SongRequest
    findings: tuple[Any, ...]
    mended: bool
    model: SongModel

    @property
    def name(self) -> str:
        """`<idx>`, or `<idx>_s<i>` when the request asks for several samples."""
        return self.song.draft.job.name

    @property
    def stems(self) -> dict[str, Audio]:
        """Stem (`mixed`, `vocal`, `bgm`) to audio, float32 `[C, N]`."""
        return self.song.stems

    @property
    def tokens(self) -> torch.Tensor:
        """What the language model wrote, `[K, T]` int64."""
        return self.song.draft.tokens

    @property
    def seed(self) -> int:
        """The song's seed; the same request with it gives the same song."""
        return self.song.draft.job.seed

    @property
    def stopped(self) -> str:
        """`eos` if the model ended the song, `length` if it ran into the limit."""
        return self.song.draft.stopped

    @property
    def lm_score(self) -> LmScore | None:
        """How likely the language model finds the song, with the request and without; None of some models."""
        return self.song.draft.lm_score

    def save(
        self,
        folder: str | Path,
        *,
        format: AudioFormat = "wav",
        bits: int | None = None,
        tokens: bool = False,
        plot: bool = False,
        lrc: bool = False,
    ) -> dict[str, Path]:
        """Write the song as `songgen generate` does: `folder/audio/<name>.wav`, tokens and picture if wanted.

        Args:
            lrc: also write the lyrics with times; the song must be made with `timing=True`.

        Returns:
            Stem, or `tokens`, `plot` or `lrc`, to the file written.

        Raises:
            ValueError: the format cannot hold the audio, or a picture is wanted without matplotlib.
            OSError: a file cannot be written.
        """
        from songgen.engine.output import save_song

        folder = Path(folder)
        saved = save_song(self.song, Output(folder, format, bits, tokens, plot, lrc), self.model)
        return {stem: folder / path for stem, path in saved.paths.items()}


class Model:
    """A loaded model.

    Args:
        model: the checkpoint, as the engine knows it.
    """

    def __init__(self, model: SongModel) -> None:
        self.model = model

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self.model.name

    @property
    def sample_rate(self) -> int:
        """Of the songs, in Hz."""
        return self.model.sample_rate

    @property
    def max_seconds(self) -> float:
        """The longest song."""
        return self.model.max_seconds

    def generate(
        self,
        requests: str | Path | Request | Iterable[Request],
        *,
        sampling: str | Mapping[str, Any] | Sampling = "upstream",
        seed: int | None = None,
        generate_type: GenerateType = "mixed",
        stems: StemSource = "model",
        lyrics: LyricsPolicy = "fix",
        keep: Keep = "all",
        max_seconds: float | None = None,
        num_samples: int = 1,
        timing: bool = False,
        on_error: OnError = "raise",
        report: Report | None = None,
    ) -> Iterator[GeneratedSong | FailedSong]:
        """Make songs; each is yielded as it ends, which need not be in the order of the requests.

        Args:
            requests: a JSONL file, one request, or several; mappings with the keys of the JSONL, or
                SongRequests.
            sampling: `upstream` (as published for the model), `lowmem`, `greedy`, `fast`, or what to change
                of the model's own, such as `{"temperature": 0.7}`, or all settings as a `Sampling`.
            seed: the run's seed; None draws one. Each song's own is in `song.seed`.
            generate_type, stems, lyrics, max_seconds, num_samples: for requests that do not say; as in
                `songgen generate`.
            timing: find out when the lines of the lyrics begin, about: `song.draft.timing`, `save(lrc=True)`.
            keep: `best` renders and yields, of the takes of each request (`num_samples`), only the one to
                which the request adds most by the language model's own score.
            on_error: `raise` raises SongError at the first song that fails, `yield` yields a FailedSong.
            report: called as `report(stage, name, fraction)` while songs advance.

        Raises:
            ValueError: a setting is not allowed, or (with `raise`) a request cannot be read.
            FileNotFoundError: the file of requests is missing.
            SongError: a song failed, with `raise`.
        """
        from songgen.engine.journal import draw_seed
        from songgen.engine.plan import seconds_limit
        from songgen.engine.run import Run
        from songgen.models.base import ignore_progress

        settings = Settings(
            sampling=self._sampling(sampling),
            seed=read_value("seed", draw_seed() if seed is None else seed),
            generate_type=read_value("generate_type", generate_type, may_be_null=False),
            stems=read_value("stems", stems),
            lyrics=read_value("lyrics", lyrics),
            max_seconds=seconds_limit(read_value("max_seconds", max_seconds), self.model),
            memory=self.model.memory,
            timing=timing,
            keep=read_value("keep", keep),
        )
        if on_error not in ("raise", "yield"):
            raise ValueError(f"on_error={on_error}: must be one of raise, yield")
        samples = read_value("num_samples", num_samples)
        defaults = {"default_generate_type": generate_type, "default_num_samples": samples}
        good, bad = _read(requests, defaults, on_error)
        run = Run(self.model, settings, report=report or ignore_progress)
        return self._songs(run.songs(good), bad, on_error)

    def _sampling(self, wanted: str | Mapping[str, Any] | Sampling) -> Sampling:
        """The model's own sampling with the wanted changes."""
        from songgen.runtime.sampling import changed_sampling

        changes = named_sampling(wanted) if isinstance(wanted, str) else wanted
        return changed_sampling(self.model.sampling, changes)

    def _songs(
        self, outcomes: Iterator[Outcome], bad: list[FailedSong], on_error: OnError
    ) -> Iterator[GeneratedSong | FailedSong]:
        yield from bad
        for outcome in outcomes:
            if outcome.failure is not None:
                failed = FailedSong(outcome.name, outcome.given, outcome.failure.stage, outcome.failure.error)
                if on_error == "raise":
                    raise SongError(failed)
                yield failed
            elif outcome.song is not None and outcome.plan is not None:
                plan = outcome.plan
                yield GeneratedSong(outcome.song, outcome.given, plan.findings, plan.mended, self.model)


def _read(
    requests: str | Path | Request | Iterable[Request], defaults: Mapping[str, Any], on_error: OnError
) -> tuple[list[SongRequest], list[FailedSong]]:
    """The checked requests, and those that cannot be read.

    Raises:
        ValueError: some cannot be read, with `raise`.
    """
    good: list[SongRequest] = []
    bad: list[FailedSong] = []
    if isinstance(requests, str | Path):
        file = read_requests(Path(requests), **defaults)
        good = file.requests
        bad = [
            FailedSong(line.idx or f"line {line.line}", None, "read", str(line)) for line in file.bad_lines
        ]
    else:
        several = [requests] if isinstance(requests, SongRequest | Mapping) else list(requests)
        for number, request in enumerate(several, start=1):
            try:
                good.append(_checked(request, defaults))
            except ValueError as error:
                bad.append(FailedSong(f"request {number}", None, "read", f"request {number}: {error}"))
    if bad and on_error == "raise":
        raise ValueError("\n".join(failed.error for failed in bad))
    return good, bad


def _checked(request: Request, defaults: Mapping[str, Any]) -> SongRequest:
    """A request checked like a line of a file; one made by hand keeps its own source."""
    if not isinstance(request, SongRequest):
        return parse_request(request, **defaults)
    values = {item.name: getattr(request, item.name) for item in fields(SongRequest)}
    source, line = values.pop("source"), values.pop("line")
    values["gt_lyric"] = values.pop("lyrics")
    given = {name: value for name, value in values.items() if value is not None}
    checked = parse_request(given, **defaults)
    return replace(checked, source=source or checked.source, line=line)


def load(
    model: str | Path = "tiny",
    *,
    runtime_dir: str | Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    codec_dtype: str = "auto",
    memory: str = "auto",
    batch: int | Literal["auto"] | None = "auto",
    attention: str = "auto",
    kv_cache: str = "auto",
    threads: int | str = "auto",
    checkpoint: str | Path | None = None,
    lora_alpha: float | None = None,
    lora_rank: int | None = None,
    lora_targets: str | None = None,
    gpu_memory: str | float | None = None,
    max_seconds: float | None = None,
) -> Model:
    """Load a model: `tiny`, a published name, or a checkpoint folder; options as of `songgen generate`.

    Args:
        max_seconds: the longest song that memory is set aside for; None for the model's limit.

    Raises:
        ValueError: an option or the name is not allowed, or a file is not what it should be.
        FileNotFoundError: the checkpoint or a runtime file is missing; the message says how to get it.
    """
    checked = loading(
        model,
        runtime_dir=runtime_dir,
        device=device,
        dtype=dtype,
        codec_dtype=codec_dtype,
        memory=memory,
        batch=batch,
        attention=attention,
        kv_cache=kv_cache,
        threads=threads,
        checkpoint=checkpoint,
        lora_alpha=lora_alpha,
        lora_rank=lora_rank,
        lora_targets=lora_targets,
        gpu_memory=gpu_memory,
    )
    longest = read_value("max_seconds", max_seconds)
    from songgen.models.catalog import load_model

    options = {name: value for name, value in vars(checked).items() if name != "model"}
    return Model(load_model(checked.model, **options, max_seconds=longest))
