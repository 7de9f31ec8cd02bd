"""The tower's states of clips that are asked about again: benchmarks ask several questions about one clip."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from coat.audio import Clip
from coat.thinking.batch import Encoded
from coat.thinking.model import ThinkingModel

KEPT_BYTES = 2**30


class Embeddings:
    """The tower's states of clips, so that a clip that is asked about again is encoded once.

    Args:
        kept_bytes: The oldest go beyond this; clips of the batch that is being answered stay.
    """

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self.kept_bytes = kept_bytes
        self.rows: OrderedDict[tuple[str, int], Tensor] = OrderedDict()

    def fill(self, model: ThinkingModel, encoded: Sequence[Encoded]) -> None:
        """Encode the clips that are new, all at once."""
        new: dict[tuple[str, int], Any] = {}
        wanted = set()
        for item in encoded:
            for clip, waveform, length in zip(item.clips, item.waveforms, item.num_audio_tokens, strict=True):
                key = clip.content_key, length
                wanted.add(key)
                if key in self.rows:
                    self.rows.move_to_end(key)
                else:
                    new[key] = waveform
        if not new:
            return
        features = model.backbone.audio_features(list(new.values()))
        features = replace(features, values=features.values.to(model.backbone.device))
        self.rows.update(zip(new, model.backbone.tower_states(features), strict=True))
        held = sum(row.nbytes for row in self.rows.values())
        while held > self.kept_bytes and len(self.rows) > len(wanted):
            held -= self.rows.popitem(last=False)[1].nbytes

    def of(self, clip: Clip, length: int) -> Tensor:
        """The tower's states of a clip with so many audio tokens, ``(L_a, audio_size)``."""
        return self.rows[clip.content_key, length]

    def clear(self) -> None:
        """Forget all."""
        self.rows.clear()
