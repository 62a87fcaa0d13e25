"""Cases of the codec in other ways than as a whole, and the arithmetic of comparing."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from parity_cases import Case, Check
from parity_cases.case import compare, pick, split_pick
from parity_cases.codec import check_all, decode_case, load_codec, load_vae

from songgen.models.levo.codec import track_codes
from songgen.models.levo.windows import CodecPrompt


def assert_all_ok(checks: Iterable[Check]) -> None:
    listed = list(checks)
    assert listed, "nothing was compared"
    assert all(check.ok for check in listed), "\n".join(check.line() for check in listed if not check.ok)


def test_decoding_behind_a_recorded_prompt(parity_root: Path) -> None:
    """The decode half of the prompt cases alone, from the recorded prompt latents and codes."""
    case = Case(parity_root / "levo/code2sound_prompt")
    with torch.inference_mode():
        codec = load_codec(case, case.tensors("weights"))
        vae = load_vae(case, "vae_config.json", case.tensors("vae_weights"))
        for sub, meta in case.subs.items():
            recorded = case.expected_of(sub)
            codes = [recorded.pop(f"prompt_codes_{track}")[0] for track in ("vocal", "bgm")]
            prompt = CodecPrompt(recorded.pop("prompt_latent")[0], torch.cat(codes))
            codes_KT = track_codes(case.inputs[f"{sub}.tokens"][0], meta["gen_type"])
            got = decode_case(codec, vae, case, sub, codes_KT=codes_KT, prompt=prompt)
            assert_all_ok(check_all(sub, got, recorded, 2e-5))


def test_single_track_codec_is_the_same_code(parity_root: Path) -> None:
    """v2-fast decodes mixed tokens with a codec of one track: other data, no other code."""
    case = Case(parity_root / "levo_fast/code2sound_1rvq")
    with torch.inference_mode():
        codec = load_codec(case, case.tensors("weights"))
        vae = load_vae(case, "vae_config.json", case.tensors("vae_weights"))
        for sub, meta in case.subs.items():
            tokens = case.inputs[f"{meta.get('same_inputs_as', sub)}.tokens"]
            got = decode_case(codec, vae, case, sub, codes_KT=tokens[0])
            recorded = {name: value for name, value in case.expected_of(sub).items() if "step" not in name}
            assert_all_ok(check_all(sub, got, recorded, 2e-5))


def test_a_recorded_tensor_that_nobody_computes_fails() -> None:
    """A misspelt or new name must not pass unseen."""
    (check,) = check_all("sub", {"wav": torch.zeros(2)}, {"waw": torch.zeros(2)}, 1e-5)
    assert not check.ok and check.note == "not computed here"


def test_comparison_sees_a_wrong_value() -> None:
    """The tolerance is relative to the largest recorded value."""
    expected = torch.tensor([1.0, 100.0])
    assert compare("x", expected + torch.tensor([0.0009, 0]), expected, 1e-5).ok
    assert not compare("x", expected + torch.tensor([0.0011, 0]), expected, 1e-5).ok


@pytest.mark.parametrize(
    ("name", "whole", "first", "count"),
    [
        ("wav_every5", "wav", 0, 2000),
        ("wav_first10", "wav", 0, 10),
        ("wav_last10", "wav", 9990, 10),
        ("wav_dense_7000", "wav", 7000, 2400),
        ("latents.0", "latents.0", 0, 10000),
    ],
)
def test_picks(name: str, whole: str, first: int, count: int) -> None:
    """Recorded pieces are contiguous pieces or every N-th from 0 on, of any axis."""
    values = torch.arange(10000)
    got_name, suffix = split_pick(name)
    picked = pick(values, suffix)
    assert (got_name, int(picked[0]), len(picked)) == (whole, first, count)
    assert torch.equal(pick(values[:, None].expand(-1, 2), suffix, dim=0)[:, 0], picked)


def test_unknown_pick() -> None:
    """A new way of picking must be noticed."""
    with pytest.raises(ValueError, match="'_some3' is not a way to pick"):
        pick(torch.zeros(3), "_some3")
