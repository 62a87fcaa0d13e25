"""The generate_e2e case: request lines to prompts, texts, greedy tokens and audio, as one whole.

Where a recorded stage differs, the next one goes on from the recorded value, so that one difference is not
reported as many.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from parity_cases.case import Case, Check, compare, pick, split_pick
from parity_cases.codec import load_codec, load_vae, under
from parity_cases.encode import PROMPT, build_separator, build_tokenizer, with_silence
from parity_cases.lm import Model
from parity_cases.signals import signal
from songgen.models.levo.clip import PromptClip, clip_of
from songgen.models.levo.codec import LevoCodec, track_codes
from songgen.models.levo.conditions import StylePrompt
from songgen.models.levo.encode import DUAL_TRACKS, MIXED_TRACKS, AudioTokenizer
from songgen.models.levo.pattern import trim
from songgen.models.levo.prompt import Prompt, codec_prompt, prepare_prompt
from songgen.models.levo.prompt_library import PromptLibrary, load_library
from songgen.models.levo.separation import Separator
from songgen.models.levo.text import model_description, model_lyrics
from songgen.models.levo.windows import CodecPrompt, Stream, decode_streams
from songgen.nn.oobleck import OobleckVAE
from songgen.request_keys import Stem
from songgen.runtime.sampling import Sampling

ROWS = ("mixed", "vocal", "bgm")


@dataclass(frozen=True)
class Toolkit:
    """All parts of one case."""

    case: Case
    lm: Model
    codec: LevoCodec
    vae: OobleckVAE
    mixed: AudioTokenizer
    dual: AudioTokenizer
    separator: Separator
    library: PromptLibrary

    @classmethod
    def load(cls, case: Case) -> Toolkit:
        """Build every part from the case's files."""
        dual_weights = case.tensors("model_septoken")
        return cls(
            case=case,
            lm=Model.load(case.folder, case.tensors("lm_weights")),
            codec=load_codec(case, dual_weights),
            vae=load_vae(case, "vae.json", case.tensors("vae_weights")),
            mixed=build_tokenizer(case.tensors("model_1rvq"), MIXED_TRACKS, case.folder),
            dual=build_tokenizer(dual_weights, DUAL_TRACKS, case.folder),
            separator=build_separator(
                case.tensors("htdemucs"), case.meta["demucs_kwargs_override"], case.folder
            ),
            library=load_library(case.folder / "auto_prompt.safetensors"),
        )

    def clip(self) -> PromptClip:
        """The prompt file of the case."""
        facts = self.case.meta["prompt_signal"]
        return clip_of(signal(facts), int(facts["sr"]))


def run_end_to_end(case: Case) -> Iterator[Check]:
    """All runs of the case, line by line."""
    toolkit = Toolkit.load(case)
    for name, run in case.meta["runs"].items():
        lines = (case.folder / f"{name}.jsonl").read_text("utf-8").splitlines()
        for line, item in zip(map(json.loads, lines), run["items"], strict=True):
            yield from run_item(toolkit, line, item, is_bgm=run["generate_type"] == "bgm")


def run_item(
    toolkit: Toolkit, line: Mapping[str, Any], item: Mapping[str, Any], *, is_bgm: bool
) -> Iterator[Check]:
    """One request: prompt, texts, tokens, then every decode."""
    name, recorded = line["idx"], under(toolkit.case.expected, line["idx"])
    prompt = (
        prepare_prompt(
            toolkit.clip(),
            toolkit.separator,
            toolkit.mixed,
            toolkit.dual,
            toolkit.case.meta["demucs_shift_offset"],
        )
        if line.get("prompt_audio_path")
        else None
    )
    codes_KT: Tensor | None = None
    if prompt is not None:
        codes_KT = prompt.codes_KT
        yield from check_clip(name, toolkit, prompt, recorded)
    elif kind := line.get("auto_prompt_audio_type"):
        codes_KT = toolkit.library.draw(kind, line["gt_lyric"], seed=0).codes_KT
    if codes_KT is not None:
        given = torch.cat([recorded[f"prompt_{row}"][0] for row in ROWS])
        yield compare(f"{name}.prompt", codes_KT, given)
        codes_KT = given
    text = toolkit.lm.text
    lyrics = model_lyrics(line["gt_lyric"], bgm=is_bgm)
    description = model_description(line.get("descriptions"), text.version, bgm=is_bgm)
    yield from check_texts(name, item["lm_inputs"], lyrics, description)
    conditions = text.of_model_text(lyrics, description, StylePrompt(codes_KT))
    tokens_KT, _ = trim(
        toolkit.lm.decode(conditions, Sampling(temperature=0, cfg_coef=1.5)), toolkit.lm.config.eos
    )
    yield compare(f"{name}.tokens", tokens_KT[None], recorded["tokens"])
    for decode in item["decodes"]:
        yield from check_decode(toolkit, name, decode["gen_type"], recorded, prompt)


def check_clip(
    name: str, toolkit: Toolkit, prompt: Prompt, recorded: Mapping[str, Tensor]
) -> Iterator[Check]:
    """The clip and its two stems at 48 kHz, where they are recorded."""
    got = {"full": toolkit.clip().full_CN, "sep_vocal": prompt.vocal_CN, "sep_bgm": prompt.bgm_CN}
    for key, expected in recorded.items():
        whole, suffix = split_pick(key) if "_every" in key else (key, "")
        if whole in got:
            yield compare(f"{name}.{key}", pick(got[whole], suffix), expected, PROMPT)


def check_texts(
    name: str, inputs: Mapping[str, Any], lyrics: str, description: str | None
) -> Iterator[Check]:
    """The texts as the language model gets them, character by character."""
    for key, text in (("lyrics", lyrics), ("descriptions", description)):
        value = inputs[key]
        expected = value if isinstance(value, str) or value is None else value[0]
        yield compare(f"{name}.{key}", characters(text), characters(expected))


def characters(text: str | None) -> Tensor:
    """A text as numbers; None as -1."""
    return torch.tensor([-1] if text is None else [ord(character) for character in text])


def check_decode(
    toolkit: Toolkit, name: str, stem: Stem, recorded: Mapping[str, Tensor], prompt: Prompt | None
) -> Iterator[Check]:
    """One decode from the recorded tokens and noise."""
    inputs = under(toolkit.case.inputs, f"{name}.{stem}")
    start: CodecPrompt | None = None
    if "vae_noise" in inputs:
        assert prompt is not None
        prompt = with_silence(prompt, toolkit.dual)
        start = codec_prompt(prompt, stem, vae=toolkit.vae, noise_ZT=inputs["vae_noise"][0])
    stream = Stream(
        track_codes(recorded["tokens"][0], stem), lambda window: inputs[f"noise.{window}"][0], start
    )
    ((_, wav_CN),) = decode_streams(toolkit.codec, toolkit.vae, [stream])
    for key, expected in under(recorded, stem).items():
        _, suffix = split_pick(key)
        yield compare(f"{name}.{stem}.{key}", pick(wav_CN, suffix), expected, PROMPT)
