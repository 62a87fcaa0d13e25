"""Separation: chunks, shift, 16 bit, and reading the published files safely."""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from songgen.models.separation import (
    PUBLISHED_OPTIONS,
    Separator,
    as_pcm16,
    build_network,
    load_separator,
    option_value,
    read_options,
)

TINY = {
    "channels": 4,
    "dconv_comp": 4,
    "bottom_channels": 16,
    "t_heads": 2,
    "t_layers": 3,
    "t_hidden_scale": 2.0,
}


class Halves(nn.Module):
    """A stand-in network of 4 s segments at 100 Hz: one stem is the chunk's mean level, one the rest."""

    samplerate = 100
    segment = Fraction(4)
    sources = ("rest", "vocal")

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.batches: list[int] = []

    def forward(self, clips: Tensor) -> Tensor:
        """Both stems add up to the clip."""
        assert clips.shape[-1] == 400
        self.batches.append(clips.shape[0])
        level = clips.abs().mean(-1, keepdim=True).expand_as(clips)
        return torch.stack([clips - level, level], dim=1)


def clip(length: int, seed: int = 0) -> Tensor:
    return torch.randn(2, length, generator=torch.Generator().manual_seed(seed)) * 0.3 + 0.1


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 1500), st.integers(0, 50))
def test_stems_have_the_length_of_the_clip_and_add_up(length: int, offset: int) -> None:
    """Chunks put together again must leave no seam, gap or shift, whatever the lengths."""
    mixture = clip(length)
    (stems,) = Separator(Halves()).separate([mixture], [offset])
    assert stems.shape == (2, 2, length)
    torch.testing.assert_close(stems.sum(0) - mixture.mean(), mixture, rtol=0, atol=1e-4)


def reference(mixture: Tensor, offset: int) -> Tensor:
    """The published procedure, sample by sample where it is easier to read that way."""
    segment, stride, shift = 400, 300, 50
    mono = mixture.mean(0)
    signal = (mixture - mono.mean()) / mono.std()
    padded = torch.cat([torch.zeros(2, shift), signal, torch.zeros(2, shift)], 1)
    length = mixture.shape[1] + shift - offset
    triangle = torch.tensor([*range(1, 201), *range(200, 0, -1)]) / 200
    total, weights = torch.zeros(2, 2, length), torch.zeros(length)
    for start in range(0, length, stride):
        size = min(segment, length - start)
        left = (segment - size) // 2
        places = range(offset + start - left, offset + start - left + segment)
        window = torch.stack(
            [padded[:, at] if 0 <= at < padded.shape[1] else torch.zeros(2) for at in places], dim=1
        )
        output = Halves()(window[None])[0].detach()
        total[..., start : start + size] += triangle[:size] * output[..., left : left + size]
        weights[start : start + size] += triangle[:size]
    return (total / weights)[..., shift - offset :] * mono.std() + mono.mean()


@pytest.mark.parametrize("length", [37, 310, 400, 777, 1203])
@pytest.mark.parametrize("offset", [0, 17, 50])
def test_chunks_are_the_published_ones(length: int, offset: int) -> None:
    (stems,) = Separator(Halves()).separate([clip(length)], [offset])
    torch.testing.assert_close(stems, reference(clip(length), offset), rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 3000), st.integers(0, 50), st.integers(1, 4))
def test_stretches_put_together_are_the_stems(length: int, offset: int, rows: int) -> None:
    """What long songs are separated by, piece by piece, gives the same to the bit."""
    separator = Separator(Halves())
    stretches = list(separator.stretches([clip(length)], [offset], rows=rows))
    assert {number for number, _ in stretches} == {0}
    joined = torch.cat([stretch for _, stretch in stretches], dim=-1)
    assert torch.equal(joined, separator.separate([clip(length)], [offset])[0])


def test_stretches_come_one_after_another() -> None:
    """No chunk is run, and none is held, before the stretches ahead of it were taken."""
    network = Halves()
    stretches = Separator(network).stretches([clip(100_000)], [0])
    for count in range(1, 5):
        _, stretch = next(stretches)
        assert network.batches == [1] * count
        assert stretch.shape[-1] <= 300


