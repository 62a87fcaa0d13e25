"""Cases of the recorded forms with other content: nothing recorded is passed over, nothing is guessed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from parity import main, run_case
from parity_cases import Check
from parity_cases.case import Case, Tensors, compare, pick, pick_like, under
from safetensors.torch import load_file, save_file
from torch import Tensor

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "levo"

Meta = dict[str, Any]
Recorded = dict[str, Tensor]


def changed(
    source: Path,
    folder: Path,
    *,
    meta: Callable[[Meta], object] = lambda meta: None,
    expected: Callable[[Recorded], Recorded] = lambda recorded: recorded,
) -> Path:
    """A copy of a case, by links, with another case.json and other expected tensors."""
    folder.mkdir(exist_ok=True)
    for path in source.iterdir():
        if path.name not in ("case.json", "expected.safetensors"):
            (folder / path.name).symlink_to(path)
    description = json.loads((source / "case.json").read_text("utf-8"))
    meta(description)
    (folder / "case.json").write_text(json.dumps(description), "utf-8")
    recorded = expected(load_file(source / "expected.safetensors"))
    save_file({name: tensor.clone() for name, tensor in recorded.items()}, folder / "expected.safetensors")
    return folder


def failing(checks: list[Check]) -> list[str]:
    return [check.name for check in checks if not check.ok]


@pytest.mark.parametrize(
    ("case", "known"),
    [
        ("rvq", "1rvq.rvq_bestrq_emb"),
        ("vae", "vae_tiny"),
        ("code2sound", "short"),
        ("lm_v2_greedy", "eos"),
        ("sampling", "probs"),
    ],
)
def test_what_is_recorded_and_not_computed_fails(tmp_path: Path, case: str, known: str) -> None:
    """A new intermediate of a known sub-case, and a sub-case that case.json does not name."""
    extra = {f"{known}.strange": torch.zeros(2), "nobody.wav": torch.zeros(2)}
    checks = run_case(changed(GOLDEN / case, tmp_path, expected=lambda recorded: recorded | extra))
    assert sorted(failing(checks)) == sorted(extra)


def keep_one_sub(meta: Meta) -> None:
    meta["sub"] = {"renamed": {**meta["sub"]["eos"], "same_inputs_as": "eos"}}


def test_a_renamed_sub_case_with_few_tensors(tmp_path: Path) -> None:
    """Sub-cases have any name, and differ in what they store; steps may be stored in part."""
    folder = changed(
        GOLDEN / "lm_v2_greedy",
        tmp_path,
        meta=keep_one_sub,
        expected=lambda recorded: {
            "renamed.tokens": recorded["eos.tokens"],
            "renamed.step_logits_last9": recorded["eos.step_logits"][..., -9:],
        },
    )
    checks = run_case(folder)
    assert [check.name for check in checks] == ["renamed.tokens", "renamed.step_logits_last9"]
    assert not failing(checks)


def test_pieces_of_a_thinned_tensor(tmp_path: Path) -> None:
    """Beside every 7th sample without a mark, marked pieces of the same decode: one was taken for another."""

    def pieces(recorded: Recorded) -> Recorded:
        name = "vae_tiny.chunked1000"
        return {
            name: recorded[name],
            f"{name}_every21": recorded[name][..., ::3],
            f"{name}_every7": recorded[name],
        }

    checks = run_case(changed(GOLDEN / "vae", tmp_path, expected=pieces))
    assert len(checks) == 3 and not failing(checks)


@pytest.mark.parametrize(
    ("case", "meta", "message"),
    [
        ("code2sound", lambda meta: meta["sub"]["short"].update(gen_type="opera"), "stem 'opera'"),
        (
            "code2sound",
            lambda meta: meta["sub"]["short"].update(vae_kwargs={"seam": 3}),
            "VAE options .*seam",
        ),
        ("lm_v2_greedy", lambda meta: meta.update(use_sampling=True), "use_sampling; only greedy"),
        (
            "lm_v2_greedy",
            lambda meta: meta["sub"]["eos"].update(same_inputs_as="x"),
            "no tensor inputs: x.prompt",
        ),
        (
            "sampling",
            lambda meta: meta["cases"][0].update(result="logits"),
            "result 'logits'; one of probs, argmax",
        ),
        (
            "sampling",
            lambda meta: meta["cases"][0].update(history="other"),
            "no tensor expected: history.other",
        ),
    ],
)
def test_unknown_values_are_named(
    tmp_path: Path, case: str, meta: Callable[[Meta], object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run_case(changed(GOLDEN / case, tmp_path, meta=meta))


@pytest.mark.parametrize(("name", "value"), [("scenario", "start_seg"), ("latent_length", 900)])
def test_frame_marks_that_never_occur(tmp_path: Path, parity_root: Path, name: str, value: object) -> None:
    def mark(meta: Meta) -> None:
        meta["sub"]["codes_ctx0"][name] = value

    with pytest.raises(ValueError, match=f"codes_ctx0: scenario .*{value}.* only 'other_seg' with 1000"):
        run_case(changed(parity_root / "levo" / "cfm", tmp_path, meta=mark))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"generate_type": "opera"}, "run bgm: generate_type 'opera'; one of mixed, vocal, bgm, separate"),
        ({"version": "v1"}, "run bgm: version 'v1', but the weights are of v2"),
        ({"items": []}, "run bgm: 2 lines, but 0 items are recorded"),
    ],
)
def test_runs_that_do_not_fit_their_case(
    tmp_path: Path, parity_root: Path, change: Meta, message: str
) -> None:
    def alter(meta: Meta) -> None:
        meta["runs"] = {"bgm": {**meta["runs"]["bgm"], **change}}

    with pytest.raises(ValueError, match=message):
        run_case(changed(parity_root / "levo" / "generate_e2e", tmp_path, meta=alter))


def test_a_run_without_prompts_needs_no_files_of_prompts(tmp_path: Path, parity_root: Path) -> None:
    """Separator, prompt library, the encoder of the mixture and what songs were written are optional."""

    def first_item(meta: Meta) -> None:
        run = meta["runs"]["bgm"]
        meta["runs"] = {"bgm": {**run, "items": run["items"][:1]}}
        for name in ("prompt_signal", "demucs_kwargs_override", "demucs_shift_offset"):
            meta.pop(name)

    def of_first(recorded: Recorded) -> Recorded:
        return {name: tensor for name, tensor in recorded.items() if name.startswith("bgm_nodesc.")}

    source = parity_root / "levo" / "generate_e2e"
    changed(source, tmp_path, meta=first_item, expected=of_first)
    (tmp_path / "bgm.jsonl").unlink()
    (tmp_path / "bgm.jsonl").write_text((source / "bgm.jsonl").read_text("utf-8").splitlines()[0] + "\n\n")
    for pattern in ("htdemucs*", "auto_prompt*", "model_1rvq*", "expected_*.jsonl"):
        for path in tmp_path.glob(pattern):
            path.unlink()
    checks = run_case(tmp_path)
    assert len(checks) == 5 and not failing(checks)


def test_a_song_length_that_a_product_would_cut(tmp_path: Path) -> None:
    """29 frames are 1.16 s, and 1.16 * 25 is less than 29 in doubles: songs of 28 frames were compared."""

    def short(meta: Meta) -> None:
        keep_one_sub(meta)
        meta["max_gen_len"] = 29

    checks = run_case(
        changed(
            GOLDEN / "lm_v2_greedy",
            tmp_path,
            meta=short,
            expected=lambda recorded: {"renamed.out": recorded["eos.out"][..., :29]},
        )
    )
    assert not [check for check in checks if "shape" in check.note]


def test_one_broken_case_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What case.json lacks is named, and the cases behind are run."""
    folder = changed(GOLDEN / "sampling", tmp_path, meta=lambda meta: meta["cases"][0].pop("temp"))
    assert main([str(folder), str(GOLDEN / "pattern"), "--quiet"]) == 2
    printed = capsys.readouterr().out
    assert "cannot run: case.json lacks 'temp'" in printed
    assert "42 of 42 ok" in printed


