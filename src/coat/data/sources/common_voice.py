"""Common Voice: sentences read by volunteers."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose, pick
from coat.data.sources.prompts import TRANSCRIBE
from coat.data.sources.text import sentence


class CommonVoice(Corpus):
    """Sentences read by volunteers in English, MP3 at 48 kHz."""

    name = "common_voice"
    title = "sentences read by volunteers"
    group = "asr"
    licence = "CC0"
    access = "Mozilla gives it out at commonvoice.mozilla.org; the hub holds a copy of version 15"
    hub_id = "fsicoli/common_voice_15_0"
    config = "en"

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`; what more listeners voted down than up is left out."""
        if int(record.get("down_votes") or 0) > int(record.get("up_votes") or 0):
            return
        if answer := sentence(pick(record, "sentence", "text")):
            yield Asked(choose(rng, TRANSCRIBE), answer, "transcription")