def test_clips_together_and_alone() -> None:
    network = Halves()
    clips, offsets = [clip(700), clip(90, 1), clip(1100, 2)], [3, 50, 20]
    together = Separator(network).separate(clips, offsets, rows=3)
    assert network.batches == [3, 3, 2]
    for stems, one, offset in zip(together, clips, offsets, strict=True):
        torch.testing.assert_close(stems, Separator(Halves()).separate([one], [offset])[0], rtol=0, atol=1e-6)


def test_the_shift_matters() -> None:
    separator = Separator(Halves())
    (one,), (other,) = separator.separate([clip(700)], [0]), separator.separate([clip(700)], [30])
    assert not torch.allclose(one, other, atol=1e-3)


def test_a_constant_clip_is_no_division_by_zero() -> None:
    (stems,) = Separator(Halves()).separate([torch.zeros(2, 500)], [5])
    assert not stems.isnan().any()


@pytest.mark.parametrize("offset", [-1, 51])
def test_offset_out_of_range(offset: int) -> None:
    with pytest.raises(ValueError, match=rf"shift offset {offset} is not within 0 \.\.\. 50"):
        Separator(Halves()).separate([clip(100)], [offset])


def test_vocals_are_found_by_name() -> None:
    network = Halves()
    assert Separator(network).vocal == 1
    network.sources = ("vocals", "rest")
    assert Separator(network).vocal == 0
    network.sources = ("drums", "rest")
    with pytest.raises(ValueError, match="knows no vocals, only drums, rest"):
        _ = Separator(network).vocal


def test_16_bit_with_the_published_peak_rule() -> None:
    quiet = torch.tensor([[0.5, -0.25, 1.4 / 32768, 0.99]])
    assert as_pcm16(quiet).tolist() == [[16384, -8192, 1, 32440]]
    loud = torch.tensor([[2.0, -1.0]])
    assert as_pcm16(loud).tolist() == [[round(32768 / 1.01), -round(16384 / 1.01)]]
    assert as_pcm16(torch.tensor([[1.0, -1.0]])).tolist() == [[32444, -32444]]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    pytest.importorskip("demucs")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_network({**PUBLISHED_OPTIONS, **TINY})


def options_yaml(path: Path, text: str = "") -> Path:
    path.write_text(text or "".join(f"{name}: {value}\n" for name, value in TINY.items()), "utf-8")
    return path


def package(network: nn.Module, **changes: Any) -> dict[str, Any]:
    """What demucs itself saves: half precision, class and options beside the weights."""
    state = {name: tensor.half() for name, tensor in network.state_dict().items()}
    whole = {"klass": type(network), "args": (), "kwargs": {**PUBLISHED_OPTIONS, **TINY}, "state": state}
    return {**whole, "training_args": {"seed": 42, "lr": 3e-4}, **changes}


@pytest.mark.parametrize("form", ["safetensors", "state dict", "package"])
def test_weights_of_every_form_load(network: nn.Module, tmp_path: Path, form: str) -> None:
    path, config = tmp_path / "htdemucs.pth", options_yaml(tmp_path / "htdemucs.yaml")
    wanted = network.state_dict()
    if form == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file(wanted, path)
    elif form == "state dict":
        torch.save(wanted, path)
    else:
        torch.save(package(network), path)
        config = options_yaml(config, "models: ['htdemucs']\n")
    separator = load_separator(path, config)
    assert separator.sources[separator.vocal] == "vocal"
    assert (separator.sample_rate, separator.segment, separator.max_shift) == (44100, 343980, 22050)
    loaded = separator.network.state_dict()
    assert not separator.network.training
    for name, tensor in wanted.items():
        assert loaded[name].dtype == torch.float32
        torch.testing.assert_close(loaded[name], tensor.half().float() if form == "package" else tensor)


def test_the_real_network_runs(network: nn.Module) -> None:
    separator = Separator(network)
    mixture = torch.randn(2, 4410, generator=torch.Generator().manual_seed(1)) * 0.1
    (stems,) = separator.separate([mixture], [22050])
    assert stems.shape == (4, 2, 4410)
    assert stems.isfinite().all()


