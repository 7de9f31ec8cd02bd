"""A whole training run: stages one after another, in a folder that can be resumed.

```
RUN/
  recipe.yaml             the resolved recipe
  run.json                calibrated weights, adapted modules, versions, numbers of rows
  mean_features.safetensors   where the heads started
  metrics.jsonl           every loss, by stage and step
  held_out.jsonl          losses on held-out rows, where there are any
  tensorboard/
  stages/1-NAME/          checkpoints while the stage runs, then its weights
  adapter/ heads.safetensors   the final weights
```
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import nn

from coat.backbones import load_backbone
from coat.checkpoints.building import adapt, add_heads, build_experts, build_model, feature_dims
from coat.checkpoints.references import FINISHED, AdapterRef, RunRef, check_recipe_of, is_finished
from coat.checkpoints.starting import check_start, load_start
from coat.checkpoints.weights import load_weights, save_weights
from coat.config.recipe import Recipe
from coat.data.index import open_manifest
from coat.errors import CoatError
from coat.experts.base import Expert
from coat.features.store import FeatureStore, audio_of, prepare
from coat.files import PARTIAL, write_whole
from coat.heads import start_at
from coat.thinking.batch import Batch
from coat.thinking.model import ThinkingModel
from coat.training.calibration import mean_features, resolve_weights, unit_weights
from coat.training.corpus import Corpus, open_corpus
from coat.training.dataset import ManifestDataset, TrainingCollator
from coat.training.eval_callback import EvalCallback, take_best
from coat.training.preemption import Preemption
from coat.training.processes import leave_at_exit, processes, shared
from coat.training.progress import MetricsFile, ProgressBar, bar_for, make_progress
from coat.training.trainer import StageTrainer, list_checkpoints, training_arguments, unwritable
from coat.versions import versions_of

log = logging.getLogger("coat")
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
DONE, FACTS = "done", "run.json"
PACKAGES = ("coat-audio", "torch", "transformers", "peft", "accelerate")


def train(
    recipe: Recipe, folder: str | Path, *, callbacks: Sequence[Any] = (), say: Callable[[str], None] = log.info
) -> Path:
    """Run every stage of a recipe, or go on with a run that was stopped.

    Args:
        recipe: The recipe.
        folder: The run's folder.
        callbacks: Instances of ``transformers.TrainerCallback``; every stage gets them.
        say: Called with each line for the user.

    Returns:
        The folder.

    Raises:
        CoatError: The folder holds a run of another recipe, or recipe and data do not fit together.
    """
    recipe, folder, state = recipe.seeded(), Path(folder), processes()
    if not state.is_main_process:
        say = lambda _: None  # noqa: E731  # one process speaks for all
    check_recipe_of(folder, recipe)
    if is_finished(folder):
        say(f"{folder} is finished already.")
        return folder
    # Before the weights are loaded: a missing file should not cost minutes.
    start = None if _has_begun(folder, recipe) else check_start(recipe)
    outline = load_backbone(recipe.backbone.family, recipe.backbone.path, weights=False)
    with state.main_process_first():
        corpus = open_corpus(recipe.data, outline.audio_spec.max_seconds)
    _check_rows(folder, corpus)
    if corpus.left_out:
        say(f"{corpus.left_out} rows hold clips that are too long or cannot be used, and are left out.")
    for index in range(len(recipe.stages)):
        corpus.draw(recipe, index)  # a mixture that cannot be drawn ends here, and not before its stage
    torch.manual_seed(recipe.training.seed)
    model = build_model(recipe)
    adapted = adapt(model, recipe)
    if recipe.training.gradient_checkpointing:
        language_model: Any = model.backbone.language_model
        language_model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    say(f"LoRA adapts {len(adapted)} modules: {_summarise(adapted)}" if adapted else "LoRA adapts nothing.")
    if recipe.train.trained("projector"):
        say("The projector is trained whole.")
    experts = build_experts(recipe, model)
    for expert in experts.values():
        if not expert.commercial:
            say(
                f"The weights of {expert.name} are {expert.licence}. A model that learned from them may be bound by it."
            )
    add_heads(model, feature_dims(experts), recipe)
    with state.main_process_first():
        _claim(folder, recipe, writes=state.is_main_process)
    job = _Job(recipe, folder, model, experts, corpus, callbacks, say)
    job.calibrate(adapted)
    if start is not None:
        job.start_from(start)
    for index, stage in enumerate(recipe.stages, 1):
        job.run_stage(index, stage)
    save_weights(model, folder, writes=state.is_main_process)
    if state.is_main_process:
        write_whole(folder / FINISHED, json.dumps({"stages": [stage.name for stage in recipe.stages]}))
    state.wait_for_everyone()
    leave_at_exit()
    say(f'Done. Try it: coat chat {folder} clip.wav "What is said?"')
    return folder


class _Job:
    """State that the stages of one run share."""

    def __init__(
        self, recipe: Recipe, folder: Path, model: ThinkingModel, experts: dict[str, Expert], corpus: Corpus,
        callbacks: Sequence[Any], say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.callbacks = list(callbacks)
        self.recipe, self.folder, self.model, self.experts, self.say = recipe, folder, model, experts, say
        self.corpus, self.dataset = corpus, ManifestDataset(corpus.rows)
        self.state, self.preemption = processes(), Preemption()
        data = recipe.data
        self.held_out = (
            open_manifest(data.eval_dataset, ignore=data.ignore_fields, answered=True, on_bad_row=data.on_bad_row)
            if data.eval_dataset
            else None
        )
        self.store: FeatureStore | None = None
        if recipe.data.cache:
            self.store = FeatureStore(
                recipe.data.cache, model.backbone, experts, embeddings=recipe.data.cache_embeddings
            )
            self._fill(self.store)
        self.calibrated: dict[str, float] = {}

    def _fill(self, store: FeatureStore) -> None:
        """Compute missing features, but not while other processes wait for them."""
        files = audio_of(chain(self.dataset.rows, self.held_out or ()))
        if self.state.num_processes == 1:
            with make_progress() as bar:
                prepare(store, files, on_bad_row=self.recipe.data.on_bad_row, progress=bar_for(bar))
            return
        with self.state.main_process_first():
            sounds = store.index(files, on_bad_row=self.recipe.data.on_bad_row)
            missing = sum(len(unit.sounds) for unit in store.plan(sounds))
        if missing:
            raise CoatError(
                f"{missing} clips have no features in {store.root}, and {self.state.num_processes} processes wait.",
                "Compute them first, by one process or a cluster: coat data features RECIPE",
            )

    def collator(self, names: list[str]) -> TrainingCollator:
        active = [self.experts[name] for name in names if self.experts[name].needs_waveform]
        caches, audio = (self.store.expert_caches, self.store.audio_cache) if self.store else ({}, None)
        data, training = self.recipe.data, self.recipe.training
        return TrainingCollator(
            self.model.builder,
            active,
            caches,
            audio,
            rows=training.micro_batch_size,
            tokens=training.micro_batch_tokens,
            max_tokens=data.max_tokens,
            on_bad_row=data.on_bad_row,
            idle_audio=shared(self.state),
            seed=training.seed,
        )

    def calibrate(self, adapted: list[str]) -> None:
        """Measure mean features and ``auto`` weights once, keep them with the run, and start the heads there."""
        from safetensors.torch import load_file, save_file

        path, means_path = self.folder / FACTS, self.folder / "mean_features.safetensors"
        if not path.is_file() and self.state.is_main_process:
            if self.experts:
                means = self._measure()
                save_file({name: mean.cpu() for name, mean in means.items()}, means_path)
                self.say(_weights_table(self.calibrated))
            versions = versions_of(PACKAGES)
            facts = {
                "calibrated_weights": self.calibrated,
                "adapted_modules": adapted,
                "versions": versions,
                "rows": self.corpus.written,
                "plans": self._plans(),
            }
            write_whole(path, json.dumps(facts, indent=1))
        self.state.wait_for_everyone()
        self.calibrated = json.loads(path.read_text())["calibrated_weights"]
        for name, mean in (load_file(means_path) if self.experts else {}).items():
            start_at(self.model.heads[name], mean)

    def _plans(self) -> dict[str, Any]:
        """Number of rows that each stage draws from every source, where there is a mixture."""
        rows = {stage.name: stage.steps * self.recipe.training.batch_size for stage in self.recipe.stages}
        made = {name: self.corpus.plan(self.recipe.data, budget) for name, budget in rows.items()}
        return {name: plan.as_dict() for name, plan in made.items() if plan}

    def _measure(self) -> dict[str, torch.Tensor]:
        """Mean features of every expert; sets the weights of those that are ``auto``."""
        device = self.state.device
        self.model.to(device)
        for expert in self.experts.values():
            expert.to(device)
        rows = [self.dataset[place] for place in self.corpus.calibration(self.recipe)]
        size, collate = self.recipe.training.micro_batch_size, self.collator(list(self.experts))

        def batches() -> Iterator[Batch]:
            for start in range(0, len(rows), size):
                yield from (batch.to(device) for batch in collate.batches(rows[start : start + size]))

        means = mean_features(self.model, self.experts, batches)
        auto = {name for stage in self.recipe.stages for name, weight in stage.experts.items() if weight == "auto"}
        weighed = {name: expert for name, expert in self.experts.items() if name in auto}
        self.calibrated = unit_weights(self.model, weighed, means, batches) if weighed else {}
        return means

    def start_from(self, start: RunRef | AdapterRef) -> None:
        """Begin with the weights of an earlier run."""
        loaded = load_start(self.model, start)
        anew = [name for name in self.model.heads if name not in loaded]
        heads = [f"heads of {', '.join(loaded)}"] * bool(loaded) + [f"{', '.join(anew)} anew"] * bool(anew)
        self.say(f"Begins with the weights of {start.path}" + "".join(f"; {each}" for each in heads) + ".")

    def run_stage(self, index: int, stage: Any) -> None:
        """Train one stage, unless it is done; then load what it left."""
        place = _stage_folder(self.folder, index, stage.name)
        done = place / DONE
        if (done / "adapter").is_dir():
            load_weights(self.model, done, trainable=True)
            return
        weights = resolve_weights(stage, self.calibrated)
        _set_trainable(self.model, list(weights))
        measured = self._held_out(place, stage.name)
        trainer = StageTrainer(
            self.model,
            experts=self.experts,
            weights=weights,
            dataset=self.dataset,
            lengths=self.corpus.rows.seconds,
            draw=self.corpus.draw(self.recipe, index - 1),
            collator=self.collator(list(weights)),
            args=training_arguments(place, stage, self.recipe.training),
            callbacks=[*self._callbacks(index, stage.name), *measured],
            group_by_length=self.recipe.data.group_by_length,
            max_bad_steps=self.recipe.training.max_bad_steps,
            keep_checkpoints=self.recipe.training.keep_checkpoints,
            learning_rates=self.recipe.train.learning_rates(),
        )
        for callback in measured:
            callback.trainer = trainer
        checkpoints = list_checkpoints(place)
        if checkpoints:
            self.say(f"Going on from {checkpoints[-1]}.")
        try:
            trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            raise unwritable(place, trainer.state.global_step, error) from None
        self.preemption.leave_if_asked(trainer.state.global_step)
        if self.recipe.training.keep == "best" and (step := take_best(self.model, place)) is not None:
            self.say(f"Stage {stage.name} ends with the weights of step {step}, the best on held-out rows.")
        partial = place / f"{DONE}{PARTIAL}"
        save_weights(self.model, partial, writes=self.state.is_main_process)
        if self.state.is_main_process:
            partial.rename(done)
        self.state.wait_for_everyone()

    def _held_out(self, place: Path, name: str) -> list[EvalCallback]:
        if self.held_out is None:
            return []
        training = self.recipe.training
        lines = self.folder / "held_out.jsonl"
        return [
            EvalCallback(
                self.held_out, place, lines, name, every=training.eval_steps, patience=training.early_stopping_patience
            )
        ]

    def _callbacks(self, index: int, name: str) -> list[Any]:
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations import TensorBoardCallback

        writer = SummaryWriter(str(self.folder / "tensorboard" / name))
        title = f"stage {index}/{len(self.recipe.stages)} {name}"
        lines = MetricsFile(self.folder / "metrics.jsonl", name)
        return [ProgressBar(title), lines, TensorBoardCallback(writer), self.preemption, *self.callbacks]


def _stage_folder(folder: Path, index: int, name: str) -> Path:
    return folder / "stages" / f"{index}-{name}"


def _has_begun(folder: Path, recipe: Recipe) -> bool:
    """Whether a run holds weights of its own already, with which it goes on."""
    first = _stage_folder(folder, 1, recipe.stages[0].name)
    return (first / DONE).is_dir() or bool(list_checkpoints(first))


def _check_rows(folder: Path, corpus: Corpus) -> None:
    """Check that manifests have as many rows as when the run began: the order in which it goes on hangs on it.

    Raises:
        CoatError: Rows were added or taken out.
    """
    path = folder / FACTS
    before = json.loads(path.read_text()).get("rows", {}) if path.is_file() else {}
    differ = [f"  {name}: {before.get(name, now):,} rows, now {now:,}" for name, now in corpus.written.items()
              if before.get(name, now) != now]  # fmt: skip
    if differ:
        raise CoatError(
            f"{folder} began with other rows, and would go on in their order:\n" + "\n".join(differ),
            f"Put them back; or go on from its weights in another folder: start_from: {folder}/stages/.../checkpoint-N",
        )


def _claim(folder: Path, recipe: Recipe, *, writes: bool) -> None:
    """When recipe, data and weights have been found sound: a start that failed leaves its folder free."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if writes:
            write_whole(folder / "recipe.yaml", recipe.dump())
    except OSError as error:
        raise CoatError(f"{folder} cannot be written ({error.strerror}).", "Give another --out.") from None


def _weights_table(weights: Mapping[str, float]) -> str:
    """Table of the calibrated weights, one expert a line."""
    if not weights:
        return "Every weight is explicit: nothing to calibrate."
    width = max(map(len, weights))
    lines = [f"  {name:<{width}}  {1 / weight:>18.4g}  {weight:>10.4g}" for name, weight in weights.items()]
    return "\n".join([f"  {'expert':<{width}}  {'loss of the mean':>18}  {'weight':>10}", *lines])


def _set_trainable(model: ThinkingModel, active: list[str]) -> None:
    """Heads of idle experts rest; LoRA and token rows always train."""
    for name, head in model.heads.items():
        nn.Module.requires_grad_(head, name in active)


def _summarise(names: list[str]) -> str:
    kinds = sorted({name.rpartition(".")[2] for name in names})
    return ", ".join(f"{kind} x {sum(name.endswith('.' + kind) for name in names)}" for kind in kinds)
