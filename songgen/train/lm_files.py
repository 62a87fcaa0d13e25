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
from songgen.models.levo.text import END, PAD, PRE_TOKEN_PATTERN, START, base_rows

FOLDER = "text"
TOKENIZER = "third_party/Qwen2-7B"
VOCABULARY = 1024
"""Most rows of the description tokenizer: 256 bytes, merges, three added tokens."""

STRUCTURE_TAGS = (
    "[verse]",
    "[chorus]",
    "[bridge]",
    *(f"[{part}-{length}]" for part in ("intro", "outro", "inst") for length in ("short", "medium", "long")),
    "[silence]",
)


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
    return f"""\
# A model of songgen's own, in the form of a published config.yaml.
max_dur: {sizes.max_seconds}
prompt_len: {sizes.prompt_seconds}
audio_tokenizer_checkpoint: Flow1dVAE1rvq_./ckpt/model_1rvq/model_2_fixed.safetensors
audio_tokenizer_frame_rate: 25
audio_tokenizer_code_depth: 1
sample_rate: 48000
audio_tokenizer_checkpoint_sep: Flow1dVAESeparate_./ckpt/model_septoken/model_2.safetensors
audio_tokenizer_frame_rate_sep: 25
audio_tokenizer_code_depth_sep: 2
sample_rate_sep: 48000
vae_config: ./ckpt/vae/stable_audio_1920_vae.json
vae_model: ./ckpt/vae/autoencoder_music_1320k.ckpt
lm:
  lm_type: Llama
  dim: {sizes.width}
  intermediate_size: {sizes.ffn_dim}
  num_heads: {sizes.num_heads}
  num_layers: {sizes.num_layers}
  num_layers_sub: {sizes.num_layers_sub}
  code_depth: 3
  code_size: {sizes.code_size}
  max_position_embeddings: 8196
  max_position_embeddings_sub: 10000
  rope_theta: {sizes.rope_theta}
  rope_theta_sub: {sizes.rope_theta}
codebooks_pattern:
  modeling: delay
  delay: {{delays: [0, {sizes.delay}, {sizes.delay}], flatten_first: 0, empty_initial: 0}}
classifier_free_guidance: {{inference_coef: 1.5}}
fuser: {{sum: [], prepend: [description, prompt_audio, type_info]}}
conditioners:
  prompt_audio:
    model: qt_embedding
    qt_embedding:
      code_size: {sizes.code_size}
      code_depth: 3
      max_len: ${{eval:${{prompt_len}}*${{audio_tokenizer_frame_rate}}+2}}
  description:
    model: QwTokenizer
    QwTokenizer:
      token_path: {TOKENIZER}
      max_len: {sizes.lyric_positions}
      add_token_list: ${{load_yaml:conf/vocab.yaml}}
  type_info:
    model: QwTextTokenizer
    QwTextTokenizer:
      token_path: {TOKENIZER}
      max_len: {sizes.description_positions}
songgen:
  estimator_heads: {sizes.estimator_heads}
  lyric_text: phonemes
  separator: false
  languages: [en]
  sampling: {{{sampling}}}
"""


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
        folder / "conf/vocab.yaml": "".join(f"- '{tag}'\n" for tag in STRUCTURE_TAGS),
        folder / "config.yaml": config_yaml(sizes),
    }
    if not (folder / TOKENIZER / "vocab.json").is_file():
        made = tokenizer_files(descriptions)
        files |= {folder / TOKENIZER / name: content for name, content in made.items()}
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
    tokenizer = folder / TOKENIZER
    return config, TextConditioner.load(config, tokenizer, base_rows(tokenizer))
