"""The rows of a recipe and the order in which each stage draws them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coat.audio import too_long
from coat.config.recipe import DataConfig, Recipe
from coat.data.batching import Draw, Later, Shuffled
from coat.data.index import Joined, open_manifest
from coat.data.mixture import MixtureDraw, Plan, Pool, plan_mixture
from coat.errors import CoatError

# Rows of text alone are passed over, up to so many times as many rows as clips are wanted.
CALIBRATION_TRIES = 200


@dataclass(frozen=True)
class Corpus:
    """Rows that a backbone can hear.

    Attributes:
        rows: The rows of all manifests, one after another.
        pools: The rows of each manifest.
        left_out: Rows that are too long, or whose audio cannot be used.
        written: Rows of each manifest as it is written, those that are left out among them, by its path.
    """

    rows: Joined
    pools: list[Pool]
    left_out: int
    written: dict[str, int]

    def plan(self, data: DataConfig, budget: int) -> Plan | None:
        """Number of rows that a stage draws from each source; None without a mixture."""
        if data.mixture is None:
            return None
        shares = {name: group.share for name, group in data.mixture.groups.items()}
        return plan_mixture(self.pools, shares, budget=budget, cap=data.mixture.cap)

    def draw(self, recipe: Recipe, stage: int) -> Draw:
        """The order of a stage's rows. Without a mixture it goes on where the stage before stopped.

        Raises:
            CoatError: The mixture's cap holds the stage below its rows.
        """
        seed, size = recipe.training.seed, recipe.training.batch_size
        budget = recipe.stages[stage].steps * size
        plan = self.plan(recipe.data, budget)
        if plan is None:
            before = sum(each.steps for each in recipe.stages[:stage]) * size
            return Later(Shuffled(len(self.rows), seed), before)
        if plan.samples < budget:
            raise CoatError(
                f"data.mixture.cap holds stage {recipe.stages[stage].name} to {plan.samples:,} of {budget:,} rows.",
                "Raise data.mixture.cap, add sources, or take fewer steps: coat data plan RECIPE shows what is drawn.",
            )
        return MixtureDraw(plan, [pool.source for pool in self.pools], seed=seed, stage=stage)

    def calibration(self, recipe: Recipe) -> list[int]:
        """Places of rows with audio, as many as calibration wants, drawn as the first stage with experts draws them.

        Means and weights are then those of what is trained on: a group's clips count by its share, not by its size.
        """
        wanted = min(recipe.training.calibration_clips, int((self.rows.seconds > 0).sum()))
        draw = self.draw(recipe, next((i for i, stage in enumerate(recipe.stages) if stage.experts), 0))
        places: list[int] = []
        for start in range(0, CALIBRATION_TRIES * wanted, max(wanted, 1)):
            drawn = draw.at(start, start + wanted)
            places += drawn[self.rows.seconds[drawn] > 0].tolist()
            if len(places) >= wanted:
                break
        return places[:wanted]


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
        open_manifest(path, ignore=data.ignore_fields, answered=True, on_bad_row=data.on_bad_row, progress=report)
        for path in paths
    ]
    every = Joined(opened)
    rows = every.within(max_seconds)
    if len(rows) < len(every) and data.on_bad_row == "raise":
        first = next(place for place, seconds in enumerate(every.longest) if too_long(float(seconds), max_seconds))
        raise CoatError(
            f"{len(every) - len(rows)} of {len(every)} rows hold clips over {max_seconds:g} s, such as "
            f"{every[first].id} ({every.longest[first]:.1f} s).",
            "Cut them, or leave them out with data.on_bad_row: skip.",
        )
    if not len(rows):
        raise CoatError("No row is left to train on.", "Check data.train_dataset and data.on_bad_row.")
    ends = np.cumsum([len(manifest) for manifest in opened])
    which = np.searchsorted(ends, rows.places, side="right")
    names = unique_names(paths)
    pools = [
        Pool(
            names[index],
            groups.get(path, ""),
            int((which == index).sum()),
            float(rows.seconds[which == index].sum()) / 3600,
        )
        for index, path in enumerate(paths)
    ]
    unusable = sum(len(manifest.notes.left_out) for manifest in opened)
    written = {path: len(each) + len(each.notes.left_out) for path, each in zip(paths, opened, strict=True)}
    return Corpus(rows, pools, len(every) - len(rows) + unusable, written)


def unique_names(paths: Sequence[str]) -> list[str]:
    """Names of sources: their file names, with as many folders before them as tell them apart."""
    parts = [Path(path).resolve().with_suffix("").parts for path in paths]
    long = [1 + (own[-1] in ("train", "data", "manifest") and len(own) > 2) for own in parts]
    while True:
        names = ["/".join(own[-count:]) for own, count in zip(parts, long, strict=True)]
        doubled = [place for place, name in enumerate(names) if names.count(name) > 1]
        if not doubled or all(long[place] >= len(parts[place]) for place in doubled):
            return names if not doubled else list(paths)
        for place in doubled:
            long[place] += 1
