"""WildJailbreak: text alone, against over-refusal and forgetting."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from coat.data.sources.base import Asked, Corpus, Record


class WildJailbreak(Corpus):
    """Harmful and harmless requests, plain and adversarial, with good answers. No audio."""

    name = "wildjailbreak"
    title = "requests in text, with good answers"
    group = "text"
    licence = "ODC-BY, with AI2's responsible use guidelines; sensitive content"
    access = "Accept the terms at huggingface.co/datasets/allenai/wildjailbreak, then: hf auth login"
    hub_id = "allenai/wildjailbreak"
    config = "train"
    # A table of tabs, whose empty cells would otherwise be read as numbers that are not.
    load_options = {"delimiter": "\t", "keep_default_na": False}  # noqa: RUF012
    has_audio = False

    def asked(self, record: Record, rng: np.random.Generator) -> Iterable[Asked]:
        """See :meth:`Corpus.asked`; vanilla rows have no adversarial wording."""
        del rng
        request = str(record.get("adversarial") or record.get("vanilla") or "").strip()
        answer = str(record.get("completion") or "").strip()
        if request and answer:
            yield Asked(request, answer, str(record.get("data_type") or "text"))
