"""A language model rates open answers from 0 to 5, over any OpenAI-compatible endpoint (App. B, Fig. A).

Verdicts are kept by a hash of everything that was said to the judge, so nothing is paid for twice. The last rating
in a verdict counts: an explanation may hold other digits. A verdict without a rating is asked for again, then counted
as a failure; it is never a zero.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from coat.errors import CoatError
from coat.evaluation.backends.endpoint import make_client
from coat.evaluation.run import Answered, read_run
from coat.files import read_jsonl

JUDGE = "gpt-4o-2024-11-20"
URL = "https://api.openai.com/v1"
# The headings, the scale, the form of the reply and what each rating means are the paper's; the sentences are ours.
RUBRIC = """[Question]
{question}

[Reference Answer]
{reference}

[Model Answer]
{answer}

[Task]
Rate how well the model's answer agrees with the reference answer. Judge accuracy and relevance against the reference \
alone, and be strict about details.

Criteria: does the answer say what the reference says, correctly and to the point?
Score 0: It has nothing to do with the reference, or is wrong throughout.
Score 1: Little of it agrees; it mostly misunderstands, or speaks of other things.
Score 2: It knows the topic, but departs from the reference in much of what matters.
Score 3: It agrees in general, but details are missing or not exact.
Score 4: It is mostly right and close to the reference, but could be clearer or fuller.
Score 5: It is right and as detailed as the reference.

