"""Prompts of files: separated, encoded, and kept for the requests that name the same clip again."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from songgen.files import content_digest
from songgen.models.levo.encode import AudioTokenizer
from songgen.models.levo.prompt import Prompt, load_clip, prepare_prompt, silence_codes
from songgen.models.levo.separation import PUBLISHED_SHIFT_OFFSET, Separator

PROMPTS_KEPT = 8
"""Prompts kept in memory, about 8 MB each."""


class PromptEncoder:
    """Turns prompt files into prompts; a prompt depends on the content of its file alone.

    Args:
        separator: vocals from accompaniment.
        mixed, dual: tokenizers of the single-track and the dual-track codec.
        shift_offset: the separator's shift for every prompt.
    """

    def __init__(
        self,
        separator: Separator,
        mixed: AudioTokenizer,
        dual: AudioTokenizer,
        *,
        shift_offset: int = PUBLISHED_SHIFT_OFFSET,
    ) -> None:
        self.separator, self.mixed, self.dual = separator, mixed, dual
        self.shift_offset = shift_offset
        self._done: OrderedDict[str, Prompt] = OrderedDict()
        self._silence: dict[int, Tensor] = {}

    def of_file(self, path: Path | str, *, with_silence: bool = False) -> Prompt:
        """The prompt of a file.

        Args:
            with_silence: whether a stem alone will be decoded from it, which takes the codes of silence.

        Raises:
            FileNotFoundError, ValueError: the file cannot be used; names path and reason.
        """
        digest = content_digest(path)
        prompt = self._done.pop(digest, None)
        if prompt is None:
            clip = load_clip(path, separator_rate=self.separator.sample_rate)
            prompt = prepare_prompt(clip, self.separator, self.mixed, self.dual, self.shift_offset)
        if with_silence and prompt.silence_KT is None:
            prompt = replace(prompt, silence_KT=self._silence_of(prompt.vocal_CN.shape[1]))
        self._done[digest] = prompt
        while len(self._done) > PROMPTS_KEPT:
            self._done.popitem(last=False)
        return prompt

    def _silence_of(self, num_samples: int) -> Tensor:
        """Codes of silence by length; nearly all prompts have the same."""
        if num_samples not in self._silence:
            self._silence = {num_samples: silence_codes(self.dual, num_samples)}
        return self._silence[num_samples]
