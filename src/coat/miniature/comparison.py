"""The comparison: corpus, backbone, features, arms, answers, probes - every step kept, so that it resumes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from coat.backbones import load_backbone
from coat.checkpoints import load_model
from coat.checkpoints.fingerprint import files_fingerprint
from coat.data.conversation import Conversation
from coat.errors import CoatError
from coat.evaluation.backends.transformers import TransformersBackend
from coat.evaluation.results import leading_scores, score_run
from coat.evaluation.run import run_tasks
from coat.evaluation.sources import Opened, open_manifest_tasks
from coat.evaluation.statistics import Score
from coat.files import read_jsonl, write_jsonl, write_whole
from coat.miniature.arms import ARMS, SCARCE_TASKS, Settings, arm_recipe
from coat.miniature.corpus import build_corpus
from coat.miniature.items import make_scarce
from coat.miniature.pretrain import pretrain
from coat.thinking.model import ThinkingModel
from coat.training.progress import bar_for, make_progress
from coat.training.run import train

PROBED = {"mood": ("speech", "mood"), "pitch_class": ("music", "pitch_class"), "instrument": ("music", "family")}
PROBE_CLIPS = 600
DECODER_CLIPS, DECODER_STEPS = 500, 600
PROBE_QUESTION = "Describe the audio."
MAX_NEW_TOKENS = 32


@dataclass(frozen=True)
class World:
    """Where things are."""

    folder: Path

    @property
    def corpus(self) -> Path:
        """Clips and questions."""
        return self.folder / "corpus"

    @property
    def backbone(self) -> Path:
        """The pre-trained tiny backbone."""
        return self.folder / "backbone"

    @property
    def decoder(self) -> Path:
        """Draws audio embeddings as spectrograms, in the report."""
        return self.folder / "decoder.safetensors"

    @property
    def cache(self) -> Path:
        """Frozen features."""
        return self.folder / "features"

    def run(self, arm: str, seed: int) -> Path:
        """The run of an arm."""
        return self.folder / "runs" / f"{arm}-seed{seed}"

    def manifest(self, seed: int) -> Path:
        """Training questions with scarce labels; it sits beside the clips, where its paths start."""
        return self.corpus / f"train-scarce-seed{seed}.jsonl"


def prepare(world: World, settings: Settings, say: Callable[[str], None], *, shipped: bool = True) -> None:
    """Make the corpus and the backbone, if they are not there.

    Args:
        world: Where.
        settings: How large, how long.
        say: Where lines for the user go.
        shipped: Start from the pre-trained backbone that ships with the package; pre-train one if False.
    """
    if not (world.corpus / "corpus.json").is_file():
        say("Synthesising the corpus: speech, music and sound events")
        with make_progress() as bar:
            task = bar.add_task("clips", total=None, note="")
            build_corpus(
                world.corpus,
                size=settings.size,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    if not (world.backbone / "config.json").is_file():
        if shipped:
            say("Taking the tiny Qwen2-Audio that ships with coat, pre-trained on text-aligned tasks")
            _copy_shipped_backbone(world.backbone)
        else:
            say("Pre-training a tiny Qwen2-Audio on text-aligned tasks")
            pretrain(world.corpus, world.backbone, steps=settings.pretrain_steps)


def run_arm(world: World, settings: Settings, name: str, seed: int, say: Callable[[str], None]) -> Path:
    """Train an arm, if it is not finished."""
    manifest = world.manifest(seed)
    if not manifest.is_file():
        rows = read_jsonl(world.corpus / "train.jsonl")
        scarce = make_scarce(rows, SCARCE_TASKS, settings.labelled_clips, repeats=settings.label_repeats, seed=seed)
        write_jsonl(manifest, scarce)
    recipe = arm_recipe(ARMS[name], settings, backbone=world.backbone, manifest=manifest, cache=world.cache, seed=seed)
    return train(recipe, world.run(name, seed), say=say)


def load_arm(world: World, name: str, seed: int, *, heads: bool = False) -> ThinkingModel:
    """The model of an arm; the plain backbone for the baseline."""
    if ARMS[name].trained:
        return load_model(world.run(name, seed), heads=heads)
    return load_model(world.backbone)


def fit_eye(world: World) -> Path:
    """Fit the decoder that the report sees audio embeddings by, if it is not there."""
    from coat.audio import load_audio
    from coat.training.decoder import fit_decoder

    if not world.decoder.is_file():
        facts = [fact for fact in read_jsonl(world.corpus / "clips.jsonl") if fact["split"] == "train"]
        chosen = np.random.default_rng(5).permutation(len(facts))[:DECODER_CLIPS]
        clips = [load_audio(world.corpus / facts[index]["audio"]) for index in chosen]
        backbone = load_backbone("qwen2_audio", str(world.backbone))
        fit_decoder(backbone, clips, steps=DECODER_STEPS).decoder.save(world.decoder)
    return world.decoder


def held_out(world: World, settings: Settings, split: str = "test") -> list[Opened]:
    """The same questions for every arm: at most ``items_per_task`` of each task."""
    opened = open_manifest_tasks(world.corpus / f"{split}.jsonl", max_new_tokens=MAX_NEW_TOKENS)
    rng = np.random.default_rng(17)
    return [
        replace(
            each, items=[each.items[i] for i in sorted(rng.permutation(len(each.items))[: settings.items_per_task])]
        )
        for each in opened
    ]


def evaluate_arm(world: World, settings: Settings, name: str, seed: int, split: str = "test") -> dict[str, Score]:
    """Ask an arm the held-out questions and score its answers; both are kept, as an evaluation of its own."""
    run = world.run(name, seed)
    folder = run / f"eval-{split}"
    if (scores := leading_scores(folder)) is not None:
        return scores
    weights = files_fingerprint(str(world.backbone), str(run))
    backend = TransformersBackend(load_arm(world, name, seed), model_path=str(run), fingerprint=weights, batch_size=64)
    return ask(backend, held_out(world, settings, split), folder, ARMS[name].title)


def ask(backend: TransformersBackend, opened: Sequence[Opened], folder: Path, title: str) -> dict[str, Score]:
    """Ask questions with a bar, and score the answers.

    Raises:
        CoatError: A question failed.
    """
    with make_progress() as bar:
        advance = bar_for(bar)

        def questions(what: str, now: int, total: int) -> None:
            if what == "questions":
                advance(f"{title}: {what}", now, total)

        done = run_tasks(backend, opened, folder, progress=questions)
    if done.errors or done.bad:
        name, why = next(iter((done.errors | done.bad).items()))
        raise CoatError(f"{len(done.errors) + len(done.bad)} questions failed, such as {name}: {why}")
    return {score.task: score.leading for score in score_run(folder)}


def probe_arm(world: World, name: str, seed: int) -> dict[str, dict[str, Any]]:
    """Linear probes on an arm's audio embeddings and think states; the scores are kept."""
    from coat.analysis.probes import collect_states, probe

    path = world.run(name, seed) / "probes.json"
    if path.is_file():
        return json.loads(path.read_text())
    model = load_arm(world, name, seed)
    facts = read_jsonl(world.corpus / "clips.jsonl")
    results: dict[str, dict[str, Any]] = {}
    with make_progress() as bar:
        work = bar.add_task(f"{ARMS[name].title}: linear probes", total=len(PROBED), note="")
        for target, (kind, key) in PROBED.items():
            chosen = {
                split: [f for f in facts if f["split"] == split and f["kind"] == kind and key in f][:PROBE_CLIPS]
                for split in ("train", "test")
            }
            states = {
                split: collect_states(model, [_question(world, fact) for fact in members])
                for split, members in chosen.items()
            }
            labels = {split: [fact[key] for fact in members] for split, members in chosen.items()}
            results[target] = {}
            for where in ("audio", "think", "pre_generation"):
                train_states = getattr(states["train"], where)
                if train_states is not None:
                    found = probe(train_states, labels["train"], getattr(states["test"], where), labels["test"])
                    results[target][where] = asdict(found.score)
            bar.advance(work)
    write_whole(path, json.dumps(results, indent=1))
    return results


