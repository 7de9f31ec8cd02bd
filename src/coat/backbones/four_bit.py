"""A language model held in four bits (bitsandbytes, NF4)."""

from __future__ import annotations

from typing import Any

import torch

from coat.errors import CoatError


def four_bit(dtype: torch.dtype) -> Any:
    """Quantisation of the language model's linear layers; the tower and the output layer stay as they are.

    Args:
        dtype: Data type that is computed in.

    Raises:
        CoatError: bitsandbytes is not installed.
    """
    import importlib.util

    import transformers

    if importlib.util.find_spec("bitsandbytes") is None:
        raise CoatError(
            "bitsandbytes is not installed.", "pip install 'coat-audio[quantized]', or take load_in_4bit out."
        )
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=["model.audio_tower", "model.multi_modal_projector", "lm_head"],
    )
