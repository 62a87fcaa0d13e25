"""The cases of the encode half: musicfm, demucs, code2sound_prompt."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from parity_cases.case import Case, Check, compare, failed, pick_like, split_pick, under
from parity_cases.codec import check_all, decode_case, load_codec, load_vae
from parity_cases.signals import signal
from songgen.models.levo.codec import track_codes
from songgen.models.levo.encode import (
    DUAL_TRACKS,
    MIXED_TRACKS,
    AudioTokenizer,
    AudioTokenizerConfig,
    Track,
    sound2code,
)
from songgen.models.levo.prompt import Prompt, codec_prompt, prompt_of_stems, silence_codes
from songgen.models.separation import PUBLISHED_OPTIONS, Separator, as_pcm16, build_network, option_value
from songgen.nn.mel import mel_filterbank
from songgen.nn.musicfm import FRAME_SAMPLES, NUM_MELS, SAMPLE_RATE
from songgen.runtime.checkpoint import build, load_strictly

MUSICFM = 1e-4
DEMUCS = 2e-5
PROMPT = 2e-5
CLOSE_MARGIN = 3e-4
HIDDEN = re.compile(r"unit\.hidden\.(\d+)")
MONO_STEP = 5
"""Of the mono signal at 24 kHz every 5th sample is recorded, without a mark in its name."""
FILTERBANK = "bestrq.model.preprocessor_melspec_2048.mel_stft.mel_scale.fb"


def build_tokenizer(
    tensors: Mapping[str, Tensor], tracks: tuple[Track, ...], source: object, *, depth: int = 0
) -> AudioTokenizer:
    """A tokenizer with recorded weights; recorded ones lack the filterbank, which follows from a formula.

    Args:
        depth: conformer layers to build at least; the tracks may need more.
    """
    given = {FILTERBANK: mel_filterbank(1025, NUM_MELS, SAMPLE_RATE), **tensors}
    config = AudioTokenizerConfig.from_tensors(given, tracks)
    depth = max(depth, config.musicfm.num_layers)
    config = replace(config, musicfm=replace(config.musicfm, num_layers=depth))
    tokenizer = build(lambda: AudioTokenizer(config))
    load_strictly(
        tokenizer,
        given,
        source=str(source),
        is_unused=tokenizer.is_unused,
        dtype=torch.float32,
        device=torch.device("cpu"),
    )
    return tokenizer


def case_tokenizers(case: Case) -> dict[str, tuple[AudioTokenizer, Track]]:
    """For each of vocal, bgm and mixed the tokenizer and track, with the layers that the case names."""
    layers, weights = case.meta.get("layers", {}), case.tensors("weights")
    dual = tuple(replace(track, layer=layers.get(track.stem, track.layer)) for track in DUAL_TRACKS)
    mixed = tuple(replace(track, layer=layers.get("mixed_1rvq", track.layer)) for track in MIXED_TRACKS)
    hidden = [int(match[1]) for name in case.expected if (match := HIDDEN.match(name))]
    found = {}
    for prefix, tracks, depth in (("septoken", dual, 0), ("1rvq", mixed, max(hidden, default=0))):
        tokenizer = build_tokenizer(under(weights, prefix), tracks, case.folder, depth=depth)
        found.update({track.stem: (tokenizer, track) for track in tracks})
    return found


def compare_codes(name: str, got: Tensor, expected: Tensor, margins: Tensor | None) -> Check:
    """Codes must be equal; a difference where the recorded margin is tiny is a matter of rounding."""
    check = compare(name, got, expected)
    if check.ok or margins is None or got.shape != expected.shape:
        return check
    wrong = (got != expected).flatten()
    widest = float(margins.flatten()[wrong].max())
    note = f"{int(wrong.sum())} differ, at margins up to {widest:.1e}"
    return replace(check, ok=widest < CLOSE_MARGIN, note=note)


def unit_tensors(case: Case, tokenizers: Mapping[str, tuple[AudioTokenizer, Track]]) -> dict[str, Tensor]:
    """What the encoders make of two clips, stage by stage."""
    vocal, bgm = (signal(case.meta["signals"][f"unit_{stem}"]) for stem in ("vocal", "bgm"))
    inputs = {
        "vocal": torch.stack([vocal, 0.5 * vocal.flip(0)]),
        "bgm": torch.stack([bgm, 0.7 * bgm.flip(0)]),
    }
    inputs["mixed"] = inputs["vocal"]
    tokenizer, track = tokenizers["mixed"]
    mono48 = tokenizer.mono(inputs["mixed"])
    mono24 = tokenizer.rsq48tobestrq(mono48)
    mel = tokenizer.bestrq.mel(mono24[:, : mono24.shape[1] // FRAME_SAMPLES * FRAME_SAMPLES])
    frames = tokenizer.bestrq.embed(mel)
    got = {"mono48_b0": mono48[:1], "mono24_b0": mono24[:1], "mel_norm_b0": mel[:1], "conv_out": frames}
    for layer in range(tokenizer.config.musicfm.num_layers + 1):
        got[f"hidden.{layer}"] = tokenizer.bestrq.encode(frames, layer)
    for stem, (tokenizer, track) in tokenizers.items():
        features = tokenizer.features(inputs[stem], track)
        got[f"emb_{stem}"] = features
        got[f"codes_{stem}"] = tokenizer.quantizer(track).encode(features)
    return got


def check_unit(case: Case, tokenizers: Mapping[str, tuple[AudioTokenizer, Track]]) -> Iterator[Check]:
    """The stages of the encoder."""
    got = unit_tensors(case, tokenizers)
    recorded = case.expected_of("unit")
    yield from check_codes("unit", got, recorded)
    whole = recorded.get("mono24_b0")
    if whole is not None and whole.shape != got["mono24_b0"].shape:
        thinned = got["mono24_b0"][..., ::MONO_STEP]
        yield compare("unit.mono24_b0", thinned, recorded.pop("mono24_b0"), MUSICFM)
    others = {name: value for name, value in recorded.items() if not name.startswith("codes_")}
    yield from check_all("unit", got, others, MUSICFM)


def check_codes(sub: str, got: Mapping[str, Tensor], recorded: Mapping[str, Tensor]) -> Iterator[Check]:
    """The recorded `codes_<stem>` of a sub-case, judged by their margins."""
    for name, expected in recorded.items():
        if name.startswith("codes_") and name in got:
            margins = recorded.get(name.replace("codes_", "margin_"))
            yield compare_codes(f"{sub}.{name}", got[name], expected, margins)


def run_musicfm(case: Case) -> Iterator[Check]:
    """Encoder stages on two clips, then codes of whole prompts."""
    tokenizers = case_tokenizers(case)
    if "unit_vocal" in case.meta["signals"]:
        yield from check_unit(case, tokenizers)
    for sub in case.subs:
        vocal, bgm = (signal(case.meta["signals"][f"{sub}_{stem}"]) for stem in ("vocal", "bgm"))
        length = min(vocal.shape[-1], bgm.shape[-1])
        dual = sound2code(tokenizers["vocal"][0], [[vocal, bgm]])[0]
        mixed = sound2code(tokenizers["mixed"][0], [[vocal[:, :length] + bgm[:, :length]]])[0]
        got = {"codes_vocal": dual[None, :1], "codes_bgm": dual[None, 1:], "codes_mixed": mixed[None]}
        yield from check_codes(sub, got, case.expected_of(sub))


def build_separator(weights: Mapping[str, Tensor], override: Mapping[str, Any], source: object) -> Separator:
    """A separator of the published options with the recorded changes, and the recorded weights."""
    changes = {name: option_value(name, value) for name, value in override.items()}
    network = build(lambda: build_network({**PUBLISHED_OPTIONS, **changes}))
    load_strictly(network, weights, source=str(source), dtype=torch.float32, device=torch.device("cpu"))
    return Separator(network)


def run_demucs(case: Case) -> Iterator[Check]:
    """Bare passes of the network (`<clip>.out`), and whole separations (`<clip>.<stem>_float`, `_pcm16`)."""
    separator = build_separator(case.tensors("weights"), case.meta["kwargs_override"], case.folder)
    for clip, description in case.meta["signals"].items():
        recorded, mixture_CN = case.expected_of(clip), signal(description)
        stems: dict[str, Tensor] = {}
        if any(name.startswith("out") for name in recorded):
            stems["out"] = separator.forward(mixture_CN[None])[0]
        if any("_float" in name or "_pcm16" in name for name in recorded):
            separated = separator.separate([mixture_CN], [case.meta["shift_offset"]])[0]
            for source, stem_CN in zip(separator.sources, separated, strict=True):
                stems[f"{source}_float"], stems[f"{source}_pcm16"] = stem_CN, as_pcm16(stem_CN)
        for name, expected in recorded.items():
            whole, suffix = (name, "") if name in stems else split_pick(name)
            if whole not in stems:
                yield failed(f"{clip}.{name}", "not computed here", DEMUCS)
                continue
            got = pick_like(stems[whole], suffix, expected)
            check = compare(f"{clip}.{name}", got, expected, DEMUCS if expected.is_floating_point() else None)
            if not expected.is_floating_point() and got.shape == expected.shape:
                steps = int((got.int() - expected.int()).abs().max())
                check = replace(check, ok=steps <= 1, note=f"at most {steps} step of 16 bit")
            yield check


def with_silence(prompt: Prompt, dual: AudioTokenizer) -> Prompt:
    """A prompt that stems alone can be decoded from."""
    return replace(prompt, silence_KT=silence_codes(dual, prompt.num_samples))


def run_code2sound_prompt(case: Case) -> Iterator[Check]:
    """Prompt stems to codes and latents, then songs that go on from them: `<sub>.<tensor>`."""
    weights, signals = case.tensors("weights"), case.meta["signals"]
    dual = build_tokenizer(weights, DUAL_TRACKS, case.folder)
    codec = load_codec(case, weights)
    vae = load_vae(case, "vae_config.json", case.tensors("vae_weights"))
    for name, sub in case.subs.items():
        inputs = case.inputs_of(name)
        vocal, bgm = (signal(signals[f"{sub['prompt']}_{stem}"]) for stem in ("vocal", "bgm"))
        prompt = with_silence(prompt_of_stems(vocal, bgm, dual), dual)
        start = codec_prompt(prompt, sub["gen_type"], vae=vae, noise_ZT=inputs["vae_noise"][0])
        codes_KT = track_codes(inputs["tokens"][0], sub["gen_type"])
        got = decode_case(codec, vae, case, name, codes_KT=codes_KT, prompt=start)
        got["prompt_latent"] = start.latents_ZT[None]
        got["prompt_codes_vocal"], got["prompt_codes_bgm"] = (
            start.codes_KT[None, :1],
            start.codes_KT[None, 1:],
        )
        yield from check_all(name, got, case.expected_of(name), PROMPT)
