"""The generate_e2e case: request lines to prompts, texts, greedy tokens and audio, as one whole.

Where a recorded stage differs, the next one goes on from the recorded value, so that one difference is not
reported as many.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, get_args

import torch
from torch import Tensor

from parity_cases.case import Case, Check, compare, split_pick, under
from parity_cases.codec import check_all, load_codec, load_vae
from parity_cases.encode import PROMPT, build_separator, build_tokenizer, with_silence
from parity_cases.lm import Model
from parity_cases.signals import signal
from songgen.models.clip import PromptClip, clip_of
from songgen.models.levo.codec import track_codes
from songgen.models.levo.conditions import StylePrompt
from songgen.models.levo.encode import DUAL_TRACKS, MIXED_TRACKS, AudioTokenizer
from songgen.models.levo.pattern import trim
from songgen.models.levo.prompt import Prompt, codec_prompt, prepare_prompt
from songgen.models.levo.prompt_library import PromptLibrary, load_library
from songgen.models.levo.text import model_description, model_lyrics
from songgen.models.levo.windows import CodecPrompt, Stream, WindowDone, decode_streams
from songgen.models.separation import Separator
from songgen.request_keys import STEMS, GenerateType, Stem
from songgen.runtime.sampling import Sampling

ROWS = ("mixed", "vocal", "bgm")
LIBRARY_SEEDS = 64
"""Seeds tried to draw the recorded prompt from the library, which the published system draws otherwise."""


class Toolkit:
    """All parts of one case; what only prompts need is read when the first one asks for it."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.dual_weights = case.tensors("model_septoken")
        self.lm = Model.load(case.folder, case.tensors("lm_weights"))
        self.codec = load_codec(case, self.dual_weights)
        self.vae = load_vae(case, "vae.json", case.tensors("vae_weights"))

    @cached_property
    def mixed(self) -> AudioTokenizer:
        """Tokens of the mixture."""
        return build_tokenizer(self.case.tensors("model_1rvq"), MIXED_TRACKS, self.case.folder)

    @cached_property
    def dual(self) -> AudioTokenizer:
        """Tokens of vocals and accompaniment."""
        return build_tokenizer(self.dual_weights, DUAL_TRACKS, self.case.folder)

    @cached_property
    def separator(self) -> Separator:
        """The source separation."""
        options = self.case.meta["demucs_kwargs_override"]
        return build_separator(self.case.tensors("htdemucs"), options, self.case.folder)

    @cached_property
    def library(self) -> PromptLibrary:
        """The prompts to draw from."""
        return load_library(self.case.folder / "auto_prompt.safetensors")

    @cached_property
    def clip(self) -> PromptClip:
        """The prompt file of the case."""
        facts = self.case.meta["prompt_signal"]
        return clip_of(signal(facts), int(facts["sr"]))

    @cached_property
    def prompt(self) -> Prompt:
        """The prompt file, separated and encoded."""
        offset = self.case.meta["demucs_shift_offset"]
        return prepare_prompt(self.clip, self.separator, self.mixed, self.dual, offset)


def run_end_to_end(case: Case) -> Iterator[Check]:
    """All runs of the case, line by line."""
    toolkit = Toolkit(case)
    version = toolkit.lm.text.version
    for name, run in case.meta["runs"].items():
        kind, recorded_version = run["generate_type"], run.get("version", case.meta.get("version", version))
        if kind not in get_args(GenerateType):
            raise ValueError(
                f"run {name}: generate_type {kind!r}; one of {', '.join(get_args(GenerateType))}"
            )
        if recorded_version != version:
            raise ValueError(f"run {name}: version {recorded_version!r}, but the weights are of {version}")
        text = (case.folder / f"{name}.jsonl").read_text("utf-8")
        lines = [json.loads(line) for line in text.splitlines() if line.strip()]
        if len(lines) != len(run["items"]):
            raise ValueError(f"run {name}: {len(lines)} lines, but {len(run['items'])} items are recorded")
        for line, item in zip(lines, run["items"], strict=True):
            yield from run_item(toolkit, line, item, kind)


