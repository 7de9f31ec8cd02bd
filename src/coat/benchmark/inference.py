"""The price of an answer by the length of its audio: baseline, a chain of thought in text, the block (Tables 2, E).

Questions of each range of durations are drawn anew for each seed; all arms answer the same question one after
another. Beside what was measured stands what sizes say: FLOPs of a prefill, bytes of cache.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coat.audio import Clip
from coat.backbones.base import Backbone
from coat.backbones.work import cache_bytes, language_flops, tower_flops
from coat.benchmark.latency import Arm, Stopwatch, Timing
from coat.data.conversation import Conversation
from coat.errors import CoatError
from coat.evaluation.backends.base import in_pieces
from coat.evaluation.sources import Opened, measured
from coat.files import read_jsonl, write_whole
from coat.reasoning import MORE_TOKENS

# Seconds; the paper's five ranges span 0 to 120 s, its edges are lost to us.
RANGES = ((0.0, 5.0), (5.0, 15.0), (15.0, 30.0), (30.0, 60.0), (60.0, 120.0))
QUESTION = "What can be heard?"
BASELINE, TEXT_COT, COAT = "baseline", "text CoT", "CoAT"
WARM_UP = 2
MEASURES = ("first", "decode", "total", "new_tokens", "think_tokens", "prompt_tokens")


@dataclass(frozen=True)
class CostSettings:
    """One way to answer that is measured.

    Attributes:
        samples: Questions a range and seed.
        seeds: Number of seeds.
        ranges: Ranges of durations, in seconds.
        max_new_tokens: Most tokens of an answer.
        reasoning_tokens: That a chain of thought may take beside.
        strides: Strides of the block that are timed.
    """

    samples: int = 300
    seeds: int = 3
    ranges: tuple[tuple[float, float], ...] = RANGES
    max_new_tokens: int = 128
    reasoning_tokens: int = MORE_TOKENS
    strides: tuple[int, ...] = (1, 2, 4)


@dataclass(frozen=True)
class Cell:
    """An arm in a range: means over seeds of means over questions, and their standard deviation.

    Durations differ between seeds, and so do times; ``against`` compares answers to the same question.

    Attributes:
        arm: The arm.
        low: The range's beginning in seconds.
        high: Its end.
        questions: Asked, over all seeds.
        mean: Mean of each measure, in seconds and tokens.
        std: Over seeds; nothing for one seed.
        against: Time to the first token and in all, over the first arm's on the same question: medians.
    """

    arm: str
    low: float
    high: float
    questions: int
    mean: Mapping[str, float]
    std: Mapping[str, float]
    against: Mapping[str, float]


def arms_of(settings: CostSettings, reasoning: str) -> list[Arm]:
    """Baseline, chain of thought, and the block at each stride."""
    blocks = [Arm(COAT if s == 1 else f"CoAT, s = {s}", think=True, stride=s) for s in settings.strides]
    cot = Arm(TEXT_COT, reasoning=reasoning, more_tokens=settings.reasoning_tokens)
    return [Arm(BASELINE), cot, *blocks]


def measure(
    stopwatch: Stopwatch,
    arms: Sequence[Arm],
    questions: Callable[[int, int], Sequence[Conversation]],
    settings: CostSettings,
    path: Path,
    *,
    one_arm_at_a_time: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[dict[str, Any]]:
    """Time every question under every arm; a stopped measurement goes on.

    Args:
        stopwatch: Answers, and says how long it took.
        arms: Ways to answer.
        questions: Those of a range, by its place and the seed.
        settings: Settings of the measurement.
        path: ``timings.jsonl``, a line an answer.
        one_arm_at_a_time: Measure an arm to its end before the next, for arms that are dear to change; else they take
            turns, so that a noisy machine is fair.
        progress: Called with answers just timed, and in all.

    Returns:
        The lines.
    """
    lines = read_jsonl(path)
    done = {(line["arm"], line["range"], line["seed"], line["question"]) for line in lines}
    plan = [
        (place, seed, number, asked)
        for place in range(len(settings.ranges))
        for seed in range(settings.seeds)
        for number, asked in enumerate(questions(place, seed))
    ]
    jobs = [(arm, *each) for each in plan for arm in arms]
    if one_arm_at_a_time:
        jobs.sort(key=lambda job: [arm.name for arm in arms].index(job[0].name))
    missing = [job for job in jobs if (job[0].name, *job[1:4]) not in done]
    if progress:
        progress(len(jobs) - len(missing), len(jobs))
    warm: set[str] = set()
    with path.open("a") as file:
        for arm, place, seed, number, asked in missing:
            if arm.name not in warm:
                for _ in range(WARM_UP):
                    stopwatch(arm, asked, settings.max_new_tokens)
                warm.add(arm.name)
            timing = stopwatch(arm, asked, settings.max_new_tokens)
            line = _line(arm, place, seed, number, asked, timing)
            lines.append(line)
            file.write(json.dumps(line) + "\n")
            file.flush()
            if progress:
                progress(1, len(jobs))
    return lines


def _line(arm: Arm, place: int, seed: int, number: int, asked: Conversation, timing: Timing) -> dict[str, Any]:
    seconds = sum(clip.seconds for clip in asked.clips)
    where = {"arm": arm.name, "range": place, "seed": seed, "question": number, "seconds": round(seconds, 3)}
    return {**where, **asdict(timing), "total": timing.total}


def noise_questions(settings: CostSettings, hears: float | None, longest: float) -> Callable[[int, int], Any]:
    """Questions about noise, of durations drawn evenly from each range.

    Args:
        settings: Settings of the measurement.
        hears: Seconds that the model hears in one clip, if it takes several.
        longest: Seconds that it hears at all.
    """

    def questions(place: int, seed: int) -> list[Conversation]:
        rng = np.random.default_rng([seed, place])
        low, high = settings.ranges[place]
        made = []
        for number in range(settings.samples):
            seconds = float(rng.uniform(max(low, 0.3), high))
            if seconds > longest:
                continue
            clip = Clip(rng.normal(0, 0.1, round(seconds * 16_000)).astype(np.float32), 16_000, f"noise {number}")
            made.append(_cut([{"role": "user", "content": f"<audio>{QUESTION}"}], [clip], hears))
        return made

    return questions


def task_questions(
    opened: Sequence[Opened], settings: CostSettings, hears: float | None
) -> Callable[[int, int], Any]:  # fmt: skip
    """Questions of tasks, drawn by the length of their audio.

    Raises:
        CoatError: No item falls into any range.
    """
    items = [(each.task, item) for each in map(measured, opened) for item in each.items if item.seconds]
    pools = [
        [(task, item) for task, item in items if low < item.seconds <= high] for low, high in settings.ranges
    ]  # fmt: skip
    if not any(pools):
        raise CoatError("No question of these tasks has audio of the lengths asked for.", "Give other tasks.")

    def questions(place: int, seed: int) -> list[Conversation]:
        pool = pools[place]
        chosen = np.random.default_rng([seed, place]).permutation(len(pool))[: settings.samples]
        return [
            _cut(pool[i][1].conversation(pool[i][0]), [sound.load() for sound in pool[i][1].sounds], hears)
            for i in chosen
        ]

    return questions


def _cut(messages: list[Any], clips: list[Clip], hears: float | None) -> Conversation:
    asked = Conversation(messages, clips, "question")
    return asked if hears is None else in_pieces(asked, hears)


def summarise(lines: Sequence[Mapping[str, Any]], settings: CostSettings) -> list[Cell]:
    """Means and standard deviations over seeds, for each range and arm."""
    cells = []
    arms = list(dict.fromkeys(line["arm"] for line in lines))
    first = {_question(line): line for line in lines if line["arm"] == arms[0]}
    for place, (low, high) in enumerate(settings.ranges):
        here = [line for line in lines if line["range"] == place]
        for arm in arms:
            mine = [line for line in here if line["arm"] == arm]
            seeds = sorted({line["seed"] for line in mine})
            if not seeds:
                continue
            by_seed = {
                name: np.array([np.mean([line[name] for line in mine if line["seed"] == seed]) for seed in seeds])
                for name in MEASURES
            }
            mean = {name: float(values.mean()) for name, values in by_seed.items()}
            std = {name: float(values.std(ddof=1)) for name, values in by_seed.items()} if len(seeds) > 1 else {}
            pairs = [(line, first[_question(line)]) for line in mine if _question(line) in first]
            against = {
                name: float(np.median([line[name] / other[name] for line, other in pairs]))
                for name in ("first", "total")
            }
            cells.append(Cell(arm, low, high, len(mine), mean, std, against))
    return cells


def _question(line: Mapping[str, Any]) -> tuple[int, int, int]:
    return line["range"], line["seed"], line["question"]


def write_csv(cells: Sequence[Cell], path: Path) -> None:
    """A line a range and arm."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(["range_s", "arm", "questions", *(f"{name}{part}" for name in MEASURES for part in ("", "_std"))])
    for cell in cells:
        numbers = [f"{v:.6g}" for name in MEASURES for v in (cell.mean[name], cell.std.get(name, float("nan")))]
        writer.writerow([f"{cell.low:g}-{cell.high:g}", cell.arm, cell.questions, *numbers])
    write_whole(path, buffer.getvalue())


