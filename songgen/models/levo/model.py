"""A LeVo checkpoint ready to run: the three verbs of the seam over its parts, loaded as memory allows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, Literal, TypeVar

import torch

from songgen.models.base import Draft, Job, Report, Song, ignore_progress
from songgen.models.levo.checkpoint import (
    DESCRIPTION_TABLE,
    LM_PREFIX,
    CodecParts,
    build_lelm,
    load_codec,
    read_lm_tensors,
    tensor_shapes,
)
from songgen.models.levo.compose import compose
from songgen.models.levo.condition import TextConditioner
from songgen.models.levo.conditions import LevoConditions
from songgen.models.levo.config import LevoConfig, read_config
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.locate import CheckpointFiles, find_checkpoint, find_runtime_file, runtime_places
from songgen.models.levo.render import render
from songgen.nn.oobleck import OobleckConfig
from songgen.requests import SongRequest
from songgen.runtime.decode import SLOT_STEP
from songgen.runtime.device import choose_device, choose_dtype, choose_threads
from songgen.runtime.memory import MemoryPlan, Needs, free_bytes, plan_memory
from songgen.text_rules import TextRules

ATTENTION = ("auto", "sdpa")
LARGEST_BATCH = {"cpu": 1, "mps": 1, "cuda": 8}
"""Songs at once, at most, where the user leaves it open."""

RENDER_WORK = 1_500_000_000
"""Bytes of working memory for rendering one song at published size: 0.75 GB for a VAE chunk, 0.17 GB for the
flow windows of each of three stems (`tools/measure_memory.py`), and the audio."""

Part = TypeVar("Part")


class Loaded(Generic[Part]):
    """A part that is loaded when first used and can be dropped again."""

    def __init__(self, make: Callable[[], Part]) -> None:
        self._make = make
        self._part: Part | None = None

    def get(self) -> Part:
        """The part, loaded if it is not."""
        if self._part is None:
            self._part = self._make()
        return self._part

    def drop(self) -> None:
        """Free it; the next use loads it again."""
        self._part = None


class LevoModel:
    """One checkpoint on one device.

    Args:
        files: the checkpoint's folder, config.yaml and weights.
        config: as read from config.yaml.
        text: tokenizers and text rules.
        plan: what stays loaded, and how many songs are made at once.
        lelm, codec: the language model; codec and VAE.
    """

    def __init__(
        self,
        files: CheckpointFiles,
        config: LevoConfig,
        text: TextConditioner,
        plan: MemoryPlan,
        *,
        device: torch.device,
        dtype: torch.dtype,
        lelm: Loaded[LeLM],
        codec: Loaded[CodecParts],
        identity: str,
    ) -> None:
        self.name = files.folder.name
        self.identity = identity
        self.sample_rate = config.sample_rate
        self.max_seconds = config.max_seconds
        self.config, self.text, self.plan = config, text, plan
        self.device, self.memory = str(device), plan.residency
        self._device, self._dtype = device, dtype
        self._lelm, self._codec = lelm, codec

    @property
    def text_rules(self) -> TextRules:
        """What the linter has to know of this model's text."""
        return TextRules(
            version=self.text.version,
            max_lyric_tokens=self.config.lyric_positions,
            max_description_tokens=self.config.description_positions,
            count_lyric_tokens=self.text.count_lyrics,
            count_description_tokens=self.text.count_description,
            max_seconds=self.config.max_seconds,
        )

    @property
    def summary(self) -> str:
        """One line on how this model runs."""
        dtype = str(self._dtype).removeprefix("torch.")
        return f"{self.name} ({self.text.version}) on {self.device}, {dtype}; {self.plan.sentence()}"

    def condition(self, request: SongRequest) -> LevoConditions:
        """Turn one request into conditions.

        Raises:
            ValueError: the request asks for what this model cannot do.
        """
        if request.max_seconds is not None and request.max_seconds > self.max_seconds:
            raise ValueError(
                f"max_seconds is {request.max_seconds:g}; "
                f"{self.name} makes songs of up to {self.max_seconds:g} s"
            )
        return self.text.of_request(
            request.lyrics, request.descriptions, bgm=request.generate_type == "bgm", prompt_KP=None
        )

    def compose(self, jobs: Iterator[Job], report: Report = ignore_progress) -> Iterator[Draft]:
        """Write tokens for the jobs, several at once; drafts come in the order they end."""
        yield from compose(self._lelm.get(), jobs, batch=self.plan.batch, report=report)

    def render(self, drafts: Iterator[Draft], report: Report = ignore_progress) -> Iterator[Song]:
        """Decode drafts to audio, the stems that each request's generate type asks for."""
        first = next(drafts, None)
        if first is None:
            return
        parts = self._codec.get()
        yield from render(parts.codec, parts.vae, _chain(first, drafts), batch=self.plan.batch, report=report)

    def release(self, stage: Literal["compose", "render"]) -> None:
        """Free what only this stage needs; it is loaded again when next used."""
        (self._lelm if stage == "compose" else self._codec).drop()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def _chain(first: Draft, rest: Iterator[Draft]) -> Iterator[Draft]:
    yield first
    yield from rest


