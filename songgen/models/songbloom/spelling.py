"""How an English word that no dictionary has is said: a small recurrent network from letters to phones.

The network and its weights are those of the g2p_en package (`checkpoint20.npz`): one GRU reads the letters,
one writes phones, greedily. The package itself is not imported: it fetches data when it is.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from songgen.models.songbloom.g2p_data import package_file

MOST_PHONES = 20
_LETTERS = ("<pad>", "<unk>", "</s>", *"abcdefghijklmnopqrstuvwxyz")
_UNKNOWN, _END_OF_WORD = 1, 2
_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
_CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG", "P", "R", "S", "SH", "T", "TH"),
    *("UW", "V", "W", "Y", "Z", "ZH"),
)
# "UW" without a stress is in the package's list, too.
_PHONES = (
    "<pad>",
    "<unk>",
    "<s>",
    "</s>",
    *sorted([*_CONSONANTS, *(f"{vowel}{stress}" for vowel in _VOWELS for stress in "012")]),
)
_START, _END = 2, 3


class SpellingModel:
    """Predicts phones; reads its weights with the first word.

    Raises:
        ValueError: the g2p_en package is not installed.
    """

    def predict(self, word: str) -> list[str]:
        """At most 20 phones of a lower-case word; stress digits with the vowels."""
        hidden = np.zeros(self._weights["enc_w_hh"].shape[1], dtype=np.float32)
        for letter in word:
            hidden = self._step("enc", _LETTERS.index(letter) if letter in _LETTERS else _UNKNOWN, hidden)
        hidden = self._step("enc", _END_OF_WORD, hidden)
        phones, last = [], _START
        for _ in range(MOST_PHONES):
            hidden = self._step("dec", last, hidden)
            last = int((hidden @ self._weights["fc_w"].T + self._weights["fc_b"]).argmax())
            if last == _END:
                break
            phones.append(_PHONES[last])
        return phones

    def _step(self, side: str, symbol: int, hidden: np.ndarray) -> np.ndarray:
        """One step of a GRU (Cho et al. 2014) in the layout reset, update, candidate."""
        weights = self._weights
        given = weights[f"{side}_emb"][symbol] @ weights[f"{side}_w_ih"].T + weights[f"{side}_b_ih"]
        kept = hidden @ weights[f"{side}_w_hh"].T + weights[f"{side}_b_hh"]
        given_reset, given_update, given_new = np.split(given, 3)
        kept_reset, kept_update, kept_new = np.split(kept, 3)
        reset = 1 / (1 + np.exp(-(given_reset + kept_reset)))
        update = 1 / (1 + np.exp(-(given_update + kept_update)))
        new = np.tanh(given_new + reset * kept_new)
        return (1 - update) * new + update * hidden

    @cached_property
    def _weights(self) -> dict[str, np.ndarray]:
        with np.load(package_file("g2p_en", "checkpoint20.npz"), allow_pickle=False) as file:
            weights = {name: file[name] for name in file.files}
        assert weights["dec_emb"].shape[0] == len(_PHONES)
        return weights
