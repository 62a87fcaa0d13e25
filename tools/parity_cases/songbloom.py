"""Recorded SongBloom cases: conditions, networks, sampler, VAE and adapters, file by file of the index.

Names of checks are `<file>.<tensor>`. What of a file is an input, or belongs to something that no published
model uses, is listed in `NOT_COMPARED`; any other recorded tensor that is not computed here fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from parity_cases import songbloom_generation as generation
from parity_cases.case import Case, Check, compare, failed
from parity_cases.songbloom_case import CPU, Recorded
from parity_cases.songbloom_text import run_songbloom_text
from songgen.models.songbloom.diffusion import diffuse_block, guide, with_null
from songgen.models.songbloom.lora import LoraOptions, fold_adapters
from songgen.models.songbloom.network import BlockContext, SongBloomNetwork
from songgen.models.songbloom.prompt import EncodedPrompt, encode_prompt, mono_prompt
from songgen.nn.kv_cache import KVCache
from songgen.nn.llama import LlamaLayer, RotaryTable
from songgen.nn.rectified_flow import flow_times, sample_flow
from songgen.runtime.sampling import Sampling, SamplingRows, kept_probabilities

MODULE, BFLOAT16 = 1e-5, 2e-2

Runner = Callable[[Recorded, str], Iterator[Check]]

NOT_COMPARED = {
    "lyric_cond": r".*\.(ids|mask)",  # ids: with the text
    "lyric_cond_interpolate": r".*",  # no published model has it
    "prompt_cond": r".*\.(wav|mask|noise)",
    "vae": r"audio|noise|.*_in",
    "vae_chunked": r".*\.(latent|audio)|enc\.chunked_mean",  # prompts are encoded whole
    "resample": r".*\.in",
    "lm_block": r"x|x_small|inv_freq",
    "dit": r"t|tt|x|h|s|hist|block_in|block_in_small|fourier",
    "sampler": r"noise|h|s|hist|vpred.*",  # no published model predicts v
    "token_sampling": r"logits",
    "lora": r"model\..*|x",
    "bf16": r"x|.*inv_freq.*|t_list|v|(cos|sin)_far",  # t and x of the sampler are kept in float32 here
    "gen_inputs": r".*",
    **generation.NOT_COMPARED,
}


def run_songbloom(case: Case) -> Iterator[Check]:
    """Run every file of the index."""
    recorded = Recorded(case)
    for name in recorded.index:
        kind = "gen" if name.startswith("gen_") and name != "gen_inputs" else name
        checks = list(RUNNERS[kind](recorded, name)) if kind in RUNNERS else []
        yield from checks
        compared = {check.name for check in checks}
        exempt = re.compile(NOT_COMPARED.get(kind, r"(?!)"))
        for tensor in recorded.tensors(name):
            if f"{name}.{tensor}" not in compared and not exempt.fullmatch(tensor):
                yield failed(f"{name}.{tensor}", "recorded, but not computed here")
    yield from run_songbloom_text(case.folder)
    if (case.folder / "max_frames.json").is_file():
        yield from generation.run_max_frames(recorded)


def run_lyrics(recorded: Recorded, name: str) -> Iterator[Check]:
    """Ids to embeddings, padded or cut."""
    tensors, embedder = recorded.tensors(name), recorded.network.condition_provider.conditioners["lyrics"]
    for key in tensors:
        if key.endswith(".embeds"):
            ids = tensors[key.replace(".embeds", ".ids")].tolist()
            yield compare(f"{name}.{key}", embedder(ids), tensors[key], MODULE)


def run_prompt(recorded: Recorded, name: str) -> Iterator[Check]:
    """A mono wav and noise to the prompt's positions, beside the null prompt."""
    tensors, embedder = recorded.tensors(name), recorded.network.condition_provider.conditioners["prompt_wav"]
    for key in tensors:
        if not key.endswith(".out"):
            continue
        start = key.removesuffix("out")
        latents_TZ = None
        if f"{start}noise" in tensors:  # shorter ones are not encoded
            prompt = EncodedPrompt(*encode_prompt(recorded.vae, tensors[f"{start}wav"]), seconds=0.0)
            latents_TZ = prompt.latents(tensors[f"{start}noise"][0])
        got = torch.stack([embedder(latents_TZ), embedder(None)])
        yield compare(f"{name}.{key}", got, tensors[key], MODULE)


