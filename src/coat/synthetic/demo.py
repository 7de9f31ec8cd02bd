"""``coat demo``: arms of one recipe on the small world, a table in the terminal and a page.

Few notes and moods are labelled and experts hear every clip: docs/results.md says how the difference between the arms
depends on the number of labels.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import numpy as np
from rich.console import Console

from coat.ablation.arms import BASELINE, FULL, SFT, Arm, arms_of
from coat.ablation.claim import claim
from coat.ablation.plan import Plan, run_job
from coat.ablation.results import FEWEST_SEEDS, Ablation, collect
from coat.ablation.side_by_side import compute_features, name_of, run_side_by_side
from coat.audio import load_audio
from coat.backbones import load_backbone
from coat.checkpoints import load_model
from coat.checkpoints.building import build_experts
from coat.checkpoints.references import miniature_folder, run_in
from coat.config.reading import load_recipe
from coat.config.recipe import Recipe
from coat.data.conversation import Conversation
from coat.files import read_jsonl, write_whole
from coat.probing.models import Clips, Reading, Target, plain_lines, read_clips, read_lines, read_model
from coat.probing.reconstructions import reconstruct
from coat.reports import plots
from coat.reports.ablation import change_table, plot_ablation, score_table, spread
from coat.reports.page import Section, Table, write_report
from coat.reports.probes import probe_section
from coat.reports.terminal import bars, terminal_table
from coat.synthetic.corpus import CorpusSize, build_corpus
from coat.synthetic.items import SCARCE_TASKS
from coat.synthetic.labels import labelled_manifest, write_manifests
from coat.training.decoder import fit_decoder
from coat.training.progress import bar_for, make_progress, watch_for

# The ends of the ladder: what is between takes minutes more, and is docs/results.md's.
ARMS = (BASELINE, SFT, FULL)
# What is shown first; the other tasks follow.
LEADING_TASKS = ("pitch_class", "mood", "instrument", "event", "choice", "transcription")
PROBED = (Target("mood", "voice"), Target("pitch_class", "program"), Target("family", "program"))
PROBED_ARMS, PROBE_CLIPS = (BASELINE, FULL), 500
DECODER_CLIPS = 500
SHOWN_CLIPS = {"music": "a held-out instrument", "speech": "a held-out voice", "event": "a sound event"}

# Said below the table; docs/results.md has the figures, and a test holds these to them.
OTHER_END = (
    "Over five seeds CoAT less fine-tuning came to +15.3 for notes, +4.9 for moods and -0.7 word errors in a hundred; "
    "with twice the steps to +14.1, +0.3 and -0.4; with 200 of each labelled to +15.1, -4.8 and -0.5. Few runs, as "
    "above, may fall far out of that. A block without experts came to 36.3 notes and 61.7 moods with 50 of each, over "
    "two seeds (docs/results.md)."
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class DemoSettings:
    """How large the demo is.

    Attributes:
        size: Clips of the corpus.
        labels: Clips with an answer, of each of ``SCARCE_TASKS``.
        limit: Held-out questions of a task, at most.
        overrides: ``FIELD=VALUE`` over the recipe.
        backbone: The checkpoint to start from; the one that ships with the package if None.
        decoder_steps: Steps of the decoder that draws audio embeddings in the report.
    """

    size: CorpusSize = field(default_factory=CorpusSize)
    labels: int = 50
    limit: int = 150
    overrides: Sequence[str] = ()
    backbone: Path | None = None
    decoder_steps: int = 600


def run_demo(
    folder: str | Path,
    *,
    seeds: Sequence[int] = (0,),
    workers: int = 1,
    settings: DemoSettings | None = None,
    console: Console | None = None,
    opening: Sequence[Section] = (),
) -> Path:
    """Run everything that is still missing, print the table, write the report.

    Args:
        folder: Output folder.
        seeds: Seeds of training; corpus and backbone are the same for all.
        workers: Arms and seeds that are trained side by side, each in a process.
        settings: Sizes of the demo.
        console: Console to print to.
        opening: Sections that the report begins with.

    Returns:
        The report's path.
    """
    folder, settings, console = Path(folder), settings or DemoSettings(), console or Console()
    say: Say = lambda line: console.print(line, highlight=False, soft_wrap=True)  # noqa: E731
    plan, recipe = prepare(folder, settings, seeds, say)
    if workers > 1:
        _train_side_by_side(plan, recipe, workers, say)
    for arm, seed in plan.jobs():
        say(f"[bold]{name_of(arm, seed)}[/bold]")
        with make_progress() as bar:
            run_job(plan, arm, seed, recipe, say=say, progress=bar_for(bar))
    found = collect(plan)
    say(f"\n{settings.labels} notes and {settings.labels} moods (*) have an answer; the experts hear every clip.")
    console.print(terminal_table(_starred(score_table(found, _tasks(found))), "Held-out scores", f"± {spread(found)}"))
    console.print(
        bars({task: {found.arms[arm]: found.values(arm, task).mean() for arm in ARMS} for task in SCARCE_TASKS})
    )
    say(f"\n{OTHER_END}")
    report = write_demo_report(folder, settings, plan, recipe, found, opening)
    say(f"Report: [bold]{report}[/bold]")
    facts = read_jsonl(folder / "corpus" / "clips.jsonl")
    note = next(fact for fact in facts if fact["split"] == "test" and "pitch_class" in fact)
    clip = folder / "corpus" / note["audio"]
    run = folder / "runs" / f"{FULL}-seed{seeds[0]}"
    say(f'Ask it (a {note["pitch_class"]}):  coat chat {run} {clip} "What note is this?"')
    return report


def _train_side_by_side(plan: Plan, recipe: Recipe, workers: int, say: Say) -> None:
    jobs = plan.jobs()
    if not jobs:
        return
    say(f"Training {len(plan.arms) - 1} ways and asking the same questions, {workers} at a time ({plan.folder}/logs)")
    with make_progress() as bar:
        compute_features(recipe, plan, bar_for(bar))
        for _ in run_side_by_side(plan, jobs, recipe, workers, watch_for(bar)):
            pass


def demo_recipe(folder: Path, settings: DemoSettings) -> Recipe:
    """The packaged recipe, with the paths of a demo's folder."""
    paths = {
        "backbone.path": folder / "backbone",
        "data.train_dataset": labelled_manifest(folder / "corpus", str(settings.labels)),
        "data.cache": folder / "features",
    }
    given = [f"{name}={json.dumps(str(path))}" for name, path in paths.items()]
    return load_recipe(str(files("coat") / "synthetic" / "small-world.yaml"), [*given, *settings.overrides])


