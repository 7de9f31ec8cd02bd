"""Put a Whisper encoder and a small language model together as one Qwen2-Audio checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from coat.backbones.qwen2_audio import Qwen2Audio
from coat.errors import CoatError
from coat.pocket.ctranslate2_format import read_variables
from coat.pocket.whisper import tower_config, tower_weights

AUDIO_TOKENS = ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
# Rows of the embedding come in multiples of this: the think tokens fit without resizing.
ROWS = 64
CLIP_SECONDS = 30
# Fields of a Llama's configuration that a Qwen2's has too.
SHARED = (
    "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
    "hidden_act", "max_position_embeddings", "initializer_range", "rms_norm_eps", "rope_parameters",
    "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip


def assemble(encoder: bytes | Path, language_model: Path) -> Qwen2Audio:
    """A Qwen2-Audio whose projector is untrained; everything else is as in the parts.

    Args:
        encoder: A Whisper model in CTranslate2's format.
        language_model: A Llama or Qwen2 with ChatML: a GGUF file, or a folder of transformers.

    Returns:
        The backbone, in float32, with three audio tokens added to its tokenizer.

    Raises:
        CoatError: The language model is of another family.
    """
    import transformers

    variables = read_variables(encoder)
    decoder, tokenizer = _language_model(language_model)
    tokenizer.add_tokens(list(AUDIO_TOKENS), special_tokens=True)
    decoder.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=ROWS, mean_resizing=False)
    _fill_new_rows(decoder.get_input_embeddings().weight, len(tokenizer) - len(AUDIO_TOKENS))
    model_class = getattr(transformers, Qwen2Audio.model_class)
    config = model_class.config_class(
        text_config=qwen2_config(decoder.config),
        audio_config=tower_config(variables),
        audio_token_id=tokenizer.convert_tokens_to_ids(AUDIO_TOKENS[0]),
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)  # of the projector
    model = model_class(config)
    model.model.audio_tower.load_state_dict(tower_weights(variables))
    load_qwen2(model.model.language_model, decoder.model.state_dict())
    model.lm_head.load_state_dict(decoder.lm_head.state_dict())
    extractor = transformers.WhisperFeatureExtractor(
        feature_size=config.audio_config.num_mel_bins, chunk_length=CLIP_SECONDS
    )
    return Qwen2Audio(model, tokenizer, extractor)


def _language_model(path: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place, options = (str(path), {}) if path.is_dir() else (str(path.parent), {"gguf_file": path.name})
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, **options)
    return model, AutoTokenizer.from_pretrained(place, **options)


def qwen2_config(config: Any) -> dict[str, Any]:
    """The configuration of the Qwen2 that a Llama or Qwen2 equals.

    vLLM has a Qwen2 inside every Qwen2-Audio, whatever the configuration says: a Llama's missing biases would be
    left at whatever memory holds. A Llama is a Qwen2 whose biases are zero.

    Raises:
        CoatError: No Qwen2 equals it.
    """
    alike = config.model_type == "qwen2" or (config.model_type == "llama" and not config.attention_bias)
    if not alike or getattr(config, "mlp_bias", False):
        raise CoatError(
            f"The language model is a {config.model_type}, which Qwen2-Audio cannot hold.",
            "Take a Llama without biases, or a Qwen2.",
        )
    # transformers' Qwen2-Audio has no way to tie its output layer to the embedding: it gets a copy.
    return {"model_type": "qwen2", "tie_word_embeddings": False} | {name: getattr(config, name) for name in SHARED}


def load_qwen2(qwen2: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """A language model's weights, and zeros for the biases of queries, keys and values that a Llama does not have."""
    missing, unexpected = qwen2.load_state_dict(weights, strict=False)
    if unexpected or not all(name.endswith("_proj.bias") for name in missing):
        raise CoatError(f"The language model's weights are not a Llama's: {[*missing, *unexpected][:3]} ...")
    with torch.no_grad():
        for name in missing:
            qwen2.get_parameter(name).zero_()


def _fill_new_rows(weight: torch.Tensor, first: int) -> None:
    """New rows are the mean of the others, as wherever this package adds rows."""
    with torch.no_grad():
        weight[first:] = weight[:first].mean(0)
