"""Put a Whisper encoder and a small language model together as one Qwen2-Audio checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from coat.backbones.qwen2_audio import Qwen2Audio
from coat.pocket.ctranslate2_format import read_variables
from coat.pocket.whisper import tower_config, tower_weights

AUDIO_TOKENS = ("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
# Rows of the embedding come in multiples of this: the think tokens fit without resizing.
ROWS = 64
CLIP_SECONDS = 30


def assemble(encoder: bytes | Path, language_model: Path) -> Qwen2Audio:
    """A Qwen2-Audio whose projector is untrained; everything else is as in the parts.

    Args:
        encoder: A Whisper model in CTranslate2's format.
        language_model: A Llama-like language model with ChatML: a GGUF file, or a folder of transformers.

    Returns:
        The backbone, in float32, with three audio tokens added to its tokenizer.
    """
    import transformers

    variables = read_variables(encoder)
    decoder, tokenizer = _language_model(language_model)
    tokenizer.add_tokens(list(AUDIO_TOKENS), special_tokens=True)
    decoder.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=ROWS, mean_resizing=False)
    _fill_new_rows(decoder.get_input_embeddings().weight, len(tokenizer) - len(AUDIO_TOKENS))
    text = decoder.config.to_dict()
    text.pop("quantization_config", None)  # the weights are whole again
    # transformers' Qwen2-Audio has no way to tie its output layer to the embedding: it gets a copy.
    text["tie_word_embeddings"] = False
    model_class = getattr(transformers, Qwen2Audio.model_class)
    config = model_class.config_class(
        text_config=text,
        audio_config=tower_config(variables),
        audio_token_id=tokenizer.convert_tokens_to_ids(AUDIO_TOKENS[0]),
        tie_word_embeddings=False,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)  # of the projector
    model = model_class(config)
    model.model.audio_tower.load_state_dict(tower_weights(variables))
    model.model.language_model.load_state_dict(decoder.model.state_dict())
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


def _fill_new_rows(weight: torch.Tensor, first: int) -> None:
    """New rows are the mean of the others, as wherever this package adds rows."""
    with torch.no_grad():
        weight[first:] = weight[:first].mean(0)