def compare(
    folder: str | Path,
    settings: Settings | None = None,
    *,
    seeds: Sequence[int] = (0,),
    arms: Sequence[str] = tuple(ARMS),
    shipped: bool = True,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Run the whole comparison, or whatever of it is still missing.

    Args:
        folder: Where everything goes.
        settings: What every arm shares.
        seeds: Seeds of training.
        arms: Which.
        shipped: Start from the shipped pre-trained backbone rather than pre-train one.
        say: Where lines for the user go.

    Returns:
        ``scores[arm][seed][task]`` and ``probes[arm][seed][target]``, as plain data.
    """
    world, settings = World(Path(folder)), settings or Settings()
    prepare(world, settings, say, shipped=shipped)
    scores: dict[str, dict[int, dict[str, Score]]] = {arm: {} for arm in arms}
    probes: dict[str, dict[int, Any]] = {arm: {} for arm in arms}
    for seed in seeds:
        for arm in arms:
            if ARMS[arm].trained:
                say(f"[bold]{ARMS[arm].title}[/bold], seed {seed}")
                run_arm(world, settings, arm, seed, say)
            scores[arm][seed] = evaluate_arm(world, settings, arm, seed)
            if arm in ("baseline", "coat"):
                probes[arm][seed] = probe_arm(world, arm, seed)
    results = {
        "settings": asdict(settings),
        "seeds": list(seeds),
        "scores": {a: {s: {t: asdict(v) for t, v in by.items()} for s, by in m.items()} for a, m in scores.items()},
        "probes": probes,
    }
    write_whole(world.folder / "results.json", json.dumps(results, indent=1))
    return results


def _copy_shipped_backbone(target: Path) -> None:
    """The shipped weights are halves; a copy in full precision is what training starts from."""
    from coat.checkpoints.references import miniature_folder

    backbone = load_backbone("qwen2_audio", str(miniature_folder() / "backbone"))
    partial = target.with_name(target.name + ".partial")
    backbone.save_pretrained(str(partial))
    partial.rename(target)


def _question(world: World, fact: dict[str, Any]) -> Conversation:
    from coat.audio import load_audio

    messages = [{"role": "user", "content": f"<audio>{PROBE_QUESTION}"}]
    return Conversation(messages, [load_audio(world.corpus / fact["audio"])], name=fact["id"])
