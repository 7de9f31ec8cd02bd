"""GSQA's spoken instructions: Alpaca, read aloud."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record, choose, pick
from coat.data.sources.prompts import SPOKEN


class Gsqa(Corpus):
    """Instructions of Alpaca-GPT4, spoken; the answer is text. Which set the paper pooled, it does not say."""

    name = "gsqa"
    title = "spoken instructions (Alpaca-GPT4)"
    group = "spoken"
    licence = "not stated"
    hub_id = "GSQA/spoken-alpaca-gpt4"

    def audio(self, record: Record) -> Any:
        """The instruction, not the spoken answer."""
        return pick(record, "input_audio", "audio")

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`."""
        if answer := str(record.get("output") or "").strip():
            yield Asked(choose(rng, SPOKEN), answer, "spoken_instruction")
