"""Do later turns use the think states of the first, and would a block of their own serve them better?

    python -m experiments.later_turns --world runs/demo --out runs/later-turns

Fine-tuning alone and CoAT learn conversations of two questions about one clip, whose block stands at the first answer.
Asked the second question, the block is kept where it is (its states are in the cache: nothing is computed again),
taken out, moved to the second answer (a new prefill of it), or there twice.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from coat.ablation.arms import FULL, SFT, arms_of, changed
from coat.ablation.plan import Plan, ask, run_plan
from coat.ablation.results import Ablation, gather
from coat.checkpoints import load_model
from coat.checkpoints.fingerprint import checkpoint_fingerprint
from coat.checkpoints.references import run_in
from coat.config.reading import load_recipe
from coat.data.conversation import Message
from coat.errors import CoatError
from coat.files import read_jsonl, write_jsonl, write_whole
from coat.reports.ablation import change_table, plot_ablation, score_table
from coat.reports.page import Section, markdown, write_report
from coat.synthetic.items import Row
from coat.synthetic.labels import labelled_manifest, write_manifests
from coat.thinking.block import insert_blocks
from coat.thinking.prompt import Prompt, PromptBuilder
from coat.training.progress import bar_for, make_progress

# What may be asked first: it says nothing of the second answer, and gives away no scarce label.
FIRST = ("transcription", "instrument", "chord")
SECOND = ("pitch_class", "mood", "chord", "instrument")
Where = Literal["kept", "out", "moved", "twice"]
WHERE: dict[Where, str] = {
    "kept": "block at the first answer", "out": "block taken out", "moved": "block at the second answer",
    "twice": "block at both",
}  # fmt: skip


def two_turns(rows: Sequence[Row], others: Sequence[Row], *, seed: int, share: float = 1.0) -> list[Row]:
    """Rows whose question comes after another about the same clip, and its answer.

    Args:
        rows: Each becomes the second turn, where there is another question about its clip.
        others: All questions.
        seed: Seed of the choice.
        share: Share of rows that get a turn before them; the others stay as they are.
    """
    rng = np.random.default_rng([seed, 23])
    first: dict[str, list[Row]] = {}
    for row in others:
        if row["task"] in FIRST:
            first.setdefault(row["audios"][0], []).append(row)
    made = []
    for row in rows:
        before = [other for other in first.get("".join(row["audios"]), []) if other["task"] != row["task"]]
        if not before or rng.random() >= share:
            made.append(row)
            continue
        asked, told = before[rng.integers(len(before))]["messages"]
        question, answer = row["messages"]
        again = {**question, "content": question["content"].removeprefix("<audio>")}
        made.append({**row, "id": f"{row['id']}-second", "messages": [asked, told, again, answer]})
    return made


class ElsewhereBuilder(PromptBuilder):
    """Builds prompts whose block is not where it was trained to be.

    Args:
        like: The builder of the model.
        where: Its block, in a conversation of more than one turn.
    """

    def __init__(self, like: PromptBuilder, where: Where) -> None:
        super().__init__(like.backbone, like.tokens, like.thinking)
        if like.thinking.positions != "sequence":
            raise CoatError(
                "A block that is elsewhere has no positions at its audio.",
                "Ask runs that were trained with thinking.positions: sequence.",
            )
        self.where = where
        self._plain = PromptBuilder(like.backbone, None)

    def build(
        self,
        messages: Sequence[Message],
        num_audio_tokens: Sequence[int],
        *,
        name: str = "prompt",
    ) -> Prompt:
        """See :class:`coat.thinking.prompt.PromptBuilder`; for generation only."""
        kept = super().build(messages, num_audio_tokens, name=name)
        if self.where == "kept" or not kept.blocks or self.tokens is None:
            return kept
        plain = self._plain.build(messages, num_audio_tokens, name=name)
        end = len(plain.input_ids)
        again = [replace(block, position=end) for block in kept.blocks]
        blocks = {"out": [], "moved": again, "twice": [*kept.blocks, *again]}[self.where]
        ids = insert_blocks(plain.input_ids, blocks, self.tokens)
        return Prompt(ids, [-100] * len(ids), blocks)


def write_corpus(corpus: Path, labels: str, seeds: range) -> tuple[str, str, str]:
    """Manifests of two turns beside the clips: for training (``{seed}``), and the same questions first and second."""
    write_manifests(corpus, (labels,), seeds)
    every = read_jsonl(corpus / "train.jsonl")
    for seed in seeds:
        path = corpus / f"train-turns-{labels}-seed{seed}.jsonl"
        if not path.is_file():
            rows = read_jsonl(labelled_manifest(corpus, labels, seed))
            write_jsonl(path, two_turns(rows, every, seed=seed, share=0.5))
    test = read_jsonl(corpus / "test.jsonl")
    chosen = [row for row in test if row["task"] in SECOND]
    second = {row["id"].removesuffix("-second"): row for row in two_turns(chosen, test, seed=0)}
    asked = [row for row in chosen if len(second[row["id"]]["messages"]) > len(row["messages"])]
    write_jsonl(corpus / "test-first.jsonl", asked)
    write_jsonl(corpus / "test-second.jsonl", [second[row["id"]] for row in asked])
    train = str(corpus / f"train-turns-{labels}-seed{{seed}}.jsonl")
    return train, str(corpus / "test-first.jsonl"), str(corpus / "test-second.jsonl")


def ask_second(plan: Plan, run: Path, second: str) -> None:
    """A run's second turns, with its block in every place; what is done is left as it is."""
    places: list[Where] = list(WHERE) if run.name.startswith(FULL) else ["kept"]
    left = [where for where in places if not _scores(run, where).is_file()]
    if not left:
        return
    model, weights = load_model(run), checkpoint_fingerprint(run_in(run))
    for where in left:
        answers = _scores(run, where).parent
        asked = replace(plan, tasks=[second])
        ask(asked, model, f"{weights} | {where}", answers, builder=ElsewhereBuilder(model.builder, where))