def run_resample(recorded: Recorded, name: str) -> Iterator[Check]:
    """Each channel to 48 kHz, then their mean."""
    tensors = recorded.tensors(name)
    for rate in sorted({int(key.partition(".")[0]) for key in tensors}):
        samples_CN = tensors[f"{rate}.in"]
        each = torch.cat([mono_prompt(channel_N[None], rate)[None] for channel_N in samples_CN])
        yield compare(f"{name}.{rate}.out", each, tensors[f"{rate}.out"], MODULE)
        yield compare(
            f"{name}.{rate}.mono", mono_prompt(samples_CN, rate)[None], tensors[f"{rate}.mono"], MODULE
        )


def run_vae(recorded: Recorded, name: str) -> Iterator[Check]:
    """The VAE and one stage of each half."""
    tensors, vae = recorded.tensors(name), recorded.vae
    assert vae.encoder is not None
    raw_BZT = vae.encoder(tensors["audio"])
    mean, deviation = vae.encode_moments(tensors["audio"])
    found = {
        "encoder_out": raw_BZT,
        "mean": mean,
        "scale": raw_BZT.chunk(2, dim=1)[1],
        "stdev": deviation,
        "latent": vae.encode(tensors["audio"], tensors["noise"]),
        "dec_out": vae.decode(tensors["dec_in"]),
        "encblock_out": vae.encoder.layers[1](tensors["encblock_in"]),
        "decblock_out": vae.decoder.layers[1](tensors["decblock_in"]),
    }
    for key, value in found.items():
        yield compare(f"{name}.{key}", value, tensors[key], MODULE)


def run_vae_chunked(recorded: Recorded, name: str) -> Iterator[Check]:
    """Decoding in chunks and whole, with a small VAE of its own."""
    tensors = recorded.tensors(name)
    vae = recorded.vae_of("vae_ratio8.json", recorded.tensors("vae_ratio8"))
    for key in tensors:
        start, _, what = key.partition(".")
        if what == "chunked":
            yield compare(
                f"{name}.{key}", vae.decode_chunked(tensors[f"{start}.latent"]), tensors[key], MODULE
            )
        elif what == "plain":
            yield compare(f"{name}.{key}", vae.decode(tensors[f"{start}.latent"]), tensors[key], MODULE)
        elif key == "enc.plain_mean":
            yield compare(f"{name}.{key}", vae.encode_moments(tensors["enc.audio"])[0], tensors[key], MODULE)


def run_language_model(recorded: Recorded, name: str) -> Iterator[Check]:
    """One layer, the stack, the head, and the rotary angles."""
    tensors, network = recorded.tensors(name), recorded.network
    llama = network.ar_transformer
    length = tensors["x"].shape[1]
    cache = llama.new_cache(2, length)
    rope = llama.rotary_table()
    far = torch.tensor(recorded.meta(name)["far_positions"])
    wide = replace(llama.config, num_positions=int(far.max()) + 1)
    far_rope = RotaryTable.build(wide, torch.float32, network.device)
    hidden = llama.prompt(tensors["x"], rope, cache)
    found = {
        "cos": rope.cos[:length],
        "sin": rope.sin[:length],
        "cos_far": far_rope.cos[far],
        "sin_far": far_rope.sin[far],
        "layer0_out": _first_layer(network, tensors["x"], rope, cache),
        "layer0_small_out": _first_layer(network, tensors["x_small"], rope, cache),
        "hidden": hidden,
        "hidden_small": llama.prompt(tensors["x_small"], rope, cache),
        "logits": network.logits(hidden),
    }
    for key, value in found.items():
        yield compare(f"{name}.{key}", value, tensors[key], MODULE)


