"""Recorded SongBloom generations: whole songs on the recorded draws and noise, and a teacher-forced pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from parity_cases.case import Check, compare, failed
from parity_cases.songbloom_case import Recorded
from songgen.models.base import Draft, Job
from songgen.models.songbloom.compose import ComposeOptions, Composer
from songgen.models.songbloom.condition import SongBloomConditions
from songgen.models.songbloom.config import FRAME_RATE, sampling_of
from songgen.models.songbloom.network import BlockContext
from songgen.models.songbloom.prompt import EncodedPrompt, encode_prompt, load_prompt
from songgen.models.songbloom.render import render
from songgen.requests import SongRequest
from songgen.runtime.sampling import DiffusionSampling, SamplingRows, kept_probabilities

MODULE, LONG = 1e-5, 1e-4
PREFIX = 2e-5
"""The prompt's part went through the encoder of the VAE, whose weight norms are fused here."""

NOT_COMPARED = {
    "gen": r"prompt_noise|block_noise|exp_draws",
    "train_forward": r"x_.*|prompt_noise|t_normal|nar_t|noise|nar_target|ar_target|loss.*|cond_.*",
    "e2e": r"prompt_wav",
}

Draw = Callable[[Tensor], Tensor]
"""Kept probabilities `[V]` to as many exponential draws."""


class Race:
    """Chooses tokens as the published program's multinomial does: the largest probability over its draw.

    Attributes:
        final: guided and penalised logits of each step.
        probabilities: what each token was drawn from, in the published order.
        has_ended: whether EOS was chosen; what the song would have gone on with is not computed here.
    """

    def __init__(self, sampling: DiffusionSampling, draw: Draw | None) -> None:
        self._rows = SamplingRows.of([sampling], torch.device("cpu"))
        self._is_nucleus, self._draw = sampling.top_p > 0, draw
        self.has_ended = False
        self.final: list[Tensor] = []
        self.probabilities: list[Tensor] = []

    def __call__(self, logits_BKV: Tensor) -> Tensor:
        """Logits that leave one token, for the first slot."""
        if self.has_ended:
            return logits_BKV
        self.final.append(logits_BKV[0, 0].clone())
        if self._draw is None:
            return logits_BKV
        kept_V = kept_probabilities(logits_BKV[:1], self._rows)[0, 0]
        order_V = torch.arange(len(kept_V))
        if self._is_nucleus:
            kept_V, order_V = kept_V.sort(descending=True)
        self.probabilities.append(kept_V)
        chosen = order_V[(kept_V / self._draw(kept_V)).argmax()]
        self.has_ended = int(chosen) == len(kept_V) - 1
        only = torch.full_like(logits_BKV, float("-inf"))
        only[..., chosen] = 0
        return only


