"""The language model's cases: pattern, lm_prefill, lm_greedy, sampling."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parity_cases.case import Case, Check, compare
from parity_cases.codec import check_all
from songgen.models.levo.checkpoint import DESCRIPTION_TABLE, LM_PREFIX, build_lelm
from songgen.models.levo.compose import layout_of
from songgen.models.levo.condition import TextConditioner
from songgen.models.levo.conditions import LevoConditions, StylePrompt, fit_prompt
from songgen.models.levo.config import LevoConfig, read_config, with_max_frames
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.pattern import frame_mask, from_sequence, to_sequence, trim
from songgen.models.levo.slots import LelmSlots
from songgen.models.levo.text import null_description, pad_pair
from songgen.runtime.decode import SlotDecoder, Task, slots_for
from songgen.runtime.sampling import Sampling, SamplingRows, choose, guide, kept_probabilities, penalize

LOGITS = 2e-5
PROBABILITIES = 1e-5
CPU = torch.device("cpu")
NO_HISTORY = ("none", "empty")


@dataclass(frozen=True)
class Model:
    """A language model of a case folder."""

    config: LevoConfig
    lelm: LeLM
    text: TextConditioner

    @classmethod
    def load(cls, folder: Path, weights: dict[str, Tensor]) -> Model:
        """Build from the folder's config.yaml and tokenizer."""
        config = read_config(folder / "config.yaml", search=[folder])
        tensors = {name.removeprefix(LM_PREFIX): tensor for name, tensor in weights.items()}
        return cls.build(folder, config, tensors)

    @classmethod
    def build(cls, folder: Path, config: LevoConfig, tensors: dict[str, Tensor]) -> Model:
        """Build from a configuration, weights under the names of `LeLM`, and the folder's tokenizer."""
        device = torch.device("cpu")
        lelm = build_lelm(config, tensors, source=folder, dtype=torch.float32, device=device)
        tokenizer = folder / config.files.tokenizer
        text = TextConditioner.load(config, tokenizer, tensors[DESCRIPTION_TABLE].shape[0])
        return cls(config, lelm, text)

    def conditions(self, sub: dict[str, Any], prompt: Tensor | None) -> LevoConditions:
        """Conditions of a sub-case, whose texts are as the model gets them."""
        style = StylePrompt(None if prompt is None else prompt[0])
        return self.text.of_model_text(sub["lyric"], sub["description"], style)

    def decode(
        self,
        conditions: LevoConditions,
        sampling: Sampling,
        steps: list[Tensor] | None = None,
        raw: list[tuple[Tensor, Tensor]] | None = None,
    ) -> Tensor:
        """All columns of one song, run to its published end, as codes `[K, T]`.

        Args:
            steps, raw: get, step by step, the logits that tokens are chosen from, and those of both rows.
        """
        decoder: SlotDecoder[int] = SlotDecoder(
            RecordedSlots(self.lelm, [] if raw is None else raw),
            layout_of(self.config),
            slots_for(1, CPU),
            device=CPU,
            stop_early=False,
            on_logits=None if steps is None else lambda logits: steps.append(logits[0].clone()),
        )
        task = Task(0, conditions, conditions.banned, self.config.max_frames, sampling, seed=0)
        (decoded,) = decoder.run(iter([task]))
        return from_sequence(decoded.columns, self.config.delays)


class RecordedSlots(LelmSlots):
    """Slots that keep the logits of the first one."""

    def __init__(self, lelm: LeLM, raw: list[tuple[Tensor, Tensor]]) -> None:
        super().__init__(lelm, slots_for(1, CPU))
        self._raw = raw

    def step(self, ids_BK: Tensor, column_B: Tensor, window: int) -> tuple[Tensor, Tensor]:
        """As `LelmSlots.step`."""
        conditional, null = super().step(ids_BK, column_B, window)
        self._raw.append((conditional[0].clone(), null[0].clone()))
        return conditional, null


