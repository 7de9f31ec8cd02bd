"""References to models: a training run or one of its checkpoints, an export, an adapter, or a plain checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import yaml

from coat.backbones import backbone_class, family_of
from coat.checkpoints.export_config import ExportConfig, adapter_base, read_export_config
from coat.config.reading import parse_recipe
from coat.config.recipe import Recipe
from coat.config.thinking import ThinkingConfig
from coat.errors import CoatError
from coat.files import PARTIAL
from coat.hub import MINIATURE, locate, shipped_folder

FINISHED, RECIPE, STAGES, ADAPTER = "finished.json", "recipe.yaml", "stages", "adapter"


@dataclass(frozen=True)
class RunRef:
    """A finished training run, or a run as it was at one of its checkpoints.

    Attributes:
        folder: With ``recipe.yaml``; of a finished run with ``adapter`` and ``heads.safetensors`` too.
        other_base: A checkpoint to use instead of the recipe's.
        checkpoint: A folder of ``stages/`` whose ``adapter`` and heads to take instead of the run's last ones.
    """

    folder: Path
    other_base: str | None = None
    checkpoint: Path | None = None

    @property
    def weights(self) -> Path:
        """The folder of the adapter and the heads."""
        return self.checkpoint or self.folder

    @cached_property
    def recipe(self) -> Recipe:
        """The resolved recipe.

        A relative path of the backbone is looked for from the run's folder, the working directory, and every folder
        above the run: runs are used from elsewhere than where they were trained.
        """
        raw = yaml.safe_load((self.folder / RECIPE).read_text())
        path = raw["backbone"]["path"] = self.other_base or raw["backbone"].get("path")
        if path == MINIATURE:
            raw["backbone"]["path"] = locate(MINIATURE)
        elif path and not Path(path).is_absolute():
            starts = [self.folder, Path(), *self.folder.resolve().parents]
            found = next((start / path for start in starts if (start / path / "config.json").is_file()), None)
            raw["backbone"]["path"] = path if found is None else str(found)
        return parse_recipe(raw, str(self.folder / RECIPE))

    @property
    def path(self) -> str:
        """The folder of the run, or of its checkpoint."""
        return str(self.weights)

    @property
    def family(self) -> str:
        """The backbone's family."""
        return self.recipe.backbone.family

    @property
    def base(self) -> str:
        """The backbone's checkpoint: a folder or a hub id."""
        return self.recipe.backbone.path or backbone_class(self.family).hub_id

    @property
    def thinking(self) -> ThinkingConfig:
        """How it was trained to think."""
        return self.recipe.thinking


@dataclass(frozen=True)
class _WithProcessor:
    path: str
    config: ExportConfig

    @property
    def family(self) -> str:
        """The backbone's family."""
        return self.config.family

    @property
    def thinking(self) -> ThinkingConfig:
        """How it was trained to think."""
        return self.config.thinking


@dataclass(frozen=True)
class ExportRef(_WithProcessor):
    """An export: merged weights and a processor that writes the block.

    Attributes:
        path: A folder or a hub id.
        config: Fields of its ``processor_config.json``.
    """


@dataclass(frozen=True)
class AdapterRef(_WithProcessor):
    """An adapter without its base: LoRA, token rows and a processor that writes the block.

    Attributes:
        path: A folder or a hub id.
        config: Fields of its ``processor_config.json``.
        base: The checkpoint that it goes on, a folder or a hub id.
    """

    base: str


@dataclass(frozen=True)
class BaseRef:
    """A plain checkpoint of a known family, which answers without a block.

    Attributes:
        path: A folder or a hub id.
        family: Its family.
    """

    path: str
    family: str

    @property
    def thinking(self) -> ThinkingConfig:
        """Not at all."""
        return ThinkingConfig(enabled=False)


Checkpoint = RunRef | ExportRef | AdapterRef | BaseRef