def _scores(run: Path, where: str) -> Path:
    return run / f"eval-{where}" / "scores-strict.json"


def collect(plan: Plan) -> Ablation:
    """Scores of every way to ask."""
    runs = {arm: [plan.folder / f"{arm}-seed{seed}" for seed in plan.seeds] for arm in (SFT, FULL)}
    files = {"sft-first": [run / "eval" / "scores-strict.json" for run in runs[SFT]]}
    files["sft-second"] = [_scores(run, "kept") for run in runs[SFT]]
    files["first"] = [run / "eval" / "scores-strict.json" for run in runs[FULL]]
    files |= {where: [_scores(run, where) for run in runs[FULL]] for where in WHERE}
    titles = {"sft-first": "fine-tuning alone, asked first", "sft-second": "fine-tuning alone, asked second"}
    titles |= {"first": "CoAT, asked first"} | {where: f"CoAT, asked second, {title}" for where, title in WHERE.items()}
    against = {"sft-first": "sft-first", "sft-second": "sft-first", "first": "sft-first", "kept": "sft-second"}
    against |= dict.fromkeys(("out", "moved", "twice"), "kept")
    return gather(plan.folder, files, titles, against, list(plan.seeds))


def main(argv: Sequence[str] | None = None) -> None:
    """Train and ask what is missing, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", type=Path, default=Path("runs/demo"))
    parser.add_argument("--recipe", type=Path, default=Path("recipes/small-world.yaml"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="FIELD=VALUE over the recipe.")
    parser.add_argument("--labels", default="200", help="Labelled clips of a scarce task.")
    parser.add_argument("--out", type=Path, default=Path("runs/later-turns"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--limit", type=int, default=150)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args(argv)
    seeds = range(args.seeds)
    train, first, second = write_corpus(args.world / "corpus", args.labels, seeds)
    recipe = changed(load_recipe(args.recipe, args.overrides), "data.train_dataset", train)
    arms = [arm for arm in arms_of(recipe, ["ladder"]) if arm.name in (SFT, FULL)]
    plan = Plan(args.out, arms, seeds, [first], limit=args.limit, max_new_tokens=32)
    args.out.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"workers": args.workers}
    with make_progress() as bar:
        advance, total = bar_for(bar), len(arms) * len(seeds)
        advance("arms and seeds", total - len(plan.jobs()), total)
        run_plan(plan, recipe, **options, progress=lambda _: advance("arms and seeds", 1, total))
    for arm in arms:
        for seed in seeds:
            ask_second(plan, plan.run_of(arm, seed), second)
    found = collect(plan)
    scores, changes = score_table(found), change_table(found)
    write_whole(args.out / "later-turns.md", f"{markdown(scores)}\n{markdown(changes)}")
    text = (
        "Out of a hundred. The same questions of the same clips, asked first, or after another question and its answer."
    )
    sections = [
        Section("Scores", text, scores, [(plot_ablation(found), "A dot is a seed.")]),
        Section("Differences", "Student's 95 % interval over seeds.", changes),
    ]
    write_report(args.out / "later-turns.html", "Do later turns use the think states?", "On the small world.", sections)


if __name__ == "__main__":
    main()
