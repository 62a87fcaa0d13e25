"""The text half of the checkpoint in the making: its config.yaml, structure tags and tokenizer.

Written once, before the language model is trained, as a published checkpoint has them; training reads them by
the code of inference, and the finished checkpoint carries them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from songgen.files import write_together
from songgen.models.levo.condition import TextConditioner
from songgen.models.levo.config import LevoConfig, read_config
from songgen.models.levo.config_form import (
    TOKENIZER_FOLDER,
    ConfigForm,
    dual_track_lines,
    vocabulary_yaml,
)
from songgen.models.levo.text import END, PAD, PRE_TOKEN_PATTERN, START, base_rows

FOLDER = "text"
VOCABULARY = 1024
"""Most rows of the description tokenizer: 256 bytes, merges, three added tokens."""


@dataclass(frozen=True)
class LmSizes:
    """Sizes of the language model, under their names in config.yaml where they are there.

    Args:
        prompt_seconds: of a prompt.
        delay: frames by which vocal and bgm lag behind mixed.
        estimator_heads: of the codec's flow network, which config.yaml has to tell.
        sampling: how tokens are chosen unless asked otherwise, fields of `Sampling`.
    """

    width: int = 256
    num_heads: int = 4
    ffn_dim: int = 640
    num_layers: int = 7
    num_layers_sub: int = 3
    code_size: int = 2048
    delay: int = 25
    rope_theta: float = 100000.0
    max_seconds: int = 60
    prompt_seconds: int = 2
    lyric_positions: int = 256
    description_positions: int = 24
    estimator_heads: int = 4
    sampling: Mapping[str, float] = field(default_factory=dict)


def config_yaml(sizes: LmSizes) -> str:
    """The checkpoint's config.yaml, in the published form."""
    sampling = ", ".join(f"{name}: {value}" for name, value in sizes.sampling.items())
    form = ConfigForm(
        title="A model of songgen's own, in the form of a published config.yaml.",
        language_model=dual_track_lines(
            width=sizes.width,
            ffn_dim=sizes.ffn_dim,
            num_heads=sizes.num_heads,
            num_layers=sizes.num_layers,
            num_layers_sub=sizes.num_layers_sub,
            code_size=sizes.code_size,
            rope_theta=sizes.rope_theta,
            rope_theta_sub=sizes.rope_theta,
        ),
        own=(
            f"estimator_heads: {sizes.estimator_heads}",
            "lyric_text: phonemes",
            "separator: false",
            "languages: [en]",
            f"sampling: {{{sampling}}}",
        ),
        code_size=sizes.code_size,
        delay=sizes.delay,
        max_seconds=sizes.max_seconds,
        prompt_seconds=sizes.prompt_seconds,
        lyric_positions=sizes.lyric_positions,
        description_positions=sizes.description_positions,
    )
    return form.text()


def tokenizer_files(descriptions: Iterable[str]) -> dict[str, str]:
    """vocab.json, merges.txt and tokenizer_config.json of a byte-level BPE learnt from descriptions."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PRE_TOKEN_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 3,
        min_frequency=1,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(sorted(descriptions), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    size = len(model["vocab"])
    added = {str(size + number): {"content": token} for number, token in enumerate((PAD, START, END))}
    return {
        "vocab.json": json.dumps(model["vocab"], ensure_ascii=False),
        "merges.txt": "#version: 0.2\n" + "".join(f"{merge}\n" for merge in merges),
        "tokenizer_config.json": json.dumps({"added_tokens_decoder": added}, indent=1),
    }


def ensure_text_files(work: Path, sizes: LmSizes, descriptions: Iterable[str]) -> Path:
    """The folder `WORK/text`: config.yaml, conf/vocab.yaml and the tokenizer.

    The tokenizer is learnt when it is first asked for and then stays as it is, whatever songs are added.
    """
    folder = work / FOLDER
    files = {
        folder / "conf/vocab.yaml": vocabulary_yaml(),
        folder / "config.yaml": config_yaml(sizes),
    }
    if not (folder / TOKENIZER_FOLDER / "vocab.json").is_file():
        made = tokenizer_files(descriptions)
        files |= {folder / TOKENIZER_FOLDER / name: content for name, content in made.items()}
    changed = {
        file: content.encode("utf-8")
        for file, content in files.items()
        if not (file.is_file() and file.read_text("utf-8") == content)
    }
    for file in changed:
        file.parent.mkdir(parents=True, exist_ok=True)
    write_together(changed)
    return folder


def load_text(folder: Path) -> tuple[LevoConfig, TextConditioner]:
    """The sizes, and the text half of the conditions, from a folder of `ensure_text_files`."""
    config = read_config(folder / "config.yaml")
    tokenizer = folder / TOKENIZER_FOLDER
    return config, TextConditioner.load(config, tokenizer, base_rows(tokenizer))
