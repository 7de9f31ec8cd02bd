"""VoxPopuli: the European Parliament."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose
from coat.data.sources.prompts import TRANSCRIBE
from coat.data.sources.text import squeezed


class VoxPopuli(Corpus):
    """Speeches in the European Parliament, 543 hours of English."""

    name = "voxpopuli"
    title = "European Parliament, 543 h"
    group = "asr"
    licence = "CC0"
    hub_id = "facebook/voxpopuli"
    config = "en"

    def key(self, record: Record, place: int) -> str:
        """The segment's own."""
        return str(record.get("audio_id") or super().key(record, place))

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`; the text as it was printed, or the normalised one where there is none."""
        if answer := squeezed(record.get("raw_text") or record.get("normalized_text") or ""):
            yield Asked(choose(rng, TRANSCRIBE), answer, "transcription")
