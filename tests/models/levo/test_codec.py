"""The codec's decode half: names and sizes of published files, stems, the latents of a window."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from songgen.models.levo.codec import (
    FILL_BGM,
    FILL_VOCAL,
    CodecConfig,
    FlowWindow,
    LevoCodec,
    Stem,
    choose_codec_dtype,
    ignored_shapes,
    track_codes,
)
from songgen.nn.flow_matching import LatentStats
from songgen.nn.weight_norm import fuse_weight_norm_

SMALL = CodecConfig(
    latent_dim=4,
    ssl_dim=6,
    codebook_size=20,
    codebook_dim=3,
    mask_dim=4,
    num_layers=1,
    num_heads=2,
    inner_dim=30,
    num_positions=40,
    vocab_size=7,
    projection_dims=(5, 3),
)
SINGLE = dataclasses.replace(SMALL, num_tracks=1, mask_dim=2)
PUBLISHED_SINGLE = CodecConfig(num_tracks=1, mask_dim=48, num_layers=39, num_heads=30, inner_dim=4800)
PUBLISHED = {"codec_septoken": CodecConfig(), "codec_1rvq_decode": PUBLISHED_SINGLE}
"""Manifest -> sizes: the dual-track codec, and the single-track one as v2-fast decodes with it."""
FRAMES = 40


def build(config: CodecConfig) -> LevoCodec:
    torch.manual_seed(4)
    codec = LevoCodec(config).requires_grad_(False).eval()
    for parameter in codec.parameters():
        parameter += 0.1 * torch.randn_like(parameter)
    codec.normfeat.counts.fill_(100_000)
    codec.normfeat.sum_x.fill_(50_000)
    codec.normfeat.sum_x2.fill_(425_000)
    fuse_weight_norm_(codec)
    return codec


@pytest.fixture(scope="module")
def codec() -> LevoCodec:
    return build(SMALL)


def window(codec: LevoCodec, seed: int, num_context: int, stats: LatentStats | None = None) -> FlowWindow:
    generator = torch.Generator().manual_seed(seed)
    config = codec.config
    return FlowWindow(
        codes_KW=torch.randint(0, config.codebook_size, (config.num_tracks, FRAMES), generator=generator),
        noise_WZ=torch.randn(FRAMES, config.latent_dim, generator=generator),
        context_WZ=torch.randn(FRAMES, config.latent_dim, generator=generator),
        num_context=num_context,
        stats=codec.normfeat.value if stats is None else stats,
    )


def shapes_of(codec: LevoCodec) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in codec.state_dict().items()}


def manifest_rows(repository: Path, manifest: str) -> list[list[str]]:
    """Name, shape, dtype and mark of each tensor of a published codec."""
    lines = (repository / f"tests/golden/manifest/{manifest}.tsv").read_text("utf-8").splitlines()
    return [line.split("\t") for line in lines if not line.startswith("#")]


def published_shapes(repository: Path, manifest: str) -> dict[str, tuple[int, ...]]:
    """A published codec without its encoder, whose names are below `bestrq.`."""
    return {
        name: tuple(int(size) for size in shape.strip("[]").split(","))
        for name, shape, *_ in manifest_rows(repository, manifest)
        if not name.startswith("bestrq.")
    }


@pytest.mark.parametrize(("manifest", "config"), PUBLISHED.items())
def test_published_names_and_shapes(repository: Path, manifest: str, config: CodecConfig) -> None:
    """Strict loading needs exactly the published names and shapes, both ways."""
    with torch.device("meta"):
        codec = LevoCodec(config)
    held, ignored = shapes_of(codec), ignored_shapes(config)
    assert not held.keys() & ignored.keys()
    assert held | ignored == published_shapes(repository, manifest)


@pytest.mark.parametrize(("manifest", "config"), PUBLISHED.items())
def test_nothing_that_decoding_uses_is_ignored(repository: Path, manifest: str, config: CodecConfig) -> None:
    """The manifest marks what inference never uses; only such tensors, and encoders', may be left out."""
    marks = {name: mark for name, _, _, mark in manifest_rows(repository, manifest)}
    assert all(
        marks[name].startswith(("UNUSED", "no effect", "encode-only")) for name in ignored_shapes(config)
    )


