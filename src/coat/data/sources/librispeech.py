"""LibriSpeech: read English."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose, pick
from coat.data.sources.prompts import TRANSCRIBE
from coat.data.sources.text import uncapitalised


class LibriSpeech(Corpus):
    """Read English books, 960 hours; transcripts in capitals without punctuation."""

    name = "librispeech"
    title = "read English books, 960 h"
    group = "asr"
    licence = "CC BY 4.0"
    hub_id = "openslr/librispeech_asr"
    config = "all"
    splits = ("train.clean.100", "train.clean.360", "train.other.500")

    def key(self, record: Record, place: int) -> str:
        """The utterance's own."""
        return str(record.get("id") or super().key(record, place))

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        yield Asked(choose(rng, TRANSCRIBE), uncapitalised(pick(record, "text", "gt")), "transcription")