def resolve(model_path: str | Path) -> Checkpoint:
    """Resolve a path or name.

    Args:
        model_path: The folder of a finished run, of a checkpoint that a run keeps in ``stages/``, of an export or of a
            plain checkpoint; ``owner/name`` on the hub; or ``miniature``, the small trained model that ships with the
            package.

    Raises:
        CoatError: There is nothing there, the run is not finished, or the checkpoint is of no known family.
    """
    if _is_miniature(model_path):
        return RunRef(miniature_folder())
    path = locate(str(model_path))
    folder = Path(path)
    if is_finished(folder):
        return RunRef(folder)
    if (run := _run_of(folder)) is not None:
        return RunRef(run, checkpoint=folder)
    if (folder / RECIPE).is_file() and (folder / STAGES).is_dir():
        newest = max(folder.glob(f"{STAGES}/*/checkpoint-*"), key=lambda place: place.stat().st_mtime, default=None)
        remedy = "Go on with it: coat train RECIPE --out DIR"
        raise CoatError(
            f"The run in {path} is not finished.", remedy if newest is None else f"{remedy}; or take {newest}"
        )
    config = read_export_config(path)
    if config is not None:
        base = adapter_base(path)
        return ExportRef(path, config) if base is None else AdapterRef(path, config, base)
    family = family_of(path)
    if family is None:
        raise CoatError(
            f"{path} is no finished run, no export and no checkpoint of a known family.",
            "Train one: coat train RECIPE --out DIR",
        )
    return BaseRef(path, family)


def resolve_adapter(adapter: str | Path, base: str) -> Checkpoint:
    """An adapter on a checkpoint of the user's choice.

    Args:
        adapter: A folder or hub id that ``coat export --adapter-only`` wrote, or a finished run.
        base: The checkpoint that it goes on.

    Raises:
        CoatError: There is no adapter, or it was trained on another family.
    """
    ref, below = resolve(adapter), resolve(base)
    if not isinstance(below, BaseRef):
        raise CoatError(f"{base} has an adapter in it already.", "Give the plain checkpoint that it was trained on.")
    if not isinstance(ref, RunRef | AdapterRef):
        raise CoatError(f"{adapter} is no adapter and no finished run.", "coat export RUN --adapter-only writes one.")
    if ref.family != below.family:
        raise CoatError(f"{adapter} was trained on {ref.family}, and {base} is {below.family}.", "Give its own base.")
    return replace(ref, base=below.path) if isinstance(ref, AdapterRef) else replace(ref, other_base=below.path)


def run_in(folder: str | Path) -> RunRef:
    """The finished run in a folder, a checkpoint of a run, or ``miniature``.

    Raises:
        CoatError: There is none.
    """
    path = Path(folder)
    ref = resolve(folder) if _is_miniature(folder) or is_finished(path) or _run_of(path) else None
    if not isinstance(ref, RunRef):
        raise CoatError(f"There is no finished run in {folder}.", "Train one: coat train RECIPE --out DIR")
    return ref


def _is_miniature(model_path: str | Path) -> bool:
    return str(model_path) == MINIATURE and not Path(model_path).exists()


def _run_of(checkpoint: Path) -> Path | None:
    """The run that keeps a checkpoint, ``RUN/stages/STAGE/CHECKPOINT``; None where the folder is no such place."""
    if checkpoint.name.endswith(PARTIAL) or not (checkpoint / ADAPTER / "adapter_config.json").is_file():
        return None
    stages, run = checkpoint.resolve().parents[1:3]
    return run if stages.name == STAGES and (run / RECIPE).is_file() else None


def is_finished(folder: Path) -> bool:
    """Whether the last stage of the run in a folder is done."""
    return (folder / FINISHED).is_file()


def check_recipe_of(folder: Path, recipe: Recipe) -> None:
    """Check that a folder holds no run of another recipe.

    Raises:
        CoatError: It does; every field that differs is named.
    """
    path = folder / RECIPE
    if not path.is_file():
        return
    differs = recipe.differs_from(parse_recipe(yaml.safe_load(path.read_text()), str(path)))
    if differs:
        raise CoatError(
            f"{folder} holds a run of another recipe:\n" + "\n".join(f"  {line}" for line in differs),
            "Choose another folder, or delete this one. How a run gets on may change: sizes of passes, workers, "
            "checkpoints, logs.",
        )


def miniature_folder() -> Path:
    """Where the shipped miniature is.

    Raises:
        CoatError: This build of the package has none.
    """
    folder = shipped_folder()
    if not is_finished(folder):
        raise CoatError("This build of the package holds no miniature.", "Make it: make miniature")
    return folder
