"""SPGISpeech: earnings calls."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose, pick
from coat.data.sources.prompts import TRANSCRIBE
from coat.data.sources.text import squeezed


class SpgiSpeech(Corpus):
    """Earnings calls, 5,000 hours, transcribed by professionals with casing and punctuation."""

    name = "spgispeech"
    title = "earnings calls, 5,000 h"
    group = "asr"
    licence = "Kensho's terms: academic research"
    access = "Accept Kensho's terms at huggingface.co/datasets/kensho/spgispeech, then: hf auth login"
    hub_id = "kensho/spgispeech"
    config = "L"

    def key(self, record: Record, place: int) -> str:
        """The file's name."""
        name = record.get("wav_filename") or record.get("id")
        return str(name).removesuffix(".wav") if name else super().key(record, place)

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        yield Asked(choose(rng, TRANSCRIBE), squeezed(pick(record, "transcript", "text")), "transcription")