def run_generation(recorded: Recorded, name: str) -> Iterator[Check]:
    """One song from recorded draws and noise: tokens, latents, hidden vectors, logits."""
    tensors, meta = recorded.tensors(name), recorded.meta(name)
    params = meta["params"]
    sampling = sampling_of(params)
    draws = iter(tensors.get("exp_draws", torch.zeros(0)))
    race = Race(sampling, (lambda kept_V: next(draws)) if "exp_draws" in tensors else None)
    network = recorded.network_of(_with_eos_bias(recorded, meta))
    network.config = replace(network.config, guidance=params["dit_cfg_type"])
    composer = Composer(
        network,
        ComposeOptions(batch=1),
        noise=lambda job, block: tensors["block_noise"][block],
        on_logits=race,
    )
    hidden, step_logits = _watch(composer)
    wav_N = recorded.tensors("gen_inputs")["wav"][0]
    prompt = EncodedPrompt(*encode_prompt(recorded.vae, wav_N), seconds=0.0)
    conditions = SongBloomConditions(
        recorded.ids(meta["lyrics_phonemes"]), prompt.latents(tensors["prompt_noise"][0])
    )
    draft = _compose(composer, conditions, sampling, int(params["max_frames"]))
    if "prefix" in tensors:
        prefix = network.condition_provider.prefix(conditions)
        bos = network.bos_token.expand(2, 1, -1)
        yield compare(f"{name}.prefix", torch.cat([prefix, bos], dim=1), tensors["prefix"], PREFIX)
    yield from _compare_draft(name, draft, tensors)
    size, num_steps = network.config.block_size, len(race.final)
    found = {
        "h": hidden[: draft.tokens.shape[1] // size],
        "logits": step_logits[:num_steps],
        "logits_block0": step_logits[: min(size, num_steps)],
        "final_logits": race.final,
        "sampling_probs": race.probabilities,
    }
    for key, values in found.items():
        if key in tensors:  # the last block, which is thrown away, is not computed here
            expected = tensors[key][: len(values)]
            got = torch.stack(values) if values else torch.zeros_like(expected)
            yield compare(f"{name}.{key}", got, expected, LONG)


def _compose(
    composer: Composer, conditions: SongBloomConditions, sampling: DiffusionSampling, max_frames: int
) -> Draft:
    request = SongRequest(idx="recorded", lyrics="")
    job = Job("recorded", request, 0, sampling, max_frames / FRAME_RATE, conditions)
    return next(composer.compose(iter([job])))


def _with_eos_bias(recorded: Recorded, meta: Mapping[str, Any]) -> dict[str, Tensor]:
    weights = dict(recorded.weights)
    if "eos_bias" in meta:
        bias = weights["model.skeleton_classifier.2.bias"].clone()
        bias[-1] = meta["eos_bias"]
        weights["model.skeleton_classifier.2.bias"] = bias
    return weights


def _watch(composer: Composer) -> tuple[list[Tensor], list[Tensor]]:
    """Lists for each block's hidden vectors `[2, D]` and each step's logits `[2, V]`, of the first slot."""
    hidden: list[Tensor] = []
    logits: list[Tensor] = []
    step = composer.slots.step

    def watched(*arguments: Any) -> Tensor | None:
        found = step(*arguments)
        if found is None:
            hidden.append(composer.slots.hidden_BD[:2].clone())
        else:
            logits.append(found[:2].clone())
        return found

    composer.slots.step = watched  # type: ignore[method-assign]
    return hidden, logits


def _compare_draft(name: str, draft: Draft, tensors: dict[str, Tensor]) -> Iterator[Check]:
    """Tokens and latents; of a song without a block the published program returns a block of zeros."""
    assert draft.latents is not None
    if "tokens" in tensors:
        yield compare(f"{name}.tokens", draft.tokens, tensors["tokens"])
        yield compare(f"{name}.latents", draft.latents[None], tensors["latents"], LONG)
    else:
        is_empty = draft.tokens.shape[1] == 0 and not bool(tensors["latents"].any())
        yield Check(f"{name}.latents", 0, 0, None, is_empty, "no block is kept")


def run_max_frames(recorded: Recorded) -> Iterator[Check]:
    """Blocks by the number of frames asked for."""
    table = json.loads((recorded.folder / "max_frames.json").read_text("utf-8"))
    if table["block_size"] != recorded.config.block_size:
        yield failed("max_frames", f"blocks of {table['block_size']}")
        return
    asked = table["kept_blocks_by_max_frames"]
    got = torch.tensor([recorded.config.num_blocks(int(frames)) for frames in asked])
    yield compare("max_frames", got, torch.tensor(list(asked.values())))


def run_end_to_end(recorded: Recorded, name: str) -> Iterator[Check]:
    """Two samples of one request: all random numbers from one stream, in the published order."""
    tensors, meta = recorded.tensors(name), recorded.meta(name)
    sampling = sampling_of(meta["generation_params"])
    network, config = recorded.network, recorded.config
    mono_N, _ = load_prompt(recorded.folder / "e2e_prompt.wav")
    yield compare(f"{name}.prompt_wav", mono_N[None], tensors["prompt_wav"], MODULE)
    mean_ZT, deviation_ZT = encode_prompt(recorded.vae, mono_N)
    prompt = EncodedPrompt(mean_ZT, deviation_ZT, seconds=0.0)
    torch.manual_seed(int(meta["seed"]))
    block_shape = (1, config.block_size, config.latent_dim)
    for sample in ("s0", "s1"):
        noise_ZT = torch.randn(2, *mean_ZT.shape)[0]
        conditions = SongBloomConditions(recorded.ids(meta["phonemes"]), prompt.latents(noise_ZT))
        race = Race(sampling, lambda kept_V: torch.empty(1, len(kept_V)).exponential_()[0])
        num_blocks = config.num_blocks(int(meta["generation_params"]["max_frames"]))
        composer = Composer(
            network,
            ComposeOptions(batch=1, max_blocks=num_blocks),
            noise=lambda job, block: torch.randn(block_shape)[0],
            on_logits=race,
        )
        draft = _compose(composer, conditions, sampling, num_blocks * config.block_size)
        for _ in range(config.block_size):  # the block that the published program throws away
            torch.empty(1, config.num_codes + 1).exponential_()
        torch.randn(block_shape)
        yield from _compare_draft(f"{name}.{sample}", draft, _of_sample(tensors, sample))
        song = next(render(recorded.vae, iter([draft])))
        audio_CN = torch.from_numpy(song.stems["mixed"].samples)
        frames_CTN = audio_CN.unflatten(1, (-1, recorded.vae.config.hop))
        found = {
            "audio_head": audio_CN[:, : tensors[f"{sample}.audio_head"].shape[1]],
            "audio_tail": audio_CN[:, -tensors[f"{sample}.audio_tail"].shape[1] :],
            "frame_rms": frames_CTN.square().mean(-1).sqrt(),
            "frame_mean": frames_CTN.mean(-1),
        }
        for key, value in found.items():
            yield compare(f"{name}.{sample}.{key}", value, tensors[f"{sample}.{key}"], LONG)


def _of_sample(tensors: dict[str, Tensor], sample: str) -> dict[str, Tensor]:
    return {key: tensors[f"{sample}.{key}"] for key in ("tokens", "latents")}


def run_training_forward(recorded: Recorded, name: str) -> Iterator[Check]:
    """A teacher-forced pass: the logits of every position that chooses a token, and each block's velocity."""
    tensors, network = recorded.tensors(name), recorded.network
    size = network.config.block_size
    latents_BTZ = tensors["x_latent"].transpose(1, 2)
    rows, num_frames = tensors["x_sketch"].shape
    stream = [network.bos_token.expand(rows, 1, -1)]
    sketch_BTD = network.skeleton_emb(tensors["x_sketch"])
    for start in range(0, num_frames, size):
        stream += [sketch_BTD[:, start : start + size]]
        stream += [network.feedback(latents_BTZ[:, start : start + size])[:, None]]
    prefix = torch.cat([tensors["cond_prompt"], tensors["cond_lyrics"]], dim=1)
    inputs = torch.cat([prefix, *stream], dim=1)
    llama = network.ar_transformer
    cache = llama.new_cache(rows, inputs.shape[1])
    hidden = llama.prompt(inputs, llama.rotary_table(), cache)[:, prefix.shape[1] :]
    places = torch.arange(hidden.shape[1])
    chooses = places % (size + 1) != size
    yield compare(f"{name}.ar_logit", network.logits(hidden[:, chooses]), tensors["ar_logit"], MODULE)
    velocities, number = [], 0
    for row, length in enumerate(tensors["x_len"].tolist()):
        for block in range(length // size):
            frames = slice(block * size, (block + 1) * size)
            clean_TZ = latents_BTZ[row, frames]
            before = (
                latents_BTZ[row, (block - 1) * size : block * size] if block else torch.zeros_like(clean_TZ)
            )
            time = tensors["nar_t"][number]
            noisy_TZ = (1 - time) * clean_TZ + time * tensors["noise"][number]
            context = BlockContext(
                hidden[row, ~chooses][block][None], sketch_BTD[row, frames][None], before[None]
            )
            time_D = network.embed_times(time[None])[0]
            velocities.append(network.velocity(noisy_TZ[None], time_D, context, network.diffusion_rope()))
            number += 1
    yield compare(f"{name}.nar_pred", torch.cat(velocities), tensors["nar_pred"], MODULE)
