"""Answers to scores, by one of three protocols.

| protocol | what it is |
| --- | --- |
| ``strict`` | what cannot be read is wrong, and counted; corpus WER; a judge's last rating |
| ``paper`` | App. B: its own rules and definitions; for the rest what lmms-eval computes |
| ``upstream`` | what lmms-eval 0.7.3 computes, with its average where it draws at random |

Where lmms-eval has no such task, ``upstream`` scores it as ``strict`` does.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any, Literal, get_args

import numpy as np

from coat.errors import CoatError, did_you_mean
from coat.evaluation import upstream
from coat.evaluation.items import Item
from coat.evaluation.parsing import parse_choice, parse_label
from coat.evaluation.statistics import Score, Sums, ratio, weighted_f1
from coat.evaluation.task import Task
from coat.evaluation.words import equal, word_errors

Protocol = Literal["strict", "paper", "upstream"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
JUDGE_SCALE = 5
# More classes than these are no table for the eye.
MAX_CLASSES = 40


@dataclass(frozen=True)
class Answer:
    """The answer of a model to one item.

    Attributes:
        text: Text of the answer alone; a chain of thought before it is taken off.
        finished: False if it was cut at the most tokens.
        rating: Rating of the judge, 0 to 5; None if there is none.
        verdict: The judge's words.
    """

    text: str
    finished: bool = True
    rating: int | None = None
    verdict: str = ""


@dataclass(frozen=True)
class Scored:
    """One answer, scored.

    Attributes:
        item: The item.
        order: In which order of options.
        answer: Text of the answer.
        said: The option's text or the class that was parsed from the answer; None if nothing was.
        credit: Points of this answer; 1 is right. For transcripts, word errors.
        out_of: Points to be had: 1, or words of the reference.
        read: Whether anything could be read.
    """

    item: Item
    order: int
    answer: Answer
    said: str | None
    credit: float
    out_of: float = 1.0
    read: bool = True

    @property
    def badness(self) -> float:
        """For sorting: the worst first."""
        return self.credit / max(self.out_of, 1)


@dataclass(frozen=True)
class TaskScore:
    """A task's scores.

    Attributes:
        task: Name of the task.
        title: Title in tables.
        protocol: Name of the scoring protocol.
        scores: The first leads.
        asked: Items.
        unread: Answers of which nothing could be read.
        cut: Answers that were cut at the most tokens.
        missing: Items without an answer: errors, or not asked yet.
        unjudged: Answers without a rating.
        left_out: Items that do not count, by why.
        by_fact: The leading score apart, ``{fact: {value: score}}``.
        confusion: ``{right: {said: count}}``, for few classes.
        orders: Consistency and correctness over orders of options (arXiv 2510.04584), where there were several.
    """

    task: str
    title: str
    protocol: str
    scores: tuple[Score, ...]
    asked: int
    unread: int = 0
    cut: int = 0
    missing: int = 0
    unjudged: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)
    by_fact: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    confusion: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    orders: Mapping[str, float] = field(default_factory=dict)

    @property
    def leading(self) -> Score:
        """The score that tables show."""
        return self.scores[0]

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


def check_protocol(name: str) -> Protocol:
    """A protocol by name.

    Raises:
        CoatError: There is none of that name.
    """
    for protocol in PROTOCOLS:
        if protocol == name:
            return protocol
    raise CoatError(f"There is no protocol '{name}'.", did_you_mean(name, list(PROTOCOLS)))


def score_task(
    task: Task,
    items: Sequence[Item],
    answers: Mapping[tuple[str, int], Answer],
    protocol: Protocol = "strict",
    skipped: Mapping[str, int] | None = None,
) -> tuple[TaskScore, list[Scored]]:
    """Score a task.

    Args:
        task: The task.
        items: That were asked.
        answers: By item and order of options.
        protocol: Name of the scoring protocol.
        skipped: Items that were not asked, by why.

    Returns:
        The scores, and every answer scored, orders other than the first included.
    """
    scored, without = score_answers(task, items, answers, protocol)
    left_out = Counter(skipped or {})
    if empty := without.pop("empty reference", 0):
        left_out["empty reference"] += empty
    first = [each for each in scored if each.order == 0]
    metrics = task_sums(task, first, protocol)
    result = TaskScore(
        task=task.name,
        title=task.title,
        protocol=protocol,
        scores=tuple(sums.score() for sums in metrics),
        asked=len(items),
        unread=sum(not each.read for each in first),
        cut=sum(not each.answer.finished for each in first),
        missing=without["missing"],
        unjudged=without["unjudged"],
        left_out=dict(left_out),
        by_fact=_by_fact(metrics[0], first),
        confusion=_confusion(task, first),
        orders=_over_orders(scored),
    )
    return result, scored


def score_answers(
    task: Task, items: Sequence[Item], answers: Mapping[tuple[str, int], Answer], protocol: Protocol
) -> tuple[list[Scored], Counter[str]]:
    """Every answer scored, those to other orders of options included; and how many have no score, by why."""
    without: Counter[str] = Counter()
    scored: list[Scored] = []
    for item in items:
        if task.leave_out_empty and protocol != "upstream" and not item.reference.strip():
            without["empty reference"] += 1
            continue
        if (item.id, 0) not in answers:
            without["missing"] += 1
            continue
        orders = [order for order in range(max(1, len(item.options))) if (item.id, order) in answers]
        for order in orders:
            answer = answers[item.id, order]
            if task.kind == "judge" and _judged(task, answer, protocol) is None:
                without["unjudged"] += 1
                continue
            scored.append(_score(task, item, order, answer, protocol))
    return scored, without


def task_sums(task: Task, scored: Sequence[Scored], protocol: Protocol) -> list[Sums]:
    """A task's metrics over scored answers; the first leads."""
    clusters = [each.item.cluster or each.item.id for each in scored]
    credit = np.array([each.credit for each in scored])
    rule = _rule(task, protocol)
    if task.kind == "transcript":
        out_of = np.array([each.out_of for each in scored])
        return [ratio("utterance WER" if rule == "wer_by_utterance" else "wer", credit, out_of, clusters)]
    if task.kind == "judge":
        return [ratio("judge", credit, np.ones_like(credit), clusters)]
    metrics = [ratio("exact match" if task.kind == "exact" else "accuracy", credit, None, clusters)]
    if task.weighted_f1:
        references = [each.item.reference for each in scored]
        metrics.append(weighted_f1(references, [each.said for each in scored], list(task.labels), clusters))
    if rule in ("letter", "letter_or_text"):
        matched = [
            upstream.string_match(each.answer.text, each.item.options, each.item.right or 0) for each in scored
        ]  # fmt: skip
        metrics.append(ratio("string match", np.array(matched, dtype=float), None, clusters))
    return metrics


