"""Prompt audio: loading, bad files, separation and codes, what the codec starts from."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from songgen.audio import Audio, AudioFormat, write_audio
from songgen.models.levo.encode import DUAL_TRACKS, MIXED_TRACKS, AudioTokenizer, AudioTokenizerConfig, Track
from songgen.models.levo.prompt import (
    Prompt,
    PromptClip,
    clip_of,
    codec_prompt,
    codec_stem,
    load_clip,
    prepare_prompt,
    prepare_prompts,
    prompt_of_stems,
    silence_codes,
    to_rate,
)
from songgen.models.levo.prompt_encoder import PromptEncoder, PromptNetworks
from songgen.models.levo.separation import Separator
from songgen.nn.musicfm import MusicFmConfig
from songgen.nn.oobleck import OobleckConfig, OobleckVAE

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


def music(seconds: float, rate: int = 48000, channels: int = 2, seed: int = 0) -> np.ndarray:
    """Two tones and a little noise, `[C, N]`."""
    time = np.arange(round(seconds * rate)) / rate
    rng = np.random.default_rng(seed)
    rows = [
        0.3 * np.sin(2 * np.pi * (220 + 60 * seed + 40 * c) * time) * np.cos(3 * time)
        for c in range(channels)
    ]
    return (np.stack(rows) + 0.01 * rng.standard_normal((channels, len(time)))).astype(np.float32)


def clip(seconds: float, seed: int = 0, rate: int = 48000) -> PromptClip:
    return clip_of(torch.from_numpy(music(seconds, rate, seed=seed)), rate)


@pytest.mark.parametrize(
    ("format", "rate", "channels"),
    [
        ("wav", 44100, 2),
        ("wav", 8000, 1),
        ("wav", 96000, 6),
        ("wav", 44099, 2),
        ("flac", 48000, 2),
        ("flac", 22050, 1),
        ("ogg", 32000, 2),
        ("mp3", 44100, 1),
        ("opus", 16000, 2),
    ],
)
def test_every_format_rate_and_channel_count(
    tmp_path: Path, format: AudioFormat, rate: int, channels: int
) -> None:
    path = tmp_path / f"prompt.{format}"
    write_audio(path, Audio(music(11, rate, channels), rate), format)
    got = load_clip(path)
    assert got.full_CN.shape == (2, 480000)
    assert got.full_CN.dtype == got.mixture_CN.dtype == torch.float32
    # libsndfile leaves the codec's padding at the end of an opus file
    assert abs(got.mixture_CN.shape[1] - 11 * 44100) <= (1000 if format == "opus" else 1)
    assert 0.2 < float(got.full_CN.abs().max()) < 0.5
    assert any("6 channels; the first two are used" in warning for warning in got.warnings) == (channels == 6)


@pytest.mark.parametrize("rate", [44100, 44099])
def test_a_tone_keeps_its_pitch(rate: int) -> None:
    """Both resamplers, the published one and the one for odd rates."""
    time = torch.arange(2 * rate) / rate
    got = to_rate(torch.sin(2 * math.pi * 440 * time).expand(2, -1), rate, 48000)
    wanted = torch.sin(2 * math.pi * 440 * torch.arange(got.shape[1]) / 48000)
    assert float((got[0] - wanted)[1000:-1000].abs().max()) < 1e-2


def test_mono_is_both_channels(tmp_path: Path) -> None:
    write_audio(tmp_path / "mono.wav", Audio(music(2, channels=1), 48000))
    write_audio(tmp_path / "stereo.wav", Audio(music(2, channels=1).repeat(2, 0), 48000))
    mono, stereo = load_clip(tmp_path / "mono.wav"), load_clip(tmp_path / "stereo.wav")
    assert torch.equal(mono.full_CN, stereo.full_CN)
    assert torch.equal(mono.mixture_CN, stereo.mixture_CN)


def test_a_short_clip_is_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    write_audio(path, Audio(music(3.5), 48000))
    (warning,) = load_clip(path).warnings
    assert warning == "is 3.5 s long; the model was trained on prompts of 10 s"
    assert clip(10).warnings == ()


def test_a_long_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    """An hour of audio costs what half a minute costs."""
    path = tmp_path / "long.flac"
    write_audio(path, Audio(music(40, 8000, 1), 8000), "flac")
    got = load_clip(path)
    assert got.mixture_CN.shape == (2, 30 * 44100)
    assert got.full_CN.shape == (2, 480000)


def broken_file(folder: Path, kind: str) -> Path:
    """A file that is no usable prompt."""
    path = folder / f"{kind}.wav"
    samples = music(1)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("[verse] this is no audio\n" * 50, "utf-8")
    elif kind == "wrong header":
        path.write_bytes(b"RIFF\x00\x00\x00\x00WAVE" + bytes(range(256)) * 20)
    elif kind == "folder":
        path.mkdir()
    elif kind == "no samples":
        soundfile.write(path, np.zeros((0, 2)), 48000)
    elif kind == "silent":
        soundfile.write(path, np.zeros((48000, 2)), 48000)
    elif kind == "silent start":
        soundfile.write(path, np.concatenate([np.zeros((11 * 8000, 2)), samples.T]), 8000)
    elif kind == "one sample":
        soundfile.write(path, np.full((1, 2), 0.5), 48000)
    elif kind == "NaN":
        samples[0, 100:103] = np.nan
        soundfile.write(path, samples.T, 48000, subtype="FLOAT")
    elif kind == "infinity":
        samples[1, 7] = np.inf
        soundfile.write(path, samples.T, 48000, subtype="FLOAT")
    elif kind == "integers as floats":
        soundfile.write(path, samples.T * 32768, 48000, subtype="FLOAT")
    elif kind == "odd rate":
        soundfile.write(path, samples.T, 7)
    return path


@pytest.mark.parametrize(
    ("kind", "error", "reason"),
    [
        ("missing", FileNotFoundError, "no such file"),
        ("folder", ValueError, "is not a file"),
        ("empty", ValueError, "cannot be read as audio"),
        ("text", ValueError, "cannot be read as audio"),
        ("wrong header", ValueError, "cannot be read as audio"),
        ("no samples", ValueError, "holds no samples"),
        ("silent", ValueError, "is silent in its first 10 s"),
        ("silent start", ValueError, "is silent in its first 10 s"),
        ("one sample", ValueError, "too short for a prompt: 1 samples at 48000 Hz"),
        ("NaN", ValueError, "holds 3 samples that are not finite"),
        ("infinity", ValueError, "holds 1 samples that are not finite"),
        ("integers as floats", ValueError, "where full scale is 1"),
        ("odd rate", ValueError, "a sample rate of 7 Hz"),
    ],
)
def test_bad_files_are_errors_with_path_and_reason(
    tmp_path: Path, kind: str, error: type[Exception], reason: str
) -> None:
    path = broken_file(tmp_path, kind)
    with pytest.raises(error, match=reason) as caught:
        load_clip(path)
    assert str(path) in str(caught.value)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.integers(0, 400), st.sampled_from(["wav", "flac", "ogg", "mp3"]))
def test_no_bytes_crash_a_run(tmp_path: Path, garbage: bytes, start: int, format: AudioFormat) -> None:
    """Audio files with bytes overwritten, or cut off, are read or refused, nothing else."""
    whole = tmp_path / f"whole.{format}"
    if not whole.exists():
        write_audio(whole, Audio(music(0.2, 16000, 1), 16000), format)
    data = whole.read_bytes()
    path = tmp_path / f"fuzzed.{format}"
    path.write_bytes(data[:start] + garbage + data[start + len(garbage) : len(data) - start])
    try:
        got = load_clip(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert got.full_CN.isfinite().all()


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


def test_heavy_packages_are_imported_only_when_needed() -> None:
    """A run without prompts must not pay for transformers, nor need demucs; torchaudio is never needed."""
    code = (
        "import sys, songgen.models.levo.prompt, songgen.models.levo.prompt_library\n"
        "heavy = ('transformers', 'demucs', 'torchaudio', 'soundfile')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