@dataclass(frozen=True)
class Work:
    """FLOPs and cache for one clip, computed from sizes.

    Attributes:
        seconds: Seconds of audio.
        audio_tokens: L_a.
        prompt_tokens: Without the block.
        block_tokens: Length of the block.
        tower: FLOPs of tower and projector.
        prefill: Work of the prefill of the language model without the block.
        prefill_block: With it.
        cache: Bytes of keys and values of the prompt, without the block.
        cache_block: With it.
        step: FLOPs of a decoded token, without the block.
        step_block: Time of a step with the block.
    """

    seconds: float
    audio_tokens: int
    prompt_tokens: int
    block_tokens: int
    tower: float
    prefill: float
    prefill_block: float
    cache: int
    cache_block: int
    step: float
    step_block: float

    @property
    def more(self) -> float:
        """Work before the first token, against no block."""
        return (self.tower + self.prefill_block) / (self.tower + self.prefill)


def work_of(backbone: Backbone, seconds: float, *, stride: int = 1, text: int = 40, bytes_each: int = 2) -> Work:
    """FLOPs and bytes of a question about one clip.

    Args:
        backbone: Its sizes; one without storage will do.
        seconds: Seconds of audio.
        stride: Audio tokens that one think token stands for.
        text: Tokens of template and question.
        bytes_each: Bytes of a number in the cache.
    """
    rate, longest = backbone.audio_spec.sampling_rate, backbone.audio_spec.max_seconds
    pieces = max(1, int(np.ceil(seconds / longest - 1e-6))) if backbone.max_clips is None else 1
    each = backbone.num_audio_tokens(round(seconds / pieces * rate))
    audio, block = pieces * each, pieces * (-(-each // stride) + 2)
    prompt = audio + text
    return Work(
        seconds,
        audio,
        prompt,
        block,
        pieces * tower_flops(backbone, seconds / pieces),
        language_flops(backbone, prompt),
        language_flops(backbone, prompt + block),
        cache_bytes(backbone, prompt, bytes_each=bytes_each),
        cache_bytes(backbone, prompt + block, bytes_each=bytes_each),
        language_flops(backbone, 1, past=prompt),
        language_flops(backbone, 1, past=prompt + block),
    )
