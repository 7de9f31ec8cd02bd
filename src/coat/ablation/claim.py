"""Is what an ablation's folder holds already what is asked of it now?

Results that are there are taken as they are. So a folder is one plan's: its runs are of the plan's recipes, and its
answers are to the plan's questions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from coat.ablation.plan import Plan
from coat.checkpoints.references import check_recipe_of
from coat.errors import CoatError
from coat.files import write_whole

QUESTIONS, BUDGET = "questions.json", "budget.json"


def claim(plan: Plan) -> None:
    """Make a folder the plan's, or find that it is the plan's already.

    Raises:
        CoatError: It holds runs of other recipes, or answers to other questions; each difference is named.
    """
    for arm, seed in plan.all_jobs():
        if arm.recipe is not None:
            check_recipe_of(plan.run_of(arm, seed), arm.recipe.seeded(seed))
    path, asked = plan.folder / QUESTIONS, _questions(plan)
    if not path.is_file():
        plan.folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(asked, indent=1))
        return
    before = json.loads(path.read_text())
    differ = [
        f"  {name}: {before.get(name)!r}, now {value!r}" for name, value in asked.items() if before.get(name) != value
    ]
    if differ:
        raise CoatError(
            f"{plan.folder} holds answers to other questions:\n" + "\n".join(differ),
            "Choose another folder. To ask runs that are finished something else: coat eval run RUN --tasks ...",
        )


def share_of_steps(folder: Path, budget: str, measure: Callable[[], float]) -> float:
    """The share of all steps that a budget allows: measured once, and kept, for every arm has it and every new start.

    Args:
        folder: The ablation's folder.
        budget: The time as the user gave it.
        measure: Measures the share.
    """
    path = folder / BUDGET
    if path.is_file():
        kept = json.loads(path.read_text())
        if kept["budget"] == budget:
            return float(kept["share"])
    share = measure()
    write_whole(path, json.dumps({"budget": budget, "share": share}))
    return share


def _questions(plan: Plan) -> dict[str, Any]:
    """The questions of a plan: tasks by name, those of the user's own by what is in them."""
    manifests = {
        name: blake2b(Path(name).read_bytes(), digest_size=8).hexdigest() for name in plan.tasks if Path(name).is_file()
    }
    return {
        "tasks": list(plan.tasks),
        "manifests": manifests,
        "data": plan.data,
        "limit": plan.limit,
        "max_new_tokens": plan.max_new_tokens,
    }
