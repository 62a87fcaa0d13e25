"""The fast variant's language model cases: fast_prefix, fast_greedy, fast_sampling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parity_cases.case import Case, Check, compare
from parity_cases.codec import check_all
from parity_cases.lm import Model
from songgen.models.levo.checkpoint import LanguageModelFiles
from songgen.models.levo.conditions import LevoConditions, StylePrompt
from songgen.models.levo.config import LevoConfig, read_config, with_max_frames
from songgen.models.levo.pattern import to_sequence
from songgen.models.levo.text import model_lyrics
from songgen.runtime.decode import CHECK_EVERY
from songgen.runtime.sampling import Sampling, SamplingRows, guide, kept_probabilities, penalize_frequency

LOGITS = 2e-5
PROBABILITIES = 2e-6
SAME_STEPS_FOR = ("cond_logits", "uncond_logits", "guided", "processed")


def read_fast(folder: Path) -> tuple[LevoConfig, dict[str, Tensor]]:
    """Configuration and weights of a checkpoint in the fast variant's published form."""
    config = read_config(folder / "config.yaml", search=[folder])
    assert config.files.language_model is not None
    return config, LanguageModelFiles(folder / config.files.language_model).read(config.special)


def load_fast(folder: Path, overlay: Mapping[str, Tensor] | None = None) -> Model:
    """The language model of a case folder, some published tensors replaced."""
    config, tensors = read_fast(folder)
    return Model.build(folder, config, tensors | {f"transformer.{k}": v for k, v in (overlay or {}).items()})


def conditions_of(model: Model, sub: Mapping[str, Any], prompt: Tensor | None) -> LevoConditions:
    """Conditions of a sub-case: lyrics as the user wrote them, the description as the model gets it."""
    style = StylePrompt(None if prompt is None else prompt[0])
    return model.text.of_model_text(model_lyrics(sub["gt_lyric"], bgm=False), sub["type_info"], style)


def run_fast_prefix(case: Case) -> Iterator[Check]:
    """Texts and prompts to ids, the prefix, and logits behind it."""
    model = load_fast(case.folder)
    config, lelm = model.config, model.lelm
    for name, sub in case.subs.items():
        conditions = conditions_of(model, sub, case.inputs.get(f"{name}.prompt"))
        prefix, _ = lelm.condition_provider.prefix(conditions)
        sequence = to_sequence(case.inputs[f"{name}.codes"][None], config.delays, config.special)
        inputs, _ = lelm.embed_codes(sequence.expand(2, -1, -1))
        whole = torch.cat([prefix, inputs], dim=1)
        logits = lelm.prompt(whole, None, lelm.new_state(2, whole.shape[1])).logits
        got = {
            "description.ids": conditions.lyric_ids,
            "description.structure_rows": conditions.structure_rows,
            "type_info.ids": conditions.description_ids,
            "prompt_ids": conditions.prompt_ids[:, 0],
            "prefix": whole[:, : prefix.shape[1] + 1],
            "logits": logits[:, 0, prefix.shape[1] :],
        }
        yield from check_all(name, got, case.expected_of(name), LOGITS)
        if "banned" in sub:
            yield compare(f"{name}.banned", conditions.banned, torch.tensor(sub["banned"], dtype=torch.int64))


def run_fast_greedy(case: Case) -> Iterator[Check]:
    """Whole songs with top_k = 1, step by step. The companion request, whose result is thrown away, is not
    run."""
    for name, sub in case.subs.items():
        overlay = sub.get("weights", "model.safetensors").removesuffix(".safetensors")
        extra = {} if overlay == "model" else case.tensors(f"lm/{overlay}")
        model, expected = load_fast(case.folder, extra), dict(case.expected_of(name))
        sampling = replace(model.config.sampling, temperature=1.0, top_k=1)
        conditions = conditions_of(model, sub, case.inputs.get(f"{name}.prompt"))
        config = with_max_frames(model.config, sub["max_tokens"] - 1)  # as published: the last is dropped
        got = greedy_song(replace(model, config=config), conditions, sampling)
        is_sane = "tokens_if_roles_kept" not in expected
        if not is_sane:  # the published engine swaps rows here: songgen keeps their roles
            wanted = expected.pop("tokens_if_roles_kept")
            last = [model.config.eos] if got["has_ended"] else []
            ours = torch.cat([got["tokens"][0, 0], torch.tensor(last, dtype=torch.int64)])
            yield compare(f"{name}.tokens_if_roles_kept", ours, wanted)
        for key, value in expected.items():
            if key in SAME_STEPS_FOR:
                steps = min(len(value), len(got[key])) if is_sane else sub["companion_steps"] - 1
                yield compare(f"{name}.{key}", got[key][:steps], value[:steps], LOGITS)
            elif key == "tokens" and is_sane:
                yield compare(f"{name}.{key}", got["tokens"], value)


def greedy_song(model: Model, conditions: LevoConditions, sampling: Sampling) -> dict[str, Any]:
    """Tokens of one song, and per step the logits of both rows, mixed, and as they are chosen from."""
    steps: list[Tensor] = []
    raw: list[tuple[Tensor, Tensor]] = []
    columns = model.decode(conditions, sampling, steps, raw)
    codes = columns[0]
    ends = (codes == model.config.eos).nonzero()
    length = int(ends[0]) if len(ends) else codes.numel()
    count = length + bool(len(ends))
    conditional, null = (torch.stack([pair[row][0] for pair in raw[:count]]) for row in (0, 1))
    mixed = guide(
        conditional.log_softmax(-1)[:, None],
        null.log_softmax(-1)[:, None],
        torch.full((count,), sampling.cfg_coef),
    )
    assert len(steps) <= len(codes) + CHECK_EVERY
    return {
        "tokens": codes[None, None, :length],
        "has_ended": bool(len(ends)),
        "cond_logits": conditional,
        "uncond_logits": null,
        "guided": mixed[:, 0],
        "processed": torch.stack([step[0] for step in steps[:count]]),
    }


def run_fast_sampling(case: Case) -> Iterator[Check]:
    """Logits, history and banned ids to the distribution that a token is drawn from."""
    tensors = case.expected
    for sub in case.meta["cases"]:
        rows_of_logits = tensors[f"logits.{sub['logits']}"]
        settings = Sampling(
            temperature=sub["temp"],
            top_k=sub["top_k"],
            cfg_coef=sub["guidance"],
            penalty=1.0,
            window=0,
            frequency_penalty=sub["frequency_penalty"],
        )
        rows = SamplingRows.of([settings], rows_of_logits.device)
        history = tensors.get(f"history.{sub['history']}", torch.tensor([], dtype=torch.int64))
        counts = torch.bincount(history, minlength=rows_of_logits.shape[-1]).float()
        banned = tensors[f"banned.{sub['banned']}"] if sub.get("banned") else None
        name = f"probs.{sub['id']}"
        if sub["rows"] == 1:
            logits = rows_of_logits[0].clone()[None, None]
        else:
            conditional, null = (row.log_softmax(-1)[None, None] for row in rows_of_logits[1:])
            logits = guide(conditional, null, rows.cfg_coef)
        logits = penalize_frequency(logits, counts, rows.frequency_penalty)
        if banned is not None:
            logits[..., banned] = float("-inf")
        yield compare(name, kept_probabilities(logits, rows)[0, 0], tensors[name], PROBABILITIES)