def _rule(task: Task, protocol: Protocol) -> str | None:
    """Upstream's rule, where the protocol takes it."""
    if task.upstream is None or protocol == "strict":
        return None
    # App. B has its own words for the judge and for GigaSpeech, and defines VocalSound anew.
    if protocol == "paper" and task.kind in ("judge", "label"):
        return None
    return task.upstream.rule


def _score(task: Task, item: Item, order: int, answer: Answer, protocol: Protocol) -> Scored:
    rule: Any = _rule(task, protocol)
    text = answer.text
    if task.kind == "choice":
        options, right = item.rotated(order), item.right_in(order)
        assert right is not None
        place = parse_choice(text, options)
        said = None if place is None else options[place]
        if rule is None:
            return Scored(item, order, answer, said, float(place == right), read=place is not None)
        credit, read = upstream.choice_score(text, options, right, rule)
        return Scored(item, order, answer, said, credit, read=read)
    if task.kind == "label":
        label = parse_label(text, task.labels)
        credit = upstream.first_contained(text, item.reference) if rule else label == item.reference
        return Scored(item, order, answer, label, float(credit), read=label is not None)
    if task.kind == "exact":
        right = upstream.exact_match(text, item.reference) if rule else equal(item.reference, text)
        return Scored(item, order, answer, text.strip() or None, float(right), read=bool(text.strip()))
    if task.kind == "transcript":
        errors, words = upstream.word_errors(text, item.reference, rule) if rule else word_errors(item.reference, text)
        return Scored(item, order, answer, text.strip() or None, float(errors), float(words), bool(text.strip()))
    rating = _judged(task, answer, protocol)
    assert rating is not None
    return Scored(item, order, answer, answer.verdict, rating, read=bool(text.strip()))


def _judged(task: Task, answer: Answer, protocol: Protocol) -> float | None:
    """A judge's rating, between 0 and 1. An empty answer needs no judge."""
    if not answer.text.strip() and protocol == "strict":
        return 0.0
    if protocol == "upstream" and task.upstream is not None and answer.verdict:
        score = upstream.judge_score(answer.verdict, task.upstream.rule)
        scale = 100 if task.upstream.rule == "first_digit" else JUDGE_SCALE
        return None if score is None else score / scale
    return None if answer.rating is None else answer.rating / JUDGE_SCALE


def _by_fact(sums: Sums, scored: Sequence[Scored]) -> dict[str, dict[str, Score]]:
    places: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for place, each in enumerate(scored):
        for fact, value in each.item.facts.items():
            places[fact][value].append(place)
    return {
        fact: {value: sums.take(chosen).score() for value, chosen in sorted(values.items())}
        for fact, values in places.items()
        if 1 < len(values) <= MAX_CLASSES
    }


def _confusion(task: Task, scored: Sequence[Scored]) -> dict[str, dict[str, int]]:
    if task.kind not in ("label", "exact"):
        return {}
    known = {each.item.reference.lower(): each.item.reference for each in scored}
    if not 1 < len(known) <= MAX_CLASSES or len(known) * 3 > len(scored):
        return {}
    table: dict[str, Counter[str]] = {name: Counter() for name in sorted(known.values())}
    for each in scored:
        said = (each.said or "").strip().lower()
        table[known[each.item.reference.lower()]][known.get(said, "other" if said else "nothing read")] += 1
    return {name: dict(counts) for name, counts in table.items()}


def _over_orders(scored: Sequence[Scored]) -> dict[str, float]:
    """Consistency rate: how often two orders give the same option. Correctness rate: how often it is the right one."""
    by_item: dict[str, list[Scored]] = defaultdict(list)
    for each in scored:
        by_item[each.item.id].append(each)
    several = [group for group in by_item.values() if len(group) > 1]
    if not several:
        return {}
    agree = [
        np.mean([a.said is not None and a.said == b.said for a, b in combinations(group, 2)]) for group in several
    ]  # fmt: skip
    right = [np.mean([each.credit for each in group]) for group in several]
    every = [all(each.credit == 1 for each in group) for group in several]
    return {
        "items": float(len(several)),
        "orders": float(np.mean([len(group) for group in several])),
        "consistency": float(np.mean(agree)),
        "correctness": float(np.mean(right)),
        "right in every order": float(np.mean(every)),
    }