def _first_layer(network: SongBloomNetwork, x_BSD: Tensor, rope: RotaryTable, cache: KVCache) -> Tensor:
    layer, angles = network.ar_transformer.layers[0], rope.at(slice(0, x_BSD.shape[1]))
    assert isinstance(layer, LlamaLayer)
    normed = layer.input_layernorm(x_BSD)
    x_BSD = x_BSD + layer.self_attn.prompt(normed, angles, cache.layers[0], first_row=0, start=0)
    return x_BSD + layer.mlp(layer.post_attention_layernorm(x_BSD))


def run_diffusion_transformer(recorded: Recorded, name: str) -> Iterator[Check]:
    """Time embedding, one block, the stack, the velocity with and without guidance, and the feedback."""
    tensors, network = recorded.tensors(name), recorded.network
    rope = network.diffusion_rope()
    angles, layer = rope.at(slice(None)), network.nar_dit.layers[0]
    rope_freqs = tensors["rope_freqs"]
    yield compare(f"{name}.rope_freqs", torch.atan2(rope.sin, rope.cos).cos(), rope_freqs.cos(), MODULE)
    found = {
        "t_embed": network.embed_times(tensors["t"]),
        "block0_out": layer(tensors["block_in"], angles),
        "block0_small_out": layer(tensors["block_in_small"], angles),
        "stack_out": network.nar_dit(tensors["block_in"], rope),
        "v_nocfg": velocities(network, tensors, None),
        "v_cfg1p5": velocities(network, tensors, 1.5),
        "block_conv": network.feedback(tensors["x"])[:, None],
    }
    for key, value in found.items():
        yield compare(f"{name}.{key}", value, tensors[key], MODULE)


def velocities(network: SongBloomNetwork, tensors: dict[str, Tensor], coef: float | None) -> Tensor:
    """The velocities `[B, T, Z]` of rows with a time each."""
    rope, times = network.diffusion_rope(), network.embed_times(tensors["tt"])
    rows = []
    for row, time_D in enumerate(times):
        one = slice(row, row + 1)
        context = BlockContext(
            tensors["h"][one].to(network.dtype), tensors["s"][one].to(network.dtype), tensors["hist"][one]
        )
        x_BTZ = tensors["x"][one]
        if coef is None:
            rows.append(network.velocity(x_BTZ, time_D, context, rope))
            continue
        both = network.velocity(torch.cat([x_BTZ, x_BTZ]), time_D, with_null(context), rope)
        rows.append(guide(*both.chunk(2), torch.tensor([coef])))
    return torch.cat(rows)


def run_sampler(recorded: Recorded, name: str) -> Iterator[Check]:
    """The sampler with and without its temperature, and one whole path."""
    tensors, network = recorded.tensors(name), recorded.network
    coef_B = torch.tensor([float(recorded.meta(name)["cfg_coef"])])
    context = BlockContext(tensors["h"].repeat(2, 1), tensors["s"], tensors["hist"])

    def sampled(steps: int, temperature: float) -> Tensor:
        times_ND = network.embed_times(flow_times(steps))
        return diffuse_block(
            network,
            context,
            tensors["noise"],
            network.diffusion_rope(),
            times_ND=times_ND,
            cfg_coef_B=coef_B,
            temperature=temperature,
        )

    for key in tensors:
        if key.startswith("linspace"):
            got = flow_times(int(key.removeprefix("linspace")))
        elif match := re.fullmatch(r"euler\.s(\d+)\.T([\d.]+)", key):
            got = sampled(int(match[1]), float(match[2]))
        elif match := re.fullmatch(r"plain\.s(\d+)", key):
            got = sampled(int(match[1]), 1.0)
        elif match := re.fullmatch(r"traj\.s(\d+)\.T([\d.]+)", key):
            got = _path(network, tensors, coef_B, steps=int(match[1]), temperature=float(match[2]))
        else:
            continue
        yield compare(f"{name}.{key}", got, tensors[key], MODULE)