def run_item(
    toolkit: Toolkit, line: Mapping[str, Any], item: Mapping[str, Any], kind: GenerateType
) -> Iterator[Check]:
    """One request: prompt, texts, tokens, then every decode."""
    name, recorded = line["idx"], under(toolkit.case.expected, line["idx"])
    prompt = toolkit.prompt if line.get("prompt_audio_path") else None
    codes_KT: Tensor | None = None
    if prompt is not None:
        codes_KT = prompt.codes_KT
        yield from check_clip(name, toolkit.clip, prompt, recorded)
    elif style := line.get("auto_prompt_audio_type"):
        codes_KT = draw_recorded(toolkit.library, style, line["gt_lyric"], recorded)
    if codes_KT is not None:
        given = {row: recorded[f"prompt_{row}"] for row in ROWS if f"prompt_{row}" in recorded}
        for row, expected in given.items():
            yield compare(f"{name}.prompt_{row}", codes_KT[ROWS.index(row)].expand(1, 1, -1), expected)
        codes_KT = torch.cat([given[row][0] for row in ROWS]) if len(given) == len(ROWS) else codes_KT
    text, is_bgm = toolkit.lm.text, kind == "bgm"
    lyrics = model_lyrics(line["gt_lyric"], bgm=is_bgm)
    description = model_description(line.get("descriptions"), text.version, bgm=is_bgm)
    yield from check_texts(name, item.get("lm_inputs", {}), lyrics, description)
    conditions = text.of_model_text(lyrics, description, StylePrompt(codes_KT))
    columns_KT = toolkit.lm.decode(conditions, Sampling(temperature=0, cfg_coef=1.5))
    tokens_KT, _ = trim(columns_KT, toolkit.lm.config.eos)
    if "tokens" in recorded:
        yield compare(f"{name}.tokens", tokens_KT[None], recorded["tokens"])
        tokens_KT = recorded["tokens"][0]
    stems = [decode["gen_type"] for decode in item["decodes"]] if "decodes" in item else STEMS[kind]
    for stem in stems:
        yield from check_decode(toolkit, f"{name}.{stem}", tokens_KT, stem, prompt)


def draw_recorded(library: PromptLibrary, style: str, lyrics: str, recorded: Mapping[str, Tensor]) -> Tensor:
    """The prompt of the library that was recorded, if any seed draws it; else the first one drawn."""
    drawn = [library.draw(style, lyrics, seed).codes_KT for seed in range(LIBRARY_SEEDS)]
    wanted = [
        (row, recorded[key][0, 0]) for row, name in enumerate(ROWS) if (key := f"prompt_{name}") in recorded
    ]
    same = (codes for codes in drawn if all(torch.equal(codes[row], given) for row, given in wanted))
    return next(same, drawn[0])


def check_clip(
    name: str, clip: PromptClip, prompt: Prompt, recorded: Mapping[str, Tensor]
) -> Iterator[Check]:
    """The clip and its two stems at 48 kHz, where they are recorded."""
    got = {"full": clip.full_CN, "sep_vocal": prompt.vocal_CN, "sep_bgm": prompt.bgm_CN}
    stored = {key: value for key, value in recorded.items() if key in got or split_pick(key)[0] in got}
    yield from check_all(name, got, stored, PROMPT)


def check_texts(
    name: str, inputs: Mapping[str, Any], lyrics: str, description: str | None
) -> Iterator[Check]:
    """The texts as the language model gets them, character by character, where they are recorded."""
    for key, text in (("lyrics", lyrics), ("descriptions", description)):
        if key in inputs:
            value = inputs[key]
            expected = value if isinstance(value, str) or value is None else value[0]
            yield compare(f"{name}.{key}", characters(text), characters(expected))


def characters(text: str | None) -> Tensor:
    """A text as numbers; None as -1."""
    return torch.tensor([-1] if text is None else [ord(character) for character in text])


def check_decode(
    toolkit: Toolkit, name: str, tokens_KT: Tensor, stem: Stem, prompt: Prompt | None
) -> Iterator[Check]:
    """One decode from tokens and the recorded noise: `<name>.wav`, `<name>.latents.<window>`."""
    recorded, inputs = under(toolkit.case.expected, name), under(toolkit.case.inputs, name)
    if not recorded:
        return
    start: CodecPrompt | None = None
    if "vae_noise" in inputs:
        if prompt is None:
            raise ValueError(f"{name}: noise for a codec prompt, but the line names no prompt_audio_path")
        noise_ZT = inputs["vae_noise"][0]
        start = codec_prompt(with_silence(prompt, toolkit.dual), stem, vae=toolkit.vae, noise_ZT=noise_ZT)
    got: dict[str, Tensor] = {}

    def keep(done: WindowDone) -> None:
        got[f"latents.{done.window}"] = done.latents_ZT[None]

    stream = Stream(track_codes(tokens_KT, stem), lambda window: inputs[f"noise.{window}"][0], start)
    ((_, got["wav"]),) = decode_streams(toolkit.codec, toolkit.vae, [stream], on_window=keep)
    yield from check_all(name, got, recorded, PROMPT)
