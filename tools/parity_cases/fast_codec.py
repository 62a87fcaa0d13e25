"""Cases of the single-track codec that v2-fast decodes with: code2sound_1rvq, code2sound_1rvq_prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from parity_cases.case import Case, Check, compare, pick
from parity_cases.codec import SOUND_TOLERANCE, check_all, decode_case, load_codec, load_vae, under
from parity_cases.encode import PROMPT, build_tokenizer
from parity_cases.signals import signal
from songgen.models.clip import PromptClip, mono_clip_of
from songgen.models.levo.codec import LevoCodec, track_codes
from songgen.models.levo.encode import (
    CLIP_PEAK,
    MIXED_TRACKS,
    SAMPLE_RATE,
    SEGMENT_SAMPLES,
    AudioTokenizer,
    limit_peak,
    num_codes,
)
from songgen.models.levo.prompt import Prompt, codec_prompt, codec_stem, mixed_prompts

LATENTS_EVERY = 3
"""With a prompt every third frame of the latents is recorded, without a mark in their name."""
STEP = re.compile(r"step(\d+)\.(model_input|velocity_uncond_cond)(_every\d+)?")
VELOCITY_EVERY = "_every10"
"""Velocities are recorded at every 10th frame, without a mark in their name."""


class StepRecorder:
    """What the flow network is given, and gives, at each solver step of everything decoded meanwhile."""

    def __init__(self, codec: LevoCodec) -> None:
        self.inputs: list[Tensor] = []
        self.velocities: list[Tensor] = []
        self._handle = codec.estimator.register_forward_hook(self._keep)

    def __enter__(self) -> StepRecorder:
        return self

    def __exit__(self, *exception: object) -> None:
        self._handle.remove()

    def _keep(self, _: nn.Module, args: tuple[Tensor, Tensor], velocity: Tensor) -> None:
        self.inputs.append(args[0].clone())
        self.velocities.append(velocity.clone())

    def check(self, sub: str, recorded: Mapping[str, Tensor]) -> Iterator[Check]:
        """Compare what is recorded of steps of the first window; rows are null, conditional."""
        for name, expected in recorded.items():
            match = STEP.fullmatch(name)
            if match is None:
                continue
            is_input = match[2] == "model_input"
            whole = (self.inputs if is_input else self.velocities)[int(match[1])]
            got = pick(whole, match[3] or ("" if is_input else VELOCITY_EVERY), dim=1)
            yield compare(f"{sub}.{name}", got, expected, SOUND_TOLERANCE)


def run_single_track(case: Case) -> Iterator[Check]:
    """Mixed tokens to audio: `<sub>.<tensor>`, and single solver steps `<sub>.step<i>.<tensor>`."""
    codec = load_codec(case, case.tensors("weights"))
    vae = load_vae(case, "vae_config.json", case.tensors("vae_weights"))
    for name, sub in case.subs.items():
        tokens_KT = case.inputs[f"{sub.get('same_inputs_as', name)}.tokens"][0]
        with StepRecorder(codec) as steps:
            got = decode_case(codec, vae, case, name, codes_KT=track_codes(tokens_KT, "mixed"))
        recorded = case.expected_of(name)
        yield from steps.check(name, recorded)
        of_song = {key: value for key, value in recorded.items() if not STEP.fullmatch(key)}
        yield from check_all(name, got, of_song, SOUND_TOLERANCE)


def prompt_of_case(case: Case, sub: Mapping[str, Any], mixed: AudioTokenizer) -> Prompt:
    """The prompt of a sub-case: a file's clip in mono, or stereo samples as they are."""
    samples_CN = signal(case.meta["signals"][sub["prompt"]])
    if sub["prompt_kind"] == "mono":
        return mixed_prompts([mono_clip_of(samples_CN, SAMPLE_RATE)], mixed)[0]
    return mixed_prompts([PromptClip(torch.zeros(2, 0), codec_stem(samples_CN))], mixed)[0]


def published_codes(clip: PromptClip, mixed: AudioTokenizer) -> Tensor:
    """The language model's codes `[1, P]` of a mono clip as published, for comparison only.

    Seconds 0 to 40 and 40 to 80 of the repeated clip are taken as left and right of one segment: unless the
    clip's length divides 40 s, that is a mixture of the clip with itself, shifted.
    """
    mono_N = limit_peak(clip.full_CN[0], CLIP_PEAK, dim=0)
    tiled_N = mono_N.repeat(-(-2 * SEGMENT_SAMPLES // mono_N.shape[0]))[: 2 * SEGMENT_SAMPLES]
    (track,) = mixed.config.tracks
    features = mixed.features(tiled_N.reshape(1, 2, SEGMENT_SAMPLES), track)
    return mixed.quantizer(track).encode(features)[0, :, : num_codes(mono_N.shape[0])]


def check_language_model_codes(
    case: Case, name: str, sub: Mapping[str, Any], mixed: AudioTokenizer
) -> Iterator[Check]:
    """The language model's codes of a mono clip: as published, and how many of ours are others."""
    clip = mono_clip_of(signal(case.meta["signals"][sub["signal"]]), SAMPLE_RATE)
    recorded = case.expected[f"{name}.codes"]
    check = compare(f"{name}.codes", published_codes(clip, mixed)[None], recorded)
    yield replace(check, note="made the published way, which songgen does not go")
    ours = mixed_prompts([clip], mixed)[0].codes_KT[None]
    differing, wanted = int((ours != recorded).sum()), int(sub["differs_from_proper_stereo_encoding"])
    note = f"{differing} of songgen's codes differ, as recorded: published ones are of a shifted mixture"
    if not differing:
        note = "songgen's codes are the published ones"
    off = abs(differing - wanted)
    yield Check(f"{name}.differs_from_proper_stereo_encoding", off, float(off), None, not off, note)


def run_single_track_prompt(case: Case) -> Iterator[Check]:
    """Prompts to codes and latents, songs that go on from them, and the language model's codes."""
    weights = case.tensors("weights")
    mixed = build_tokenizer(weights, MIXED_TRACKS, case.folder)
    codec = load_codec(case, weights)
    vae = load_vae(case, "vae_config.json", case.tensors("vae_weights"))
    for name, sub in case.subs.items():
        if name.startswith("lm_prompt."):
            yield from check_language_model_codes(case, name, sub, mixed)
            continue
        inputs = under(case.inputs, sub.get("same_inputs_as", name))
        prompt = prompt_of_case(case, sub, mixed)
        start = codec_prompt(prompt, "mixed", vae=vae, noise_ZT=inputs["vae_noise"][0])
        codes_KT = track_codes(inputs["tokens"][0], "mixed")
        got = decode_case(codec, vae, case, name, codes_KT=codes_KT, prompt=start)
        got |= {key: value[..., ::LATENTS_EVERY] for key, value in got.items() if key.startswith("latents.")}
        got |= {"prompt_latent": start.latents_ZT[None], "prompt_codes": start.codes_KT[None]}
        yield from check_all(name, got, case.expected_of(name), PROMPT)
