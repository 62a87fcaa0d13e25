"""A LeVo checkpoint ready to run: the three verbs of the seam over its parts."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch

from songgen.models.base import Draft, Job, Report, Song, ignore_progress
from songgen.models.levo.alignment import align
from songgen.models.levo.checkpoint import CodecParts
from songgen.models.levo.compose import ComposeOptions, Composer
from songgen.models.levo.condition import TextConditioner
from songgen.models.levo.conditions import NO_PROMPT, LevoConditions, StylePrompt
from songgen.models.levo.config import LevoConfig
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.prompt import Prompt, codec_prompt
from songgen.models.levo.prompt_encoder import PromptEncoder, PromptNetworks
from songgen.models.levo.prompt_library import PromptLibrary
from songgen.models.levo.render import VAE_ROWS, WINDOWS, decoded_stems, render
from songgen.models.levo.text import model_lyrics
from songgen.models.levo.windows import CodecPrompt, seeded_noise
from songgen.models.parts import Loaded
from songgen.models.separation import Separator
from songgen.models.stems import check_generate_type, with_stems
from songgen.nn.attention import choose_attention
from songgen.request_keys import Stem
from songgen.requests import SongRequest
from songgen.runtime.memory import MemoryPlan
from songgen.text_rules import TextRules

PROMPT_ROWS = {"cpu": 1, "mps": 1, "cuda": 8}
"""Chunks of prompt clips encoded at once; on the CPU more are no faster."""


def is_without_voice(request: SongRequest) -> bool:
    """Whether the language model writes a song without voice, and is given no lyrics."""
    return request.generate_type == "bgm" and request.stems != "separator"


@dataclass(frozen=True)
class Parts:
    """What a checkpoint consists of: the language model, codec and VAE, and what prompts need.

    The identities are digests of the files behind the prompt encoder and the prompt library.
    """

    lelm: Loaded[LeLM]
    codec: Loaded[CodecParts]
    separator: Loaded[Separator]
    prompt_networks: Loaded[PromptNetworks]
    prompt_library: Loaded[PromptLibrary]
    encoder_identity: Loaded[str]
    library_identity: Loaded[str]


class LevoModel:
    """One checkpoint on one device; `songgen.models.levo.loading.load` makes it.

    Args:
        name: the checkpoint's folder.
        config: as read from config.yaml.
        text: tokenizers and text rules.
        plan: what stays loaded, and how many songs are composed at once.
        codec_dtype: of the flow network's products, for the summary; the parts bring it.
        windows: stems whose windows are drawn together; None for what suits the device.
        identity: digest of the checkpoint's files.
        max_seconds: longest song that memory was planned for; None for the checkpoint's limit.
        attention, kv_cache: as in `ComposeOptions`.

    Raises:
        ValueError: an attention backend that cannot run here.
    """

    scores_drafts = True

    def __init__(
        self,
        name: str,
        config: LevoConfig,
        text: TextConditioner,
        plan: MemoryPlan,
        parts: Parts,
        *,
        device: torch.device,
        dtype: torch.dtype,
        codec_dtype: torch.dtype = torch.float32,
        windows: int | None = None,
        identity: str,
        attention: str = "auto",
        kv_cache: str = "auto",
        max_seconds: float | None = None,
    ) -> None:
        self.name, self.identity = name, identity
        self.sampling = config.sampling
        self.sample_rate = config.sample_rate
        self.max_seconds = min(max_seconds or config.max_seconds, config.max_seconds)
        self.max_frames = config.num_frames(self.max_seconds)
        self.config, self.text, self.plan, self.parts = config, text, plan, parts
        self.device, self.memory = str(device), plan.residency
        self._device, self._dtypes = device, (dtype, codec_dtype)
        self._windows = WINDOWS[device.type] if windows is None else windows
        self._attention = choose_attention(attention, device, dtype, is_int8=kv_cache == "int8")
        self._kv_cache = kv_cache
        self._composer: Composer | None = None
        self._prompts = PromptEncoder(parts.prompt_networks.get, rows=PROMPT_ROWS[device.type])

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
            languages=self.config.own.languages,
            model=self.name,
        )

    @property
    def prompt_styles(self) -> Sequence[str]:
        """What `auto_prompt_audio_type` may be; empty where the library is not on this disk."""
        try:
            return self.parts.prompt_library.get().types
        except FileNotFoundError:
            return ()

    @property
    def batch(self) -> int:
        """Songs made at once."""
        return self.plan.batch

    @property
    def compose_options(self) -> ComposeOptions:
        """How the language model is run."""
        return ComposeOptions(self.plan.batch, self.max_frames, self._attention, self._kv_cache)

    @property
    def summary(self) -> str:
        """One line on how this model runs."""
        dtype, codec_dtype = (str(dtype).removeprefix("torch.") for dtype in self._dtypes)
        precision = dtype if dtype == codec_dtype else f"{dtype}, codec {codec_dtype}"
        cache = ", 8-bit cache" if self._kv_cache == "int8" else ""
        return (
            f"{self.name} ({self.text.version}) on {self.device}, {precision}, "
            f"attention={self._attention}{cache}; {self.plan.sentence()}"
        )

    def prompt_identity(self, request: SongRequest) -> str | None:
        """Digest of the files that turn this request's prompt into conditions; None without a prompt.

        Raises:
            FileNotFoundError: a file that such prompts need is missing.
        """
        if request.prompt_audio_path is not None:
            return self.parts.encoder_identity.get()
        if request.auto_prompt_audio_type is not None:
            return self.parts.library_identity.get()
        return None

    def prepare(self, requests: Sequence[SongRequest]) -> None:
        """Separate and encode the prompt clips of several requests together; in low memory alone on the
        device."""
        paths = [request.prompt_audio_path for request in requests if request.prompt_audio_path is not None]
        if paths:
            if self.memory == "low":
                self.release("compose")
            self._prompts.prepare(paths)

    def condition(self, request: SongRequest) -> LevoConditions:
        """Turn one request into conditions, its prompt separated and encoded.

        Raises:
            ValueError: the request asks for what this model cannot do, or its prompt cannot be used.
            FileNotFoundError: the prompt, or a file that prompts need, is missing.
        """
        if request.max_seconds is not None and request.max_seconds > self.max_seconds:
            raise ValueError(
                f"max_seconds is {request.max_seconds:g}; "
                f"{self.name} makes songs of up to {self.max_seconds:g} s"
            )
        if request.stems != "separator":
            check_generate_type(request.generate_type, self.config.num_codebooks)
        elif not self.config.own.separator and request.generate_type not in (None, "mixed"):
            raise ValueError(f"stems=separator: {self.name} has no separator; stems=model writes them itself")
        return self.text.of_request(
            request.lyrics,
            request.descriptions,
            bgm=is_without_voice(request),
            prompt=self._prompt(request),
        )

    def _prompt(self, request: SongRequest) -> StylePrompt:
        """The style that a request asks for: a clip's, or one drawn from the library by the song's seed."""
        if request.prompt_audio_path is not None:
            return self._clip_prompt(request, request.prompt_audio_path)
        if request.auto_prompt_audio_type is not None:
            library = self.parts.prompt_library.get()
            drawn = library.draw(request.auto_prompt_audio_type, request.lyrics, request.seed or 0)
            codes_KT = drawn.codes_KT[: self.config.num_codebooks]
            if not self.config.own.separator:
                codes_KT = self._mixed_alone(codes_KT)
            return StylePrompt(codes_KT, notes={"auto_prompt": drawn.place})
        return NO_PROMPT

    def _clip_prompt(self, request: SongRequest, name: str) -> StylePrompt:
        """The style of a clip; where nothing separates it, its mixed codes alone."""
        is_split = self.config.own.separator
        alone = is_split and decoded_stems(request) != ("mixed",)
        prompt = self._prompts.of_file(name, with_silence=alone)
        warnings = [f"{name} {warning}" for warning in prompt.warnings]
        if request.descriptions:
            warnings.append(f"{name} and the descriptions both set the style, and may pull apart")
        notes = {"prompt_seconds": prompt.seconds, "warnings": warnings}
        if is_split or self.config.num_codebooks == 1:
            return StylePrompt(prompt.codes_KT, prompt, notes)
        notes["prompt_codes"] = f"mixed alone: {self.name} has no separator"
        return StylePrompt(self._mixed_alone(prompt.codes_KT), notes=notes)

    def _mixed_alone(self, codes_KT: torch.Tensor) -> torch.Tensor:
        """Codes of the mixture, the other rows empty: what a model without a separator knows of prompts."""
        alone_KT = torch.full((self.config.num_codebooks, codes_KT.shape[1]), self.config.special)
        alone_KT[0] = codes_KT[0]
        return alone_KT

    def compose(self, jobs: Iterator[Job], report: Report = ignore_progress) -> Iterator[Draft]:
        """Write tokens for the jobs, several at once; drafts come in the order they end."""
        options = self.compose_options
        if self._composer is None or self._composer.is_busy or self._composer.options != options:
            self._composer = None  # its caches are freed before others are made
            self._composer = Composer(self.parts.lelm.get(), options)
        for draft in self._composer.compose(jobs, report):
            yield self._timed(draft) if draft.job.wants_timing else draft

    def _timed(self, draft: Draft) -> Draft:
        """A draft with the times of its lyrics; as it is if it has no lyrics, or no frames."""
        request = draft.job.request
        if is_without_voice(request) or not draft.tokens.numel():
            return draft
        spans = self.text.lyrics.token_spans(model_lyrics(request.lyrics, bgm=False))
        timing = align(
            self.parts.lelm.get(),
            draft.job.conditions,
            draft.tokens,
            spans,
            is_cut=draft.stopped == "length",
        )
        return replace(draft, timing=timing)

    def render(self, drafts: Iterator[Draft], report: Report = ignore_progress) -> Iterator[Song]:
        """Decode drafts to audio, the stems that each request's generate type asks for."""
        first = next(drafts, None)  # so that in low memory the codec is not loaded before it is needed
        if first is None:
            return
        codec, vae = self.parts.codec.get().codec, self.parts.codec.get().vae
        songs = render(
            codec,
            vae,
            itertools.chain([first], drafts),
            windows=self._windows,
            rows=VAE_ROWS[self._device.type],
            prompt_of=self._codec_prompt,
            fills_window=self.config.own.fill_windows,
            report=report,
        )
        for song in songs:
            yield with_stems(song, self.parts.separator.get, rows=PROMPT_ROWS[self._device.type])

    def _codec_prompt(self, draft: Draft, stem: Stem) -> CodecPrompt | None:
        """What the codec starts a stem from: the prompt's audio, where the request has any."""
        prompt = draft.job.conditions.clip if isinstance(draft.job.conditions, LevoConditions) else None
        if not isinstance(prompt, Prompt):
            return None
        vae = self.parts.codec.get().vae
        noise_WZ = seeded_noise(draft.job.seed, "prompt", vae.config.latent_dim)(0)
        noise_ZT = noise_WZ[: prompt.num_latents(vae.config.hop)].T
        return codec_prompt(prompt, stem, vae=vae, noise_ZT=noise_ZT)

    def shrink(self) -> bool:
        """Make half as many songs at once from now on; False if it is one already. Frees what is not used."""
        if self.plan.batch == 1:
            return False
        self.plan = self.plan.with_batch(self.plan.batch // 2)
        self._composer = None
        gc.collect()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return True

    def release(self, stage: Literal["condition", "compose", "render"]) -> None:
        """Free what only this stage needs; it is loaded again when next used."""
        parts = self.parts
        of_stage: dict[str, tuple[Loaded[Any], ...]] = {
            "condition": (parts.prompt_networks, parts.separator),
            "compose": (parts.lelm,),
            "render": (parts.codec, parts.separator),
        }
        if stage == "compose":
            self._composer = None
        for part in of_stage[stage]:
            part.drop()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
