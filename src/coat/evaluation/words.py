"""Texts compared by their words, after Whisper's normalisation."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any


@cache
def _normaliser() -> Any:
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()


@lru_cache(maxsize=200_000)
def normalise(text: str) -> str:
    """Whisper's English normalisation: casing, punctuation, spellings, numbers."""
    return _normaliser()(text)


def word_errors(reference: str, answer: str) -> tuple[int, int]:
    """Word errors and reference words after normalisation; all words are errors where the reference has none."""
    import jiwer

    reference, answer = normalise(reference), normalise(answer)
    words = len(reference.split())
    if not words:
        return len(answer.split()), 0
    measured = jiwer.process_words(reference, answer)
    return measured.substitutions + measured.deletions + measured.insertions, words


def equal(reference: str, answer: str) -> bool:
    """Whether an answer is its reference, after normalisation; an empty answer is not."""
    return bool(normalise(answer)) and normalise(reference) == normalise(answer)
