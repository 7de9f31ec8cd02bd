"""Targets of the heads: z_k on the think tokens of a batch."""

from __future__ import annotations

from torch import Tensor

from coat.experts.align import pool
from coat.experts.base import Expert
from coat.thinking.batch import Batch
from coat.thinking.prompt import PromptBuilder


def expert_targets(
    expert: Expert, batch: Batch, audio_embeddings: Tensor, audio_lengths: Tensor, builder: PromptBuilder
) -> Tensor:
    """z_k aligned to the think tokens, from the batch if they are in it, or computed now.

    Args:
        expert: The expert that computes the features.
        batch: Holds cached targets, or the audio_batch.
        audio_embeddings: x_A of every clip, ``(N, L_a, d)``: the target of reconstruction.
        audio_lengths: ``(N,)`` L_a of each clip.
        builder: Knows the time axis of audio tokens.

    Returns:
        ``(N, L, e_k)``.
    """
    if expert.name in batch.targets:
        return batch.targets[expert.name]
    features = audio_embeddings
    if expert.needs_waveform:
        assert batch.audio_batch is not None
        audio_spec = builder.backbone.audio_spec
        features = expert.targets(
            *batch.audio_batch.at(expert.sampling_rate),
            audio_lengths,
            token_rate=audio_spec.token_rate,
            first_token_seconds=audio_spec.first_token_seconds,
        )
        features = features.float()  # a tensor of its own: what inference mode made cannot be trained on
    return pool(features, batch.audio_lengths, batch.think_strides)