@pytest.mark.parametrize(("manifest", "config"), PUBLISHED.items())
def test_published_sizes_are_read_from_shapes(repository: Path, manifest: str, config: CodecConfig) -> None:
    """The sizes, even the heads of a known width, come from the file; nothing is taken from its name."""
    assert CodecConfig.from_state_dict_shapes(published_shapes(repository, manifest)) == config


@pytest.mark.parametrize("config", [SMALL, SINGLE])
@pytest.mark.parametrize("has_ignored", [True, False])
def test_sizes_survive_a_round_trip(config: CodecConfig, has_ignored: bool) -> None:
    """A small or single-track codec is the same code with other data."""
    shapes = shapes_of(build_meta(config)) | (ignored_shapes(config) if has_ignored else {})
    expected = config
    if not has_ignored:
        expected = dataclasses.replace(config, vocab_size=50257, projection_dims=(1024, 768))
    assert CodecConfig.from_state_dict_shapes(shapes, num_heads=2) == expected


def build_meta(config: CodecConfig) -> LevoCodec:
    with torch.device("meta"):
        codec = LevoCodec(config)
    return codec


def test_a_file_without_decoder_is_refused() -> None:
    """The published single-track file of v1 and v2 has no estimator: it only encodes."""
    shapes = {name: shape for name, shape in shapes_of(build_meta(SINGLE)).items() if "cfm" not in name}
    with pytest.raises(
        ValueError, match=r"cfm_wrapper\.estimator\.wpe\.weight is missing; this file holds no decoder"
    ):
        CodecConfig.from_state_dict_shapes(shapes)


def test_unknown_heads_have_to_be_given() -> None:
    """Heads cannot be read from shapes; a guess would decode to noise."""
    with pytest.raises(ValueError, match="number of heads of an estimator 24 wide has to be given"):
        CodecConfig.from_state_dict_shapes(shapes_of(build_meta(SMALL)))


def test_widths_have_to_add_up() -> None:
    """A frame of the estimator's input is made of known parts."""
    shapes = shapes_of(build_meta(SMALL)) | {"mask_emb.weight": (3, 5)}
    with pytest.raises(ValueError, match="estimator is 24 wide; mask_emb, latents and features make 25"):
        CodecConfig.from_state_dict_shapes(shapes, num_heads=2)


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("mixed", [[4, 5], [6, 7]]),
        ("vocal", [[4, 5], [FILL_BGM, FILL_BGM]]),
        ("bgm", [[FILL_VOCAL, FILL_VOCAL], [6, 7]]),
    ],
)
def test_stems_replace_the_other_track(stem: Stem, expected: list[list[int]]) -> None:
    """The mixed row is never decoded; a stem silences the other track with the published code."""
    tokens = torch.tensor([[1, 2], [4, 5], [6, 7]])
    assert track_codes(tokens, stem).tolist() == expected
    assert tokens.tolist() == [[1, 2], [4, 5], [6, 7]]


def test_tokens_of_the_mixture_alone_are_its_one_track() -> None:
    """v2-fast: the only row is decoded; no fill code stands for a track that is not there."""
    tokens = torch.tensor([[4, 5]])
    assert track_codes(tokens, "mixed").tolist() == [[4, 5]]
    with pytest.raises(ValueError, match="stem 'bgm' from tokens of the mixture alone; they give only mixed"):
        track_codes(tokens, "bgm")


@pytest.mark.parametrize("num_codebooks", [2, 4])
def test_tokens_of_another_number_of_codebooks(num_codebooks: int) -> None:
    """`songgen render` made a song of the second and third of four rows, whatever they were."""
    with pytest.raises(ValueError, match=f"tokens of {num_codebooks} codebooks; there are 3"):
        track_codes(torch.zeros(num_codebooks, 2, dtype=torch.int64), "mixed")


def test_unknown_stem() -> None:
    """`separate` is three stems, not one."""
    with pytest.raises(ValueError, match="stem 'separate'; one of mixed, vocal, bgm"):
        track_codes(torch.zeros(3, 2, dtype=torch.int64), "separate")  # type: ignore[arg-type]


