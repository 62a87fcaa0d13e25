"""The published form of config.yaml, for checkpoints that songgen makes itself: built-in and trained ones.

`config.py` reads it; nothing here knows a network.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

TOKENIZER_FOLDER = "third_party/Qwen2-7B"
MIXED_FILE = "ckpt/model_1rvq/model_2_fixed.safetensors"
DUAL_FILE = "ckpt/model_septoken/model_2.safetensors"

STRUCTURE_TAGS = (
    "[verse]",
    "[chorus]",
    "[bridge]",
    *(f"[{part}-{length}]" for part in ("intro", "outro", "inst") for length in ("short", "medium", "long")),
    "[silence]",
)


@dataclass(frozen=True)
class ConfigForm:
    """What such files differ in.

    Args:
        title: the comment that they begin with.
        code_depth: codebooks, 3, or 1 in the form of v2-fast, which has no stems.
        language_model: lines of its sizes, and in the form of v2-fast of its sampling.
        delay: frames by which vocal and bgm lag behind mixed.
        code_size, max_seconds, prompt_seconds, lyric_positions, description_positions: as in `LevoConfig`.
        own: lines of the section `songgen`.
    """

    title: str
    language_model: tuple[str, ...]
    own: tuple[str, ...]
    code_depth: int = 3
    code_size: int = 1024
    delay: int = 250
    max_seconds: int = 60
    prompt_seconds: int = 10
    lyric_positions: int = 1200
    description_positions: int = 200

    def text(self) -> str:
        """The file."""
        return f"""\
# {self.title}
max_dur: {self.max_seconds}
prompt_len: {self.prompt_seconds}
{self._codecs()}vae_config: ./ckpt/vae/stable_audio_1920_vae.json
vae_model: ./ckpt/vae/autoencoder_music_1320k.ckpt
{_lines(self.language_model)}codebooks_pattern:
  modeling: delay
  delay: {{delays: {[0] + [self.delay] * (self.code_depth - 1)}, flatten_first: 0, empty_initial: 0}}
fuser: {{sum: [], prepend: [description, prompt_audio, type_info]}}
conditioners:
  prompt_audio:
    model: qt_embedding
    qt_embedding:
      code_size: {self.code_size}
      code_depth: {self.code_depth}
      max_len: ${{eval:${{prompt_len}}*${{audio_tokenizer_frame_rate}}+2}}
  description:
    model: QwTokenizer
    QwTokenizer:
      token_path: {TOKENIZER_FOLDER}
      max_len: {self.lyric_positions}
      add_token_list: ${{load_yaml:conf/vocab.yaml}}
  type_info:
    model: QwTextTokenizer
    QwTextTokenizer:
      token_path: {TOKENIZER_FOLDER}
      max_len: {self.description_positions}
songgen:
{_lines(f"  {line}" for line in self.own)}"""

    def _codecs(self) -> str:
        """Lines of the codecs: the single-track one, and the dual-track one where there are stems."""
        codecs = [("", f"Flow1dVAE1rvq_./{MIXED_FILE}", 1)]
        if self.code_depth > 1:
            codecs.append(("_sep", f"Flow1dVAESeparate_./{DUAL_FILE}", 2))
        return "".join(
            f"audio_tokenizer_checkpoint{suffix}: {checkpoint}\n"
            f"audio_tokenizer_frame_rate{suffix}: 25\n"
            f"audio_tokenizer_code_depth{suffix}: {depth}\n"
            f"sample_rate{suffix}: 48000\n"
            for suffix, checkpoint, depth in codecs
        )


def dual_track_lines(
    *,
    width: int,
    ffn_dim: int,
    num_heads: int,
    num_layers: int,
    num_layers_sub: int,
    code_size: int,
    rope_theta: float,
    rope_theta_sub: float,
) -> tuple[str, ...]:
    """The language model of a checkpoint with three codebooks, and its guidance."""
    return (
        "lm:",
        "  lm_type: Llama",
        f"  dim: {width}",
        f"  intermediate_size: {ffn_dim}",
        f"  num_heads: {num_heads}",
        f"  num_layers: {num_layers}",
        f"  num_layers_sub: {num_layers_sub}",
        "  code_depth: 3",
        f"  code_size: {code_size}",
        "  max_position_embeddings: 8196",
        "  max_position_embeddings_sub: 10000",
        f"  rope_theta: {rope_theta}",
        f"  rope_theta_sub: {rope_theta_sub}",
        "classifier_free_guidance: {inference_coef: 1.5}",
    )


def vocabulary_yaml() -> str:
    """conf/vocab.yaml: the structure tags."""
    return _lines(f"- '{tag}'" for tag in STRUCTURE_TAGS)


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)
