"""The fast_e2e case: request lines of the fast variant to prompts, prefix, tokens and audio.

Where a recorded stage differs on purpose (the language model's prompt codes of a mono clip whose length does
not divide 40 s come from a shifted mixture there), the next one goes on from the recorded value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from parity_cases.case import Case, Check, compare, pick, split_pick
from parity_cases.codec import load_codec, load_vae, under
from parity_cases.encode import build_tokenizer
from parity_cases.fast_codec import published_codes
from parity_cases.fast_lm import load_fast
from parity_cases.lm import Model
from parity_cases.signals import signal
from songgen.models.clip import mono_clip_of
from songgen.models.levo.codec import LevoCodec
from songgen.models.levo.conditions import StylePrompt
from songgen.models.levo.encode import MIXED_TRACKS, AudioTokenizer
from songgen.models.levo.pattern import trim
from songgen.models.levo.prompt import codec_prompt, mixed_prompts
from songgen.models.levo.prompt_library import PromptLibrary, load_library
from songgen.models.levo.windows import CodecPrompt, Stream, decode_streams
from songgen.nn.oobleck import OobleckVAE
from songgen.runtime.checkpoint import read_tensors

AUDIO = 2e-5
PREFIX_STEP = 7


@dataclass(frozen=True)
class Toolkit:
    """All parts of one case."""

    case: Case
    lm: Model
    codec: LevoCodec
    vae: OobleckVAE
    mixed: AudioTokenizer
    library: PromptLibrary

    @classmethod
    def load(cls, case: Case) -> Toolkit:
        """Build every part from the case's files."""
        weights = case.tensors("ckpt/model_1rvq")
        return cls(
            case=case,
            lm=load_fast(case.folder),
            codec=load_codec(case, weights),
            vae=load_vae(case, "ckpt/vae/vae.json", read_tensors(case.folder / "ckpt/vae/vae.ckpt")),
            mixed=build_tokenizer(weights, MIXED_TRACKS, case.folder),
            library=load_library(case.folder / "tools/new_auto_prompt.pt"),
        )


def run_fast_end_to_end(case: Case) -> Iterator[Check]:
    """All lines of the case."""
    toolkit = Toolkit.load(case)
    lines = (case.folder / "in.jsonl").read_text("utf-8").splitlines()
    for line in map(json.loads, lines):
        yield from run_line(toolkit, line)


def run_line(toolkit: Toolkit, line: Mapping[str, Any]) -> Iterator[Check]:
    """One request: prompt, prefix, tokens, audio."""
    name, config = line["idx"], toolkit.lm.config
    recorded, inputs = under(toolkit.case.expected, name), under(toolkit.case.inputs, name)
    given: Tensor | None = None
    start: CodecPrompt | None = None
    if line.get("prompt_audio_path"):
        facts = toolkit.case.meta["prompt_signal"]
        clip = mono_clip_of(signal(facts), int(facts["sr"]))
        (prompt,) = mixed_prompts([clip], toolkit.mixed)
        start = codec_prompt(prompt, "mixed", vae=toolkit.vae, noise_ZT=inputs["vae_noise"][0])
        yield compare(f"{name}.codec_prompt_codes", start.codes_KT[None], recorded["codec_prompt_codes"])
        given = recorded["lm_prompt_codes"][0]
        made = published_codes(clip, toolkit.mixed)
        check = compare(f"{name}.lm_prompt_codes", made, given)
        yield replace(check, note="made the published way, which songgen does not go")
    elif kind := line.get("auto_prompt_audio_type"):
        given = toolkit.library.draw(kind, line["gt_lyric"], seed=0).codes_KT[:1]
    text = toolkit.lm.text
    style = StylePrompt(given)
    conditions = text.of_request(line["gt_lyric"], line.get("descriptions"), bgm=False, prompt=style)
    banned = torch.tensor(toolkit.case.subs[name]["banned"], dtype=torch.int64)
    yield compare(f"{name}.banned", conditions.banned, banned)
    prefix, _ = toolkit.lm.lelm.condition_provider.prefix(conditions)
    end, _ = toolkit.lm.lelm.embed_codes(torch.full((2, 1, 1), config.special))
    whole = torch.cat([prefix, end], dim=1)
    yield compare(f"{name}.prefix", whole[:, ::PREFIX_STEP], recorded["prefix"], AUDIO)
    sampling = replace(config.sampling, temperature=1.0, top_k=1)
    tokens_KT, _ = trim(toolkit.lm.decode(conditions, sampling), config.eos)
    yield compare(f"{name}.tokens", tokens_KT[None], recorded["tokens"])
    stream = Stream(recorded["tokens"][0], lambda window: inputs[f"noise.{window}"][0], start)
    ((_, wav_CN),) = decode_streams(toolkit.codec, toolkit.vae, [stream])
    for key, expected in recorded.items():
        if key.startswith("wav"):
            got = wav_CN[:, : expected.shape[1]] if key == "wav_head" else pick(wav_CN, split_pick(key)[1])
            yield compare(f"{name}.{key}", got, expected, AUDIO)
