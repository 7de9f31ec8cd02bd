"""A small model of every family, of random weights in the real classes, with a tokenizer and a template of its own.

Templates say what the families' own say about audio and text.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from coat.backbones import backbone_class
from coat.backbones.base import Backbone
from coat.testing.qwen2_audio import SPARE_ROWS, make_qwen2_audio, sinusoids, train_tokenizer
from coat.testing.sizes import Sizes
from coat.testing.tekken import write_tekken

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
GEMMA_TOKENS = {
    "audio_token": "<|audio|>", "boa_token": "<|audio>", "eoa_token": "<audio|>",
    "image_token": "<|image|>", "boi_token": "<|image>", "eoi_token": "<image|>", "video_token": "<|video|>",
}  # fmt: skip
TURNS = (
    "{{ bos_token }}{% for message in messages %}<|turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% else %}{% for item in message['content'] %}{% if item['type'] == 'audio' %}<|audio|>"
    "{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}{% endif %}<turn|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|turn>model\n{% endif %}"
)

GLM_TOKENS = ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>", "<|pad|>", "<|begin_of_audio|>",
              "<|end_of_audio|>"]  # fmt: skip
# A turn ends where the next one begins, and a clip is a turn within the user's.
ROLES = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n"
    "{% if message['content'] is string %}{{ message['content'] | trim }}"
    "{% else %}{% for item in message['content'] %}{% if item['type'] == 'audio' %}"
    "<|begin_of_audio|><|pad|><|end_of_audio|><|user|>\n"
    "{% elif item['type'] == 'text' %}{{ item['text'] }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def _text_fields(tokenizer: Any, sizes: Sizes) -> dict[str, Any]:
    """Configuration fields of a Qwen2 decoder."""
    return {
        "vocab_size": len(tokenizer) + SPARE_ROWS,
        "tie_word_embeddings": False,
        "bos_token_id": None,
        "eos_token_id": tokenizer.convert_tokens_to_ids("<|im_end|>"),
        "pad_token_id": tokenizer.convert_tokens_to_ids("<|endoftext|>"),
    } | sizes.text


def _qwen2_audio(sizes: Sizes) -> Backbone:
    tokenizer = train_tokenizer(TEXTS, vocabulary=300)
    return make_qwen2_audio(tokenizer, seed=int(torch.initial_seed()), text=sizes.text, audio=sizes.tower)


def _flamingo(sizes: Sizes, family: str, special: list[str], **fields: Any) -> Backbone:
    """Audio Flamingo 3, or a family of the same parts."""
    import transformers

    tokenizer = train_tokenizer(TEXTS, vocabulary=300)
    tokenizer.add_tokens(special, special_tokens=True)
    model_class = getattr(transformers, backbone_class(family).model_class)
    config = model_class.config_class(
        audio_config=transformers.AudioFlamingo3EncoderConfig(**sizes.tower),
        text_config=transformers.Qwen2Config(**_text_fields(tokenizer, sizes)),
        audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
        **{name: tokenizer.convert_tokens_to_ids(value) if isinstance(value, str) else value
           for name, value in fields.items()},
    )  # fmt: skip
    model = model_class(config)
    positions = model.model.audio_tower.embed_positions.weight
    with torch.no_grad():
        positions.copy_(sinusoids(*positions.shape))
    extractor = transformers.WhisperFeatureExtractor(feature_size=128, return_attention_mask=True)
    return backbone_class(family)(model, tokenizer, extractor, CHATML.replace("AUDIO", "<sound>"))


def _audio_flamingo3(sizes: Sizes) -> Backbone:
    return _flamingo(sizes, "audio_flamingo3", ["<sound>"])


def _music_flamingo(sizes: Sizes) -> Backbone:
    bos, eos = "<|sound_bos|>", "<|sound_eos|>"
    rope = {"rope_type": "default", "rope_theta": 1200.0, "partial_rotary_factor": 0.2}
    return _flamingo(
        sizes, "music_flamingo", ["<sound>", bos, eos],
        audio_bos_token_id=bos, audio_eos_token_id=eos, rope_parameters=rope,
    )  # fmt: skip


def _glm_asr(sizes: Sizes) -> Backbone:
    from transformers import (
        GlmAsrConfig,
        GlmAsrEncoderConfig,
        GlmAsrForConditionalGeneration,
        LlamaConfig,
        WhisperFeatureExtractor,
    )

    tokenizer = train_tokenizer(TEXTS, vocabulary=300)
    tokenizer.add_tokens(GLM_TOKENS, special_tokens=True)
    ends = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|user|>", "<|observation|>"])
    config = GlmAsrConfig(
        audio_config=GlmAsrEncoderConfig(
            hidden_size=sizes.tower_size,
            intermediate_size=sizes.tower_size * 4,
            num_hidden_layers=sizes.tower_layers,
            num_attention_heads=sizes.tower_heads,
        ),
        text_config=LlamaConfig(**_text_fields(tokenizer, sizes) | {"eos_token_id": ends}).to_dict(),
        audio_token_id=tokenizer.convert_tokens_to_ids("<|pad|>"),
        tie_word_embeddings=False,
    )
    model = GlmAsrForConditionalGeneration(config)
    extractor = WhisperFeatureExtractor(feature_size=128, return_attention_mask=True)
    return backbone_class("glm_asr")(model, tokenizer, extractor, ROLES)


def _voxtral(sizes: Sizes) -> Backbone:
    from transformers import (
        LlamaConfig,
        VoxtralConfig,
        VoxtralEncoderConfig,
        VoxtralForConditionalGeneration,
        WhisperFeatureExtractor,
    )

    family = backbone_class("voxtral")
    with TemporaryDirectory() as folder:
        write_tekken(Path(folder) / "tekken.json")
        tokenizer = family.load_tokenizer(folder)
    ids = {f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
           for name, token in (("bos", "<s>"), ("eos", "</s>"), ("pad", "<pad>"))}  # fmt: skip
    config = VoxtralConfig(
        audio_config=VoxtralEncoderConfig(
            hidden_size=sizes.tower_size,
            intermediate_size=sizes.tower_size * 4,
            num_hidden_layers=sizes.tower_layers,
            num_attention_heads=sizes.tower_heads,
        ),
        text_config=LlamaConfig(**_text_fields(tokenizer, sizes) | ids | {"head_dim": 64 if sizes.heads == 1 else 128}),
        audio_token_id=tokenizer.convert_tokens_to_ids("[AUDIO]"),
        tie_word_embeddings=False,
    )
    model = VoxtralForConditionalGeneration(config)
    positions = model.model.audio_tower.embed_positions.weight
    with torch.no_grad():
        positions.copy_(sinusoids(*positions.shape))
    return family(model, tokenizer, WhisperFeatureExtractor(feature_size=128))


def _omni_fields(tokenizer: Any, tokens: dict[str, str]) -> dict[str, int]:
    """Token ids that the configurations of Omni thinkers name."""
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in tokens.items()}
    return {
        "audio_token_id": ids["audio_token"],
        "image_token_id": ids["image_token"],
        "video_token_id": ids["video_token"],
        "audio_start_token_id": ids["audio_bos_token"],
        "audio_end_token_id": ids["audio_eos_token"],
        "vision_start_token_id": ids["vision_bos_token"],
        "vision_end_token_id": ids["vision_eos_token"],
        "user_token_id": tokenizer("user")["input_ids"][0],
    }


def _qwen2_5_omni(sizes: Sizes) -> Backbone:
    from transformers import (
        Qwen2_5OmniThinkerConfig,
        Qwen2_5OmniThinkerForConditionalGeneration,
        WhisperFeatureExtractor,
    )

    tokenizer = train_tokenizer(TEXTS, 300, OMNI_TOKENS)
    sections = [16, 8, 8] if sizes.hidden_size // sizes.heads == 64 else [16, 24, 24]
    config = Qwen2_5OmniThinkerConfig(
        audio_config=sizes.tower | {"output_dim": sizes.hidden_size},
        text_config=_text_fields(tokenizer, sizes)
        | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections}},
        vision_config={"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2,
                       "out_hidden_size": sizes.hidden_size, "fullatt_block_indexes": [0]},
        **_omni_fields(tokenizer, OMNI_TOKENS),
    )  # fmt: skip
    model = Qwen2_5OmniThinkerForConditionalGeneration(config)
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=300, return_attention_mask=True)
    template = CHATML.replace("AUDIO", "<|audio_bos|><|AUDIO|><|audio_eos|>")
    return backbone_class("qwen2_5_omni")(model, tokenizer, extractor, template)


def _qwen3_omni(sizes: Sizes) -> Backbone:
    from transformers import (
        Qwen3OmniMoeThinkerConfig,
        Qwen3OmniMoeThinkerForConditionalGeneration,
        WhisperFeatureExtractor,
    )

    tokenizer = train_tokenizer(TEXTS, 300, OMNI3_TOKENS)
    head, sections = (64, [12, 10, 10]) if sizes.heads == 1 else (128, [24, 20, 20])
    text = _text_fields(tokenizer, sizes) | {
        "num_experts": sizes.experts[0],
        "num_experts_per_tok": sizes.experts[1],
        "moe_intermediate_size": sizes.experts[2],
        "head_dim": head,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections},
    }
    config = Qwen3OmniMoeThinkerConfig(
        audio_config=sizes.tower
        | {"output_dim": sizes.hidden_size, "downsample_hidden_size": 8 if sizes.tower_size == 64 else 480},
        text_config=text,
        vision_config={"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2,
                       "out_hidden_size": sizes.hidden_size, "deepstack_visual_indexes": [0],
                       "num_position_embeddings": 16, "image_size": 64, "apply_vit_abs_pos_embed": True},
        **_omni_fields(tokenizer, OMNI3_TOKENS),
    )  # fmt: skip
    model = Qwen3OmniMoeThinkerForConditionalGeneration(config)
    with torch.no_grad():  # the class starts its routers at zero, where ties decide
        for name, weight in model.named_parameters():
            if name.endswith("mlp.gate.weight"):
                weight.normal_(0, 1)
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=300, return_attention_mask=True)
    template = CHATML.replace("AUDIO", "<|audio_start|><|audio_pad|><|audio_end|>")
    return backbone_class("qwen3_omni")(model, tokenizer, extractor, template)


def _gemma4(sizes: Sizes) -> Backbone:
    from tokenizers import pre_tokenizers
    from transformers import (
        Gemma4AudioConfig,
        Gemma4AudioFeatureExtractor,
        Gemma4Config,
        Gemma4ForConditionalGeneration,
        Gemma4TextConfig,
        GemmaTokenizer,
    )

    letters = [*"▁\n", *sorted(filter(str.isascii, pre_tokenizers.ByteLevel.alphabet()))]
    words = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *letters, *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer = GemmaTokenizer(
        vocab={word: index for index, word in enumerate(dict.fromkeys(words))}, merges=[],
        extra_special_tokens=GEMMA_TOKENS,
    )  # fmt: skip
    tokenizer.add_tokens(["<|turn>", "<turn|>", *GEMMA_TOKENS.values()], special_tokens=True)
    ids = {name: tokenizer.convert_tokens_to_ids(token) for name, token in GEMMA_TOKENS.items()}
    small = sizes.decoder_layers < 12
    layers = 4 if small else sizes.decoder_layers  # two of each kind: that makes keys and values, and that takes them
    period, shared, head = (2, 2, 64) if small else (6, 18, 256)
    text = sizes.text | {
        "vocab_size": sizes.vocabulary or len(tokenizer) + SPARE_ROWS,
        "vocab_size_per_layer_input": sizes.vocabulary or len(tokenizer) + SPARE_ROWS,
        "hidden_size_per_layer_input": 16 if small else 256,
        "num_hidden_layers": layers,
        "layer_types": ["sliding_attention" if (i + 1) % period else "full_attention" for i in range(layers)],
        "num_kv_shared_layers": shared,
        "head_dim": head,
        "global_head_dim": 2 * head,
        "final_logit_softcapping": 30.0,
        "tie_word_embeddings": not small,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
    }
    audio = Gemma4AudioConfig(
        hidden_size=sizes.tower_size,
        num_hidden_layers=sizes.tower_layers,
        num_attention_heads=sizes.tower_heads,
        output_proj_dims=sizes.tower_size * 3 // 2,
    )
    sees = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1,
            "num_key_value_heads": 1, "head_dim": 64, "position_embedding_size": 64,
            "default_output_length": 280}  # fmt: skip
    config = Gemma4Config(
        text_config=Gemma4TextConfig(**text),
        audio_config=audio,
        vision_config=sees,
        tie_word_embeddings=not small,
        boa_token_id=ids["boa_token"], eoa_token_index=ids["eoa_token"], audio_token_id=ids["audio_token"],
        boi_token_id=ids["boi_token"], eoi_token_id=ids["eoi_token"], image_token_id=ids["image_token"],
        video_token_id=ids["video_token"],
    )  # fmt: skip
    model = Gemma4ForConditionalGeneration(config)
    with torch.no_grad():  # the class leaves the scale of attention to these, and starts them at one
        for layer in model.model.language_model.layers:
            for name, norm in layer.self_attn.named_children():
                if name in ("q_norm", "k_norm"):
                    norm.weight.fill_(norm.weight.numel() ** -0.25)
    return backbone_class("gemma4")(model, tokenizer, Gemma4AudioFeatureExtractor(), TURNS)


MAKERS: dict[str, Callable[..., Backbone]] = {
    "qwen2_audio": _qwen2_audio,
    "audio_flamingo3": _audio_flamingo3,
    "music_flamingo": _music_flamingo,
    "glm_asr": _glm_asr,
    "voxtral": _voxtral,
    "qwen2_5_omni": _qwen2_5_omni,
    "qwen3_omni": _qwen3_omni,
    "gemma4": _gemma4,
}