Reply in this form:
Explanation: (why, in a sentence or two, comparing the reference answer with the model's)
Rating: (an integer from 0 to 5)"""
AGAIN = "Your reply held no rating that could be read. Reply with one line alone: Rating: (an integer from 0 to 5)"
_RATING = re.compile(r"rating\W{0,6}([0-5])(?!\d)(?!\.\d*[1-9])", re.IGNORECASE)
# Of English, by the usual count: for an estimate before anything is paid for.
CHARACTERS_PER_TOKEN = 4


@dataclass(frozen=True)
class JudgeSettings:
    """How verdicts are asked for; the defaults are the paper's.

    Attributes:
        model: The judge.
        url: Base address.
        key: API key.
        temperature: None leaves it out: some models refuse it.
        max_tokens: Longest verdict, in tokens; None sets no limit.
        attempts: Most requests for a verdict, where one comes without a rating.
        concurrency: Verdicts at once.
        timeout: Seconds for one.
        max_calls: At most so many calls in this run; None sets no limit.
    """

    model: str = JUDGE
    url: str = URL
    key: str = ""
    temperature: float | None = 0.0
    max_tokens: int | None = 1024
    attempts: int = 3
    concurrency: int = 8
    timeout: float = 120.0
    max_calls: int | None = None


@dataclass(frozen=True)
class Verdicts:
    """Outcome of a run of the judge.

    Attributes:
        wanted: Answers that a judge must rate.
        known: Those that were rated before.
        calls: Made now.
        tokens: Approximate tokens of the prompts that are not known.
        rated: Now.
        failed: Without a rating, and why.
        left: Not asked, as the budget of calls was spent.
    """

    wanted: int
    known: int
    calls: int = 0
    tokens: int = 0
    rated: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    left: int = 0


@dataclass(frozen=True)
class _Case:
    key: str
    name: str
    prompt: str
    said: str


def read_rating(verdict: str) -> int | None:
    """The last rating in a verdict; None if it holds none."""
    found = _RATING.findall(verdict)
    return int(found[-1]) if found else None


def judge_run(
    folder: str | Path,
    settings: JudgeSettings | None = None,
    *,
    dry_run: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Verdicts:
    """Rate every answer of a run that needs a judge and has no verdict yet.

    Args:
        folder: The run's.
        settings: Settings of the requests for verdicts.
        dry_run: Count calls and tokens, and ask for nothing.
        progress: Called with verdicts just given, and in all.

    Raises:
        CoatError: The folder holds no evaluation, or the judge refuses the key.
    """
    folder, settings = Path(folder), settings or JudgeSettings()
    path = folder / "judge.jsonl"
    held = {line["key"]: line for line in read_jsonl(path)}
    bought = {line["said"]: line for line in held.values() if line["rating"] is not None}
    cases = list(_cases(read_run(folder)[1], settings))
    missing = [case for case in cases if held.get(case.key, {}).get("said") != case.said or case.said not in bought]
    calls = {case.said: case for case in missing if case.said not in bought}
    tokens = sum(len(case.prompt) for case in calls.values()) // CHARACTERS_PER_TOKEN
    known = len(cases) - len(missing)
    if dry_run or not missing:
        return Verdicts(len(cases), known, calls=len(calls), tokens=tokens)
    if progress:
        progress(known, len(cases))
    client = make_client(settings.url, settings.key or "none", timeout=settings.timeout)
    budget = _Budget(settings.max_calls)
    failed: dict[str, str] = {}
    rated = left = 0
    by_said: dict[str, list[_Case]] = {}
    for case in missing:
        by_said.setdefault(case.said, []).append(case)
    with path.open("a") as file:

        def write(said: str, rating: int | None, verdict: str) -> None:
            for case in by_said[said]:
                line = {"key": case.key, "said": said, "rating": rating, "verdict": verdict, "judge": settings.model}
                file.write(json.dumps(line) + "\n")
            file.flush()

        for said in by_said.keys() & bought.keys():
            write(said, bought[said]["rating"], bought[said]["verdict"])
        for case, outcome in _ask_all(client, list(calls.values()), settings, budget):
            count = len(by_said[case.said])
            if isinstance(outcome, _SpentError):
                left += count
                continue
            if isinstance(outcome, Exception):
                failed[case.name] = f"{type(outcome).__name__}: {outcome}"
            elif (rating := read_rating(outcome)) is None:
                failed[case.name] = f"no rating in {settings.attempts} verdicts, the last: {outcome[:200]!r}"
                write(case.said, None, outcome)
            else:
                write(case.said, rating, outcome)
                rated += count
            if progress:
                progress(count, len(cases))
    return Verdicts(len(cases), known, budget.made, tokens, rated, failed, left)


class _SpentError(Exception):
    """The budget of calls is spent."""


class _Budget:
    def __init__(self, most: int | None) -> None:
        from threading import Lock

        self.most, self.made, self.lock = most, 0, Lock()

    def take(self) -> None:
        with self.lock:
            if self.most is not None and self.made >= self.most:
                raise _SpentError
            self.made += 1


def _cases(tasks: Sequence[Answered], settings: JudgeSettings) -> Iterator[_Case]:
    """Answers that need a judge; an empty one needs none."""
    for task in tasks:
        if task.task.kind != "judge":
            continue
        items = {item.id: item for item in task.items}
        for (name, order), answer in task.answers.items():
            if not answer.text.strip():
                continue
            item = items[name]
            question = item.judge_question or item.prompt
            prompt = RUBRIC.format(question=question, reference=item.reference, answer=answer.text)
            told = json.dumps([settings.model, settings.temperature, settings.max_tokens, prompt])
            said = blake2b(told.encode(), digest_size=16).hexdigest()
            yield _Case(task.keys[name, order], f"{task.task.name} {name}", prompt, said)


def _ask_all(
    client: Any, cases: Sequence[_Case], settings: JudgeSettings, budget: _Budget
) -> Iterator[tuple[_Case, str | Exception]]:  # fmt: skip
    import openai

    pool = ThreadPoolExecutor(settings.concurrency)
    try:
        asked = {pool.submit(_ask, client, case, settings, budget): case for case in cases}
        for future in as_completed(asked):
            error = future.exception()
            if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
                raise CoatError(f"{settings.url} refuses the key.", "Give it in OPENAI_API_KEY.") from None
            if isinstance(error, openai.NotFoundError):
                raise CoatError(
                    f"{settings.url} has no model {settings.model}.", "Name another: --judge MODEL"
                ) from None
            yield asked[future], error if isinstance(error, Exception) else future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _ask(client: Any, case: _Case, settings: JudgeSettings, budget: _Budget) -> str:
    """A verdict; asked for again, with a word about what was missing, while it holds no rating."""
    options = {"temperature": settings.temperature, "max_tokens": settings.max_tokens}
    options = {name: value for name, value in options.items() if value is not None}
    messages = [{"role": "user", "content": case.prompt}]
    verdict = ""
    for _ in range(settings.attempts):
        budget.take()
        made = client.chat.completions.create(model=settings.model, messages=messages, **options)
        verdict = (made.choices[0].message.content or "") if made.choices else ""
        if read_rating(verdict) is not None:
            break
        messages = [*messages[:1], {"role": "assistant", "content": verdict}, {"role": "user", "content": AGAIN}]
    return verdict
