"""Linear probes: what can be read off a state by a straight line (§4.4, Fig. 3, Table 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from coat.data.conversation import Conversation
from coat.evaluation.statistics import Score, ratio
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel

FOLDS = 3
STRENGTHS = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class States:
    """One vector for each clip, of several kinds.

    Attributes:
        audio: Mean of x_A, ``(N, d)``: what the tower gives the language model.
        think: Mean of H_think, ``(N, d)``; None without blocks.
        pre_generation: The last state before the answer, ``(N, d)``.
    """

    audio: np.ndarray
    think: np.ndarray | None
    pre_generation: np.ndarray


@torch.inference_mode()
def collect_states(model: ThinkingModel, conversations: Sequence[Conversation], *, batch_size: int = 32) -> States:
    """States of conversations with one clip each, all with the same question.

    Args:
        model: In evaluation mode.
        conversations: Each ends with a user turn.
        batch_size: Rows in a batch.
    """
    audio, think, last = [], [], []
    for start in range(0, len(conversations), batch_size):
        part = conversations[start : start + batch_size]
        batch = make_batch(model.builder, part, padding_side="left").to(model.backbone.device)
        hidden, embedded = model.prefill_states(batch)
        audio += [row[:heard].mean(0) for row, heard in zip(embedded, batch.heard_lengths, strict=True)]
        last.append(hidden[:, -1])
        if batch.think_lengths is not None:
            rows = hidden[batch.input_ids == model.tokens.think].split(batch.think_lengths.tolist())
            think += [row[:n].mean(0) for row, n in zip(rows, batch.heard_think_lengths.tolist(), strict=True)]
    return States(
        torch.stack(audio).float().cpu().numpy(),
        torch.stack(think).float().cpu().numpy() if think else None,
        torch.cat(last).float().cpu().numpy(),
    )


@dataclass(frozen=True)
class Probed:
    """Result of a probe on held-out clips.

    Attributes:
        score: Accuracy, with an interval over groups.
        said: The label that it gives each.
        confidence: The probability that it gives each clip's own label.
    """

    score: Score
    said: np.ndarray
    confidence: np.ndarray


def probe(
    train_states: np.ndarray,
    train_labels: Sequence[str],
    test_states: np.ndarray,
    test_labels: Sequence[str],
    *,
    train_groups: Sequence[str] | None = None,
    test_groups: Sequence[str] | None = None,
) -> Probed:
    """A logistic probe, fitted on some clips and scored on others.

    States are standardised on the clips that it is fitted on; the strength of L2 regularisation is chosen by
    cross-validation on them, in folds that share no group.

    Args:
        train_states: ``(N, d)``.
        train_labels: ``(N,)``.
        test_states: ``(M, d)``.
        test_labels: ``(M,)``.
        train_groups: Speakers, instruments: what must not be in two folds; each clip its own if None.
        test_groups: The same of the others: what intervals are over.
    """
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import GroupKFold, StratifiedKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = np.asarray(train_labels)
    few = train_groups is None or len(set(train_groups)) < FOLDS
    groups = None if few else np.asarray(train_groups)
    folds = StratifiedKFold(FOLDS) if few else GroupKFold(FOLDS)
    classifier = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(
            Cs=STRENGTHS, cv=list(folds.split(train_states, labels, groups)), max_iter=300, tol=1e-3,
            use_legacy_attributes=False,
        ),
    )  # fmt: skip
    classifier.fit(train_states, labels)
    said, classes = classifier.predict(test_states), classifier[-1].classes_.tolist()
    chances = classifier.predict_proba(test_states)
    own = [
        row[classes.index(label)] if label in classes else 0.0
        for row, label in zip(chances, test_labels, strict=True)
    ]  # fmt: skip
    right = (said == np.asarray(test_labels)).astype(float)
    return Probed(ratio("accuracy", right, clusters=test_groups).score(), said, np.array(own))
