"""Manifest rows to training batches: decode, prompt, targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from coat.data.manifest import Row
from coat.errors import CoatError
from coat.experts.align import pool
from coat.experts.base import Expert
from coat.experts.cache import FeatureCache
from coat.thinking.batch import Batch, make_batch
from coat.thinking.prompt import PromptBuilder


class ManifestDataset(Dataset[Row]):
    """Rows as they are; the collator decodes them."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]


class TrainingCollator:
    """Turns rows into a :class:`Batch`.

    Args:
        builder: The prompt builder.
        experts: Active experts that need waveforms.
        caches: Precomputed features of some of them; the others are given waveforms and run live.
        audio_cache: Precomputed audio embeddings; without it the tower runs.
    """

    def __init__(
        self,
        builder: PromptBuilder,
        experts: Sequence[Expert] = (),
        caches: dict[str, FeatureCache] | None = None,
        audio_cache: FeatureCache | None = None,
    ) -> None:
        self.builder, self.audio_cache = builder, audio_cache
        self.caches = {e.name: caches[e.name] for e in experts if caches and e.name in caches}
        live = [e for e in experts if e.name not in self.caches]
        self.live_rates = sorted({e.sampling_rate for e in live})

    def __call__(self, rows: Sequence[Row]) -> Batch:
        """Decode the rows' clips once and build one right-padded batch."""
        limit = self.builder.backbone.hearing.max_seconds
        conversations = [row.conversation(answered=True, max_seconds=limit) for row in rows]
        embed = self.audio_cache.get if self.audio_cache else None
        batch = make_batch(self.builder, conversations, live_rates=self.live_rates, embed=embed)
        clips = [clip for conversation in conversations for clip in conversation.clips]
        if clips and self.caches:
            backbone = self.builder.backbone
            rate = backbone.hearing.sampling_rate
            counts = [backbone.num_audio_tokens(len(clip.at(rate))) for clip in clips]
            for name, cache in self.caches.items():
                features = pad_sequence(list(map(cache.get, clips, counts)), batch_first=True)
                batch.targets[name] = pool(features, torch.tensor(counts), self.builder.stride)
        return batch


def audible_rows(
    rows: Sequence[Row], seconds: Sequence[float], max_seconds: float, too_long: str
) -> tuple[list[Row], torch.Tensor]:
    """The rows that the backbone can hear, and the seconds of audio in each.

    Args:
        rows: Of a manifest.
        seconds: From :func:`coat.data.manifest.measure`.
        max_seconds: The longest clip.
        too_long: ``refuse`` or ``skip`` rows with a longer one.

    Raises:
        CoatError: Some are too long and the recipe says to refuse them.
    """
    heard = [all(audio.seconds <= max_seconds + 1e-6 for audio in row.audios) for row in rows]
    dropped = len(rows) - sum(heard)
    if dropped and too_long == "refuse":
        first = heard.index(False)
        raise CoatError(
            f"{dropped} of {len(rows)} rows hold clips over {max_seconds:g} s, such as {rows[first].id} "
            f"({seconds[first]:.1f} s).",
            "Cut them, or leave them out with data.too_long: skip.",
        )
    if dropped == len(rows):
        raise CoatError("No row is left to train on.", "Check data.train and data.too_long.")
    kept = [row for row, fits in zip(rows, heard, strict=True) if fits]
    return kept, torch.tensor([length for length, fits in zip(seconds, heard, strict=True) if fits])
