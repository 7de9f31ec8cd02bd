"""Tune a model from Python, on data sets of the ``datasets`` library or on manifests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from coat.api.model import CoatModel
from coat.checkpoints.references import AdapterRef, RunRef, resolve
from coat.config.reading import load_recipe, parse_recipe
from coat.config.recipe import Recipe
from coat.data.sources.anything import PREFIX, Anything
from coat.data.sources.base import Record
from coat.data.sources.prepare import prepare_corpus
from coat.data.sources.records import plain_records
from coat.errors import CoatError
from coat.extras import need
from coat.files import write_whole
from coat.hub import MINIATURE
from coat.training.processes import processes
from coat.training.run import log, train

Data = Any  # a path, a datasets.Dataset or IterableDataset, or an iterable of rows


class CoatTrainer:
    """Trains a recipe's stages; a run that was stopped goes on where it was.

    Args:
        recipe: A :class:`Recipe`, the path of a YAML file, or its content as a mapping.
        output_dir: The run's folder.
        model: The backbone to train, in place of the recipe's: a checkpoint's folder or hub id, an export,
            ``miniature``, ``pocket``, or a :class:`CoatModel` that was loaded from one. A run or an adapter is trained
            on: its base with ``start_from`` it.
        train_dataset: A manifest's path; a ``datasets.Dataset`` or ``IterableDataset`` with a column of sound, and
            questions and answers in any form of docs/data.md (``messages``, ``question`` and ``answer``, ``text``,
            others); or an iterable of such rows. What the recipe names if None.
        eval_dataset: The same, to measure losses on while training.
        callbacks: Instances of ``transformers.TrainerCallback``; every stage gets them.
        question: Asked where a row of a data set has none, as transcripts have.
        ignore_columns: Columns of the data sets to pass over.
        say: Called with each line for the user.

    Data sets are written once, as a manifest with sound files, to ``output_dir/data``: training reads rows anywhere in
    it, in the order that the seed gives, and a resumed run reads the same.

    Example:
        >>> from coat import CoatTrainer
        >>> trainer = CoatTrainer(
        ...     "recipes/qwen2-audio-pitch.yaml", "runs/pitch",
        ...     model="Qwen/Qwen2-Audio-7B-Instruct", train_dataset="train.jsonl",
        ... )  # doctest: +SKIP
        >>> model = trainer.train()  # doctest: +SKIP
    """

    def __init__(
        self,
        recipe: Recipe | str | Path | dict[str, Any],
        output_dir: str | Path,
        *,
        model: str | Path | CoatModel | None = None,
        train_dataset: Data | None = None,
        eval_dataset: Data | None = None,
        callbacks: Sequence[Any] = (),
        question: str = "",
        ignore_columns: Sequence[str] = (),
        say: Callable[[str], None] = log.info,
    ) -> None:
        need("train")
        self.output_dir, self.callbacks, self.say = Path(output_dir), list(callbacks), say
        self._question, self._ignored = question, tuple(ignore_columns)
        self._datasets: dict[str, Any] = {}
        raw = _raw(recipe)
        if model is not None:
            backbone, start = _begin_with(model)
            raw["backbone"] = {**_fields(raw.get("backbone")), **backbone}
            if start is not None:
                raw["start_from"] = start
        data = raw.setdefault("data", {})
        if train_dataset is not None:
            data["train_dataset"], data["mixture"] = self._place(train_dataset, "train"), None
        if eval_dataset is not None:
            data["eval_dataset"] = self._place(eval_dataset, "eval")
        self.recipe = parse_recipe(raw).seeded()

    def train(self) -> CoatModel:
        """Write the data sets, run every stage, and load what came of it.

        Raises:
            CoatError: The folder holds a run of another recipe or other data, rows cannot be used, or recipe and data
                do not fit together.
        """
        with processes().main_process_first():  # the others find what it wrote
            for name, data in self._datasets.items():
                self._write(name, data)
        train(self.recipe, self.output_dir, callbacks=self.callbacks, say=self.say)
        return CoatModel.from_pretrained(self.output_dir)

    def _place(self, data: Data, name: str) -> str:
        """The manifest's path: the one that is given, or the one that a data set will be written to."""
        if isinstance(data, str | Path):
            return str(data)
        if isinstance(data, dict) or not isinstance(data, Iterable):
            kind = type(data).__name__
            raise CoatError(f"{name}_dataset is a {kind}.", "Give one split: dataset['train'], a path, or rows.")
        if isinstance(data, Iterator):
            raise CoatError(f"{name}_dataset can be read but once.", "Give a list, or IterableDataset.from_generator.")
        self._datasets[name] = data
        return str(self.output_dir / "data" / f"{name}.jsonl")

    def _write(self, name: str, data: Iterable[Any]) -> None:
        folder = self.output_dir / "data"
        identity = self._identity(data)
        about = folder / f"{name}.dataset.json"
        if about.is_file() and json.loads(about.read_text()) != identity:
            raise CoatError(
                f"{folder} holds another {name}_dataset, or was made of other columns.",
                "Choose another output_dir, or delete this one.",
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(about, json.dumps(identity))
        corpus = Anything(f"{PREFIX}local/{name}", (name,), self._question, self._ignored)
        prepared = prepare_corpus(corpus, folder, lambda done: islice(_records(data), done, None))
        if prepared.bad:
            prepared.manifest.unlink()  # or the next start would find it, and train without them
            about.unlink()
            raise CoatError(
                f"{len(prepared.bad)} rows of {name}_dataset cannot be used; the first: {prepared.bad[0]}",
                "Leave them out of the data set.",
            )

    def _identity(self, data: Iterable[Any]) -> dict[str, Any]:
        """Identity of a data set: its number of rows if known, its first row, and how it is read."""
        from datasets.fingerprint import Hasher

        first = next(iter(_records(data)), None)
        rows = len(data) if isinstance(data, Sized) else None
        read = {"question": self._question, "ignored": sorted(self._ignored)}
        return {"rows": rows, "first": Hasher.hash(first), **read}


def _raw(recipe: Recipe | str | Path | dict[str, Any]) -> dict[str, Any]:
    if isinstance(recipe, str | Path):
        recipe = load_recipe(recipe)
    return (
        yaml.safe_load(recipe.dump())
        if isinstance(recipe, Recipe)
        else {**recipe, "data": dict(recipe.get("data", {}))}
    )


def _fields(backbone: Any) -> dict[str, Any]:
    """A recipe's backbone as fields; it may be the name of one."""
    return {"path": backbone} if isinstance(backbone, str) else dict(backbone or {})


def _begin_with(model: str | Path | CoatModel) -> tuple[dict[str, str], str | None]:
    """Family and path of the checkpoint that a model is of, and the run or adapter on it to start from."""
    ref = model.source if isinstance(model, CoatModel) else resolve(model)
    if str(model) == MINIATURE and isinstance(ref, RunRef):  # a run, whose base is what recipes mean by the name
        return {"family": ref.family, "path": MINIATURE}, None
    if ref is None:
        raise CoatError(
            "The model was loaded from no checkpoint, which a run has to name.",
            "Save its backbone, and give the folder.",
        )
    if isinstance(ref, RunRef | AdapterRef):
        return {"family": ref.family, "path": ref.base}, ref.path
    return {"family": ref.family, "path": ref.path}, None


def _records(data: Iterable[Any]) -> Iterator[Record]:
    return plain_records(data) if hasattr(data, "features") else iter(data)