def _path(
    network: SongBloomNetwork, tensors: dict[str, Tensor], coef_B: Tensor, *, steps: int, temperature: float
) -> Tensor:
    """The sample before each step, `[steps, T, Z]`."""
    times_ND, rope = network.embed_times(flow_times(steps)), network.diffusion_rope()
    context = with_null(BlockContext(tensors["h"], tensors["s"], tensors["hist"]))
    visited: list[Tensor] = []

    def velocity(x_BTZ: Tensor, number: int) -> Tensor:
        visited.append(x_BTZ)
        both = network.velocity(torch.cat([x_BTZ, x_BTZ]), times_ND[number], context, rope)
        return guide(*both.chunk(2), coef_B)

    sample_flow(velocity, tensors["noise"], steps=steps, temperature=temperature)
    return torch.cat(visited)


def run_token_sampling(recorded: Recorded, name: str) -> Iterator[Check]:
    """Kept probabilities, and the token that the published draw takes from them."""
    tensors, meta = recorded.tensors(name), recorded.meta(name)
    for key in tensors:
        match = re.fullmatch(r"top(k|p)([\d.]+)\.tok", key)
        if match is None:
            continue
        is_nucleus, value = match[1] == "p", float(match[2])
        sampling = Sampling(
            temperature=float(meta["temp"]),
            top_k=0 if is_nucleus else int(value),
            top_p=value if is_nucleus else 0.0,
        )
        kept_V = kept_probabilities(tensors["logits"], SamplingRows.of([sampling], CPU))[0, 0]
        if not is_nucleus:
            probs = f"top{match[1]}{match[2]}.probs"
            yield compare(f"{name}.{probs}", kept_V[None, None], tensors[probs], MODULE)
        torch.manual_seed(int(meta["seed"]) + (7 if is_nucleus else int(value)))
        ranked_V, order_V = (
            kept_V.sort(descending=True) if is_nucleus else (kept_V, torch.arange(len(kept_V)))
        )
        token = order_V[torch.multinomial(ranked_V, 1)]
        yield compare(f"{name}.{key}", token.reshape(1, 1, 1), tensors[key])


def run_lora(recorded: Recorded, name: str) -> Iterator[Check]:
    """Adapters folded into the weights."""
    tensors, meta = recorded.tensors(name), recorded.meta(name)
    options = LoraOptions(float(meta["alpha"]), int(meta["rank"]), tuple(meta["targets"]))
    adapters = {key: value for key, value in tensors.items() if key.startswith("model.")}
    tuned = recorded.network_of({**recorded.weights, **fold_adapters(adapters, options, recorded.weights)})
    dit = recorded.tensors("dit")
    for key, network in (("hidden_base", recorded.network), ("hidden_lora", tuned)):
        llama = network.ar_transformer
        hidden = llama.prompt(tensors["x"], llama.rotary_table(), llama.new_cache(2, tensors["x"].shape[1]))
        yield compare(f"{name}.{key}", hidden, tensors[key], MODULE)
    yield compare(f"{name}.v_lora", velocities(tuned, dit, None), tensors["v_lora"], MODULE)


def run_bfloat16(recorded: Recorded, name: str) -> Iterator[Check]:
    """The language model in bfloat16, its rotary frequencies rounded as the published program does."""
    tensors = recorded.tensors(name)
    network = recorded.network_of(recorded.weights, torch.bfloat16)
    length = tensors["x"].shape[1]
    angles = torch.outer(torch.arange(length).float(), tensors["inv_freq_bf16"]).repeat(1, 2)
    rope = RotaryTable(angles.cos().bfloat16(), angles.sin().bfloat16())
    llama = network.ar_transformer
    hidden = llama.prompt(tensors["x"].bfloat16(), rope, llama.new_cache(2, length))
    yield compare(f"{name}.hidden", hidden.float(), tensors["hidden"], BFLOAT16)


RUNNERS: dict[str, Runner] = {
    "bf16": run_bfloat16,
    "dit": run_diffusion_transformer,
    "e2e": generation.run_end_to_end,
    "gen": generation.run_generation,
    "lm_block": run_language_model,
    "lora": run_lora,
    "lyric_cond": run_lyrics,
    "prompt_cond": run_prompt,
    "resample": run_resample,
    "sampler": run_sampler,
    "token_sampling": run_token_sampling,
    "train_forward": generation.run_training_forward,
    "vae": run_vae,
    "vae_chunked": run_vae_chunked,
}