def prepare(folder: Path, settings: DemoSettings, seeds: Sequence[int], say: Say) -> tuple[Plan, Recipe]:
    """Make corpus, backbone and training rows where they are missing.

    Returns:
        What is to be trained and asked, and the full method's recipe.
    """
    corpus, backbone = folder / "corpus", folder / "backbone"
    if not (corpus / "corpus.json").is_file():
        say("Synthesising the corpus: speech, music and sound events")
        with make_progress() as bar:
            task = bar.add_task("clips", total=None, note="")
            build_corpus(
                corpus,
                size=settings.size,
                progress=lambda done, total: bar.update(task, completed=done, total=total),
            )
    if not (backbone / "config.json").is_file():
        say("Taking the tiny Qwen2-Audio that ships with coat, pre-trained on text-aligned tasks")
        _in_full_precision(settings.backbone or miniature_folder() / "backbone", backbone)
    write_manifests(corpus, [str(settings.labels)], seeds)
    recipe = demo_recipe(folder, settings)
    arms = [arm for arm in arms_of(recipe, ["ladder"]) if arm.name in ARMS]
    arms = [_against(arm) for arm in arms]
    tasks = [str(corpus / "test.jsonl")]
    plan = Plan(folder / "runs", arms, seeds, tasks, limit=settings.limit, max_new_tokens=32, batch_size=64)
    claim(plan)
    return plan, recipe


def write_demo_report(
    folder: Path, settings: DemoSettings, plan: Plan, recipe: Recipe, found: Ablation, opening: Sequence[Section] = ()
) -> Path:
    """Draw every figure from what the runs left, and write ``report.html``."""
    first, tasks = plan.seeds[0], _tasks(found)
    runs = {arm.title: plan.run_of(arm, first) for arm in plan.arms if arm.recipe}
    losses = {title: read_jsonl(run / "metrics.jsonl") for title, run in runs.items()}
    titles = {title: title for title in runs}
    clips = [read_clips(folder / "corpus" / "clips.jsonl", target, limit=PROBE_CLIPS) for target in PROBED]
    probes = {
        arm.title: _probed(plan.run_of(arm, first), folder, arm, clips) for arm in plan.arms if arm.name in PROBED_ARMS
    }
    size = settings.size
    sections = [
        *opening,
        Section(
            "Scores on held-out clips",
            "Voices, instrument programs, event styles and sentences of these clips are in no training clip. Out of a "
            f"hundred; ± is {spread(found)}.",
            table=_starred(score_table(found, tasks)),
            figures=[(plot_ablation(found, [task for task in LEADING_TASKS if task in tasks]), "A dot is a seed.")],
        ),
        Section(
            "Differences",
            "Each arm against fine-tuning alone, in hundredths; then the seeds in which it is better."
            + (
                ""
                if len(plan.seeds) >= FEWEST_SEEDS
                else " Fewer than three seeds have no interval: differences may be chance."
            )
            + (" In brackets, each seed's." if len(plan.seeds) == 2 else ""),
            table=_starred(change_table(found, tasks)),
        ),
        Section(
            "Losses",
            "Cross-entropy of every arm, and each expert's own loss before its weight, over both stages.",
            figures=[(plots.plot_losses(losses, titles), "A line a logging interval; the stages follow each other.")],
        ),
        Section(
            "What the think states kept",
            "Left, what a frozen expert heard in a held-out clip; right, what its head reads in the think states.",
            figures=_reconstruction_figures(folder, runs[found.arms[FULL]], settings.decoder_steps),
        ),
        probe_section(probes, {each.target.name: each.chance for each in clips}),
        Section(
            "Settings",
            f"{size.train} training, {size.dev} development and {size.test} test clips; {settings.labels} labels; "
            f"seeds {', '.join(map(str, plan.seeds))}. The resolved recipe of the CoAT arm:",
            code=_recipe_text(recipe.seeded(first), runs[found.arms[FULL]]),
        ),
    ]
    path = folder / "report.html"
    write_report(path, "Continuous Audio Thinking on the small world", _lead(found, settings), sections)
    return path


