"""A task, declared: where its rows are, how one is asked, how an answer is read and scored (Table D).

``evaluation/tasks/NAME.yaml`` is one benchmark. A YAML file of yours is a task too, and so is every task of a manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from coat.errors import CoatError, did_you_mean

Kind = Literal["choice", "label", "exact", "transcript", "judge"]
# How lmms-eval scores an answer; see coat.evaluation.upstream.
UpstreamRule = Literal[
    "letter", "letter_or_text", "exact", "first_contained", "wer", "wer_basic", "wer_by_utterance", "first_digit",
    "rating",
]  # fmt: skip
MAX_SECONDS = 120.0
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Part):
    """Where rows come from."""

    hub: str = Field("", description="Data set on the hub.")
    also: tuple[str, ...] = Field((), description="Names under which the same data set is found.")
    config: str | None = Field(None, description="Configuration of the data set.")
    split: str = Field("", description="To evaluate on.")
    rows: int | None = Field(None, description="How many its makers say there are.")
    revision: str | None = Field(
        None, description="Revision of the data set; the newest if left out, and then recorded."
    )
    reader: Literal["", "eval2000"] = Field("", description="For data that comes as its makers' files.")
    access: str = Field("open", description="What one must do to have it.")


class Columns(_Part):
    """Which column holds what; ``column.field`` is within one that holds several, as such or as JSON."""

    audio: str = Field("audio", description="The clip, or clips.")
    audio_is: Literal["sound", "paths"] = Field(
        "sound", description="Whether that column holds sound, or paths of files in the data's folder."
    )
    question: str | None = Field("question", description="What is asked; none where every row is asked the same.")
    options: str | tuple[str, ...] | None = Field(
        None, description="Column of a choice's options: a list, JSON, lettered lines, or several columns."
    )
    answer: str = Field("answer", description="The reference.")
    judge_question: str | None = Field(None, description="What the judge is told was asked.")
    id: str | None = Field(None, description="What a row is called; its place if left out.")
    speaker: str | None = Field(None, description="Rows of one speaker or dialogue are not independent.")
    facts: tuple[str, ...] = Field((), description="Shown beside a row, and scored apart.")

    def needed(self) -> list[str]:
        """Columns that a row must have."""
        options = [self.options] if isinstance(self.options, str) else list(self.options or ())
        optional = [self.question, *options[:2], self.judge_question]
        return [name.split(".")[0] for name in (self.audio, self.answer, *optional) if name]


class Profile(_Part):
    """A prompt that replaces the default one for some families of models, as upstream has it."""

    prompt: str | None = Field(None, description="In place of the task's.")
    append: str = Field("", description="After the prompt.")


class Upstream(_Part):
    """The same benchmark in lmms-eval."""

    task: str = Field(description="Its name there.")
    rule: UpstreamRule = Field(description="How an answer is scored there.")
    temperature: float = Field(0.0, description="Sampling temperature in lmms-eval; here every answer is greedy.")


class Task(_Part):
    """One benchmark."""

    name: str = Field(description="Its key.")
    title: str = Field(description="For tables.")
    family: str = Field("", description="The paper's group of benchmarks (Table 1).")
    version: int = Field(1, description="Changes when scores of before and after cannot be compared.")
    kind: Kind = Field(description="How it is scored.")
    source: Source = Field(Source(), description="Where rows come from.")
    columns: Columns = Field(Columns(), description="Which column holds what.")
    answer_is: Literal["text", "letter"] = Field("text", description="How a choice's answer is given.")
    options_as: str = Field("{letter}. {option}", description="A line of a choice's options.")
    prompt: str = Field("{question}", description="With {question}, {options} and {labels}.")
    profiles: dict[str, Profile] = Field({}, description="By family of models.")
    max_new_tokens: int = Field(256, ge=1, description="Where an answer is cut at the latest.")
    labels: dict[str, tuple[str, ...]] = Field({}, description="Classes, with other words for each.")
    values: dict[str, str] = Field({}, description="What the data calls a class, where it is not its name.")
    weighted_f1: bool = Field(False, description="Score F1 weighted by support beside accuracy.")
    clean: Literal["", "gigaspeech", "switchboard"] = Field("", description="Markup that is removed from references.")
    leave_out_empty: bool = Field(False, description="Rows whose reference holds no word are counted, not scored.")
    leave_out_open: bool = Field(False, description="Rows without options or answer are counted, not asked.")
    max_seconds: float = Field(MAX_SECONDS, gt=0, description="Longer clips are counted, not asked (App. B).")
    upstream: Upstream | None = Field(None, description="None where lmms-eval has no such task.")
    sample: tuple[dict[str, Any], ...] = Field((), description="Rows in the data's own schema, without sound.")
    sample_rate: int = Field(16_000, description="That the data's card declares, for the sample.")
    label_names: dict[str, tuple[str, ...]] = Field(
        {}, description="What numbers in a label column stand for, where the data does not say."
    )

    @model_validator(mode="after")
    def _is_whole(self) -> Task:
        if self.kind == "label" and not self.labels:
            raise ValueError("a label task needs 'labels'")
        if self.kind == "choice" and self.columns.options is None:
            raise ValueError("a choice task needs 'columns.options'")
        try:
            self.prompt.format(question="", options="", labels="")
        except (KeyError, IndexError, ValueError):
            raise ValueError("'prompt' may hold {question}, {options} and {labels}, and no other braces") from None
        return self

    def ask(self, question: str, options: Sequence[str] = (), profile: str = "") -> str:
        """The prompt of a row, without the audio's mark.

        Args:
            question: The row's question.
            options: In the order in which they are shown.
            profile: A family of models that is asked in its own way.
        """
        chosen = self.profiles.get(profile, Profile())
        lines = "\n".join(self.options_as.format(letter=LETTERS[i], option=o) for i, o in enumerate(options))
        named = _listed(self.labels)
        return (chosen.prompt or self.prompt).format(question=question, options=lines, labels=named) + chosen.append


def _listed(labels: Sequence[str] | dict[str, tuple[str, ...]]) -> str:
    names = list(labels)
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names)


def task_names() -> list[str]:
    """Names of the tasks that ship with the package."""
    return sorted(path.name.removesuffix(".yaml") for path in _shipped().iterdir() if path.name.endswith(".yaml"))


def load_task(name: str | Path) -> Task:
    """A shipped task by name, or one of a YAML file.

    Raises:
        CoatError: There is none, or the file is malformed; every mistake in it is named.
    """
    path = Path(str(name))
    if path.suffix not in (".yaml", ".yml"):
        if str(name) not in task_names():
            raise CoatError(f"There is no task '{name}'.", did_you_mean(str(name), task_names()))
        path = Path(str(_shipped())) / f"{name}.yaml"
    raw = _read(path)
    try:
        return Task(name=path.stem, **raw)
    except ValidationError as error:
        listed = "\n".join(f"  {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors())
        raise CoatError(f"{path} is no task:\n{listed}", "docs/evaluation.md shows one.") from None


def _read(path: Path) -> dict[str, Any]:
    """A file laid over the one that it extends."""
    try:
        raw = yaml.safe_load(path.read_text())
    except OSError as error:
        raise CoatError(f"{path} cannot be read: {error.strerror}.", "coat eval list shows the tasks.") from None
    except yaml.YAMLError as error:
        raise CoatError(f"{path} is no YAML: {error}", "docs/evaluation.md shows a task.") from None
    if not isinstance(raw, dict):
        raise CoatError(f"{path} holds no fields.", "docs/evaluation.md shows a task.")
    base = raw.pop("extends", None)
    return _laid_over(_read(path.parent / f"{base}.yaml"), raw) if base else raw


def _laid_over(base: dict[str, Any], raw: dict[str, Any]) -> dict[str, Any]:
    parts = ("source", "columns", "upstream")
    merged = dict(base)
    for name, value in raw.items():
        both = name in parts and isinstance(value, dict) and isinstance(base.get(name), dict)
        merged[name] = {**base[name], **value} if both else value
    return merged


def _shipped() -> Any:
    return files("coat") / "evaluation" / "tasks"
