"""The measures by name, in the order of every report: their unit and what they say.

The names are the stable keys of `scores.jsonl` and `summary.json`.
"""

from __future__ import annotations

from dataclasses import dataclass


class NotMeasured(ValueError):
    """A measure that a song cannot have, with the reason in words."""


@dataclass(frozen=True)
class Measure:
    """A measure: its unit, digits behind the point in the table, and what it says in a few words."""

    unit: str
    digits: int
    doc: str


MEASURES: dict[str, Measure] = {
    "duration_seconds": Measure("s", 1, "length of the song"),
    "duration_ratio": Measure("", 2, "length against the longest that was asked for"),
    "ended": Measure("", 2, "the model ended the song itself (1) or was cut (0)"),
    "silence_fraction": Measure("", 3, "part of the song that is silent"),
    "leading_silence_seconds": Measure("s", 2, "silence before the song"),
    "trailing_silence_seconds": Measure("s", 2, "silence behind it"),
    "longest_silence_seconds": Measure("s", 2, "longest silence within it or at its ends"),
    "clipped_fraction": Measure("", 5, "part of the samples in runs at full scale"),
    "peak_dbfs": Measure("dB", 1, "sample peak against full scale"),
    "loudness_lufs": Measure("LUFS", 1, "integrated loudness, ITU-R BS.1770"),
    "bandwidth_hz": Measure("Hz", 0, "highest frequency with content"),
    "stereo_correlation": Measure("", 2, "left against right: 1 mono, 0 unrelated, -1 opposed"),
    "tempo_bpm": Measure("bpm", 1, "estimated tempo"),
    "tempo_strength": Measure("", 2, "how periodic the onsets are, 0 to 1"),
    "tempo_correct": Measure("", 2, "the tempo asked for was met within 4 %, metrical levels forgiven"),
    "token_entropy_bits": Measure("bit", 2, "entropy of the tokens, mean of the codebooks"),
    "token_loop_fraction": Measure("", 3, "part of the frames within exact loops, worst codebook"),
    "token_loop_seconds": Measure("s", 2, "longest exact loop of tokens, worst codebook"),
    "prompt_similarity": Measure("", 2, "mean mel spectrum against the style prompt's, -1 to 1"),
    "per": Measure("", 3, "phoneme error rate of the sung words"),
    "audiobox_ce": Measure("", 2, "Audiobox Aesthetics: content enjoyment"),
    "audiobox_cu": Measure("", 2, "Audiobox Aesthetics: content usefulness"),
    "audiobox_pc": Measure("", 2, "Audiobox Aesthetics: production complexity"),
    "audiobox_pq": Measure("", 2, "Audiobox Aesthetics: production quality"),
    "songeval_coherence": Measure("", 2, "SongEval: overall coherence"),
    "songeval_musicality": Measure("", 2, "SongEval: overall musicality"),
    "songeval_memorability": Measure("", 2, "SongEval: memorability"),
    "songeval_clarity": Measure("", 2, "SongEval: clarity of song structure"),
    "songeval_naturalness": Measure("", 2, "SongEval: naturalness of breathing and phrasing"),
    "lm_score_conditional": Measure("nat", 3, "mean log-probability of the tokens given the request"),
    "lm_score_null": Measure("nat", 3, "the same without the request"),
    "lm_score_difference": Measure("nat", 3, "what the request adds"),
}
AUDIOBOX = ("audiobox_ce", "audiobox_cu", "audiobox_pc", "audiobox_pq")
SONGEVAL = tuple(name for name in MEASURES if name.startswith("songeval_"))
