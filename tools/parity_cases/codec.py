"""Cases of the codec's decode half: rvq, vae, estimator, cfm, code2sound."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from parity_cases.case import INFORMATION, Case, Check, compare, failed, pick_like, split_pick, under
from songgen.models.levo.codec import (
    GUIDANCE,
    SOLVER_STEPS,
    CodecConfig,
    FlowWindow,
    LevoCodec,
    ignored_shapes,
    track_codes,
)
from songgen.models.levo.windows import CodecPrompt, Stream, WindowDone, decode_streams
from songgen.nn.flow_estimator import EstimatorConfig, FlowEstimator, sinusoids
from songgen.nn.flow_matching import LatentStats, solve_euler
from songgen.nn.oobleck import CHUNK_FRAMES, CHUNK_OVERLAP, OobleckConfig, OobleckVAE
from songgen.nn.rvq import ResidualVQ
from songgen.nn.weight_norm import fuse_weight_norm_

RVQ_TOLERANCE = 2e-5
VAE_TOLERANCE = 2e-5
FLOW_TOLERANCE = 1e-5
SOUND_TOLERANCE = 2e-5
CHUNKED = re.compile(r"(chunked|whole)(\d+)(?:_ov(\d+)_cs(\d+))?")
PLAIN_CHUNK = (CHUNK_FRAMES, CHUNK_OVERLAP)
VAE_OPTIONS = {"chunked": True, "chunk_size": CHUNK_FRAMES, "overlap": CHUNK_OVERLAP}
"""The published ones, of code2sound cases that say nothing else."""
CHUNKED_STEP, CHUNKED_STEP_ABOVE = 7, 224
"""Decodes of more than 224 latents are recorded as every 7th sample."""


def check_all(
    prefix: str, got: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float, dim: int = -1
) -> Iterator[Check]:
    """Compare every recorded tensor with the one of its name; a recorded name that nobody computed fails."""
    for name, tensor in expected.items():
        whole, suffix = (name, "") if name in got else split_pick(name)
        if INFORMATION.fullmatch(whole):
            continue
        if whole not in got:
            yield failed(f"{prefix}.{name}", "not computed here", tolerance)
            continue
        limit = tolerance if tensor.is_floating_point() else None
        yield compare(f"{prefix}.{name}", pick_like(got[whole], suffix, tensor, dim), tensor, limit)


def load(module: nn.Module, weights: Mapping[str, Tensor], ignored: Iterable[str] = ()) -> None:
    """Load strictly, then fuse weight norms, as the toolkit does."""
    left_out = set(ignored)
    module.load_state_dict({name: value for name, value in weights.items() if name not in left_out})
    module.requires_grad_(False).eval()
    fuse_weight_norm_(module)


def load_codec(case: Case, weights: Mapping[str, Tensor]) -> LevoCodec:
    """The codec of a case, without its encode half."""
    decode_half = {name: value for name, value in weights.items() if not name.startswith("bestrq.")}
    shapes = {name: tuple(value.shape) for name, value in decode_half.items()}
    config = CodecConfig.from_state_dict_shapes(shapes, num_heads=case.meta["dims"]["GPT2"]["n_head"])
    codec = LevoCodec(config)
    load(codec, decode_half, ignored_shapes(config))
    return codec


def load_vae(case: Case, config_name: str, weights: Mapping[str, Tensor]) -> OobleckVAE:
    """A VAE of a case from its published description."""
    published = json.loads((case.folder / config_name).read_text("utf-8"))
    has_encoder = any(name.startswith("encoder.") for name in weights)
    vae = OobleckVAE(OobleckConfig.from_json_dict(published), has_encoder=has_encoder)
    load(vae, weights)
    return vae


def groups(names: Iterable[str], depth: int) -> list[str]:
    """The different prefixes of `depth` dotted parts, in order."""
    return list(dict.fromkeys(".".join(name.split(".")[:depth]) for name in names))


def run_rvq(case: Case) -> Iterator[Check]:
    """Quantisers of any model: `<model>.<published name>.<tensor>`."""
    weights = case.tensors("weights")
    for prefix in groups(weights, 2):
        inputs, expected, state = (
            under(case.inputs, prefix),
            under(case.expected, prefix),
            under(weights, prefix),
        )
        rows, codebook_dim = state["quantizers.0.codebook.weight"].shape
        quantizer = ResidualVQ(state["quantizers.0.out_proj.weight_v"].shape[0], rows, codebook_dim)
        load(quantizer, state, ["quantizers.0.stale_counter"])
        got: dict[str, Tensor] = {}
        if "z" in inputs:
            got |= {"latents": quantizer.project(inputs["z"]), "encoded": quantizer.encode(inputs["z"])}
            got["quantized"] = quantizer.from_codes(got["encoded"])
        if "codes" in inputs:
            got["from_codes"] = quantizer.from_codes(inputs["codes"])
        yield from check_all(prefix, got, expected, RVQ_TOLERANCE)


def vae_tensor(vae: OobleckVAE, name: str, inputs: Mapping[str, Tensor]) -> Tensor | None:
    """Compute what a recorded name of a vae case stands for; None if the name is not known."""
    if match := re.fullmatch(r"decode(\d+)(?:\.layer(\d+))?", name):
        latents = inputs[f"z{match[1]}"]
        return vae.decode(latents) if match[2] is None else vae.decoder.layers[: int(match[2]) + 1](latents)
    if match := CHUNKED.fullmatch(name):
        chunk, overlap = (int(match[4]), int(match[3])) if match[4] else PLAIN_CHUNK
        latents = inputs[f"zo{match[2]}" if match[4] else f"zc{match[2]}"]
        if match[1] == "whole":
            return vae.decode(latents)
        return vae.decode_chunked(latents, chunk=chunk, overlap=overlap)
    if name == "encoder_raw":
        assert vae.encoder is not None
        raw: Tensor = vae.encoder(inputs["audio"])
        return raw
    if name == "encode_mean":
        return vae.encode_moments(inputs["audio"])[0]
    if name == "encode_sampled":
        return vae.encode(inputs["audio"], inputs["encode_noise"])
    return None


def run_vae(case: Case) -> Iterator[Check]:
    """Autoencoders of any size: `<vae>.<tensor>`, described by `<vae>.json`."""
    weights = case.tensors("weights")
    for prefix in groups(weights, 1):
        vae = load_vae(case, f"{prefix}.json", under(weights, prefix))
        inputs, expected = under(case.inputs, prefix), under(case.expected, prefix)
        got: dict[str, Tensor] = {}
        for name, recorded in expected.items():
            whole, suffix = split_pick(name)
            tensor = vae_tensor(vae, whole, inputs)
            if tensor is None:
                continue
            match = CHUNKED.fullmatch(name)
            is_thinned = match and int(match[2]) > CHUNKED_STEP_ABOVE and tensor.shape != recorded.shape
            got[name] = tensor[..., ::CHUNKED_STEP] if is_thinned else pick_like(tensor, suffix, recorded)
        yield from check_all(prefix, got, expected, VAE_TOLERANCE)


def run_estimator(case: Case) -> Iterator[Check]:
    """The velocity network on given frames: `<sub>.<tensor>`."""
    state = under(case.tensors("weights"), "cfm_wrapper.estimator")
    num_positions, width = state["wpe.weight"].shape
    config = EstimatorConfig(
        width=width,
        inner_dim=state["h.0.mlp.c_fc.weight"].shape[1],
        num_heads=case.meta["dims"]["GPT2"]["n_head"],
        num_layers=len(groups((name for name in state if name.startswith("h.")), 2)),
        num_positions=num_positions,
    )
    estimator = FlowEstimator(config)
    load(estimator, state, ["wte.weight"])
    hidden: dict[str, Tensor] = {}
    for index, block in enumerate(estimator.h):
        block.register_forward_pre_hook(
            lambda _, args, index=index: hidden.__setitem__(f"hidden.{index}", args[0].clone())
        )
    for sub in groups(case.inputs, 1):
        inputs = under(case.inputs, sub)
        modulation, embedded = estimator.adaln_single(inputs["time_step"])
        got = {
            "sinusoid": sinusoids(inputs["time_step"]),
            "embedded_timestep": embedded,
            "adaln": modulation,
            "out": estimator(inputs["inputs_embeds"], inputs["time_step"]),
            **hidden,
        }
        yield from check_all(sub, got, under(case.expected, sub), FLOW_TOLERANCE, dim=1)


def record_inputs(
    estimator: FlowEstimator,
) -> tuple[list[tuple[Tensor, Tensor]], torch.utils.hooks.RemovableHandle]:
    """From now on, keep the frames and the times that the network is given."""
    calls: list[tuple[Tensor, Tensor]] = []

    def keep(_: nn.Module, args: tuple[Tensor, Tensor]) -> None:
        calls.append((args[0].clone(), args[1].expand(args[0].shape[0]).clone()))

    return calls, estimator.register_forward_pre_hook(keep)


def solver_tensors(codec: LevoCodec, case: Case, sub: str) -> dict[str, Tensor]:
    """One solve of a cfm case: `times`, `step<i>_input`, `step<i>_v`, `last_input_x`, `out`."""
    inputs = case.inputs_of(sub)
    noise, context = inputs["noise"], inputs["incontext"]
    is_context = (torch.arange(noise.shape[1]) < case.subs[sub]["incontext_length"])[None, :, None].expand(
        len(noise), -1, 1
    )
    calls, handle = record_inputs(codec.estimator)
    velocity = codec.velocity(inputs["mu"], context, is_context, case.setting(sub, "guidance", GUIDANCE))
    steps = int(case.setting(sub, "steps", SOLVER_STEPS))
    got = {"out": solve_euler(velocity, noise, context, is_context, steps=steps)}
    handle.remove()
    got["times"] = torch.stack([times for _, times in calls])
    got["last_input_x"] = calls[-1][0][..., -codec.config.latent_dim :]
    for step, (frames, times) in enumerate(calls):
        got[f"step{step}_input"] = frames
        got[f"step{step}_v"] = codec.estimator(frames, times)
    return got


def codes_tensors(codec: LevoCodec, case: Case, sub: str) -> dict[str, Tensor]:
    """One window of a cfm case from codes: `latents` and the statistics afterwards.

    Raises:
        ValueError: the case marks frames in a way that the published decoding never does.
    """
    inputs, meta = case.inputs_of(sub), case.subs[sub]
    frames = inputs["noise"].shape[1]
    if (meta.get("scenario", "other_seg"), meta.get("latent_length", frames)) != ("other_seg", frames):
        raise ValueError(
            f"{sub}: scenario {meta.get('scenario')!r} with latent_length {meta.get('latent_length')}; "
            f"only 'other_seg' with {frames} is known"
        )
    stats = codec.normfeat.value
    given = under(inputs, "normfeat")
    stats = LatentStats(*(given.get(name, getattr(stats, name)) for name in ("counts", "sum_x", "sum_x2")))
    tracks = [inputs[name] for name in ("codes_vocal", "codes_bgm", "codes") if name in inputs]
    noise, context = inputs["noise"], torch.zeros_like(inputs["noise"])
    context[:, : inputs["true_latents"].shape[1]] = inputs["true_latents"]
    window = FlowWindow(torch.cat(tracks, 1)[0], noise[0], context[0], int(meta["incontext_length"]), stats)
    latents, after = codec.draw_latents(
        [window],
        steps=int(case.setting(sub, "steps", SOLVER_STEPS)),
        guidance=case.setting(sub, "guidance", GUIDANCE),
    )
    return {
        "latents": latents.transpose(1, 2),
        "after.counts": after[0].counts,
        "after.sum_x": after[0].sum_x,
        "after.sum_x2": after[0].sum_x2,
    }


def run_cfm(case: Case) -> Iterator[Check]:
    """The solver on given features, and whole windows from codes: `<sub>.<tensor>`."""
    codec = load_codec(case, case.tensors("weights"))
    for name in case.subs:
        compute = solver_tensors if "mu" in case.inputs_of(name) else codes_tensors
        yield from check_all(name, compute(codec, case, name), case.expected_of(name), FLOW_TOLERANCE)


def vae_chunk(case: Case, sub: str) -> int | None:
    """Frames that a case's VAE decodes at once, None for all.

    Raises:
        ValueError: an option that nothing here stands for.
    """
    options = {name: case.setting(sub, name, value) for name, value in VAE_OPTIONS.items()}
    options |= case.setting(sub, "vae_kwargs", {})
    unknown = sorted(set(options) - set(VAE_OPTIONS))
    if unknown or options["overlap"] != CHUNK_OVERLAP:
        raise ValueError(f"{sub}: VAE options {options}; known are {VAE_OPTIONS}, of the same overlap")
    return int(options["chunk_size"]) if options["chunked"] else None


def decode_case(
    codec: LevoCodec,
    vae: OobleckVAE,
    case: Case,
    sub: str,
    *,
    codes_KT: Tensor,
    prompt: CodecPrompt | None = None,
) -> dict[str, Tensor]:
    """Decode one sub-case with its recorded noise: `wav` and `latents.<window>`."""
    noise = under(case.inputs_of(sub), "noise")
    got: dict[str, Tensor] = {}

    def keep(done: WindowDone) -> None:
        got[f"latents.{done.window}"] = done.latents_ZT[None]

    ((_, got["wav"]),) = decode_streams(
        codec,
        vae,
        [Stream(codes_KT, lambda window: noise[str(window)][0], prompt)],
        steps=case.setting(sub, "steps", SOLVER_STEPS),
        guidance=case.setting(sub, "guidance", GUIDANCE),
        chunk=vae_chunk(case, sub),
        on_window=keep,
    )
    return got


def run_code2sound(case: Case) -> Iterator[Check]:
    """Tokens to audio without a prompt: `<sub>.<tensor>`."""
    codec = load_codec(case, case.tensors("weights"))
    vae = load_vae(case, "vae_config.json", case.tensors("vae_weights"))
    for name, sub in case.subs.items():
        codes_KT = track_codes(case.inputs_of(name)["tokens"][0], sub.get("gen_type", "mixed"))
        got = decode_case(codec, vae, case, name, codes_KT=codes_KT)
        yield from check_all(name, got, case.expected_of(name), SOUND_TOLERANCE)