@pytest.mark.parametrize("config", [SMALL, SINGLE])
def test_windows_are_independent(config: CodecConfig) -> None:
    """A window drawn beside others, with other contexts, is the window drawn alone."""
    codec = build(config)
    windows = [window(codec, seed, num_context) for seed, num_context in enumerate((0, 10, 25))]
    together, _ = codec.draw_latents(windows, steps=3)
    for row, one in enumerate(windows):
        alone, _ = codec.draw_latents([one], steps=3)
        torch.testing.assert_close(together[row], alone[0], rtol=1e-5, atol=1e-5)


def test_context_comes_back_as_it_was(codec: LevoCodec) -> None:
    """The next window continues from the context, so a drift here would add up over a song."""
    one = window(codec, 0, 15)
    latents, _ = codec.draw_latents([one], steps=2)
    torch.testing.assert_close(latents[0, :15], one.context_WZ[:15], rtol=1e-5, atol=1e-5)
    assert (latents[0, 15:] - one.context_WZ[15:]).abs().min() > 0


def test_frames_behind_the_context_do_not_matter_to_a_trained_checkpoint(codec: LevoCodec) -> None:
    """They are filler; only statistics that are still counting read them."""
    one = window(codec, 0, 15)
    other = dataclasses.replace(one, context_WZ=torch.cat([one.context_WZ[:15], torch.randn(25, 4)]))
    assert torch.equal(codec.draw_latents([one], steps=1)[0], codec.draw_latents([other], steps=1)[0])
    counting = LatentStats(torch.tensor([50.0]), torch.full((4,), 25.0), torch.full((4,), 212.0))
    one, other = (dataclasses.replace(each, stats=counting) for each in (one, other))
    assert not torch.equal(codec.draw_latents([one], steps=1)[0], codec.draw_latents([other], steps=1)[0])


def test_statistics_are_handed_back_and_not_kept(codec: LevoCodec) -> None:
    """The published system keeps counting from song to song; here a song leaves the checkpoint as it was."""
    before = {name: value.clone() for name, value in codec.normfeat.state_dict().items()}
    counting = LatentStats(torch.tensor([50.0]), torch.full((4,), 25.0), torch.full((4,), 212.0))
    _, after = codec.draw_latents([window(codec, 0, 15, counting), window(codec, 1, 0)], steps=1)
    assert after[0].counts.item() == 51 and after[1].counts.item() == 100_000
    assert counting.counts.item() == 50
    assert all(torch.equal(value, before[name]) for name, value in codec.normfeat.state_dict().items())


def test_guidance_of_one_is_no_guidance(codec: LevoCodec) -> None:
    """Without guidance the null rows are not computed, and are not needed."""
    rows: list[int] = []

    def note(_: torch.nn.Module, args: tuple[Tensor, Tensor]) -> None:
        rows.append(args[0].shape[0])

    windows = [window(codec, 0, 5), window(codec, 1, 0)]
    with codec.estimator.register_forward_pre_hook(note):
        exact, _ = codec.draw_latents(windows, steps=2, guidance=1.0)
        nearly, _ = codec.draw_latents(windows, steps=2, guidance=1.00001)
    assert rows == [2, 2, 4, 4]
    torch.testing.assert_close(exact, nearly, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "device", "dtype"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "mps", torch.float32),
        ("auto", "cuda:1", torch.float16),
        ("fp32", "cuda", torch.float32),
        ("bf16", "cpu", torch.bfloat16),
    ],
)
def test_the_dtype_follows_the_device_or_the_users_word(name: str, device: str, dtype: torch.dtype) -> None:
    assert choose_codec_dtype(name, torch.device(device)) == dtype


def test_the_field_writes_into_one_buffer(codec: LevoCodec) -> None:
    """A CUDA graph of the network needs the same addresses in every call, and no copy of the features."""
    inputs: list[Tensor] = []
    with codec.estimator.register_forward_pre_hook(lambda _, args: inputs.append(args[0])):
        codec.draw_latents([window(codec, 0, 5)], steps=3)
    assert len({frames.data_ptr() for frames in inputs}) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_estimator_in_half_precision(dtype: torch.dtype) -> None:
    """Only the estimator changes; the latents stay float32 and close."""
    codec = build(SMALL)
    windows = [window(codec, 0, 5)]
    exact, _ = codec.draw_latents(windows)
    codec.estimator.to(dtype)
    half, _ = codec.draw_latents(windows)
    assert half.dtype == torch.float32
    assert (half - exact).abs().max() < 0.03 * exact.abs().max()
