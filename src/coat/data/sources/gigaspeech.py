"""GigaSpeech: audiobooks, podcasts and YouTube."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose, pick
from coat.data.sources.prompts import TRANSCRIBE
from coat.data.sources.text import gigaspeech


class GigaSpeech(Corpus):
    """English audiobooks, podcasts and YouTube, up to 10,000 hours; punctuation as tags."""

    name = "gigaspeech"
    title = "audiobooks, podcasts, YouTube, up to 10,000 h"
    group = "asr"
    licence = "non-commercial research and education (the hub's Apache-2.0 is of its scripts)"
    access = "Accept the terms at huggingface.co/datasets/speechcolab/gigaspeech, then: hf auth login"
    hub_id = "speechcolab/gigaspeech"
    config = "xl"

    def key(self, record: Record, place: int) -> str:
        """The segment's own."""
        return str(record.get("segment_id") or super().key(record, place))

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`; segments of silence, music and noise are no speech."""
        if answer := gigaspeech(pick(record, "text", "gt")):
            yield Asked(choose(rng, TRANSCRIBE), answer, "transcription")
