"""Sizes of checkpoints with random weights: tiny, and those of the hub's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Sizes:
    """Sizes of a checkpoint with random weights.

    Attributes:
        hidden_size: d of the language model.
        intermediate_size: Width of its feed-forward layers.
        decoder_layers: Its layers.
        heads, kv_heads: Its attention heads; of 64 or 128, which every attention kernel takes.
        vocabulary: Rows of the embedding; as many as the tokenizer needs if None.
        tower_size, tower_layers, tower_heads: Width, layers and attention heads of the tower.
        experts: In a mixture of experts: how many there are, how many work at once, and their width.
    """

    hidden_size: int = 64
    intermediate_size: int = 192
    decoder_layers: int = 2
    heads: int = 1
    kv_heads: int = 1
    vocabulary: int | None = None
    tower_size: int = 64
    tower_layers: int = 2
    tower_heads: int = 1
    experts: tuple[int, int, int] = (4, 2, 64)

    @property
    def text(self) -> dict[str, Any]:
        """Fields of the language model's configuration."""
        fields = {
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.decoder_layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": 32_768,
        }
        return fields | ({"vocab_size": self.vocabulary} if self.vocabulary else {})

    @property
    def tower(self) -> dict[str, Any]:
        """Fields of the tower's configuration."""
        return {
            "num_mel_bins": 128,
            "d_model": self.tower_size,
            "encoder_layers": self.tower_layers,
            "encoder_attention_heads": self.tower_heads,
            "encoder_ffn_dim": self.tower_size * 4,
        }


_QWEN2_7B = Sizes(3584, 18_944, 28, 28, 4, 152_064, 1280, 32, 20)
REAL_SIZES = {
    "qwen2_audio": Sizes(4096, 11_008, 32, 32, 32, 156_032, 1280, 32, 20),
    "audio_flamingo3": _QWEN2_7B,
    "music_flamingo": _QWEN2_7B,
    "qwen2_5_omni": _QWEN2_7B,
    "glm_asr": Sizes(2048, 6144, 28, 16, 4, 59_264, 1280, 32, 20),
    "voxtral": Sizes(3072, 8192, 30, 32, 8, 131_072, 1280, 32, 20),
    "gemma4": Sizes(2560, 10_240, 42, 8, 2, 262_144, 1024, 12, 8),
    "qwen3_omni": Sizes(2048, 768, 48, 32, 4, 152_064, 1280, 32, 20, (128, 8, 768)),
}
