"""Ask a model the questions of tasks, and keep every answer: a folder that can be stopped, resumed, and scored alone.

```
RUN/
  eval.json           what answers, how it is asked, versions
  tasks/NAME.jsonl    the task as declared, and its items: what was asked, with keys of what was asked
  predictions.jsonl   an answer a line, by key
  errors.jsonl        questions that failed, and why; asked again by the next run
  judge.jsonl         verdicts, by key
  scores-PROTOCOL.json, report.html
```

A key is a hash of clips, prompt, settings of generation and the fingerprint of what answers: a checkpoint that is
trained anew, or a row that was corrected, is asked again; nothing else is.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
from pydantic import ValidationError

from coat.audio import Clip
from coat.data.conversation import Message
from coat.errors import CoatError, did_you_mean
from coat.evaluation.backends.base import Backend, Request
from coat.evaluation.items import Item, Sound
from coat.evaluation.scoring import Answer
from coat.evaluation.sources import Opened, measured, orders_of
from coat.evaluation.task import Task
from coat.files import read_jsonl, write_jsonl, write_whole
from coat.reasoning import MORE_TOKENS, final_answer, reasoned
from coat.versions import versions_of

log = logging.getLogger("coat")
AudioMode = Literal["real", "silence", "shuffled"]
AUDIO_MODES: tuple[AudioMode, ...] = ("real", "silence", "shuffled")
PACKAGES = ("coat-audio", "torch", "transformers", "vllm", "openai")
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class EvalSettings:
    """How questions are asked.

    Attributes:
        choice_orders: Rotations of a choice's options.
        audio: The clip, silence of its length, or the clip of another question.
        reasoning: The sentence that asks for a chain of thought; empty asks for the answer alone.
        reasoning_tokens: That it may take.
        profile: The family of models whose prompts are used.
        limit: At most so many items a task, chosen evenly.
        seed: Seed of shuffled clips.
    """

    choice_orders: int = 1
    audio: AudioMode = "real"
    reasoning: str = ""
    reasoning_tokens: int = MORE_TOKENS
    profile: str = ""
    limit: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class Done:
    """Outcome of a run.

    Attributes:
        folder: Its folder.
        asked: Questions in all, orders of options included.
        answered: Now, not counting what was there.
        errors: Questions that failed: name and why.
        bad: Rows that could not be asked.
        skipped: Rows that are not asked, by why.
    """

    folder: Path
    asked: int
    answered: int
    errors: dict[str, str] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Wanted:
    """A question to be answered."""

    task: Task
    item: Item
    order: int
    messages: list[Message]
    sounds: tuple[Sound, ...]
    key: str


def run_tasks(
    backend: Backend,
    opened: Sequence[Opened],
    folder: str | Path,
    settings: EvalSettings | None = None,
    *,
    progress: Progress | None = None,
) -> Done:
    """Ask every question that has no answer yet.

    Args:
        backend: Backend that answers.
        opened: Tasks with their rows.
        folder: Folder of the answers.
        settings: Settings of the questions.
        progress: Called with what is done, how many now, and how many in all.

    Raises:
        CoatError: The folder holds answers to other questions, or of another model.
    """
    folder, settings = Path(folder), settings or EvalSettings()
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    _claim(folder, backend, settings)
    say = progress or _silent
    wanted: list[_Wanted] = []
    bad: dict[str, str] = {}
    skipped: dict[str, int] = {}
    chosen = [replace(each, items=_thinned(each.items, settings.limit)) for each in opened]
    total = sum(len(each.items) for each in chosen)
    for each in chosen:
        ready = measured(each, lambda now: say("clips", now, total))
        asked = list(_questions(ready, backend, settings))
        _write_task(folder, ready, asked)
        wanted += asked
        bad |= {f"{each.task.name} {row}": why for row, why in ready.bad.items()}
        for why, ids in ready.skipped.items():
            skipped[why] = skipped.get(why, 0) + len(ids)
    answered, errors = _answer(backend, wanted, folder, settings, say)
    return Done(folder, len(wanted), answered, errors, bad, skipped)


def audio_mode(name: str) -> AudioMode:
    """Named ways to change the audio of an item.

    Raises:
        CoatError: There is no such mode.
    """
    for mode in AUDIO_MODES:
        if mode == name:
            return mode
    raise CoatError(f"--audio {name} is not possible.", did_you_mean(name, list(AUDIO_MODES)))


def _answer(
    backend: Backend, wanted: Sequence[_Wanted], folder: Path, settings: EvalSettings, say: Progress
) -> tuple[int, dict[str, str]]:  # fmt: skip
    path = folder / "predictions.jsonl"
    by_key = {line["key"]: line for line in read_jsonl(path)}
    # Equal questions are asked once.
    first: dict[str, _Wanted] = {}
    for each in wanted:
        first.setdefault(each.key, each)
    missing = [each for key, each in first.items() if key not in by_key]
    say("questions", len(first) - len(missing), len(first))
    errors: dict[str, str] = {}
    requests = [
        Request(
            f"{each.task.name} {each.item.id}",
            each.messages,
            _loader(each.sounds, settings.audio),
            each.item.seconds,
            each.task.max_new_tokens + (settings.reasoning_tokens if settings.reasoning else 0),
        )
        for each in missing
    ]
    with path.open("a") as file:
        for index, reply in backend.answer(requests) if requests else ():
            each = missing[index]
            if isinstance(reply, Exception):
                errors[f"{each.task.name} {each.item.id} order {each.order}"] = _said(reply)
            else:
                told = asdict(reply)
                asked = {"key": each.key, "task": each.task.name, "id": each.item.id, "order": each.order}
                _write_line(file, {**asked, "answer": told.pop("text"), **told})
            say("questions", 1, len(first))
    write_jsonl(folder / "errors.jsonl", [{"question": name, "error": why} for name, why in errors.items()])
    return len(missing) - len(errors), errors


def _silent(what: str, now: int, total: int) -> None:
    del what, now, total


def _write_line(file: TextIO, line: dict[str, Any]) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()


def _questions(opened: Opened, backend: Backend, settings: EvalSettings) -> Iterator[_Wanted]:
    task = opened.task
    profile = settings.profile or backend.profile
    swapped = _swapped(opened.items, settings.seed) if settings.audio == "shuffled" else None
    for place, item in enumerate(opened.items):
        heard = item if swapped is None else opened.items[swapped[place]]
        for order in orders_of(item, settings.choice_orders):
            messages = item.conversation(task, order, profile)
            if settings.reasoning:
                messages = reasoned(messages, settings.reasoning)
            limit = task.max_new_tokens + (settings.reasoning_tokens if settings.reasoning else 0)
            key = question_key(backend, heard.clips, messages, limit, settings.audio)
            yield _Wanted(task, item, order, messages, heard.sounds, key)


def question_key(
    backend: Backend, clips: Sequence[str], messages: Sequence[Message], max_new_tokens: int, audio: str
) -> str:  # fmt: skip
    """The key of a question: equal questions to equal weights have equal answers."""
    silence = "silence" if audio == "silence" else ""
    told = [backend.name, backend.fingerprint, list(clips), list(messages), max_new_tokens, silence]
    return blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=16).hexdigest()


def _loader(sounds: Sequence[Sound], audio: AudioMode) -> Callable[[], list[Clip]]:
    def load() -> list[Clip]:
        clips = [sound.load() for sound in sounds]
        if audio == "silence":
            return [replace(clip, waveform=np.zeros_like(clip.waveform)) for clip in clips]
        return clips

    return load


def _swapped(items: Sequence[Item], seed: int) -> list[int]:
    """For each item one with another clip: a random cycle, so that nobody keeps their own."""
    order = np.random.default_rng(seed).permutation(len(items))
    given = [0] * len(items)
    for place, index in enumerate(order):
        step = next(
            (s for s in range(1, len(items)) if items[order[(place + s) % len(items)]].clips != items[index].clips), 0
        )
        if not step and items[index].clips:
            raise CoatError("Clips cannot be shuffled where all questions share one.", "Take --audio silence.")
        given[index] = int(order[(place + step) % len(items)])
    return given


def _thinned(items: list[Item], limit: int | None) -> list[Item]:
    """Some of the items, evenly spaced: rows are often sorted by class."""
    if limit is None or limit >= len(items):
        return items
    return [items[int(place)] for place in np.linspace(0, len(items) - 1, limit).round()]


def _write_task(folder: Path, opened: Opened, asked: Sequence[_Wanted]) -> None:
    keys: dict[str, list[str]] = {}
    for each in asked:
        keys.setdefault(each.item.id, []).append(each.key)
    head = {
        "task": opened.task.model_dump(exclude={"sample"}),
        "place": opened.place,
        "revision": opened.revision,
        "skipped": opened.skipped,
        "bad": opened.bad,
        "ignore": list(opened.ignore),
    }
    rows = [{**item.record(), "keys": keys[item.id]} for item in opened.items]
    write_jsonl(folder / "tasks" / f"{opened.task.name}.jsonl", [head, *rows])


@dataclass(frozen=True)
class Answered:
    """A task of a run, with its answers.

    Attributes:
        task: As it was declared when it was asked.
        items: Items that were asked.
        keys: Key of each question, by item and order.
        answers: By item and order; fewer where questions failed.
        predictions: The lines that they come from.
        place: Path or hub id of the data.
        revision: Revision of the data.
        skipped: Rows that were not asked, by why.
        bad: Rows that could not be asked.
        ignore: Fields of its rows that were passed over.
    """

    task: Task
    items: list[Item]
    keys: dict[tuple[str, int], str]
    answers: dict[tuple[str, int], Answer]
    predictions: dict[tuple[str, int], dict[str, Any]]
    place: str
    revision: str
    skipped: dict[str, list[str]]
    bad: dict[str, str]
    ignore: tuple[str, ...] = ()


def read_run(folder: str | Path) -> tuple[dict[str, Any], list[Answered]]:
    """Read a run's folder: its settings, and every task with its answers.

    Raises:
        CoatError: It holds no evaluation.
    """
    folder = Path(folder)
    if not (folder / "eval.json").is_file():
        raise CoatError(f"{folder} holds no evaluation.", "coat eval run MODEL --tasks ... --out FOLDER makes one.")
    about = json.loads((folder / "eval.json").read_text())
    by_key = {line["key"]: line for line in read_jsonl(folder / "predictions.jsonl")}
    verdicts = {line["key"]: line for line in read_jsonl(folder / "judge.jsonl")}
    reasoned_first = bool(about["settings"]["reasoning"])
    tasks = []
    for path in sorted((folder / "tasks").glob("*.jsonl")):
        head, *rows = read_jsonl(path)
        task = _declared(head["task"], path)
        items, keys = [], {}
        for row in rows:
            for order, key in enumerate(row.pop("keys")):
                keys[row["id"], order] = key
            items.append(Item.of_record(row))
        found = {place: by_key[key] for place, key in keys.items() if key in by_key}
        answers = {}
        for place, line in found.items():
            verdict = verdicts.get(keys[place], {})
            text = final_answer(line["answer"]) if reasoned_first else line["answer"]
            answers[place] = Answer(text, line["finished"], verdict.get("rating"), verdict.get("verdict") or "")
        tasks.append(
            Answered(task, items, keys, answers, found, head["place"], head["revision"],
                     head["skipped"], head["bad"], tuple(head.get("ignore", ())))
        )  # fmt: skip
    return about, tasks


def _declared(raw: dict[str, Any], path: Path) -> Task:
    try:
        return Task(**raw)
    except ValidationError:
        problem = f"{path} declares its task in a way that this version of coat does not know."
        raise CoatError(problem, "Ask again: coat eval run; answers that are there are kept by their keys.") from None


def _claim(folder: Path, backend: Backend, settings: EvalSettings) -> None:
    """One folder holds one model, asked in one way."""
    path = folder / "eval.json"
    profile = settings.profile or backend.profile
    asked = asdict(replace(settings, profile=profile))
    about = {
        "model": backend.model_path,
        "backend": backend.name,
        "fingerprint": backend.fingerprint,
        "settings": asked,
        "versions": versions_of(PACKAGES),
    }
    if path.is_file():
        held = json.loads(path.read_text())
        differs = [name for name in ("model", "backend") if held[name] != about[name]]
        # How many are asked may change: answers are kept by what was asked.
        differs += [n for n in asked if n != "limit" and held["settings"].get(n) != asked[n]]
        if differs:
            raise CoatError(
                f"{folder} holds an evaluation with another {', '.join(differs)}.", "Give another folder: --out"
            )
        if held["fingerprint"] != about["fingerprint"]:
            log.warning("The weights of %s have changed; every question is asked again.", backend.model_path)
    write_whole(path, json.dumps(about, indent=1))


def _said(error: Exception) -> str:
    return error.problem if isinstance(error, CoatError) else f"{type(error).__name__}: {error}"