def load(
    folder: Path,
    *,
    runtime_dir: Path | None = None,
    device: str = "auto",
    dtype: str = "auto",
    memory: str = "auto",
    batch: int | None = None,
    attention: str = "auto",
    threads: int | str = "auto",
) -> LevoModel:
    """Load a checkpoint's folder; the arguments are those of `songgen.models.catalog.load_model`.

    Files are found and sizes compared before any weights are read.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a setting, or a file that does not fit.
    """
    if attention not in ATTENTION:
        raise ValueError(f"attention is {attention!r}; it must be one of {', '.join(ATTENTION)}")
    where, files = choose_device(device), find_checkpoint(folder)
    precision = choose_dtype(dtype, where)
    places = runtime_places(checkpoint=files.folder, runtime_dir=runtime_dir)
    config = read_config(files.config, search=places)

    def find(relative: str) -> Path:
        return find_runtime_file(relative, checkpoint=files.folder, runtime_dir=runtime_dir)

    vae_json, vae_file = find(config.files.vae_config), find(config.files.vae_model)
    codec_file = find(config.files.dual_codec)
    vae_config = OobleckConfig.from_json_dict(json.loads(vae_json.read_text("utf-8")))
    shapes = tensor_shapes(files.weights)
    table = LM_PREFIX + DESCRIPTION_TABLE
    if table not in shapes:
        raise ValueError(f"{files.weights}: no tensor {table}; is this a LeVo language model?")
    text = TextConditioner.load(config, find(config.files.tokenizer), shapes[table][0])
    num_parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
    torch.set_num_threads(choose_threads(threads, num_parameters))
    needs = _needs(config, num_parameters * precision.itemsize, precision, codec_file, vae_file)
    plan = plan_memory(
        needs, mode=memory, batch=batch, free=free_bytes(where), largest_batch=LARGEST_BATCH[where.type]
    )

    def make_lelm() -> LeLM:
        tensors = read_lm_tensors(files.weights)
        return build_lelm(config, tensors, source=files.weights, dtype=precision, device=where)

    model = LevoModel(
        files,
        config,
        text,
        plan,
        device=where,
        dtype=precision,
        lelm=Loaded(make_lelm),
        codec=Loaded(
            lambda: load_codec(
                codec_file, vae_file, vae_config, num_heads=config.estimator_heads, device=where
            )
        ),
        identity=_identity([files.config, files.weights, codec_file, vae_json, vae_file]),
    )
    model._lelm.get()
    if plan.residency == "full":
        model._codec.get()
    return model


def _needs(config: LevoConfig, lm_bytes: int, dtype: torch.dtype, codec_file: Path, vae_file: Path) -> Needs:
    """Bytes of each part. A slot is two rows of keys and values in both transformers."""
    layers = config.num_layers + config.num_layers_sub
    slot = 2 * 2 * layers * config.width * config.capacity * dtype.itemsize
    work = RENDER_WORK if config.width >= 1024 else RENDER_WORK // 10
    return Needs(
        composer=lm_bytes + (SLOT_STEP - 1) * slot,
        renderer=codec_file.stat().st_size + vae_file.stat().st_size,
        slot=slot,
        render_work=work,
    )


def _identity(paths: list[Path]) -> str:
    """A digest of files by size, head and tail: quick for weights of many gigabytes, and it tells builds
    apart."""
    digest, piece = hashlib.sha256(), 1 << 16
    for path in paths:
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(piece))
            file.seek(max(0, size - piece))
            digest.update(file.read(piece))
    return digest.hexdigest()
