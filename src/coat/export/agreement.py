"""How far an export read back is from its run."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """How an export compares with the run it was made from, on a probe clip.

    Attributes:
        unmerged: Largest difference of logits between the run and the export that was read back.
        scale: Largest logit, to judge the difference by.
        same_choices: Share of positions whose likeliest token is the same.
    """

    unmerged: float
    scale: float
    same_choices: float
