"""A tiny Qwen2-Audio on the real transformers classes, with a small tokenizer in the real tokenizer class."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from coat.backbones.qwen2_audio import Qwen2Audio

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>",
)  # fmt: skip
SPARE_ROWS = 16


def train_tokenizer(texts: Iterable[str], vocabulary: int = 768, named_tokens: dict[str, str] | None = None) -> Any:
    """A byte-level BPE on some texts, in ``Qwen2Tokenizer``.

    Args:
        texts: To learn merges from.
        vocabulary: Number of tokens, special ones aside.
        named_tokens: Special tokens that a family's processor asks the tokenizer for, by attribute.
    """
    from tokenizers import pre_tokenizers
    from transformers import Qwen2Tokenizer

    letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    blank = Qwen2Tokenizer(
        vocab=letters,
        merges=[],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        extra_special_tokens=named_tokens or {},
    )
    tokenizer = blank.train_new_from_iterator(texts, vocabulary, show_progress=False)
    tokenizer.add_tokens([*SPECIAL_TOKENS, *(named_tokens or {}).values()], special_tokens=True)
    return tokenizer


def make_qwen2_audio(
    tokenizer: Any,
    *,
    hidden_size: int = 128,
    encoder_layers: int = 2,
    decoder_layers: int = 4,
    num_heads: int = 2,
    chunk_seconds: int = 30,
    seed: int = 0,
    text: dict[str, Any] | None = None,
    audio: dict[str, Any] | None = None,
) -> Qwen2Audio:
    """A randomly initialised Qwen2-Audio of any size.

    Args:
        tokenizer: From :func:`train_tokenizer`.
        hidden_size: d of tower and language model.
        encoder_layers: Layers of the tower.
        decoder_layers: Layers of the language model.
        num_heads: Attention heads of both.
        chunk_seconds: The longest clip.
        seed: Seed of the weights.
        text: Fields of the language model's configuration that take precedence.
        audio: Fields of the tower's.
    """
    from transformers import (
        Qwen2AudioConfig,
        Qwen2AudioEncoderConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2Config,
        WhisperFeatureExtractor,
        set_seed,
    )

    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS}
    text_fields = {
        "vocab_size": len(tokenizer) + SPARE_ROWS,
        "hidden_size": hidden_size,
        "intermediate_size": hidden_size * 3,
        "num_hidden_layers": decoder_layers,
        "num_attention_heads": num_heads,
        "num_key_value_heads": num_heads,
        "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
    }
    audio_fields = {
        "num_mel_bins": 128,
        "d_model": hidden_size,
        "encoder_layers": encoder_layers,
        "encoder_attention_heads": num_heads,
        "encoder_ffn_dim": hidden_size * 4,
        "max_source_positions": chunk_seconds * 50,
    }
    config = Qwen2AudioConfig(
        audio_config=Qwen2AudioEncoderConfig(**audio_fields | (audio or {})),
        text_config=Qwen2Config(**text_fields | (text or {})),
        audio_token_index=ids["<|AUDIO|>"],
    )
    set_seed(seed)
    model = Qwen2AudioForConditionalGeneration(config)
    with torch.no_grad():  # Whisper's positions are fixed sinusoids; the class leaves them to the checkpoint
        positions = model.model.audio_tower.embed_positions.weight
        positions.copy_(sinusoids(*positions.shape))
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=chunk_seconds, return_attention_mask=True)
    return Qwen2Audio(model.eval(), tokenizer, extractor)


def sinusoids(length: int, channels: int) -> torch.Tensor:
    """Whisper's fixed positions, ``(length, channels)``."""
    half = channels // 2
    rates = torch.exp(-torch.arange(half) * torch.log(torch.tensor(10_000.0)) / (half - 1))
    angles = torch.arange(length)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
