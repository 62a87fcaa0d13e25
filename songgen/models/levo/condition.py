"""From a request to conditions: its texts as the model wants them, tokenised, padded and paired with the null
row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from songgen.models.levo.conditions import NO_PROMPT, LevoConditions, StylePrompt, fit_prompt, prompt_rows
from songgen.models.levo.config import LevoConfig
from songgen.models.levo.phoneme_text import PhonemeTokenizer, lyrics_without_voice
from songgen.models.levo.text import (
    LyricTokenizer,
    TextTokenizer,
    TextVersion,
    base_rows,
    description_tokenizer,
    lyric_tokenizer,
    model_description,
    model_lyrics,
    null_description,
    pad_pair,
    version_of,
)


@dataclass(frozen=True)
class TextConditioner:
    """The text half of the conditions of one checkpoint."""

    config: LevoConfig
    version: TextVersion
    lyrics: LyricTokenizer
    descriptions: TextTokenizer

    @classmethod
    def load(cls, config: LevoConfig, folder: Path, description_rows: int) -> TextConditioner:
        """Read the tokenizer; the rows of the `type_info` table decide between v1 and v2 text.

        Raises:
            FileNotFoundError, ValueError: the tokenizer's files, or the dictionary of a model of phonemes.
        """
        version = version_of(description_rows, base_rows(folder))
        lyrics: LyricTokenizer
        if config.own.lyric_text == "phonemes":
            lyrics = PhonemeTokenizer(config.structure_tags)
        else:
            lyrics = lyric_tokenizer(folder, config.structure_tags, version)
        return cls(
            config=config,
            version=version,
            lyrics=lyrics,
            descriptions=description_tokenizer(folder, version),
        )

    def of_request(
        self, lyrics: str, description: str | None, *, bgm: bool, prompt: StylePrompt = NO_PROMPT
    ) -> LevoConditions:
        """Conditions of a request's texts; `bgm` asks for a song without voice."""
        text = model_lyrics(lyrics, bgm=bgm)
        if bgm and self.config.own.lyric_text == "phonemes":  # such models know no empty song
            text = lyrics_without_voice(lyrics)
        return self.of_model_text(text, model_description(description, self.version, bgm=bgm), prompt)

    def of_model_text(
        self, lyrics: str, description: str | None, prompt: StylePrompt = NO_PROMPT
    ) -> LevoConditions:
        """Conditions of texts that are already as the model gets them."""
        config = self.config
        lyric_ids = self.lyrics.encode(lyrics)
        rows = self.lyrics.structure_rows(lyric_ids, len(config.structure_tags))
        null_ids = self.lyrics.encode(None)
        description_ids = self.descriptions.encode(description)
        null_description_ids = self.descriptions.encode(null_description(description, self.version))
        fitted_KP = fit_prompt(prompt.codes_KT, config)
        mixed_P = fitted_KP[0]
        return LevoConditions(
            lyric_ids=pad_pair(lyric_ids, null_ids, config.lyric_positions, self.lyrics.pad_id),
            structure_rows=pad_pair(rows, [0] * len(null_ids), config.lyric_positions, 0),
            description_ids=pad_pair(
                description_ids, null_description_ids, config.description_positions, self.descriptions.pad_id
            ),
            prompt_ids=prompt_rows(fitted_KP, config),
            banned=torch.unique(mixed_P[mixed_P < config.code_size]),
            clip=prompt.clip,
            notes=prompt.notes,
        )

    def count_lyrics(self, lyrics: str) -> int:
        """Tokens of a lyric string, the start token included."""
        return len(self.lyrics.encode(model_lyrics(lyrics, bgm=False)))

    def count_description(self, description: str) -> int:
        """Tokens of a description as the model gets it, the start token included."""
        return len(self.descriptions.encode(model_description(description, self.version, bgm=False)))
