"""A language model held in four bits (bitsandbytes, NF4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from coat.errors import CoatError


def four_bit(dtype: torch.dtype, projector_modules: Sequence[str]) -> Any:
    """Quantisation of the language model's linear layers; tower, projector and output layer stay as they are.

    Args:
        dtype: Data type that is computed in.
        projector_modules: The projector's, which stay as they are too.

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
        llm_int8_skip_modules=["model.audio_tower", *(f"model.{name}" for name in projector_modules), "lm_head"],
    )
