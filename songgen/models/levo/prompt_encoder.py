"""Prompts of files: separated, encoded, and kept for the requests that name the same clip again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from songgen.files import content_digest
from songgen.models.clip import PromptClip, load_clip
from songgen.models.levo.encode import AudioTokenizer
from songgen.models.levo.prompt import Prompt, mixed_prompts, prepare_prompts, silence_codes
from songgen.models.separation import PUBLISHED_SHIFT_OFFSET, Separator

PROMPTS_KEPT = 128
"""Prompts kept in memory, about 8 MB each."""


@dataclass(frozen=True)
class PromptNetworks:
    """What a clip goes through: the separator, and the tokenizers of both codecs.

    A model of the mixture alone needs neither separator nor `dual`: both None, and clips are taken in mono.
    """

    separator: Separator | None
    mixed: AudioTokenizer
    dual: AudioTokenizer | None


class PromptEncoder:
    """Turns prompt files into prompts; a prompt depends on the content of its file alone.

    Args:
        networks: gives the networks, which may be loaded only then; not called for prompts that are kept.
        rows: chunks and segments of clips that go through the networks at once.
        shift_offset: the separator's shift for every prompt.
    """

    def __init__(
        self,
        networks: Callable[[], PromptNetworks],
        *,
        rows: int = 1,
        shift_offset: int = PUBLISHED_SHIFT_OFFSET,
    ) -> None:
        self._networks = networks
        self._rows, self._shift_offset = rows, shift_offset
        self._kept: OrderedDict[str, Prompt] = OrderedDict()
        self._silence: dict[int, Tensor] = {}

    def prepare(self, paths: Iterable[Path | str]) -> None:
        """Encode the clips of several requests together. Files that cannot be used are left to `of_file`."""
        clips: dict[str, PromptClip] = {}
        for path in dict.fromkeys(map(str, paths)):
            try:
                digest = content_digest(path)
                if digest not in self._kept and digest not in clips:
                    clips[digest] = self._load(path)
            except (ValueError, OSError):
                continue
        if not clips:
            return
        self._kept.update(zip(clips, self._encode(list(clips.values())), strict=True))
        while len(self._kept) > max(PROMPTS_KEPT, len(clips)):
            self._kept.popitem(last=False)

    def of_file(self, path: Path | str, *, with_silence: bool = False) -> Prompt:
        """The prompt of a file.

        Args:
            with_silence: whether a stem alone will be decoded from it, which takes the codes of silence.

        Raises:
            FileNotFoundError, ValueError: the file cannot be used; names path and reason.
        """
        digest = content_digest(path)
        if digest not in self._kept:
            self._load(path)  # says what is wrong with it
            self.prepare([path])
        self._kept.move_to_end(digest)
        prompt = self._kept[digest]
        if with_silence and prompt.silence_KT is None:
            prompt = replace(prompt, silence_KT=self._silence_of(prompt.num_samples))
            self._kept[digest] = prompt
        return prompt

    def _load(self, path: Path | str) -> PromptClip:
        separator = self._networks().separator
        return load_clip(path, separator_rate=None if separator is None else separator.sample_rate)

    def _encode(self, clips: list[PromptClip]) -> list[Prompt]:
        networks = self._networks()
        separator, mixed, dual = networks.separator, networks.mixed, networks.dual
        if separator is None or dual is None:
            return mixed_prompts(clips, mixed, rows=self._rows)
        offsets = [self._shift_offset] * len(clips)
        return prepare_prompts(clips, separator, mixed, dual, offsets, rows=self._rows)

    def _silence_of(self, num_samples: int) -> Tensor:
        """Codes of silence by length; nearly all prompts have the same."""
        if num_samples not in self._silence:
            dual = self._networks().dual
            assert dual is not None, "a model of the mixture alone decodes no stem alone"
            self._silence = {num_samples: silence_codes(dual, num_samples)}
        return self._silence[num_samples]