def _against(arm: Arm) -> Arm:
    """Every arm is compared with fine-tuning alone."""
    return Arm(arm.name, arm.title, SFT, arm.recipe)


def _tasks(found: Ablation) -> list[str]:
    return [task for task in LEADING_TASKS if task in found.tasks] + [
        task for task in found.tasks if task not in LEADING_TASKS
    ]


def _starred(table: Table) -> Table:
    """Tasks of which few clips are labelled have a star."""
    scarce = [task.replace("_", " ") for task in SCARCE_TASKS]
    for row in table.rows:
        for name in scarce:
            if row[0].startswith(name):
                row[0] = f"{name} *{row[0].removeprefix(name)}"
    return table


def _lead(found: Ablation, settings: DemoSettings) -> str:
    def change(task: str) -> str:
        alone, thinking = (100 * found.values(arm, task).mean() for arm in (SFT, FULL))
        return f"{task.replace('_', ' ')} {alone:.0f} % with fine-tuning alone, {thinking:.0f} % with CoAT"

    over = f"Means over {len(found.seeds)} seeds" if len(found.seeds) > 1 else f"Seed {found.seeds[0]}"
    return (
        "A tiny Qwen2-Audio is trained two ways on the same synthesised clips, with the same data, steps and seed. "
        f"Notes and moods are labelled on {settings.labels} clips each; experts hear every clip. "
        f"{over}: {'; '.join(change(task) for task in SCARCE_TASKS)}."
    )


def _in_full_precision(source: Path, target: Path) -> None:
    """The shipped weights are halves; a copy in full precision is what training starts from."""
    backbone = load_backbone("qwen2_audio", str(source))
    partial = target.with_name(target.name + ".partial")
    backbone.save_pretrained(str(partial))
    partial.rename(target)


def _probed(run: Path, folder: Path, arm: Arm, clips: Sequence[Clips]) -> list[Reading]:
    """Probes on an arm's states; they are kept."""
    path = run / "probes.jsonl"
    if not path.is_file():
        model = load_model(run if arm.recipe else folder / "backbone", answers_only=True)
        readings: list[Reading] = []
        with make_progress() as bar:
            advance = bar_for(bar)
            for each in clips:
                readings += read_model(model, each)
                advance(f"{arm.title}: linear probes", 1, len(clips))
        write_whole(path, plain_lines(readings))
    return read_lines(path)


def _recipe_text(recipe: Recipe, run: Path) -> str:
    kept = json.loads((run / "run.json").read_text())
    weights = "\n".join(f"#   {name}: {weight:.4g}" for name, weight in kept["calibrated_weights"].items())
    versions = ", ".join(f"{name} {version}" for name, version in kept["versions"].items())
    return f"{recipe.dump()}# calibrated weights\n{weights}\n# {versions}"


def _reconstruction_figures(folder: Path, run: Path, decoder_steps: int) -> list[tuple[str, str]]:
    model = load_model(run, heads=True)
    recipe = run_in(run).recipe
    seen = recipe.experts | {"audio_reconstruction": {"decoder": str(_fit_decoder(folder, decoder_steps))}}
    experts = build_experts(recipe.model_copy(update={"experts": seen}), model)
    facts = [fact for fact in read_jsonl(folder / "corpus" / "clips.jsonl") if fact["split"] == "test"]
    figures = []
    for kind, what in SHOWN_CLIPS.items():
        fact = next(fact for fact in facts if fact["kind"] == kind and "chord" not in fact)
        messages = [{"role": "user", "content": "<audio>Describe the audio."}]
        conversation = Conversation(messages, [load_audio(folder / "corpus" / fact["audio"])], fact["id"])
        truth = ", ".join(
            f"{key} {fact[key]}" for key in ("text", "mood", "family", "pitch_class", "event") if key in fact
        )
        figures.append((plots.plot_reconstructions(reconstruct(model, experts, conversation)), f"{what}: {truth}"))
    return figures


def _fit_decoder(folder: Path, steps: int) -> Path:
    """Fit the decoder that draws audio embeddings as spectrograms, if it is not there."""
    path = folder / "decoder.safetensors"
    if not path.is_file():
        facts = [fact for fact in read_jsonl(folder / "corpus" / "clips.jsonl") if fact["split"] == "train"]
        chosen = np.random.default_rng(5).permutation(len(facts))[:DECODER_CLIPS]
        clips = [load_audio(folder / "corpus" / facts[index]["audio"]) for index in chosen]
        fit_decoder(load_backbone("qwen2_audio", str(folder / "backbone")), clips, steps=steps).decoder.save(path)
    return path
