"""Prompt audio: separation and codes, what the codec starts from."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import soundfile
import torch
from fake_audio import music
from torch import Tensor, nn

from songgen.audio import Audio, write_audio
from songgen.models.clip import PromptClip, clip_of, mono_clip_of
from songgen.models.levo.encode import DUAL_TRACKS, MIXED_TRACKS, AudioTokenizer, AudioTokenizerConfig, Track
from songgen.models.levo.prompt import (
    Prompt,
    codec_prompt,
    codec_stem,
    mixed_prompts,
    prepare_prompt,
    prepare_prompts,
    prompt_of_stems,
    silence_codes,
    split_clips,
)
from songgen.models.levo.prompt_encoder import PromptEncoder, PromptNetworks
from songgen.models.separation import Separator, as_pcm16
from songgen.nn.musicfm import MusicFmConfig
from songgen.nn.oobleck import OobleckConfig, OobleckVAE
from songgen.nn.resample import resample

SECOND = 48000


class HalfVocal(nn.Module):
    """A stand-in for the separation network: 60 % of everything is vocals."""

    samplerate = 44100
    segment = Fraction(39, 5)
    sources = ("other", "vocal")

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.clips = 0

    def forward(self, clips: Tensor) -> Tensor:
        self.clips += clips.shape[0]
        return torch.stack([0.4 * clips, 0.6 * clips], dim=1)


def make_tokenizer(tracks: tuple[Track, ...]) -> AudioTokenizer:
    """A tiny tokenizer with random weights."""
    num_layers = max(track.layer for track in tracks)
    musicfm = MusicFmConfig(conv_dim=6, dim=8, ffn_dim=8, num_heads=2, num_layers=num_layers)
    with torch.random.fork_rng():
        torch.manual_seed(11)
        tokenizer = AudioTokenizer(AudioTokenizerConfig(tracks, musicfm, codebook_size=50, codebook_dim=4))
    with torch.no_grad():
        tokenizer.bestrq.model.conv.linear.weight.mul_(30)  # else the biases decide, and all codes are one
    return tokenizer.eval()


@pytest.fixture
def separator() -> Separator:
    return Separator(HalfVocal())


@pytest.fixture(scope="module")
def mixed() -> AudioTokenizer:
    return make_tokenizer(MIXED_TRACKS)


@pytest.fixture(scope="module")
def dual() -> AudioTokenizer:
    return make_tokenizer(DUAL_TRACKS)


@pytest.fixture(scope="module")
def vae() -> OobleckVAE:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return OobleckVAE(OobleckConfig(channels=2, c_mults=(1, 1, 1, 1, 1), latent_dim=3)).eval()


def clip(seconds: float, seed: int = 0, rate: int = 48000) -> PromptClip:
    return clip_of(torch.from_numpy(music(seconds, rate, seed=seed)), rate)


@pytest.mark.parametrize(
    ("seconds", "rate"),
    [(10, 48000), (12.3, 44100), (7.0003, 48000), (3.03, 48000), (9.99998, 48000), (1, 22050)],
)
def test_stems_of_awkward_lengths(
    separator: Separator, mixed: AudioTokenizer, dual: AudioTokenizer, seconds: float, rate: int
) -> None:
    """Published code fails where vocals and mixture differ by a sample after two resamplings."""
    one = clip(seconds, rate=rate)
    prompt = prepare_prompt(one, separator, mixed, dual)
    length = prompt.vocal_CN.shape[1]
    assert prompt.bgm_CN.shape == prompt.vocal_CN.shape
    assert 0 <= one.full_CN.shape[1] - length <= 2
    torch.testing.assert_close(prompt.vocal_CN + prompt.bgm_CN, one.full_CN[:, :length])
    assert prompt.codes_KT.shape == (3, int(length / 48000 * 25) + 1)
    assert prompt.codes_KT.dtype == torch.int64
    assert prompt.warnings == one.warnings


def test_vocals_are_the_vocal_stem_in_16_bit(separator: Separator) -> None:
    prompt = prepare_prompt(clip(2), separator, make_tokenizer(MIXED_TRACKS), make_tokenizer(DUAL_TRACKS))
    torch.testing.assert_close(prompt.vocal_CN, 0.6 * clip(2).full_CN, rtol=0, atol=0.03)
    assert float((prompt.vocal_CN - 0.6 * clip(2).full_CN)[:, 500:-500].square().mean().sqrt()) < 5e-3


def test_the_peak_rule_of_the_vocals_sees_the_whole_clip(separator: Separator) -> None:
    """Published: the stem of the whole file is scaled down if it peaks, then its first 10 s are taken. Only
    the first chunks were separated, and a peak behind them was missed."""
    loud = music(14, 48000)
    loud[:, -48000:] *= 4 / abs(loud[:, -48000:]).max()
    one = clip_of(torch.from_numpy(loud), 48000)
    ((vocal_CN, _),) = split_clips([one], separator, [0])
    stem_CN = separator.separate([one.mixture_CN], [0])[0][separator.vocal]
    expected_CN = resample(as_pcm16(stem_CN).float() / 32768, 44100, 48000)[:, : 10 * 48000]
    assert float(stem_CN.abs().max()) > 2
    assert torch.equal(vocal_CN, expected_CN)


def test_rows_of_the_codes_are_mixture_vocals_accompaniment(
    separator: Separator, mixed: AudioTokenizer, dual: AudioTokenizer
) -> None:
    one = clip(2)
    prompt = prepare_prompt(one, separator, mixed, dual)
    assert torch.equal(prompt.codes_KT[0], mixed.tokens([one.full_CN], MIXED_TRACKS[0])[0])
    assert torch.equal(prompt.codes_KT[1], dual.tokens([prompt.vocal_CN], DUAL_TRACKS[0])[0])
    assert torch.equal(prompt.codes_KT[2], dual.tokens([prompt.bgm_CN], DUAL_TRACKS[1])[0])


def equal(one: Prompt, other: Prompt) -> bool:
    pairs = [(one.codes_KT, other.codes_KT), (one.vocal_CN, other.vocal_CN), (one.bgm_CN, other.bgm_CN)]
    return all(torch.equal(*pair) for pair in pairs)


def test_clips_together_and_alone(separator: Separator, mixed: AudioTokenizer, dual: AudioTokenizer) -> None:
    clips, offsets = [clip(2), clip(9, 1), clip(0.3, 2)], [19090, 0, 22050]
    together = prepare_prompts(clips, separator, mixed, dual, offsets, rows=2)
    for prompt, one, offset in zip(together, clips, offsets, strict=True):
        alone = prepare_prompt(one, separator, mixed, dual, offset)
        assert equal(prompt, alone)


def test_nothing_depends_on_global_random_state(
    separator: Separator, mixed: AudioTokenizer, dual: AudioTokenizer
) -> None:
    torch.manual_seed(1)
    one = prepare_prompt(clip(1), separator, mixed, dual)
    before = torch.random.get_rng_state()
    other = prepare_prompt(clip(1), separator, mixed, dual)
    assert equal(one, other)
    assert torch.equal(before, torch.random.get_rng_state())


def encoder_of(separator: Separator, mixed: AudioTokenizer, dual: AudioTokenizer) -> PromptEncoder:
    return PromptEncoder(lambda: PromptNetworks(separator, mixed, dual))


def test_a_file_is_separated_once(
    tmp_path: Path, separator: Separator, mixed: AudioTokenizer, dual: AudioTokenizer
) -> None:
    """Cached by content: not by name, as the published scripts do, which then use another clip's vocals."""
    for folder, seed in (("one", 0), ("other", 1)):
        (tmp_path / folder).mkdir()
        write_audio(tmp_path / folder / "prompt.wav", Audio(music(1, seed=seed), 48000))
    (tmp_path / "copy.wav").write_bytes((tmp_path / "one" / "prompt.wav").read_bytes())
    paths = [tmp_path / "one" / "prompt.wav", tmp_path / "other" / "prompt.wav", tmp_path / "copy.wav"]
    encoder = encoder_of(separator, mixed, dual)
    one, other, copy = map(encoder.of_file, paths)
    calls = separator.network.clips
    assert one is copy
    assert not equal(one, other)
    assert encoder.of_file(paths[0]) is one
    assert separator.network.clips == calls
    assert equal(encoder_of(separator, mixed, dual).of_file(paths[0]), one)


