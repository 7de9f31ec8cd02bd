"""Make the miniature that ships with the package: ``python scripts/make_miniature.py`` (``make miniature``).

The backbone is pre-trained for longer than a demo would, then the CoAT arm is trained on it. What ships is
a run folder in half precision: backbone, adapter, heads, recipe, card.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file

import coat
from coat.ablation.arms import BASELINE, FULL
from coat.ablation.plan import ask, run_job
from coat.ablation.results import collect
from coat.checkpoints import load_model
from coat.checkpoints.references import run_in
from coat.evaluation.statistics import Score
from coat.files import write_whole
from coat.synthetic.corpus import build_corpus
from coat.synthetic.demo import DemoSettings, prepare
from pretrain_miniature import pretrain

MAX_BYTES = 6_000_000
COPIED = ("run.json", "finished.json", "adapter/adapter_config.json")
# 200 labels, and twice the demo's steps: with both, notes gain most and speech loses nothing (docs/results.md).
SETTINGS = DemoSettings(labels=200, overrides=("stages.warm-up.steps=300", "stages.experts.steps=1300"))
SHIPPED = Path(coat.__file__).parent / "synthetic" / "shipped"


def make(folder: Path, target: Path, settings: DemoSettings, *, pretrain_steps: int = 2000, seed: int = 0) -> Path:
    """Train what is missing under ``folder`` and write the miniature to ``target``.

    Args:
        folder: Corpus, backbone and runs.
        target: Folder of the shipped run.
        settings: The settings of the comparison.
        pretrain_steps: Steps of pre-training of the backbone.
        seed: Seed of the arm.
    """
    if not (folder / "corpus" / "corpus.json").is_file():
        build_corpus(folder / "corpus", size=settings.size)
    backbone = pretrain(folder / "corpus", folder / "pretrained", steps=pretrain_steps)
    plan, recipe = prepare(folder, replace(settings, backbone=backbone), [seed], print)
    plan = replace(plan, arms=[arm for arm in plan.arms if arm.name in (BASELINE, FULL)])
    for arm, each in plan.jobs():
        run_job(plan, arm, each, recipe, say=print)
    found = collect(plan)
    run = plan.run_of(plan.arms[-1], seed)
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(folder / "backbone", partial / "backbone")
    (partial / "adapter").mkdir()
    for name in COPIED:
        shutil.copy(run / name, partial / name)
    _halve(folder / "backbone" / "model.safetensors", partial / "backbone" / "model.safetensors")
    _halve(run / "adapter" / "adapter_model.safetensors", partial / "adapter" / "adapter_model.safetensors")
    _halve(run / "heads.safetensors", partial / "heads.safetensors")
    recipe = run_in(run).recipe
    recipe = recipe.model_copy(
        update={
            "backbone": recipe.backbone.model_copy(update={"path": "backbone"}),
            "data": recipe.data.model_copy(update={"train_dataset": "train.jsonl", "cache": None}),
        }
    )
    write_whole(partial / "recipe.yaml", recipe.dump())
    config = json.loads((partial / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "backbone"
    write_whole(partial / "adapter" / "adapter_config.json", json.dumps(config, indent=1))
    with TemporaryDirectory() as place:  # what ships is scored as it ships, in half precision
        ask(plan, load_model(partial), "", Path(place))
        scores = json.loads((Path(place) / "scores-strict.json").read_text())
    shipped = {task["task"]: Score(**task["scores"][0]) for task in scores}
    before = {task: found.scores[BASELINE][task][0] for task in found.tasks}
    steps = [stage.steps for stage in recipe.stages]
    trained = f"{pretrain_steps} pre-training steps, stages of {' and '.join(map(str, steps))} steps"
    write_whole(partial / "README.md", _card(before, shipped, f"seed {seed}, {trained}", settings.labels))
    size = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    assert size <= MAX_BYTES, f"the miniature has {size} bytes, at most {MAX_BYTES} may ship"
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)
    return target


def _halve(source: Path, target: Path) -> None:
    weights = {name: value.to(torch.float16) for name, value in load_file(source).items()}
    save_file(weights, target, metadata={"format": "pt"})


def _version() -> str:
    """The package's version, and the commit where there is one."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    described = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{coat.__version__} ({described.stdout.strip()})" if described.returncode == 0 else coat.__version__


def _card(before: Mapping[str, Score], shipped: Mapping[str, Score], trained: str, labels: int) -> str:
    tasks = "\n".join(
        f"| {task.replace('_', ' ')} | {score.metric} | {before[task].value:.3f} | {score.value:.3f} "
        f"| {score.low:.3f} to {score.high:.3f} | {score.items} |"
        for task, score in shipped.items()
    )
    return (
        "# The CoAT miniature\n\n"
        "A Qwen2-Audio of two encoder and four decoder layers, pre-trained on the small world, with CoAT's LoRA, "
        "token rows and projection heads. Weights are fp16 safetensors. It knows synthesised speech, notes and sound "
        "events of two to four seconds, and nothing else; it exists so that everything can be tried and tested "
        "on a model that has learned something.\n\n"
        f"Code version {_version()}, {trained}, notes and moods labelled on {labels} clips each. Made by `make "
        "miniature`; the recipe is in `recipe.yaml`.\n\n"
        "Held-out scores beside the frozen backbone's:\n\n"
        "| task | metric | backbone | CoAT | 95 % interval | questions |\n| --- | --- | --- | --- | --- | --- |\n"
        f"{tasks}\n"
    )


if __name__ == "__main__":
    make(Path("runs/miniature"), SHIPPED, SETTINGS)
