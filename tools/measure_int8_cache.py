"""Measure what an 8-bit key/value cache changes: logit error and token agreement against the full cache.

    python tools/measure_int8_cache.py [MODEL] [--frames 100] [--device cuda]

MODEL is `tiny`, a checkpoint, or a published name, of which random weights are made with `--layers` of its
layers (all by default). One song is composed with the full cache; then its columns are fed again, column by
column, to an 8-bit cache, so that both see the same past. Prints, per codebook: root mean square error of the
logits over their standard deviation, agreement of the most likely token, and agreement of the token that the
same uniform number draws under the model's own sampling; over the whole song and over its last quarter, which
shows whether the error grows.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace

import torch
from torch import Tensor

from songgen.models import catalog
from songgen.models.base import Job
from songgen.models.levo.bench import random_conditions
from songgen.models.levo.compose import ComposeOptions, Composer
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.pattern import to_sequence
from songgen.models.levo.random_model import random_lelm
from songgen.models.levo.slots import LelmSlots
from songgen.requests import SongRequest
from songgen.runtime.decode import slots_for
from songgen.runtime.device import choose_device, choose_dtype
from songgen.runtime.sampling import Sampling, SamplingRows, choose, guide
from songgen.runtime.slots import uniforms_of


def load(name: str, layers: int | None, device: torch.device) -> LeLM:
    """The language model that is measured."""
    dtype = choose_dtype("auto", device)
    entry = catalog.find_entry(name)
    if entry is None:
        model = catalog.load_model(name, device=str(device), memory="full")
        return model.parts.lelm.get()  # type: ignore[attr-defined]
    sizes = dict(entry.sizes)
    if layers is not None:
        sizes["num_layers"], sizes["num_layers_sub"] = layers, min(layers, sizes["num_layers_sub"])
    return random_lelm(sizes, entry.max_seconds, dtype=dtype, device=device)


def compose(lelm: LeLM, num_frames: int) -> Tensor:
    """The delayed columns `[K, S]` of one song."""
    config = lelm.config
    seconds = (num_frames + 0.5) / config.frame_rate
    request = SongRequest(idx="song", lyrics="")
    job = Job("song", request, 0, config.sampling, seconds, random_conditions(config, lelm, 0))
    (draft,) = Composer(lelm, ComposeOptions(1, num_frames)).compose(iter([job]))
    return to_sequence(draft.tokens, config.delays, config.special)


@torch.inference_mode()
def logits_of(lelm: LeLM, columns_KS: Tensor, *, is_int8: bool) -> tuple[Tensor, Tensor]:
    """Conditional and null logits `[S - 1, K, V]` of the columns behind each column, on the CPU."""
    config, device = lelm.config, lelm.condition_provider.device
    capacity = config.capacity_for(columns_KS.shape[1])
    slots = LelmSlots(lelm, slots_for(1, device), capacity=capacity, is_int8=is_int8)
    slots.prefill(0, random_conditions(config, lelm, 0))
    num_slots, found = slots_for(1, device), []
    for column in range(columns_KS.shape[1] - 1):
        ids_BK = columns_KS[:, column].expand(num_slots, -1).to(device)
        places_B = torch.full((num_slots,), column, device=device)
        rows = slots.step(ids_BK, places_B, capacity)
        found.append([row[0].cpu() for row in rows])
    conditional, null = zip(*found, strict=True)
    return torch.stack(conditional), torch.stack(null)


def drawn(rows: tuple[Tensor, Tensor], sampling: Sampling) -> Tensor:
    """The tokens `[S, K]` that the same uniform numbers draw from some logits."""
    settings = SamplingRows.of([sampling], torch.device("cpu"))
    uniforms_SK = uniforms_of(1, rows[0].shape[1], rows[0].shape[0])
    return torch.cat(
        [
            choose(guide(conditional[None], null[None], settings.cfg_coef), uniform_K[None], settings)
            for conditional, null, uniform_K in zip(*rows, uniforms_SK, strict=True)
        ]
    )


def report(lelm: LeLM, columns_KS: Tensor) -> None:
    """Print the comparison."""
    full, small = (logits_of(lelm, columns_KS, is_int8=is_int8) for is_int8 in (False, True))
    sampling = replace(lelm.config.sampling, penalty=1.0, frequency_penalty=0.0)
    tokens = drawn(full, sampling) == drawn(small, sampling)
    best = full[0].argmax(-1) == small[0].argmax(-1)
    print("codebook  part          logit error  same argmax  same draw")
    for codebook, delay in enumerate(lelm.config.delays):
        for name, share in (("whole song", 0.0), ("last quarter", 0.75)):
            start = delay + int(share * (columns_KS.shape[1] - 1 - delay))
            wanted, got = full[0][start:, codebook], small[0][start:, codebook]
            error = (got - wanted).square().mean().sqrt() / wanted.std()
            agreement = [same[start:, codebook].float().mean() for same in (best, tokens)]
            print(f"{codebook:8}  {name:12}  {error:11.2%}  {agreement[0]:11.2%}  {agreement[1]:9.2%}")


def main() -> int:
    """Measure one model."""
    parser = argparse.ArgumentParser(description="Compare an 8-bit key/value cache with the full one.")
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--layers", type=int, help="of a published size, both transformers at most")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    lelm = load(args.model, args.layers, choose_device(args.device))
    report(lelm, compose(lelm, args.frames))
    return 0


if __name__ == "__main__":
    sys.exit(main())