@pytest.mark.parametrize(("suffix", "dim"), [("_first5", 1), ("_last5", 0), ("_every3", 2), ("_dense_7", 1)])
def test_the_recorded_shape_tells_the_axis(suffix: str, dim: int) -> None:
    tensor = torch.randn(11, 12, 13)
    expected = pick(tensor, suffix, dim, dense_length=4)
    assert torch.equal(pick_like(tensor, suffix, expected), expected)


def test_a_missing_tensor_is_named_with_its_prefix() -> None:
    tensors = under(Tensors({"a.b.x": torch.zeros(1)}, "inputs: "), "a")
    assert "b.x" in tensors and "b.y" not in tensors
    with pytest.raises(ValueError, match=r"no tensor inputs: a\.b\.y"):
        under(tensors, "b")["y"]


def test_a_setting_is_the_sub_cases_own_first(tmp_path: Path) -> None:
    (tmp_path / "case.json").write_text('{"kind": "x", "steps": 4, "sub": {"a": {"steps": 3}, "b": {}}}')
    case = Case(tmp_path)
    assert [case.setting("a", "steps", 10), case.setting("b", "steps", 10), case.setting("b", "y", 1)] == [
        3,
        4,
        1,
    ]


def test_an_infinity_of_the_other_sign_differs() -> None:
    assert not compare("x", torch.tensor([1.0, float("inf")]), torch.tensor([1.0, float("-inf")]), 1.0).ok
