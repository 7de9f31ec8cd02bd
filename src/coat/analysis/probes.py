"""Linear probes: what can be read off a state by a straight line (§4.4, Fig. 3, Table 3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from coat.data.conversation import Conversation
from coat.evaluation.statistics import Score, ratio
from coat.thinking.batch import make_batch
from coat.thinking.model import CoatModel


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
def collect_states(model: CoatModel, conversations: Sequence[Conversation], *, batch_size: int = 32) -> States:
    """States of conversations with one clip each, all with the same question.

    Args:
        model: In evaluation mode.
        conversations: Each ends with a user turn.
        batch_size: At a time.
    """
    audio, think, last = [], [], []
    for start in range(0, len(conversations), batch_size):
        part = conversations[start : start + batch_size]
        batch = make_batch(model.builder, part, padding_side="left").to(model.backbone.device)
        hidden, embedded = model.prefill_states(batch)
        audio += [row.mean(0) for row in embedded]
        last.append(hidden[:, -1])
        if batch.think_lengths is not None:
            rows = hidden[batch.input_ids == model.tokens.think].split(batch.think_lengths.tolist())
            think += [row.mean(0) for row in rows]
    return States(
        torch.stack(audio).float().cpu().numpy(),
        torch.stack(think).float().cpu().numpy() if think else None,
        torch.cat(last).float().cpu().numpy(),
    )


def probe(
    train_states: np.ndarray, train_labels: Sequence[str], test_states: np.ndarray, test_labels: Sequence[str]
) -> Score:
    """Accuracy of a logistic probe on held-out clips, with its 95 % bootstrap interval.

    States are standardised on the training clips; the strength of L2 regularisation is chosen by three-fold
    cross-validation on them.
    """
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(
        StandardScaler(),
        LogisticRegressionCV(Cs=[0.01, 0.1, 1.0], cv=3, max_iter=300, tol=1e-3, use_legacy_attributes=False),
    )
    classifier.fit(train_states, list(train_labels))
    right = classifier.predict(test_states) == np.asarray(test_labels)
    return ratio("accuracy", right.astype(float)).score()