def test_published_names_and_shapes(repository: Path) -> None:
    pytest.importorskip("demucs")
    lines = (repository / "tests" / "golden" / "manifest" / "htdemucs.tsv").read_text("utf-8").splitlines()
    published = dict(line.split("\t")[:2] for line in lines if not line.startswith("#"))
    with torch.device("meta"):
        state = build_network(PUBLISHED_OPTIONS).state_dict()
    assert {name: str(list(value.shape)) for name, value in state.items()} == published


class Exploit:
    """Pickles to a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (print, ("owned",))


def test_a_package_with_code_is_refused(network: nn.Module, tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "htdemucs.pth"
    torch.save(package(network, extra=Exploit()), path)
    with pytest.raises(ValueError, match=r"refused, as it holds more than weights: .*print"):
        load_separator(path)
    assert "owned" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": None}, "without `state` and `kwargs`"),
        ({"kwargs": [1]}, "without `state` and `kwargs`"),
        ({"args": (4,)}, "positional options"),
        ({"kwargs": {"sources": ["vocal"], "chanels": 3}}, "no option chanels"),
    ],
)
def test_a_package_that_is_none(
    network: nn.Module, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "htdemucs.pth"
    torch.save(package(network, **changes), path)
    with pytest.raises(ValueError, match=reason):
        load_separator(path)


def test_weights_that_do_not_fit(network: nn.Module, tmp_path: Path) -> None:
    state = network.state_dict()
    state.pop("encoder.0.conv.bias")
    path = tmp_path / "htdemucs.safetensors"
    save_file(state, path)
    with pytest.raises(ValueError, match=r"htdemucs.safetensors.*missing: encoder.0.conv.bias"):
        load_separator(path, options_yaml(tmp_path / "htdemucs.yaml"))


def test_files_that_are_no_weights(network: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"htdemucs.pth: no such file"):
        load_separator(tmp_path / "htdemucs.pth")
    (tmp_path / "htdemucs.pth").write_bytes(b"not a pickle")
    with pytest.raises(ValueError, match=r"htdemucs.pth: cannot be read"):
        load_separator(tmp_path / "htdemucs.pth")
    torch.save(package(network), tmp_path / "whole.pth")
    (tmp_path / "cut.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:-5000])
    with pytest.raises(ValueError, match=r"cut.pth: cannot be read"):
        load_separator(tmp_path / "cut.pth")


@pytest.mark.parametrize(
    "text",
    [
        "channels: 4\nsegment: 39/5\nt_emb: sin\nmulti_freqs: []\n",
        "channels: '4'\nsegment: '39/5'\nt_emb: sin\nmulti_freqs: '[]'\n",
        "kwargs:\n  channels: 4\n  segment: 39/5\n  t_emb: sin\n  multi_freqs: []\nklass: HTDemucs\n",
        "htdemucs:\n  channels: 4\n  segment: 39/5\n  t_emb: sin\n  multi_freqs: []\n",
    ],
)
def test_options_in_all_their_spellings(tmp_path: Path, text: str) -> None:
    options = read_options(options_yaml(tmp_path / "x.yaml", text))
    assert options == {"channels": 4, "segment": Fraction(39, 5), "t_emb": "sin", "multi_freqs": []}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]\n", "must hold a table"),
        ("a: [\n", "cannot be read as yaml"),
        ("a: !!python/object/apply:os.getcwd []\n", "cannot be read as yaml"),
        ("segment: soon\n", "x.yaml: segment 'soon' is no number of seconds"),
        ("segment: 1/0\n", "segment '1/0' is no number of seconds"),
    ],
)
def test_a_yaml_that_is_none(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_options(options_yaml(tmp_path / "x.yaml", text))


def test_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"x.yaml: no such file"):
        read_options(tmp_path / "x.yaml")


def test_option_values() -> None:
    assert option_value("segment", 7.8) == Fraction(39, 5)
    assert option_value("t_lr", "None") is None
    assert option_value("t_mask_type", "diag") == "diag"


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "demucs.htdemucs", None)
    with pytest.raises(ValueError, match=r"prompt audio needs the demucs package: pip install --no-deps"):
        build_network(PUBLISHED_OPTIONS)


def test_the_callers_random_numbers_are_left_alone(network: nn.Module) -> None:
    before = torch.random.get_rng_state()
    Separator(network).separate([clip(500)], [0])
    assert torch.equal(torch.random.get_rng_state(), before)
