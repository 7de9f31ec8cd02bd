"""FLOPs and bytes of cache of a forward pass, from the sizes of a backbone. A multiply and an add are two FLOPs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from torch import nn

from coat.backbones.base import Backbone

WINDOW_SECONDS = 30


@dataclass(frozen=True)
class AttentionSize:
    """Sizes of one layer's attention.

    Attributes:
        queries: Width of the queries, all heads together.
        kept: Width of the keys and values that it adds to the cache; 0 where it takes another layer's.
        window: Positions that it looks back; None for all.
    """

    queries: int
    kept: int
    window: int | None = None

    def pairs(self, tokens: int, past: int) -> float:
        """Pairs of a new position and one that it attends to: those before it and itself."""
        every = tokens * past + tokens * (tokens + 1) / 2
        if self.window is None or past + tokens <= self.window:
            return every
        whole = max(0, min(tokens, self.window - past))  # new positions that the window does not limit
        return whole * past + whole * (whole + 1) / 2 + (tokens - whole) * self.window


def attention_sizes(backbone: Backbone) -> Iterator[AttentionSize]:
    """Sizes of every layer's attention, in order."""
    config = backbone.model.config.get_text_config()
    kinds = getattr(config, "layer_types", None) or []
    for index, layer in enumerate(cast(Any, backbone.language_model).layers):
        attention = layer.self_attn
        kept = [getattr(attention, name, None) for name in ("k_proj", "v_proj")]
        slides = index < len(kinds) and kinds[index] == "sliding_attention"
        yield AttentionSize(
            attention.q_proj.out_features,
            sum(linear.out_features for linear in kept if linear is not None),
            int(config.sliding_window) if slides else None,
        )


def language_flops(backbone: Backbone, tokens: int, *, logits: int = 1, past: int = 0) -> float:
    """FLOPs of the language model over some positions.

    Args:
        backbone: Its sizes; a model without storage will do.
        tokens: Positions that are new.
        logits: Number of the tokens that the output layer sees.
        past: Positions in the cache, which the new ones attend to.
    """
    linear = 2 * active_parameters(backbone) * tokens
    # Causal kernels skip what lies ahead.
    attention = sum(4 * size.queries * size.pairs(tokens, past) for size in attention_sizes(backbone))
    return linear + attention + 2 * count(backbone.lm_head) * logits


def tower_flops(backbone: Backbone, seconds: float) -> float:
    """FLOPs of the audio tower and projector over a clip, in windows where the tower hears no more at once."""
    over = backbone.tower_over_tokens
    frames = over * math.ceil(seconds * backbone.audio_spec.token_rate)
    config = backbone.model.config.audio_config
    # A family that attends in chunks says how long one is, in the tower's positions; the others see 30 s at once.
    chunk = getattr(config, "n_window", 0) or getattr(config, "attention_chunk_size", 0)
    window = int(chunk) or round(WINDOW_SECONDS * over * backbone.audio_spec.token_rate)
    if backbone.whole_windows:
        frames = math.ceil(frames / window) * window
    whole, rest = divmod(frames, window)
    layers = int(getattr(config, "encoder_layers", None) or config.num_hidden_layers)
    size = int(getattr(config, "d_model", None) or config.hidden_size)
    attention = 4.0 * layers * size * (whole * window**2 + rest**2)
    return (2.0 * tower_matrices(backbone) + _picture_flops(backbone) / over) * frames + attention


def _picture_flops(backbone: Backbone) -> float:
    """FLOPs, for each audio token, of convolutions over the spectrogram as a picture, (frequency, time)."""
    layers = [module for module in backbone.audio_tower.modules() if isinstance(module, nn.Conv2d)]
    height, width = int(backbone.feature_extractor.feature_size), math.prod(layer.stride[-1] for layer in layers)
    flops = 0.0
    for layer in layers:
        height, width = -(-height // layer.stride[0]), width // layer.stride[-1]
        flops += 2.0 * layer.weight.numel() * height * width
    return flops


def cache_bytes(backbone: Backbone, tokens: int, *, bytes_each: int = 2) -> int:
    """Bytes of keys and values of some positions.

    Args:
        backbone: Its sizes.
        tokens: Positions.
        bytes_each: Bytes of a number; two in bf16.
    """
    return bytes_each * sum(
        size.kept * (tokens if size.window is None else min(tokens, size.window)) for size in attention_sizes(backbone)
    )


def active_parameters(backbone: Backbone) -> int:
    """Parameters of the decoder that work on a token: without tables of tokens; of a mixture, the active experts."""
    tables = [module for module in backbone.language_model.modules() if isinstance(module, nn.Embedding)]
    total = count(backbone.language_model) - sum(map(count, tables))
    config = backbone.model.config.get_text_config()
    active = getattr(config, "num_experts_per_tok", None)
    if not active:
        return total
    mixed = sum(p.numel() for name, p in backbone.language_model.named_parameters() if ".experts." in name)
    return total - mixed + mixed * int(active) // int(config.num_experts)


def tower_matrices(backbone: Backbone) -> int:
    """Weights of tower and projector that every position is multiplied by: not tables of positions."""
    within = {id(module) for module in backbone.audio_tower.modules()}
    named = [m for name, m in backbone.model.named_modules() if name.endswith(backbone.projector_modules)]
    return matrices(backbone.audio_tower) + sum(matrices(module) for module in named if id(module) not in within)


def matrices(module: nn.Module) -> int:
    """Weights of linear layers and convolutions."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear | nn.Conv1d))


def count(module: nn.Module) -> int:
    """Parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
