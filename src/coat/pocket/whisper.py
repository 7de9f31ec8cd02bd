"""The encoder of a Whisper model in CTranslate2's format, as the audio tower of a Qwen2-Audio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Whisper's attention heads are 64 wide in every size.
HEAD_WIDTH = 64


def tower_config(variables: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Fields of ``Qwen2AudioEncoderConfig``, read from the shapes of the weights."""
    width, mels, _ = variables["encoder/conv1/weight"].shape
    layers = len(
        {name.split("/")[1] for name in variables if name.startswith("encoder/layer_") and name.count("/") > 2}
    )
    return {
        "d_model": width,
        "num_mel_bins": mels,
        "encoder_layers": layers,
        "encoder_attention_heads": width // HEAD_WIDTH,
        "encoder_ffn_dim": variables["encoder/layer_0/ffn/linear_0/weight"].shape[0],
        "max_source_positions": variables["encoder/position_encodings/encodings"].shape[0],
    }


def tower_weights(variables: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The encoder's weights by the names of transformers' Qwen2-Audio tower, in float32.

    Queries, keys and values are stacked in one matrix there. Whisper's keys have no bias: its part is zero.
    """
    weights: dict[str, Tensor] = {}

    def put(ours: str, theirs: str, part: slice = slice(None)) -> None:
        weights[ours] = torch.from_numpy(variables[f"encoder/{theirs}"][part].astype(np.float32))

    def linear(ours: str, theirs: str) -> None:
        put(f"{ours}.weight", f"{theirs}/weight")
        put(f"{ours}.bias", f"{theirs}/bias")

    def norm(ours: str, theirs: str) -> None:
        put(f"{ours}.weight", f"{theirs}/gamma")
        put(f"{ours}.bias", f"{theirs}/beta")

    config = tower_config(variables)
    width = config["d_model"]
    linear("conv1", "conv1")
    linear("conv2", "conv2")
    put("embed_positions.weight", "position_encodings/encodings")
    for index in range(config["encoder_layers"]):
        layer, stored = f"layers.{index}", f"layer_{index}"
        for place, name in enumerate(("q_proj", "k_proj", "v_proj")):
            rows = slice(place * width, (place + 1) * width)
            put(f"{layer}.self_attn.{name}.weight", f"{stored}/self_attention/linear_0/weight", rows)
            if name != "k_proj":
                put(f"{layer}.self_attn.{name}.bias", f"{stored}/self_attention/linear_0/bias", rows)
        linear(f"{layer}.self_attn.out_proj", f"{stored}/self_attention/linear_1")
        norm(f"{layer}.self_attn_layer_norm", f"{stored}/self_attention/layer_norm")
        linear(f"{layer}.fc1", f"{stored}/ffn/linear_0")
        linear(f"{layer}.fc2", f"{stored}/ffn/linear_1")
        norm(f"{layer}.final_layer_norm", f"{stored}/ffn/layer_norm")
    norm("layer_norm", "layer_norm")
    return weights
