"""A tiny checkpoint of every family, random weights in the real classes, for tests of your own parts.

>>> from coat.miniature.families import random_backbone
>>> random_backbone("audio_flamingo3", "runs/tiny-af3")    # doctest: +SKIP
>>> random_backbone("qwen2_5_omni").num_audio_tokens(16_000)  # doctest: +SKIP
25

Each is saved in the layout of the family's hub checkpoints and loaded by the same code. Templates say what the
families' own say about audio and text.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from coat.backbones import backbone_class
from coat.backbones.base import Backbone
from coat.errors import CoatError, did_you_mean
from coat.miniature.backbone import SPARE_ROWS, make_qwen2_audio, sinusoids, train_tokenizer

TEXTS = ["What is said? Describe the audio. the small red dog finds two boats A B C D"]
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for item in message['content'] %}{% if item['type'] == 'audio' %}AUDIO"
    "{% elif item['type'] == 'text' %}{{ item['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
OMNI_TOKENS = {
    "audio_token": "<|AUDIO|>", "image_token": "<|IMAGE|>", "video_token": "<|VIDEO|>",
    "audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>",
    "vision_bos_token": "<|vision_bos|>", "vision_eos_token": "<|vision_eos|>",
}  # fmt: skip
OMNI3_TOKENS = {
    "audio_token": "<|audio_pad|>", "image_token": "<|image_pad|>", "video_token": "<|video_pad|>",
    "audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>",
    "vision_bos_token": "<|vision_start|>", "vision_eos_token": "<|vision_end|>",
}  # fmt: skip


def random_backbone(family: str, folder: str | Path | None = None, *, seed: int = 0, **sizes: Any) -> Backbone:
    """A tiny member of a family.

    Args:
        family: Its key in recipes.
        folder: Where to write it, if anywhere.
        seed: Of the weights.
        **sizes: ``hidden_size`` (a multiple of 64, 64), ``encoder_layers`` (2), ``decoder_layers`` (2).

    Raises:
        CoatError: The family has no maker.
    """
    if family not in _MAKERS:
        raise CoatError(f"There is no tiny maker for '{family}'.", did_you_mean(family, list(_MAKERS)))
    torch.manual_seed(seed)
    backbone = _MAKERS[family](**{"hidden_size": 64, "encoder_layers": 2, "decoder_layers": 2, **sizes})
    backbone.model.eval()
    if folder is not None:
        backbone.save_pretrained(str(folder))
        if family in _SEES:
            _describe_images(Path(folder) / "preprocessor_config.json", family)
    return backbone


# Families whose checkpoints describe images beside sound, in the same file.
_SEES = {"qwen2_5_omni": 14, "qwen3_omni": 16}


def _describe_images(path: Path, family: str) -> None:
    pixels = {"min_pixels": 3136, "max_pixels": 12845056, "patch_size": _SEES[family], "temporal_patch_size": 2}
    kinds = {"image_processor_type": "Qwen2VLImageProcessor", "merge_size": 2, "processor_class": "Omni"}
    path.write_text(json.dumps(json.loads(path.read_text()) | pixels | kinds, indent=1))


def _text_sizes(tokenizer: Any, hidden_size: int, layers: int) -> dict[str, Any]:
    """Of a Qwen2 decoder with heads of 64, which every attention kernel takes."""
    return {
        "vocab_size": len(tokenizer) + SPARE_ROWS,
        "hidden_size": hidden_size,
        "intermediate_size": hidden_size * 3,
        "num_hidden_layers": layers,
        "num_attention_heads": hidden_size // 64,
        "num_key_value_heads": hidden_size // 64,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    }


def _tower_sizes(hidden_size: int, layers: int) -> dict[str, Any]:
    """Of a Whisper-like tower."""
    return {
        "num_mel_bins": 128,
        "d_model": hidden_size,
        "encoder_layers": layers,
        "encoder_attention_heads": hidden_size // 64,
        "encoder_ffn_dim": hidden_size * 4,
    }


def _qwen2_audio(hidden_size: int, encoder_layers: int, decoder_layers: int) -> Backbone:
    return make_qwen2_audio(
        train_tokenizer(TEXTS, vocabulary=300),
        hidden_size=hidden_size,
        num_heads=hidden_size // 64,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        seed=int(torch.initial_seed()),
    )


def _audio_flamingo3(hidden_size: int, encoder_layers: int, decoder_layers: int) -> Backbone:
    from transformers import (
        AudioFlamingo3Config,
        AudioFlamingo3EncoderConfig,
        AudioFlamingo3ForConditionalGeneration,
        Qwen2Config,
        WhisperFeatureExtractor,
    )

    tokenizer = train_tokenizer(TEXTS, vocabulary=300)
    tokenizer.add_tokens(["<sound>"], special_tokens=True)
    config = AudioFlamingo3Config(
        audio_config=AudioFlamingo3EncoderConfig(**_tower_sizes(hidden_size, encoder_layers)),
        text_config=Qwen2Config(**_text_sizes(tokenizer, hidden_size, decoder_layers)),
        audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
    )
    model = AudioFlamingo3ForConditionalGeneration(config)
    positions = model.model.audio_tower.embed_positions.weight
    with torch.no_grad():
        positions.copy_(sinusoids(*positions.shape))
    extractor = WhisperFeatureExtractor(feature_size=128, return_attention_mask=True)
    return backbone_class("audio_flamingo3")(model, tokenizer, extractor, CHATML.replace("AUDIO", "<sound>"))


def _omni_ids(tokenizer: Any, tokens: dict[str, str]) -> dict[str, int]:
    return {name: tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}


def _qwen2_5_omni(hidden_size: int, encoder_layers: int, decoder_layers: int) -> Backbone:
    from transformers import (
        Qwen2_5OmniThinkerConfig,
        Qwen2_5OmniThinkerForConditionalGeneration,
        WhisperFeatureExtractor,
    )

    tokenizer = train_tokenizer(TEXTS, 300, OMNI_TOKENS)
    ids = _omni_ids(tokenizer, OMNI_TOKENS)
    config = Qwen2_5OmniThinkerConfig(
        audio_config=_tower_sizes(hidden_size, encoder_layers) | {"output_dim": hidden_size},
        text_config=_text_sizes(tokenizer, hidden_size, decoder_layers)
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 8, 8]}},
        vision_config={"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2,
                       "out_hidden_size": hidden_size, "fullatt_block_indexes": [0]},
        audio_token_index=ids["audio_token"],
        image_token_index=ids["image_token"],
        video_token_index=ids["video_token"],
        audio_start_token_id=ids["audio_bos_token"],
        audio_end_token_id=ids["audio_eos_token"],
        vision_start_token_id=ids["vision_bos_token"],
        vision_end_token_id=ids["vision_eos_token"],
        user_token_id=tokenizer("user")["input_ids"][0],
    )  # fmt: skip
    model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=300, return_attention_mask=True)
    template = CHATML.replace("AUDIO", "<|audio_bos|><|AUDIO|><|audio_eos|>")
    return backbone_class("qwen2_5_omni")(model, tokenizer, extractor, template)


def _qwen3_omni(hidden_size: int, encoder_layers: int, decoder_layers: int) -> Backbone:
    from transformers import (
        Qwen3OmniMoeThinkerConfig,
        Qwen3OmniMoeThinkerForConditionalGeneration,
        WhisperFeatureExtractor,
    )

    tokenizer = train_tokenizer(TEXTS, 300, OMNI3_TOKENS)
    ids = _omni_ids(tokenizer, OMNI3_TOKENS)
    text = _text_sizes(tokenizer, hidden_size, decoder_layers) | {
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": hidden_size,
        "head_dim": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [12, 10, 10]},
    }
    config = Qwen3OmniMoeThinkerConfig(
        audio_config=_tower_sizes(hidden_size, encoder_layers)
        | {"output_dim": hidden_size, "downsample_hidden_size": 8},
        text_config=text,
        vision_config={"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2,
                       "out_hidden_size": hidden_size, "deepstack_visual_indexes": [0],
                       "num_position_embeddings": 16},
        audio_token_id=ids["audio_token"],
        image_token_id=ids["image_token"],
        video_token_id=ids["video_token"],
        audio_start_token_id=ids["audio_bos_token"],
        audio_end_token_id=ids["audio_eos_token"],
        vision_start_token_id=ids["vision_bos_token"],
        vision_end_token_id=ids["vision_eos_token"],
        user_token_id=tokenizer("user")["input_ids"][0],
    )  # fmt: skip
    model = Qwen3OmniMoeThinkerForConditionalGeneration(config)
    with torch.no_grad():  # the class starts its routers at zero, where ties decide
        for name, weight in model.named_parameters():
            if name.endswith("mlp.gate.weight"):
                weight.normal_(0, 1)
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=300, return_attention_mask=True)
    template = CHATML.replace("AUDIO", "<|audio_start|><|audio_pad|><|audio_end|>")
    return backbone_class("qwen3_omni")(model, tokenizer, extractor, template)


_MAKERS: dict[str, Callable[..., Backbone]] = {
    "qwen2_audio": _qwen2_audio,
    "audio_flamingo3": _audio_flamingo3,
    "qwen2_5_omni": _qwen2_5_omni,
    "qwen3_omni": _qwen3_omni,
}
