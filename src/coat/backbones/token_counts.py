"""How many audio tokens a family's tower makes of mel frames. Exports carry this file."""

from __future__ import annotations

QWEN3_CHUNK_FRAMES, QWEN3_CHUNK_TOKENS = 100, 13
FRAMES_PER_GEMMA4_TOKEN = 4
FRAMES_PER_VOXTRAL_TOKEN = 8


def pooled_frames(frames: int) -> int:
    """Whisper-like towers: a convolution of stride two, then pooling by two."""
    return ((frames - 1) // 2 + 1 - 2) // 2 + 1


def merged_frames(frames: int) -> int:
    """GLM-ASR: a convolution of stride two, then four states in a row are one."""
    return ((frames - 1) // 2 + 1) // 4


def chunked_frames(frames: int, chunk: int = QWEN3_CHUNK_FRAMES) -> int:
    """Qwen3-Omni: three strides of two in every chunk of frames."""
    whole, rest = divmod(frames, chunk)
    for _ in range(3):
        rest = (rest - 1) // 2 + 1
    return whole * QWEN3_CHUNK_TOKENS + rest


def gemma4_frames(num_samples: int, hop: int) -> int:
    """Gemma 4: the mel frames all of whose samples are of the clip, the sample after the last one included."""
    return (num_samples - 1) // hop


def gemma4_tokens(frames: int) -> int:
    """Gemma 4: two convolutions of stride two."""
    return -(-frames // FRAMES_PER_GEMMA4_TOKEN)
