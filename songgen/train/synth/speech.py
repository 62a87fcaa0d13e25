"""Words spoken by espeak-ng with the places of their phonemes; knows nothing of singing.

The library keeps state from word to word (phases, noise), which would make a word depend on those before it.
Each word is therefore spoken by a fork of a small process that has spoken none.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from songgen.english import bare, is_vowel

SPEECH_RATE = 22_050
WORDS_PER_MINUTE = 135
_SYNCHRONOUS, _PHONEME_EVENTS, _PHONEME_EVENT, _LIST_END = 2, 1, 7, 0
_UTF8, _PHONEME_INPUT, _POSITION_CHARACTER = 1, 0x100, 1
_RATE, _PITCH, _RANGE, _WORDGAP = 1, 3, 4, 7
_LIBRARY = "libespeak-ng.so.1"
_MISSING = (
    f"{_LIBRARY}: not found; synthetic songs need espeak-ng "
    "(Debian: apt-get install espeak-ng libespeak-ng1 espeak-ng-data)"
)

# ARPAbet to espeak's own mnemonics.
_MNEMONICS = {
    "AA": "A:", "AE": "a", "AH": "V", "AO": "O:", "AW": "aU", "AY": "aI", "B": "b", "CH": "tS", "D": "d",
    "DH": "D", "EH": "E", "ER": "3:", "EY": "eI", "F": "f", "G": "g", "HH": "h", "IH": "I", "IY": "i:",
    "JH": "dZ", "K": "k", "L": "l", "M": "m", "N": "n", "NG": "N", "OW": "oU", "OY": "OI", "P": "p",
    "R": "r", "S": "s", "SH": "S", "T": "t", "TH": "T", "UH": "U", "UW": "u:", "V": "v", "W": "w",
    "Y": "j", "Z": "z", "ZH": "Z",
}  # fmt: skip

_APART = "|"
"""Between vowels: without it espeak makes one of two."""
_GLIDES = {"r": "R", "j": "Y", ";": "Y"}


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True)
class SpokenWord:
    """A word's sound.

    Args:
        samples: int16, at 22.05 kHz.
        bounds: the sample at which each phoneme begins, and the end of the last.
    """

    samples: np.ndarray
    bounds: tuple[int, ...]


class Speaker:
    """Speaks words in one process; the process must not have used espeak-ng for anything else.

    Raises:
        FileNotFoundError: espeak-ng is not installed.
    """

    def __init__(self, library: str = _LIBRARY) -> None:
        try:
            loaded = ctypes.CDLL(library)
        except OSError as error:
            raise FileNotFoundError(_MISSING) from error
        rate = loaded.espeak_Initialize(_SYNCHRONOUS, 0, None, _PHONEME_EVENTS)
        if rate != SPEECH_RATE:
            raise FileNotFoundError(f"espeak-ng started with {rate} instead of {SPEECH_RATE} Hz: {_MISSING}")
        context = multiprocessing.get_context("fork")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_answer, args=(loaded, other, self._connection), daemon=True)
        self._process.start()
        other.close()

    def speak(self, voice: str, phonemes: tuple[str, ...]) -> SpokenWord:
        """One word in an espeak voice such as `en-us+f3`, on one pitch.

        Raises:
            ValueError: espeak-ng says another number of phonemes than asked for.
        """
        self._connection.send((voice, mnemonics(phonemes)))
        samples, marks, end = pickle.loads(self._connection.recv_bytes())
        starts = _without_glides(marks, phonemes)
        if len(starts) != len(phonemes):
            raise ValueError(
                f"{' '.join(phonemes)}: espeak-ng says {len(starts)} phonemes instead of {len(phonemes)}"
            )
        return SpokenWord(samples, (*starts, max(end, starts[-1] + 1)))

    def close(self) -> None:
        """End the process that speaks."""
        self._connection.close()
        self._process.join()


def _answer(library: Any, connection: Connection, other: Connection) -> None:
    """Speak what is asked for until the asking end is closed; each word in a fork of this process."""
    other.close()
    while True:
        try:
            voice, text = connection.recv()
        except EOFError:
            return
        child = os.fork()
        if not child:
            try:
                connection.send_bytes(pickle.dumps(_spoken(library, voice, text)))
            finally:
                os._exit(0)
        os.waitpid(child, 0)


def _spoken(library: Any, voice: str, text: str) -> tuple[np.ndarray, list[tuple[int, str]], int]:
    blocks: list[np.ndarray] = []
    marks: list[tuple[int, str]] = []

    def receive(samples: Any, num_samples: int, events: Any) -> int:
        if num_samples > 0:
            blocks.append(np.ctypeslib.as_array(samples, (num_samples,)).copy())
        index = 0
        while events[index].type != _LIST_END:
            if events[index].type == _PHONEME_EVENT:
                marks.append((events[index].sample, events[index].id.decode()))
            index += 1
        return 0

    callback = _Callback(receive)
    library.espeak_SetSynthCallback(callback)
    library.espeak_SetVoiceByName(voice.encode())
    for parameter, value in ((_RATE, WORDS_PER_MINUTE), (_PITCH, 50), (_RANGE, 0), (_WORDGAP, 0)):
        library.espeak_SetParameter(parameter, value, 0)
    data = f"[[{text}]]".encode()
    size = ctypes.c_size_t(len(data) + 1)
    library.espeak_Synth(data, size, 0, _POSITION_CHARACTER, 0, _UTF8 | _PHONEME_INPUT, None, None)
    samples = np.concatenate(blocks) if blocks else np.zeros(0, np.int16)
    spoken = [(sample, name) for sample, name in marks if not name.startswith("_")]
    ends = [sample for sample, name in marks if name.startswith("_") and sample > 0]
    return samples, spoken, ends[0] if ends else len(samples)


def _without_glides(marks: list[tuple[int, str]], phonemes: tuple[str, ...]) -> list[int]:
    """Starts of the phonemes asked for: not the `r` or `j` that espeak links vowels with."""
    starts: list[int] = []
    for sample, name in marks:
        wanted = bare(phonemes[len(starts)]) if len(starts) < len(phonemes) else ""
        if name[0] in _GLIDES and wanted != _GLIDES[name[0]] and len(marks) > len(phonemes):
            continue
        starts.append(sample)
    return starts


def mnemonics(phonemes: tuple[str, ...]) -> str:
    """ARPAbet with stress digits in espeak's mnemonics; the stress mark stands before the vowel.

    >>> mnemonics(("HH", "AH0", "L", "OW1"))
    "h@l'oU"
    """
    parts: list[str] = []
    for index, phoneme in enumerate(phonemes):
        if index and is_vowel(phoneme) and is_vowel(phonemes[index - 1]):
            parts.append(_APART)
        stress = {"1": "'", "2": ","}.get(phoneme[-1], "")
        parts.append(stress + ("@" if phoneme == "AH0" else _MNEMONICS[bare(phoneme)]))
    return "".join(parts)
