"""FLOPs and bytes of cache of a forward pass, from the sizes of a backbone. A multiply and an add are two FLOPs."""

from __future__ import annotations

import math
from typing import Any

from torch import nn

from coat.backbones.base import Backbone

# The tower's layers work at the audio tokens' rate before pooling halves it.
TOWER_OVER_TOKENS = 2
WINDOW_SECONDS = 30


def language_flops(backbone: Backbone, tokens: int, *, logits: int = 1, past: int = 0) -> float:
    """FLOPs of the language model over some positions.

    Args:
        backbone: Its sizes; a model without storage will do.
        tokens: Positions that are new.
        logits: Number of the tokens that the output layer sees.
        past: Positions in the cache, which the new ones attend to.
    """
    linear = 2 * active_parameters(backbone) * tokens
    # Causal kernels skip what lies ahead: a new position attends to those before it and itself.
    pairs = tokens * past + tokens * (tokens + 1) / 2
    config = backbone.model.config.get_text_config()
    attention = 4 * int(config.num_hidden_layers) * _attention_size(config) * pairs
    return linear + attention + 2 * count(backbone.lm_head) * logits


def tower_flops(backbone: Backbone, seconds: float) -> float:
    """FLOPs of the audio tower and projector over a clip, in windows where the tower hears no more at once."""
    frames = TOWER_OVER_TOKENS * math.ceil(seconds * backbone.audio_spec.token_rate)
    config = backbone.model.config.audio_config
    # A family that attends in chunks says how long one is, in the tower's positions; the others see 30 s at once.
    at_once = round(WINDOW_SECONDS * TOWER_OVER_TOKENS * backbone.audio_spec.token_rate)
    window = int(getattr(config, "n_window", 0)) or at_once
    whole, rest = divmod(frames, window)
    attention = 4.0 * int(config.encoder_layers) * int(config.d_model) * (whole * window**2 + rest**2)
    return 2.0 * tower_matrices(backbone) * frames + attention


def cache_bytes(backbone: Backbone, tokens: int, *, bytes_each: int = 2) -> int:
    """Bytes of keys and values of some positions.

    Args:
        backbone: Its sizes.
        tokens: Positions.
        bytes_each: Bytes of a number; two in bf16.
    """
    config = backbone.model.config.get_text_config()
    size = int(config.num_key_value_heads) * _head_size(config)
    return 2 * int(config.num_hidden_layers) * size * tokens * bytes_each


def active_parameters(backbone: Backbone) -> int:
    """Parameters of the decoder that work on a token: without the embedding; of a mixture, the active experts."""
    total = count(backbone.language_model) - count(backbone.embedding)
    config = backbone.model.config.get_text_config()
    active = getattr(config, "num_experts_per_tok", None)
    if not active:
        return total
    mixed = sum(p.numel() for name, p in backbone.language_model.named_parameters() if ".experts." in name)
    return total - mixed + mixed * int(active) // int(config.num_experts)


def tower_matrices(backbone: Backbone) -> int:
    """Weights outside the language model that every position is multiplied by: not tables of positions."""
    return matrices(backbone.model) - matrices(backbone.language_model) - matrices(backbone.lm_head)


def matrices(module: nn.Module) -> int:
    """Weights of linear layers and convolutions."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear | nn.Conv1d))


def count(module: nn.Module) -> int:
    """Parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def _head_size(config: Any) -> int:
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def _attention_size(config: Any) -> int:
    return int(config.num_attention_heads) * _head_size(config)
