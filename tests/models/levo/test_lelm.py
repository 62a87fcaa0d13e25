"""The language model on the tiny checkpoint: cached steps, batches, prompts, published sizes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from songgen.models.base import Draft, Job, LmScore
from songgen.models.catalog import entries
from songgen.models.levo.checkpoint import build_lelm, read_lm_tensors, unused_lm_shapes
from songgen.models.levo.compose import ComposeOptions, compose, draft_of
from songgen.models.levo.conditions import fit_prompt, prompt_rows
from songgen.models.levo.lelm import LeLM
from songgen.models.levo.model import LevoModel
from songgen.models.levo.pattern import to_sequence
from songgen.models.levo.random_model import published_config
from songgen.models.levo.slots import LelmSlots
from songgen.requests import SongRequest
from songgen.runtime.checkpoint import build
from songgen.runtime.decode import Decoded
from songgen.runtime.sampling import Sampling

LYRICS = [
    "[verse] One. ; [chorus] Two and three.",
    "[intro-short] ; [verse] La.",
    "[verse] A longer text, in many words.",
]


@pytest.fixture(scope="module")
def lelm(tiny: LevoModel) -> LeLM:
    return tiny.parts.lelm.get()


def jobs(tiny: LevoModel, count: int, seconds: float = 3.0, **sampling: Any) -> Iterator[Job]:
    for number in range(count):
        request = SongRequest(idx=f"song{number}", lyrics=LYRICS[number % 3], descriptions="pop")
        length = seconds - 0.5 * (number % 3)
        yield Job(
            request.idx,
            request,
            number,
            Sampling(**sampling),
            max_seconds=length,
            conditions=tiny.condition(request),
        )


def tokens_of(drafts: Iterator[Draft]) -> dict[str, list[list[int]]]:
    return {draft.job.name: draft.tokens.tolist() for draft in drafts}


def test_cached_steps_equal_a_whole_pass(tiny: LevoModel, lelm: LeLM) -> None:
    """The same logits whether the columns are fed one by one or all at once behind the prefix."""
    config = lelm.config
    conditions = next(jobs(tiny, 1)).conditions
    codes = torch.randint(0, config.code_size, (3, 12), generator=torch.Generator().manual_seed(5))
    sequence = to_sequence(codes, (0, 2, 2), config.special)
    prefix, prefix_sub = lelm.condition_provider.prefix(conditions)
    first, second = lelm.embed_codes(sequence.expand(2, -1, -1))
    whole = lelm.prompt(
        torch.cat([prefix, first], 1), torch.cat([prefix_sub, second], 1), lelm.new_state(2)
    ).logits[:, :, prefix.shape[1] :]
    slots = LelmSlots(lelm, 2)
    slots.prefill(1, conditions)
    for column in range(sequence.shape[1]):
        fed = torch.stack([sequence[:, 0], sequence[:, column]])
        conditional, null = slots.step(fed, torch.tensor([0, column]), slots.capacity)
        got = torch.stack([conditional[1], null[1]])
        torch.testing.assert_close(got, whole[:, :, column], rtol=1e-4, atol=1e-4)


def test_batches_and_refills_give_the_tokens_of_songs_alone(tiny: LevoModel, lelm: LeLM) -> None:
    """Five songs of three texts and three lengths: equal one by one and several at once, in any order."""
    alone = tokens_of(compose(lelm, jobs(tiny, 5), ComposeOptions(1)))
    together = tokens_of(compose(lelm, iter(list(jobs(tiny, 5))[::-1]), ComposeOptions(3)))
    assert alone == together
    assert len({str(tokens) for tokens in alone.values()}) == 5


def test_greedy_songs_do_not_depend_on_the_seed(tiny: LevoModel, lelm: LeLM) -> None:
    (job,) = jobs(tiny, 1, seconds=1.0, temperature=0)
    first, second = (
        tokens_of(compose(lelm, iter([replace(job, seed=seed)]), ComposeOptions(1))) for seed in (1, 2)
    )
    assert first == second


def test_a_draft_says_why_it_stopped(tiny: LevoModel, lelm: LeLM) -> None:
    (draft,) = compose(lelm, jobs(tiny, 1, seconds=2.0), ComposeOptions(1))
    assert (draft.stopped, draft.tokens.shape) == ("length", (3, 50))
    assert int(draft.tokens.min()) >= 0 and int(draft.tokens.max()) < lelm.config.code_size


def test_a_limit_under_one_frame_is_one_frame(tiny: LevoModel) -> None:
    """A song of no frames threw in the middle of a batch, and its neighbours had to be composed again."""
    ended = list(compose(tiny.parts.lelm.get(), jobs(tiny, 1, seconds=0.001), ComposeOptions(2)))
    assert [draft.tokens.shape for draft in ended] == [(3, 1)]


@pytest.mark.parametrize(("ends", "length"), [((7, 9, 8), 7), ((0, 5, 5), 0), ((None, None, 4), 4)])
def test_the_first_end_of_any_row_cuts_all_rows(
    tiny: LevoModel, ends: tuple[int | None, ...], length: int
) -> None:
    config = tiny.config
    codes = torch.arange(3 * 12).reshape(3, 12)
    for row, end in enumerate(ends):
        if end is not None:
            codes[row, end], codes[row, end + 1 :] = config.eos, config.special
    log_probs = torch.full((2, 3, 12 + 1 + max(config.delays)), -1.0)
    decoded = Decoded(
        next(jobs(tiny, 1)), to_sequence(codes, config.delays, config.special), 12, 0.5, log_probs
    )
    draft = draft_of(decoded, config)
    assert draft.stopped == "eos"
    assert draft.tokens.tolist() == torch.arange(3 * 12).reshape(3, 12)[:, :length].tolist()
    assert draft.lm_score == (LmScore(-1.0, -1.0) if length else None)


def test_numbers_that_are_not_finite_are_an_error_and_no_song(tiny: LevoModel) -> None:
    """NaN logits drew no id at all, and the song was recorded as made."""
    columns = to_sequence(torch.full((3, 12), tiny.config.special), tiny.config.delays, tiny.config.special)
    with pytest.raises(ValueError, match="computed numbers that are not finite"):
        draft_of(Decoded(next(jobs(tiny, 1)), columns, 12, 0.5, torch.zeros(2, *columns.shape)), tiny.config)


def test_prompt_rows_fill_cut_and_mark_missing_rows() -> None:
    config = published_config(
        next(entry for entry in entries() if entry.name == "songgeneration_base").sizes, 150
    )
    assert (fit_prompt(None, config) == config.special).all()
    prompt = torch.arange(3 * 300).reshape(3, 300)
    prompt[1] = config.special
    fitted = fit_prompt(prompt, config)
    rows = prompt_rows(fitted, config)
    assert rows.shape == (2, 3, 251)
    assert rows[0, :, 0].tolist() == [config.eos, config.special, config.eos]
    assert rows[0, 0, 1:].tolist() == list(range(250))
    assert (rows[0, 1] == config.special).all() and (rows[1] == config.special).all()
    short = fit_prompt(prompt[:, :10], config)
    assert short[0, :10].tolist() == list(range(10)) and (short[0, 10:] == config.special).all()


MANIFESTS = {
    "songgeneration_base": "lm_base",
    "songgeneration_base_new": "lm_base",
    "songgeneration_base_full": "lm_base",
    "songgeneration_large": "lm_large",
    "songgeneration_v2_large": "lm_v2_large",
}


@pytest.mark.parametrize("name", sorted(MANIFESTS))
def test_published_sizes_have_exactly_the_published_tensors(name: str, repository: Path) -> None:
    (entry,) = [entry for entry in entries() if entry.name == name]
    config = published_config(entry.sizes, entry.max_seconds)
    lelm = build(
        lambda: LeLM(
            config,
            lyric_rows=int(entry.sizes["lyric_rows"]),
            description_rows=int(entry.sizes["description_rows"]),
        )
    )
    ours = {key: list(tensor.shape) for key, tensor in lelm.state_dict().items()}
    ours |= {key: list(shape) for key, shape in unused_lm_shapes(config).items()}
    path = repository / f"tests/golden/manifest/{MANIFESTS[name]}.tsv"
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    theirs = {
        row[0].removeprefix("audiolm."): json.loads(row[1]) for row in csv.reader(lines, delimiter="\t")
    }
    assert ours == theirs
    assert sum(torch.Size(shape).numel() for shape in ours.values()) == entry.parameters


def test_published_lengths_fit_the_published_positions() -> None:
    levo = [entry for entry in entries() if entry.family == "levo"]
    lengths = {entry.name: published_config(entry.sizes, entry.max_seconds).capacity for entry in levo}
    assert lengths["songgeneration_base"] == 602 + 4001
    assert lengths["songgeneration_large"] == 952 + 7001


def test_a_checkpoint_that_lacks_a_tensor_is_refused(tiny_folder: Path, tiny: LevoModel) -> None:
    tensors = read_lm_tensors(tiny_folder / "model.pt")
    del tensors["linears.1.weight"]
    with pytest.raises(ValueError, match=r"model\.pt: .* 1 missing: linears\.1\.weight"):
        build_lelm(
            tiny.config,
            tensors,
            source=tiny_folder / "model.pt",
            dtype=torch.float32,
            device=torch.device("cpu"),
        )


def test_unused_tensors_may_be_absent(tiny_folder: Path, tiny: LevoModel) -> None:
    tensors = read_lm_tensors(tiny_folder / "model.pt")
    kept = {key: tensor for key, tensor in tensors.items() if key not in unused_lm_shapes(tiny.config)}
    assert len(kept) == len(tensors) - 6
    build_lelm(tiny.config, kept, source="x", dtype=torch.float32, device=torch.device("cpu"))


@pytest.mark.parametrize("content", [{"weight": torch.ones(1)}, {"audiolm.mlp.0.bias": torch.ones(1)}])
def test_another_models_file_is_refused(
    tmp_path: Path, tiny: LevoModel, content: dict[str, torch.Tensor]
) -> None:
    path = tmp_path / "model.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match="is this a LeVo language model"):
        build_lelm(
            tiny.config, read_lm_tensors(path), source=path, dtype=torch.float32, device=torch.device("cpu")
        )
