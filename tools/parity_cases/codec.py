"""Cases of the codec's decode half: rvq, vae, estimator, cfm, code2sound."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from parity_cases.case import Case, Check, compare, pick, split_pick
from songgen.models.levo.codec import CodecConfig, FlowWindow, LevoCodec, ignored_shapes, track_codes
from songgen.models.levo.windows import CodecPrompt, Stream, WindowDone, decode_streams
from songgen.nn.flow_estimator import EstimatorConfig, FlowEstimator, sinusoids
from songgen.nn.flow_matching import LatentStats, solve_euler
from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.nn.rvq import ResidualVQ
from songgen.nn.weight_norm import fuse_weight_norm_

RVQ_TOLERANCE = 2e-5
VAE_TOLERANCE = 2e-5
FLOW_TOLERANCE = 1e-5
SOUND_TOLERANCE = 2e-5
INFORMATION = {"cos_margin"}
"""Recorded for the reader, not compared."""
CHUNKED = re.compile(r"(chunked|whole)(\d+)(?:_ov(\d+)_cs(\d+))?")
PLAIN_CHUNK = (128, 32)
CHUNKED_STEP, CHUNKED_STEP_ABOVE = 7, 224
"""Decodes of more than 224 latents are recorded as every 7th sample."""


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors below a prefix, without it."""
    return {
        name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(prefix + ".")
    }


def check_all(
    prefix: str, got: Mapping[str, Tensor], expected: Mapping[str, Tensor], tolerance: float, dim: int = -1
) -> Iterator[Check]:
    """Compare every recorded tensor with the one of its name; a recorded name that nobody computed fails."""
    for name, tensor in expected.items():
        whole, suffix = (name, "") if name in got else split_pick(name)
        if whole.rpartition(".")[2] in INFORMATION:
            continue
        if whole not in got:
            yield Check(f"{prefix}.{name}", float("inf"), float("inf"), tolerance, False, "not computed here")
            continue
        limit = tolerance if tensor.is_floating_point() else None
        picked = pick(got[whole], suffix, dim, dense_length=tensor.shape[dim])
        yield compare(f"{prefix}.{name}", picked, tensor, limit)


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
    for prefix in groups(case.expected, 2):
        inputs, expected, state = (
            under(case.inputs, prefix),
            under(case.expected, prefix),
            under(weights, prefix),
        )
        rows, codebook_dim = state["quantizers.0.codebook.weight"].shape
        quantizer = ResidualVQ(state["quantizers.0.out_proj.weight_v"].shape[0], rows, codebook_dim)
        load(quantizer, state, ["quantizers.0.stale_counter"])
        codes = quantizer.encode(inputs["z"])
        got = {
            "latents": quantizer.project(inputs["z"]),
            "encoded": codes,
            "quantized": quantizer.from_codes(codes),
            "from_codes": quantizer.from_codes(inputs["codes"]),
        }
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
    for prefix in groups(case.expected, 1):
        vae = load_vae(case, f"{prefix}.json", under(weights, prefix))
        inputs, expected, got = under(case.inputs, prefix), under(case.expected, prefix), {}
        for name in expected:
            whole, suffix = split_pick(name)
            tensor = vae_tensor(vae, whole, inputs)
            if tensor is None:
                continue
            match = CHUNKED.fullmatch(whole)
            if not suffix and match and int(match[2]) > CHUNKED_STEP_ABOVE:
                tensor = tensor[..., ::CHUNKED_STEP]
            got[whole] = tensor
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
    for sub in groups(case.expected, 1):
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


def solver_tensors(
    codec: LevoCodec, sub: Mapping[str, float], inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """One solve of a cfm case: `times`, `step<i>_input`, `step<i>_v`, `last_input_x`, `out`."""
    noise, context = inputs["noise"], inputs["incontext"]
    is_context = (torch.arange(noise.shape[1]) < sub["incontext_length"])[None, :, None].expand(
        len(noise), -1, 1
    )
    calls, handle = record_inputs(codec.estimator)
    velocity = codec.velocity(inputs["mu"], context, is_context, sub["guidance"])
    got = {"out": solve_euler(velocity, noise, context, is_context, steps=int(sub["steps"]))}
    handle.remove()
    got["times"] = torch.stack([times for _, times in calls])
    got["last_input_x"] = calls[-1][0][..., -codec.config.latent_dim :]
    for step, (frames, times) in enumerate(calls):
        got[f"step{step}_input"] = frames
        got[f"step{step}_v"] = codec.estimator(frames, times)
    return got


def codes_tensors(
    codec: LevoCodec, sub: Mapping[str, float], inputs: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """One window of a cfm case from codes: `latents` and the statistics afterwards."""
    stats = codec.normfeat.value
    given = under(inputs, "normfeat")
    stats = LatentStats(*(given.get(name, getattr(stats, name)) for name in ("counts", "sum_x", "sum_x2")))
    tracks = [inputs[name] for name in ("codes_vocal", "codes_bgm", "codes") if name in inputs]
    noise, context = inputs["noise"], torch.zeros_like(inputs["noise"])
    context[:, : inputs["true_latents"].shape[1]] = inputs["true_latents"]
    window = FlowWindow(torch.cat(tracks, 1)[0], noise[0], context[0], int(sub["incontext_length"]), stats)
    latents, after = codec.draw_latents([window], steps=int(sub["steps"]), guidance=sub["guidance"])
    return {
        "latents": latents.transpose(1, 2),
        "after.counts": after[0].counts,
        "after.sum_x": after[0].sum_x,
        "after.sum_x2": after[0].sum_x2,
    }


def run_cfm(case: Case) -> Iterator[Check]:
    """The solver on given features, and whole windows from codes: `<sub>.<tensor>`."""
    codec = load_codec(case, case.tensors("weights"))
    for name, sub in case.subs.items():
        inputs = under(case.inputs, name)
        compute = solver_tensors if "mu" in inputs else codes_tensors
        yield from check_all(name, compute(codec, sub, inputs), under(case.expected, name), FLOW_TOLERANCE)


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
    meta = case.subs[sub]
    noise = under(case.inputs, f"{meta.get('same_inputs_as', sub)}.noise")
    got: dict[str, Tensor] = {}

    def keep(done: WindowDone) -> None:
        got[f"latents.{done.window}"] = done.latents_ZT[None]

    kwargs = meta.get("vae_kwargs", case.meta)
    ((_, got["wav"]),) = decode_streams(
        codec,
        vae,
        [Stream(codes_KT, lambda window: noise[str(window)][0], prompt)],
        steps=case.meta.get("steps", 10),
        guidance=case.meta.get("guidance", 1.5),
        chunk=kwargs.get("chunk_size", 128) if kwargs.get("chunked", True) else None,
        on_window=keep,
    )
    return got


def run_code2sound(case: Case) -> Iterator[Check]:
    """Tokens to audio without a prompt: `<sub>.<tensor>`."""
    codec = load_codec(case, case.tensors("weights"))
    vae = load_vae(case, "vae_config.json", case.tensors("vae_weights"))
    for name, sub in case.subs.items():
        tokens_KT = case.inputs[f"{sub.get('same_inputs_as', name)}.tokens"][0]
        codes_KT = track_codes(tokens_KT, sub.get("gen_type", "mixed"))
        got = decode_case(codec, vae, case, name, codes_KT=codes_KT)
        yield from check_all(name, got, under(case.expected, name), SOUND_TOLERANCE)