def run_prefill(case: Case) -> Iterator[Check]:
    """Texts to ids to prefix to logits."""
    model = Model.load(case.folder, case.tensors("weights"))
    for name, sub in case.subs.items():
        inputs = case.inputs_of(name)
        got = prefill_tensors(model, dict(sub), inputs.get("prompt"), inputs["codes"][0])
        if "sequence" in inputs:
            yield compare(f"{name}.sequence", got["sequence"], inputs["sequence"])
        yield from check_all(name, got, case.expected_of(name), LOGITS)


def prefill_tensors(
    model: Model, sub: dict[str, Any], prompt: Tensor | None, codes_KT: Tensor
) -> dict[str, Tensor]:
    """Everything that a prefill case may record of one sub-case."""
    config, lelm = model.config, model.lelm
    conditions = model.conditions(sub, prompt)
    embedded = lelm.condition_provider.embed(conditions)
    prefix, prefix_sub = lelm.condition_provider.prefix(conditions)
    sequence_KS = to_sequence(codes_KT, config.delays, config.special)
    first, second = lelm.embed_codes(sequence_KS.expand(2, -1, -1))
    length = prefix.shape[1] + first.shape[1]
    state = lelm.new_state(2, max(length, config.capacity))
    out = lelm.prompt(torch.cat([prefix, first], 1), torch.cat([prefix_sub, second], 1), state)
    logits_BKSV = out.logits[:, :, prefix.shape[1] :]
    last = guide(logits_BKSV[:1, :, -1], logits_BKSV[1:, :, -1], torch.tensor([config.sampling.cfg_coef]))[0]
    return {
        **raw_ids("description", model.text.lyrics, sub["lyric"], None),
        **raw_ids(
            "type_info",
            model.text.descriptions,
            sub["description"],
            null_description(sub["description"], model.text.version),
        ),
        "sequence": sequence_KS[None],
        "description.ids": conditions.lyric_ids,
        "description.structure_rows": conditions.structure_rows,
        "description.emb": embedded["description"][0],
        "type_info.ids": conditions.description_ids,
        "type_info.emb": embedded["type_info"][0],
        "qt": fit_prompt(None if prompt is None else prompt[0], config)[None],
        "prompt_emb1": embedded["prompt_audio"][0],
        "prompt_emb2": embedded["prompt_audio"][1],
        "prefix1": prefix,
        "prefix2_premlp": prefix_sub,
        "t1_hidden": out.hidden,
        "t2_in": out.bridged,
        "t2_hidden": out.hidden_sub,
        "logits": logits_BKSV,
        "cfg_logits_last": last,
    }


def raw_ids(name: str, tokenizer: Any, text: str | None, null: str | None) -> dict[str, Tensor]:
    """Ids of a text and its null text padded to the longer one only, and where they are no padding."""
    rows = [tokenizer.encode(text), tokenizer.encode(null)]
    ids = pad_pair(rows[0], rows[1], None, tokenizer.pad_id)
    places = torch.arange(ids.shape[1])
    mask = torch.stack([places < len(row) for row in rows]).long()
    return {f"{name}.raw_ids": ids, f"{name}.raw_mask": mask}


