"""This package's tasks as lmms-eval's: a folder of task files that are made from the declared ones.

A file names functions of the ``utils.py`` beside it, which come from here. Scores are the ``strict`` protocol's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from coat.errors import CoatError
from coat.evaluation.items import Item, Sound, item_of_row
from coat.evaluation.scoring import Answer, score_task, task_sums
from coat.evaluation.task import Task, load_task, task_names

PREFIX = "coat_"
UTILS = """from coat.lmms.tasks import functions

globals().update(functions())
"""
# A judge is a stage of its own here; eval2000 is read by its own reader, and clips in files beside the rows here too.
LEFT_OUT = ("judge",)


def offered() -> list[str]:
    """Tasks that lmms-eval can be given, without the prefix."""
    tasks = map(load_task, task_names())
    inside = [task for task in tasks if task.source.hub and task.columns.audio_is == "sound"]
    return [task.name for task in inside if task.kind not in LEFT_OUT]


def write_task_files(folder: Path, names: Sequence[str] = (), data: Path | None = None) -> list[str]:
    """Write task files for lmms-eval's ``--include_path``.

    Args:
        folder: Output folder.
        names: Tasks of this package; all that can be offered if none is named.
        data: A folder with a folder of Parquet files a task; the hub if None.

    Returns:
        The tasks' names there: ``coat_NAME``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "utils.py").write_text(UTILS)
    chosen = list(names) or offered()
    for name in chosen:
        task = load_task(name)
        if name not in offered():
            raise CoatError(f"{name} cannot be given to lmms-eval.", "coat eval run has it.")
        (folder / f"{PREFIX}{name}.yaml").write_text(_file(task, data))
    return [PREFIX + name for name in chosen]


def write_local_files(folder: Path, upstream: dict[str, Path], files: dict[str, Path]) -> list[str]:
    """Write files that include lmms-eval's own definitions, unchanged but for where the data is.

    Args:
        folder: Output folder.
        upstream: lmms-eval's task files by name.
        files: Parquet files by the same names.

    Returns:
        The tasks' names: ``local_NAME``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in upstream.items():
        split = _split_of(path)
        lines = [
            f"include: {path}",
            f"task: local_{name}",
            "dataset_path: parquet",
            "dataset_name: null",
            f"dataset_kwargs: {json.dumps({'data_files': {split: str(files[name])}})}",
        ]
        (folder / f"local_{name}.yaml").write_text("\n".join(lines) + "\n")
    return [f"local_{name}" for name in upstream]


def _split_of(path: Path) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "test_split":
            return value.strip().strip("\"'")
    raise CoatError(f"{path} names no test_split.")


def _file(task: Task, data: Path | None) -> str:
    """YAML with tags that lmms-eval reads functions by; written by hand for them."""
    lines = [f"task: {PREFIX}{task.name}"]
    if data is None:
        lines += [f"dataset_path: {task.source.hub}", f"dataset_name: {json.dumps(task.source.config)}"]
        split = task.source.split
        options: dict[str, Any] = {"revision": task.source.revision} if task.source.revision else {}
    else:
        tables = sorted(map(str, (data / task.name).rglob("*.parquet")))
        if not tables:
            raise CoatError(f"{data / task.name} holds no Parquet files.", f"{task.name}: {task.source.access}")
        lines += ["dataset_path: parquet"]
        split, options = "test", {"data_files": {"test": tables}}
    metrics = [{"metric": "coat", "higher_is_better": task.kind != "transcript"}]
    lines += [
        f"test_split: {split}",
        f"dataset_kwargs: {json.dumps(options)}",
        "output_type: generate_until",
        f"doc_to_visual: !function utils.{task.name}_visual",
        f"doc_to_text: !function utils.{task.name}_text",
        f"doc_to_messages: !function utils.{task.name}_messages",
        f"doc_to_target: !function utils.{task.name}_target",
        f"process_results: !function utils.{task.name}_results",
        f"generation_kwargs: {json.dumps({'max_new_tokens': task.max_new_tokens, 'do_sample': False, 'until': []})}",
        "metric_list:",
        *(f"  - {{metric: {m['metric']}, aggregation: !function utils.{task.name}_score, "
          f"higher_is_better: {json.dumps(m['higher_is_better'])}}}" for m in metrics),
        f"metadata: [{{version: {task.version}}}]",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def functions() -> dict[str, Callable[..., Any]]:
    """Functions that the task files name."""
    found: dict[str, Callable[..., Any]] = {}
    for name in offered():
        found |= _functions(load_task(name))
    return found


def _functions(task: Task) -> dict[str, Callable[..., Any]]:
    def item(doc: dict[str, Any]) -> Item:
        plain = {key: value for key, value in doc.items() if key != task.columns.audio}
        return item_of_row(task, plain, 0, Sound("clip", bytes))

    def visual(doc: dict[str, Any]) -> list[Any]:
        return [doc[task.columns.audio]]

    def text(doc: dict[str, Any], _: Any = None) -> str:
        asked = item(doc)
        return task.ask(asked.prompt, asked.options)

    def messages(doc: dict[str, Any], _: Any = None) -> list[dict[str, Any]]:
        content = [{"type": "audio", "url": doc[task.columns.audio]}, {"type": "text", "text": text(doc)}]
        return [{"role": "user", "content": content}]

    def target(doc: dict[str, Any]) -> str:
        return item(doc).reference

    def results(doc: dict[str, Any], said: list[str]) -> dict[str, Any]:
        asked = item(doc)
        return {"coat": {"item": asked.record(), "answer": said[0] if said else ""}}

    def score(rows: list[dict[str, Any]]) -> float:
        items = [Item.of_record({**row["item"], "id": str(place)}) for place, row in enumerate(rows)]
        answers = {(str(place), 0): Answer(row["answer"]) for place, row in enumerate(rows)}
        _, scored = score_task(task, items, answers, "strict")
        sums = task_sums(task, scored, "strict")[0]
        return 100 * float(sums.value(sums.rows.sum(0)))

    made: dict[str, Callable[..., Any]] = {
        "visual": visual,
        "text": text,
        "messages": messages,
        "target": target,
        "results": results,
        "score": score,
    }
    return {f"{task.name}_{name}": function for name, function in made.items()}