def test_only_the_last_prompts_are_kept(
    tmp_path: Path,
    separator: Separator,
    mixed: AudioTokenizer,
    dual: AudioTokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A list of ten thousand clips must not fill the memory."""
    monkeypatch.setattr("songgen.models.levo.prompt_encoder.PROMPTS_KEPT", 2)
    paths = [tmp_path / f"{seed}.wav" for seed in range(3)]
    for seed, path in enumerate(paths):
        write_audio(path, Audio(music(0.2, seed=seed), 48000))
    encoder = encoder_of(separator, mixed, dual)
    first, _, last = [encoder.of_file(path) for path in paths]
    assert encoder.of_file(paths[-1]) is last
    assert encoder.of_file(paths[0]) is not first


def test_clips_prepared_together_equal_clips_alone(
    tmp_path: Path, separator: Separator, mixed: AudioTokenizer, dual: AudioTokenizer
) -> None:
    """Whatever runs together a clip's prompt is the same; a bad file among them does not stop the others."""
    paths = [tmp_path / f"{seed}.wav" for seed in range(3)]
    for seed, path in enumerate(paths):
        write_audio(path, Audio(music(0.5 + seed, seed=seed), 48000))
    (tmp_path / "bad.wav").write_text("no audio", "utf-8")
    together = PromptEncoder(lambda: PromptNetworks(separator, mixed, dual), rows=4)
    together.prepare([paths[0], tmp_path / "bad.wav", tmp_path / "none.wav", *paths])
    calls = separator.network.clips
    for path in paths:
        assert equal(together.of_file(path), encoder_of(Separator(HalfVocal()), mixed, dual).of_file(path))
    assert separator.network.clips == calls
    with pytest.raises(ValueError, match=r"bad\.wav: cannot be read"):
        together.of_file(tmp_path / "bad.wav")
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        together.of_file(tmp_path / "none.wav")


def test_the_codes_of_silence_are_made_only_when_asked_for(
    tmp_path: Path, separator: Separator, mixed: AudioTokenizer, dual: AudioTokenizer
) -> None:
    write_audio(tmp_path / "a.wav", Audio(music(1), 48000))
    encoder = encoder_of(separator, mixed, dual)
    assert encoder.of_file(tmp_path / "a.wav").silence_KT is None
    silence_KT = encoder.of_file(tmp_path / "a.wav", with_silence=True).silence_KT
    assert silence_KT is not None and silence_KT.shape == (2, 26)


@pytest.mark.parametrize(
    ("seconds", "start", "length"), [(6, 0, 6), (10, 0, 10), (29.9, 0, 10), (30, 20, 10), (45, 20, 10)]
)
def test_part_of_a_stem_that_the_codec_starts_from(seconds: float, start: int, length: int) -> None:
    stem = torch.arange(round(seconds * SECOND)).expand(2, -1)
    assert torch.equal(codec_stem(stem), stem[:, start * SECOND : (start + length) * SECOND])


@pytest.mark.parametrize("shape", [(500,), (1, 500)])
def test_mono_stems_are_doubled(shape: tuple[int, ...]) -> None:
    """Published code interleaves a mono prompt's segments as left and right."""
    stem = torch.randn(shape)
    assert torch.equal(codec_stem(stem), stem.reshape(1, -1).repeat(2, 1))


def stems_prompt(dual: AudioTokenizer) -> Prompt:
    vocal, bgm = torch.from_numpy(music(1.2)), torch.from_numpy(music(1.0, seed=3))
    prompt = prompt_of_stems(vocal, bgm, dual)
    return replace(prompt, silence_KT=silence_codes(dual, prompt.vocal_CN.shape[1]))


def test_prompt_of_separate_stems(dual: AudioTokenizer) -> None:
    prompt = stems_prompt(dual)
    assert prompt.vocal_CN.shape == prompt.bgm_CN.shape == (2, SECOND)
    assert prompt.codes_KT.shape == (3, 26)
    assert torch.equal(prompt.codes_KT[0], prompt.codes_KT[1])


@pytest.mark.parametrize("stem", ["mixed", "vocal", "bgm"])
def test_codec_starts_from_the_stems_own_prompt(dual: AudioTokenizer, vae: OobleckVAE, stem: str) -> None:
    """For one stem the other is silence, in the codes and in the latents alike."""
    prompt = stems_prompt(dual)
    noise_ZT = torch.randn(3, prompt.num_latents(vae.config.hop))
    start = codec_prompt(prompt, stem, vae=vae, noise_ZT=noise_ZT)  # type: ignore[arg-type]
    vocal_CN = torch.zeros(2, SECOND) if stem == "bgm" else prompt.vocal_CN
    bgm_CN = torch.zeros(2, SECOND) if stem == "vocal" else prompt.bgm_CN
    expected = prompt_of_stems(vocal_CN, bgm_CN, dual).codes_KT[1:]
    assert torch.equal(start.codes_KT, expected)
    with torch.inference_mode():
        latents = vae.encode((vocal_CN + bgm_CN)[None], noise_ZT[None])[0]
    torch.testing.assert_close(start.latents_ZT, latents)
    assert start.codes_KT.shape[1] == start.latents_ZT.shape[1] + 1


def test_codec_prompt_of_an_unknown_stem(dual: AudioTokenizer, vae: OobleckVAE) -> None:
    with pytest.raises(ValueError, match="stem 'drums'; one of mixed, vocal, bgm"):
        codec_prompt(stems_prompt(dual), "drums", vae=vae, noise_ZT=torch.zeros(3, 25))  # type: ignore[arg-type]


def test_codec_prompt_needs_fitting_noise(dual: AudioTokenizer, vae: OobleckVAE) -> None:
    with pytest.raises(ValueError, match=r"noise for the prompt is \[3, 24\], must be \[3, 25\]"):
        codec_prompt(stems_prompt(dual), "mixed", vae=vae, noise_ZT=torch.zeros(3, 24))


@pytest.mark.parametrize("seconds", [10, 7, 0.04])
def test_a_model_of_the_mixture_alone(mixed: AudioTokenizer, vae: OobleckVAE, seconds: float) -> None:
    """v2-fast: nothing is separated; one row of codes, which the language model and the codec share."""
    one = mono_clip_of(torch.from_numpy(music(seconds)), SECOND)
    (prompt,) = mixed_prompts([one], mixed)
    assert torch.equal(prompt.codes_KT, mixed.tokens([one.full_CN], MIXED_TRACKS[0])[0][None])
    assert prompt.codes_KT.shape == (1, int(seconds * 25) + 1)
    assert (prompt.seconds, prompt.warnings) == (seconds, one.warnings)
    noise_ZT = torch.randn(3, prompt.num_latents(vae.config.hop))
    start = codec_prompt(prompt, "mixed", vae=vae, noise_ZT=noise_ZT)
    assert torch.equal(start.codes_KT, prompt.codes_KT)
    with torch.inference_mode():
        latents = vae.encode(one.full_CN[None], noise_ZT[None])[0]
    torch.testing.assert_close(start.latents_ZT, latents)


@pytest.mark.parametrize("stem", ["vocal", "bgm"])
def test_a_prompt_of_the_mixture_starts_no_stem(mixed: AudioTokenizer, vae: OobleckVAE, stem: str) -> None:
    (prompt,) = mixed_prompts([mono_clip_of(torch.from_numpy(music(1)), SECOND)], mixed)
    with pytest.raises(ValueError, match=f"stem '{stem}'; one of mixed$"):
        codec_prompt(prompt, stem, vae=vae, noise_ZT=torch.zeros(3, 25))  # type: ignore[arg-type]


def test_mixed_prompts_together_and_alone(mixed: AudioTokenizer) -> None:
    clips = [mono_clip_of(torch.from_numpy(music(1 + seed, seed=seed)), SECOND) for seed in range(3)]
    together = mixed_prompts(clips, mixed, rows=2)
    for prompt, one in zip(together, clips, strict=True):
        assert torch.equal(prompt.codes_KT, mixed_prompts([one], mixed)[0].codes_KT)


def test_without_a_separator_files_are_taken_in_mono(tmp_path: Path, mixed: AudioTokenizer) -> None:
    """The prompt networks of v2-fast are one tokenizer; the same cache, checks and warnings."""
    soundfile.write(tmp_path / "a.wav", music(2, 44100).T, 44100, subtype="FLOAT")
    encoder = PromptEncoder(lambda: PromptNetworks(None, mixed, None))
    encoder.prepare([tmp_path / "a.wav", tmp_path / "none.wav"])
    prompt = encoder.of_file(tmp_path / "a.wav")
    assert prompt is encoder.of_file(tmp_path / "a.wav")
    expected = mono_clip_of(torch.from_numpy(music(2, 44100)), 44100)
    assert torch.equal(prompt.codes_KT, mixed_prompts([expected], mixed)[0].codes_KT)
    assert prompt.warnings == expected.warnings != ()
    with pytest.raises(FileNotFoundError, match=r"none\.wav"):
        encoder.of_file(tmp_path / "none.wav")


def test_heavy_packages_are_imported_only_when_needed() -> None:
    """A run without prompts must not pay for transformers, nor need demucs; torchaudio is never needed."""
    code = (
        "import sys, songgen.models.levo.prompt, songgen.models.levo.prompt_library\n"
        "heavy = ('transformers', 'demucs', 'torchaudio', 'soundfile')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