def run_greedy(case: Case) -> Iterator[Check]:
    """Whole greedy songs, step by step."""
    models: dict[str, Model] = {}
    for name, sub in case.subs.items():
        overlay = str(sub.get("weights", "weights.safetensors")).removesuffix(".safetensors")
        if overlay not in models:
            models[overlay] = Model.load(case.folder, case.tensors("weights") | case.tensors(overlay))
        model, expected = models[overlay], case.expected_of(name)
        if case.setting(name, "use_sampling", False):
            raise ValueError(f"{name}: use_sampling; only greedy songs can be compared")
        inputs = case.inputs_of(name)
        prompt = inputs["prompt"] if sub.get("prompt") else inputs.get("prompt")
        conditions = model.conditions(dict(sub), prompt)
        steps: list[Tensor] = []
        sampling = Sampling(
            temperature=0,
            cfg_coef=case.setting(name, "cfg_coef", 1.5),
            penalty=1.1 if case.setting(name, "record_tokens", True) else 1.0,
            window=case.setting(name, "record_window", 50),
        )
        frames = case.setting(name, "max_gen_len", model.config.max_frames)
        model = replace(model, config=with_max_frames(model.config, frames))
        out_KT = model.decode(conditions, sampling, steps)
        tokens_KT, _ = trim(out_KT, model.config.eos)
        got = {"out": out_KT[None], "tokens": tokens_KT[None]}
        got["step_logits"] = torch.stack(steps[: published_steps(out_KT, model.config)])
        yield from check_all(name, got, expected, LOGITS)


def published_steps(out_KT: Tensor, config: LevoConfig) -> int:
    """Steps until all rows have ended; ours go on to the next look at the ended flags."""
    ends = [(row == config.eos).nonzero() for row in out_KT]
    if not all(len(end) for end in ends):
        return out_KT.shape[1] + max(config.delays)
    return max(int(end[0]) + delay for end, delay in zip(ends, config.delays, strict=True)) + 1


def run_sampling(case: Case) -> Iterator[Check]:
    """Logits and history to the distribution that tokens are drawn from."""
    tensors = case.expected
    for sub in case.meta["cases"]:
        logits = tensors[f"logits.{sub['logits']}"][:, :, 0]
        settings = Sampling(
            temperature=sub["temp"] if sub["use_sampling"] else 0.0,
            top_k=sub["top_k"],
            top_p=sub["top_p"],
            cfg_coef=sub["cfg_coef"],
            window=sub["window"],
        )
        rows = SamplingRows.of([settings], logits.device)
        guided = guide(logits[:1], logits[1:], rows.cfg_coef)
        if sub["history"] not in NO_HISTORY and settings.window:
            history = tensors[f"history.{sub['history']}"]
            guided = penalize(guided, history[None, :, -settings.window :], rows.penalty)
        if sub["ignore"] is not None:
            guided[:, 0, tensors[f"ignore.{sub['ignore']}"]] = float("-inf")
        name = f"{sub['result']}.{sub['id']}"
        if sub["result"] == "argmax":
            uniforms = torch.zeros(guided.shape[:2], dtype=torch.float64)
            yield compare(name, choose(guided, uniforms, rows)[0], tensors[name])
        elif sub["result"] != "probs":
            raise ValueError(f"case {sub['id']}: result {sub['result']!r}; one of probs, argmax")
        else:
            yield compare(name, kept_probabilities(guided, rows)[0], tensors[name], PROBABILITIES)


def run_pattern(case: Case) -> Iterator[Check]:
    """Codes to delayed columns and back."""
    for number, sub in enumerate(case.meta["cases"]):
        codes, delays, special = torch.tensor(sub["codes"]), sub["delays"], sub["special"]
        sequence = to_sequence(codes, delays, special)
        mask = frame_mask(sub["timesteps"], delays)
        yield compare(f"{number}.sequence", sequence, torch.tensor(sub["sequence"]))
        yield compare(f"{number}.mask", mask.long(), torch.tensor(sub["mask"]))
        yield compare(f"{number}.reverted", from_sequence(sequence, delays), torch.tensor(sub["reverted"]))
        got = torch.tensor([sequence.shape[1], 1 + min(delays)])
        yield compare(
            f"{number}.lengths", got, torch.tensor([sub["sequence_length"], sub["first_step_with_t0"]])
        )
        if "cut" in sub:
            sequence[:, sub["cut"] :] = special
            yield compare(f"{number}.cut_sequence", sequence, torch.tensor(sub["cut_sequence"]))
            yield compare(
                f"{number}.cut_reverted", from_sequence(sequence, delays), torch.tensor(sub["cut_reverted"])
            )
