"""Scores with 95 % bootstrap intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

RESAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """A score and its interval.

    Attributes:
        metric: ``wer`` (lower is better) or ``accuracy``.
        value: Between 0 and 1 (a WER can exceed 1).
        low: Lower end of the 95 % bootstrap interval over items.
        high: Its upper end.
        items: How many were scored.
    """

    metric: str
    value: float
    low: float
    high: float
    items: int

    @property
    def higher_is_better(self) -> bool:
        """Whether a larger value is better."""
        return self.metric != "wer"


@cache
def _normaliser() -> object:
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer()


def normalise(text: str) -> str:
    """Whisper's English normalisation: casing, punctuation, spellings, numbers."""
    return _normaliser()(text)  # type: ignore[operator]


def word_errors(reference: str, answer: str) -> tuple[int, int]:
    """Word errors and reference words after normalisation."""
    import jiwer

    reference, answer = normalise(reference), normalise(answer)
    words = len(reference.split())
    if not words:
        return len(answer.split()), 0
    measured = jiwer.process_words(reference, answer)
    return measured.substitutions + measured.deletions + measured.insertions, words


def wer(references: Sequence[str], answers: Sequence[str], *, seed: int = 0) -> Score:
    """Corpus word error rate: all errors over all reference words, not a mean of utterances."""
    pairs = [word_errors(r, a) for r, a in zip(references, answers, strict=True)]
    errors, words = np.array(pairs).T
    return score_shares("wer", errors, words, seed=seed)


def accuracy(references: Sequence[str], answers: Sequence[str], *, seed: int = 0) -> Score:
    """Share of answers equal to their reference after normalisation; an empty answer is wrong."""
    right = np.array([float(normalise(r) == normalise(a)) for r, a in zip(references, answers, strict=True)])
    return score_shares("accuracy", right, np.ones_like(right), seed=seed)


def score_shares(metric: str, top: np.ndarray, bottom: np.ndarray, *, seed: int = 0) -> Score:
    """A ratio of sums over items, and its percentile interval over resampled items.

    Args:
        metric: Its name.
        top: ``(items,)``, such as 1 where an answer is right, or word errors.
        bottom: ``(items,)``, such as 1, or reference words.
        seed: Of the resampling.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(top), size=(RESAMPLES, len(top)))
    ratios = top[drawn].sum(1) / np.maximum(bottom[drawn].sum(1), 1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Score(metric, float(top.sum() / max(bottom.sum(), 1)), float(low), float(high), len(top))
