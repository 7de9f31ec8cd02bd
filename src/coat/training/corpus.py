"""The rows of a recipe and the order in which each stage draws them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coat.audio import too_long
from coat.config.recipe import DataConfig, Recipe
from coat.data.batching import Draw, Shuffled
from coat.data.index import Joined, open_manifest
from coat.data.mixture import MixtureDraw, Plan, Pool, plan_mixture
from coat.errors import CoatError


@dataclass(frozen=True)
class Corpus:
    """Rows that a backbone can hear.

    Attributes:
        rows: Of all manifests, one after another.
        pools: What each manifest holds of them.
        left_out: Rows that are too long, or whose audio cannot be used.
    """

    rows: Joined
    pools: list[Pool]
    left_out: int

    def plan(self, data: DataConfig, budget: int) -> Plan | None:
        """What a stage of so many rows draws of each source; None without a mixture."""
        if data.mixture is None:
            return None
        shares = {name: group.share for name, group in data.mixture.groups.items()}
        return plan_mixture(self.pools, shares, budget=budget, cap=data.mixture.cap)

    def draw(self, recipe: Recipe, stage: int) -> Draw:
        """The order of a stage's rows."""
        seed, budget = recipe.training.seed, recipe.stages[stage].steps * recipe.training.batch_size
        plan = self.plan(recipe.data, budget)
        if plan is None:
            return Shuffled(len(self.rows), seed)
        return MixtureDraw(plan, [pool.source for pool in self.pools], seed=seed, stage=stage)


def open_corpus(
    data: DataConfig, max_seconds: float, *, progress: Callable[[str, int, int], None] | None = None
) -> Corpus:
    """Check and open every manifest of a recipe.

    Args:
        data: The recipe's.
        max_seconds: The longest clip that the backbone hears.
        progress: Called with (what, rows just read, rows in all, which is not known before).

    Raises:
        CoatError: A manifest is unusable, or rows are too long and are not to be left out.
    """
    paths = data.manifests()
    groups = (
        {source: name for name, group in data.mixture.groups.items() for source in group.sources}
        if data.mixture
        else {}
    )
    if len(set(paths)) < len(paths):
        raise CoatError("A manifest is in the mixture twice.", "Give it one group.")
    report = (lambda done: progress("manifests", done, 0)) if progress else None
    opened = [
        open_manifest(path, ignore=data.ignore_fields, answered=True, unusable=data.unusable, progress=report)
        for path in paths
    ]
    every = Joined(opened)
    rows = every.within(max_seconds)
    if len(rows) < len(every) and data.unusable == "stop":
        first = next(place for place, seconds in enumerate(every.longest) if too_long(float(seconds), max_seconds))
        raise CoatError(
            f"{len(every) - len(rows)} of {len(every)} rows hold clips over {max_seconds:g} s, such as "
            f"{every[first].id} ({every.longest[first]:.1f} s).",
            "Cut them, or leave them out with data.unusable: skip.",
        )
    if not len(rows):
        raise CoatError("No row is left to train on.", "Check data.train and data.unusable.")
    ends = np.cumsum([len(manifest) for manifest in opened])
    which = np.searchsorted(ends, rows.places, side="right")
    pools = [
        Pool(
            _name(path),
            groups.get(path, ""),
            int((which == index).sum()),
            float(rows.seconds[which == index].sum()) / 3600,
        )
        for index, path in enumerate(paths)
    ]
    unusable = sum(len(manifest.notes.left_out) for manifest in opened)
    return Corpus(rows, pools, len(every) - len(rows) + unusable)


def _name(path: str) -> str:
    """Of a source: its file's, with the folder's where files are called alike."""
    place = Path(path)
    return place.parent.name if place.stem in ("train", "data", "manifest") and place.parent.name else place.stem
