"""One song to its row: reads its files and applies the measures.

A song that cannot be read is a failed row; a measure that a song cannot have is a reason in its row.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from songgen.audio import Audio, read_audio
from songgen.engine.drafts import read_draft
from songgen.evaluate.levels import clipped_samples, peak_dbfs, silence
from songgen.evaluate.loudness import loudness_lufs
from songgen.evaluate.measures import NotMeasured
from songgen.evaluate.phonemes import G2P, check_language, language_of, phoneme_errors, sung_words
from songgen.evaluate.rows import Row
from songgen.evaluate.scorers import Scorer
from songgen.evaluate.songs import FinishedSong
from songgen.evaluate.spectrum import bandwidth_hz, mean_spectrum, spectral_similarity, stereo_correlation
from songgen.evaluate.tempo import asked_bpm, is_tempo_met, tempo
from songgen.evaluate.tokens import entropy_bits, find_loops
from songgen.evaluate.transcripts import NO_TRANSCRIPTS, Listener

logger = logging.getLogger(__name__)

TOKEN_RATE = 25.0
"""Frames a second of all known models; used where a record does not say."""

PROMPT_SECONDS = 10.0
"""What models hear of a prompt."""


@dataclass(frozen=True)
class Tools:
    """What scoring a song needs besides its files.

    Args:
        g2p: pronunciation of normalised text.
        listener: finds transcripts; None if there are none.
        language: of the lyrics, `zh` or `en`; None to read it off each song.
        prompts: folder in which prompt files are looked for, besides where the request says.
    """

    g2p: G2P
    listener: Listener | None = None
    language: str | None = None
    prompts: Path | None = None


def score_song(song: FinishedSong, tools: Tools) -> Row:
    """Measure a song by itself; never raises for what is wrong with its files."""
    row = Row(song.name, song.model, stem=song.stem)
    if song.record.get("status") == "failed":
        row.error = f"was not made: {song.record.get('stage')}: {song.record.get('error')}"
        return row
    if song.stem is None:
        row.error = "its record names no audio"
        return row
    try:
        audio = read_audio(song.stems[song.stem])
        if not np.isfinite(audio.samples).all():
            raise ValueError(f"{song.stems[song.stem]}: holds samples that are not finite (NaN or infinity)")
    except (ValueError, OSError) as error:
        row.error = str(error)
        return row
    _measure_length(row, song, audio)
    _measure_levels(row, audio)
    _measure_tempo(row, song, audio)
    row.measure(
        ("token_entropy_bits", "token_loop_fraction", "token_loop_seconds"), lambda: _tokens(row, song)
    )
    row.measure(("prompt_similarity",), lambda: _prompt_similarity(row, song, audio, tools))
    row.measure(("per",), lambda: _per(row, song, tools))
    row.measure(("lm_score_conditional", "lm_score_null", "lm_score_difference"), lambda: _lm_score(song))
    return row


def add_scores(rows: Sequence[Row], songs: Sequence[FinishedSong], scorer: Scorer) -> str | None:
    """Fill a learned scorer's measures of the songs that could be read; returns why it did not run."""
    able = [(row, song) for row, song in zip(rows, songs, strict=True) if row.error is None]
    if not able:
        return "there was no song to score"
    try:
        found = scorer.score([song.stems[song.stem] for _, song in able if song.stem])
    except NotMeasured as error:
        for row, _ in able:
            row.missing.update(dict.fromkeys(scorer.measures, str(error)))
        return str(error)
    for (row, _), scores in zip(able, found, strict=True):
        if isinstance(scores, str):
            row.missing.update(dict.fromkeys(scorer.measures, scores))
        else:
            row.measures.update(scores)
    return None


def _measure_length(row: Row, song: FinishedSong, audio: Audio) -> None:
    def ratio() -> Mapping[str, float]:
        asked = (song.request.max_seconds if song.request else None) or song.record.get("max_seconds")
        if not asked:
            raise NotMeasured("no length was asked for")
        row.details["asked_seconds"] = asked
        return {"duration_ratio": audio.seconds / asked}

    def ended() -> Mapping[str, float]:
        stopped = song.record.get("stopped")
        if stopped not in ("eos", "length"):
            raise NotMeasured("no record says how the song ended")
        return {"ended": float(stopped == "eos")}

    row.measure(("duration_seconds",), lambda: {"duration_seconds": audio.seconds})
    row.measure(("duration_ratio",), ratio)
    row.measure(("ended",), ended)


def _measure_levels(row: Row, audio: Audio) -> None:
    samples, rate = audio.samples, audio.sample_rate
    places = ("leading", "trailing", "longest")

    def quiet() -> Mapping[str, float]:
        found = silence(samples, rate)
        seconds = {f"{place}_silence_seconds": getattr(found, f"{place}_seconds") for place in places}
        return {"silence_fraction": found.fraction, **seconds}

    row.measure(("silence_fraction", *(f"{place}_silence_seconds" for place in places)), quiet)
    row.measure(("clipped_fraction",), lambda: {"clipped_fraction": clipped_samples(samples) / samples.size})
    row.measure(("peak_dbfs",), lambda: {"peak_dbfs": peak_dbfs(samples)})
    row.measure(("loudness_lufs",), lambda: {"loudness_lufs": loudness_lufs(samples, rate)})
    row.measure(("bandwidth_hz",), lambda: {"bandwidth_hz": bandwidth_hz(samples, rate)})
    row.measure(("stereo_correlation",), lambda: {"stereo_correlation": stereo_correlation(samples)})


