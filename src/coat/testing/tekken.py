"""A tokenizer file of Mistral's, of single bytes: its newest form, with audio."""

from __future__ import annotations

import base64
import json
from pathlib import Path

# Ids that a model's code, and not its tokenizer's file, may know.
NAMED = {
    0: "<unk>", 1: "<s>", 2: "</s>", 3: "[INST]", 4: "[/INST]", 5: "[AVAILABLE_TOOLS]", 6: "[/AVAILABLE_TOOLS]",
    7: "[TOOL_RESULTS]", 8: "[/TOOL_RESULTS]", 9: "[TOOL_CALLS]", 10: "[IMG]", 11: "<pad>", 12: "[IMG_BREAK]",
    13: "[IMG_END]", 14: "[PREFIX]", 15: "[MIDDLE]", 16: "[SUFFIX]", 17: "[SYSTEM_PROMPT]", 18: "[/SYSTEM_PROMPT]",
    19: "[TOOL_CONTENT]", 24: "[AUDIO]", 25: "[BEGIN_AUDIO]", 34: "[TRANSCRIBE]",
}  # fmt: skip
SPECIAL = 40
PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def audio_fields(fields: dict) -> dict:
    """A tokenizer's fields with the special tokens and the description of audio that Voxtral's has.

    Args:
        fields: Such as those of a file for text alone.
    """
    special = int(fields["config"]["default_num_special_tokens"])
    names = [NAMED.get(index, f"<SPECIAL_{index}>") for index in range(special)]
    return {
        "config": {**fields["config"], "version": "v7"},
        "vocab": fields["vocab"],
        "special_tokens": [{"rank": i, "token_str": name, "is_control": True} for i, name in enumerate(names)],
        "audio": {
            "sampling_rate": 16_000,
            "frame_rate": 12.5,
            "chunk_length_s": 30.0,
            "audio_encoding_config": {"num_mel_bins": 128, "hop_length": 160, "window_size": 400},
        },
    }


def write_tekken(path: Path) -> None:
    """Write a file whose every token is a byte."""
    encoded = [base64.b64encode(bytes([byte])).decode() for byte in range(256)]
    config = {
        "pattern": PATTERN,
        "num_vocab_tokens": 256,
        "default_vocab_size": 256 + SPECIAL,
        "default_num_special_tokens": SPECIAL,
    }
    vocab = [{"rank": rank, "token_bytes": token, "token_str": None} for rank, token in enumerate(encoded)]
    path.write_text(json.dumps(audio_fields({"config": config, "vocab": vocab})))
