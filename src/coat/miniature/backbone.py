"""A tiny Qwen2-Audio on the real transformers classes, with a small tokenizer in the real tokenizer class."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from coat.backbones.qwen2_audio import Qwen2Audio

SPECIAL_TOKENS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>",
)  # fmt: skip
SPARE_ROWS = 16


def train_tokenizer(texts: Iterable[str], vocabulary: int = 768) -> Any:
    """A byte-level BPE on some texts, in ``Qwen2Tokenizer``."""
    from tokenizers import pre_tokenizers
    from transformers import Qwen2Tokenizer

    letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    blank = Qwen2Tokenizer(vocab=letters, merges=[], eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer = blank.train_new_from_iterator(texts, vocabulary)
    tokenizer.add_tokens(list(SPECIAL_TOKENS), special_tokens=True)
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
) -> Qwen2Audio:
    """A randomly initialised Qwen2-Audio of any size.

    Args:
        tokenizer: From :func:`train_tokenizer`.
        hidden_size: d of tower and language model.
        encoder_layers: Of the tower.
        decoder_layers: Of the language model.
        num_heads: Attention heads of both.
        chunk_seconds: The longest clip.
        seed: Of the weights.
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
    text = Qwen2Config(
        vocab_size=len(tokenizer) + SPARE_ROWS,
        hidden_size=hidden_size,
        intermediate_size=hidden_size * 3,
        num_hidden_layers=decoder_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_heads,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=ids["<|im_end|>"],
        pad_token_id=ids["<|endoftext|>"],
    )
    audio = Qwen2AudioEncoderConfig(
        num_mel_bins=128,
        d_model=hidden_size,
        encoder_layers=encoder_layers,
        encoder_attention_heads=num_heads,
        encoder_ffn_dim=hidden_size * 4,
        max_source_positions=chunk_seconds * 50,
    )
    config = Qwen2AudioConfig(audio_config=audio, text_config=text, audio_token_index=ids["<|AUDIO|>"])
    set_seed(seed)
    model = Qwen2AudioForConditionalGeneration(config)
    with torch.no_grad():  # Whisper's positions are fixed sinusoids; the class leaves them to the checkpoint
        model.model.audio_tower.embed_positions.weight.copy_(_sinusoids(chunk_seconds * 50, hidden_size))
    model.generation_config.eos_token_id = ids["<|im_end|>"]
    model.generation_config.pad_token_id = ids["<|endoftext|>"]
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=chunk_seconds, return_attention_mask=True)
    return Qwen2Audio(model.eval(), tokenizer, extractor)


def random_qwen2_audio(folder: str | Path | None = None, **sizes: Any) -> Qwen2Audio:
    """A tiny Qwen2-Audio with random weights, for tests; written to a folder if one is given."""
    texts = ["What is said? Describe the audio. the small red dog finds two boats A B C D"]
    backbone = make_qwen2_audio(train_tokenizer(texts, vocabulary=300), **{"hidden_size": 64, "num_heads": 1, **sizes})
    if folder is not None:
        backbone.save_pretrained(str(folder))
    return backbone


def _sinusoids(length: int, channels: int) -> torch.Tensor:
    half = channels // 2
    rates = torch.exp(-torch.arange(half) * torch.log(torch.tensor(10_000.0)) / (half - 1))
    angles = torch.arange(length)[:, None] * rates[None, :]
    return torch.cat([angles.sin(), angles.cos()], dim=1)