def _measure_tempo(row: Row, song: FinishedSong, audio: Audio) -> None:
    def estimate() -> Mapping[str, float]:
        found = tempo(audio.samples, audio.sample_rate)
        return {"tempo_bpm": found.bpm, "tempo_strength": found.strength}

    def is_met() -> Mapping[str, float]:
        wanted = asked_bpm(song.descriptions)
        if wanted is None:
            raise NotMeasured("no tempo was asked for")
        if "tempo_bpm" not in row.measures:
            raise NotMeasured(row.missing["tempo_bpm"])
        row.details["asked_bpm"] = wanted
        return {"tempo_correct": float(is_tempo_met(row.measures["tempo_bpm"], wanted))}

    row.measure(("tempo_bpm", "tempo_strength"), estimate)
    row.measure(("tempo_correct",), is_met)


def _tokens(row: Row, song: FinishedSong) -> Mapping[str, float]:
    if song.tokens is None:
        raise NotMeasured("its tokens were not kept (output.tokens=true keeps them)")
    tokens_KT = read_draft(song.tokens)[1].tokens.numpy()
    rate = _token_rate(song.record)
    entropies = [entropy_bits(tokens_T) for tokens_T in tokens_KT]
    loops = [find_loops(tokens_T, rate) for tokens_T in tokens_KT]
    row.details["tokens"] = {
        "frame_rate": rate,
        "frames": tokens_KT.shape[1],
        "entropy_bits": entropies,
        "loops": [asdict(loop) for loop in loops],
    }
    return {
        "token_entropy_bits": sum(entropies) / len(entropies),
        "token_loop_fraction": max(loop.covered for loop in loops) / tokens_KT.shape[1],
        "token_loop_seconds": max(loop.longest for loop in loops) / rate,
    }


def _token_rate(record: Mapping[str, object]) -> float:
    """Frames a second, from a record's frames and duration where it has them."""
    frames, duration = record.get("frames"), record.get("duration")
    if isinstance(frames, int) and isinstance(duration, int | float) and frames > 0 and duration > 0:
        return round(frames / duration, 3)
    return TOKEN_RATE


def _prompt_similarity(row: Row, song: FinishedSong, audio: Audio, tools: Tools) -> Mapping[str, float]:
    request = song.request
    if request is None or request.prompt_audio_path is None:
        is_drawn = request is not None and request.auto_prompt_audio_type is not None
        raise NotMeasured("its prompt is one of the model's library" if is_drawn else "it has no prompt")
    given = Path(request.prompt_audio_path)
    places = [given]
    if tools.prompts is not None:
        places += [tools.prompts / given, tools.prompts / given.name]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise NotMeasured(f"its prompt {given} was not found: prompts=FOLDER says where prompts are")
    prompt = read_audio(path, max_seconds=PROMPT_SECONDS)
    row.details["prompt"] = str(path)
    spectra = (mean_spectrum(sound.samples, sound.sample_rate) for sound in (audio, prompt))
    return {"prompt_similarity": spectral_similarity(*spectra)}


def _per(row: Row, song: FinishedSong, tools: Tools) -> Mapping[str, float]:
    if song.lyrics is None:
        raise NotMeasured("its lyrics are not known: requests=FILE names them for songs without records")
    if song.stem == "bgm" or not sung_words(song.lyrics).strip():
        raise NotMeasured("it has no words to sing")
    if tools.listener is None:
        raise NotMeasured(NO_TRANSCRIPTS)
    asked = song.request.source.get("language") if song.request else None
    told = asked.lower()[:2] if isinstance(asked, str) else None
    language = tools.language or told or language_of(sung_words(song.lyrics))
    check_language(language)  # before an ASR spends minutes on it
    stem = "vocal" if "vocal" in song.stems else str(song.stem)
    heard = tools.listener.listen(song.name, song.stems[stem], language)
    errors = phoneme_errors(song.lyrics, heard.text, language, tools.g2p)
    row.details["per"] = {
        **asdict(errors),
        "errors": errors.errors,
        "language": language,
        "asr": heard.asr,
        "stem": stem,
        "transcript": heard.text,
    }
    return {"per": errors.rate}


def _lm_score(song: FinishedSong) -> Mapping[str, float]:
    """The record's `lm_score`: mean log-probability of a token in nats, with the request and without."""
    found = song.record.get("lm_score")
    names = ("conditional", "null", "difference")
    if not isinstance(found, Mapping):
        raise NotMeasured("its record holds no lm_score")
    if not all(isinstance(found.get(name), int | float) for name in names):
        raise NotMeasured(f"its lm_score does not hold numbers for {', '.join(names)}")
    return {f"lm_score_{name}": found[name] for name in names}
