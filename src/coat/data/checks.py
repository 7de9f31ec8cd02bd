"""Everything that may be wrong with a data set, found at once: rows, texts, files, sounds.

Unlike opening a manifest for training, a check does not stop at what is unusable: it goes through all of it and says
how much there is of each kind.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from coat.audio import Clip
from coat.data.manifest import AudioRef, Row, parse_row
from coat.errors import CoatError

ERROR, WARNING = "error", "warning"
SILENT_DB = -60.0
# A run of samples at full scale, and how much of a clip such runs may be.
CLIPPED_LEVEL, CLIPPED_SHARE = 0.999, 1e-3
MIN_RATE = 16_000
# Answers to choices are called unbalanced if chance would make them so in one of a thousand sets.
UNBALANCED_P = 1e-3
MIN_CHOICES = 20
CHUNK = 32

# Kind of finding: how grave, and what it means.
KINDS = {
    "malformed row": (ERROR, "cannot be parsed, or its marks and clips differ in number"),
    "empty answer": (ERROR, "there is nothing to learn from it"),
    "duplicate id": (ERROR, "ids must differ within a manifest"),
    "missing file": (ERROR, "there is no file at the path"),
    "unreadable audio": (ERROR, "is no audio, or holds NaN"),
    "too short": (ERROR, "less than one audio token"),
    "too long": (WARNING, "longer than the backbone hears: refused or left out in training"),
    "silent": (WARNING, f"quieter than {SILENT_DB:.0f} dB of full scale"),
    "clipped": (WARNING, "runs of samples at full scale"),
    "low rate": (WARNING, "below 16 kHz: high frequencies are missing"),
    "wrong duration": (WARNING, "the manifest says another duration than the file has"),
    "duplicate audio": (WARNING, "the same sound under several names"),
    "duplicate row": (WARNING, "the same question about the same sound with the same answer"),
    "unbalanced choices": (WARNING, "right answers stand at some places more often than chance has it"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: One of ``KINDS``.
        row: The row's id, or its line.
        text: What exactly.
        audio: The file, where it can be listened to.
    """

    kind: str
    row: str
    text: str
    audio: str = ""


@dataclass
class Checked:
    """What a check found.

    Attributes:
        path: Of the manifest.
        rows: Usable or not.
        clips: Different stretches of files.
        seconds: Of each clip that could be read.
        rates: Clips by sampling rate.
        tasks: Rows by task.
        answer_words: Words in each answer.
        letters: Right answers by their place, of rows with choices.
        by_chance: What they would be if every place were as good.
        findings: All of them.
        heard: Whether audio was decoded.
    """

    path: Path
    rows: int = 0
    clips: int = 0
    seconds: list[float] = field(default_factory=list)
    rates: Counter[int] = field(default_factory=Counter)
    tasks: Counter[str] = field(default_factory=Counter)
    answer_words: list[int] = field(default_factory=list)
    letters: Counter[int] = field(default_factory=Counter)
    by_chance: defaultdict[int, float] = field(default_factory=lambda: defaultdict(float))
    findings: list[Finding] = field(default_factory=list)
    heard: bool = True

    @property
    def errors(self) -> int:
        """Findings that make rows unusable."""
        return sum(KINDS[finding.kind][0] == ERROR for finding in self.findings)

    def by_kind(self) -> dict[str, list[Finding]]:
        """Findings in the order of ``KINDS``; kinds without any are not there."""
        found = defaultdict(list)
        for finding in self.findings:
            found[finding.kind].append(finding)
        return {kind: found[kind] for kind in KINDS if kind in found}


@dataclass(frozen=True)
class Heard:
    """One clip, decoded. With a problem, the rest is empty."""

    ref: AudioRef
    kind: str = ""
    problem: str = ""
    key: str = ""
    seconds: float = 0.0
    rate: int = 0
    level: float = 0.0
    clipped: float = 0.0


def check_manifest(
    path: str | Path,
    *,
    max_seconds: float | None = None,
    audio: bool = True,
    workers: int = 2,
    progress: Callable[[str, int, int], None] | None = None,
) -> Checked:
    """Check a manifest and all that it names.

    Args:
        path: A JSON Lines file.
        max_seconds: The longest clip that the backbone hears.
        audio: Decode every clip; without it only rows and texts are checked.
        workers: Processes that decode.
        progress: Called with (what, just done, in all).

    Raises:
        CoatError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise CoatError(f"There is no manifest at {path}.", "Give a JSON Lines file.")
    checked = Checked(path, heard=audio)
    names: dict[AudioRef, list[tuple[str, float | None]]] = defaultdict(list)
    seen: Counter[str] = Counter()
    texts: dict[tuple[str, tuple[AudioRef, ...]], list[str]] = defaultdict(list)
    for row in _rows(path, checked):
        seen[row.id] += 1
        checked.tasks[row.task or "none"] += 1
        checked.answer_words.append(len(row.answer.split()))
        _count_choice(row, checked)
        texts[json.dumps(row.messages), tuple(row.audios)].append(row.id)
        for ref in row.audios:
            names[ref].append((row.id, ref.known_seconds))
    if progress:
        progress("rows", checked.rows, checked.rows)
    for name, times in seen.items():
        if times > 1:
            checked.findings.append(Finding("duplicate id", name, f"used {times} times"))
    for same in texts.values():
        if len(same) > 1:
            checked.findings.append(Finding("duplicate row", same[0], f"again as {', '.join(same[1:4])}"))
    _judge_choices(checked)
    checked.clips = len(names)
    if audio:
        _listen(checked, names, max_seconds, workers, progress)
    return checked


def _rows(path: Path, checked: Checked) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            checked.rows += 1
            try:
                yield parse_row(json.loads(line), number, path.parent)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                kind = "empty answer" if "answer is empty" in str(error) else "malformed row"
                checked.findings.append(Finding(kind, f"line {number}", str(error)))


def _count_choice(row: Row, checked: Checked) -> None:
    answer = row.answer.strip()
    for place, option in enumerate(row.choices):
        letter = chr(65 + place)
        if answer in (option, letter, f"({letter})") or answer.startswith((f"({letter})", f"{letter}.", f"{letter})")):
            checked.letters[place] += 1
            for other in range(len(row.choices)):
                checked.by_chance[other] += 1 / len(row.choices)
            return


def _judge_choices(checked: Checked) -> None:
    from scipy.stats import chisquare

    total = sum(checked.letters.values())
    if total < MIN_CHOICES:
        return
    places = sorted(checked.by_chance)
    counts = [checked.letters[place] for place in places]
    expected = [checked.by_chance[place] for place in places]
    if len(places) > 1 and (chance := float(chisquare(counts, expected).pvalue)) < UNBALANCED_P:
        shown = ", ".join(f"{chr(65 + place)} {count / total:.0%}" for place, count in zip(places, counts, strict=True))
        checked.findings.append(Finding("unbalanced choices", "all", f"{shown} (p = {chance:.1g})"))


def _listen(
    checked: Checked,
    names: dict[AudioRef, list[tuple[str, float | None]]],
    max_seconds: float | None,
    workers: int,
    progress: Callable[[str, int, int], None] | None,
) -> None:
    sounds: dict[str, list[str]] = defaultdict(list)
    with ProcessPoolExecutor(workers) as pool:
        for heard in pool.map(_hear, names, chunksize=CHUNK):
            (row, _), place = names[heard.ref][0], str(heard.ref.path)
            if heard.problem:
                checked.findings.append(Finding(heard.kind, row, heard.problem))
            else:
                checked.seconds.append(heard.seconds)
                checked.rates[heard.rate] += 1
                sounds[heard.key].append(place)
                checked.findings += [Finding(kind, row, text, place) for kind, text in _judge(heard, max_seconds)]
                for name, known in names[heard.ref]:
                    if known is not None and abs(known - heard.seconds) > max(0.05, 0.01 * heard.seconds):
                        told = f"{known:.2f} s in the manifest, {heard.seconds:.2f} s in the file"
                        checked.findings.append(Finding("wrong duration", name, told, place))
            if progress:
                progress("clips", 1, len(names))
    for places in sounds.values():
        if len(places) > 1:
            checked.findings.append(
                Finding("duplicate audio", places[0], f"again at {', '.join(places[1:4])}", places[0])
            )


def _judge(heard: Heard, max_seconds: float | None) -> Iterator[tuple[str, str]]:
    if max_seconds is not None and heard.seconds > max_seconds + 1e-6:
        yield "too long", f"{heard.seconds:.1f} s, over {max_seconds:g} s"
    if heard.level < SILENT_DB:
        yield "silent", f"{heard.level:.0f} dB" if math.isfinite(heard.level) else "nothing but zeros"
    if heard.clipped > CLIPPED_SHARE:
        yield "clipped", f"{heard.clipped:.1%} of its samples"
    if heard.rate < MIN_RATE:
        yield "low rate", f"{heard.rate} Hz"


def _hear(ref: AudioRef) -> Heard:
    if not ref.path.is_file():
        return Heard(ref, "missing file", str(ref.path))
    try:
        clip = ref.load()
    except CoatError as error:
        short = "are needed for one audio token" in error.problem
        return Heard(ref, "too short" if short else "unreadable audio", error.problem)
    power = float(np.square(clip.waveform).mean())
    level = 10 * math.log10(power) if power > 0 else -math.inf
    return Heard(ref, "", "", clip.content_key, clip.seconds, clip.sampling_rate, level, _clipped(clip))


def _clipped(clip: Clip) -> float:
    """The share of samples in runs of three and more at full scale."""
    full = np.abs(clip.waveform) >= CLIPPED_LEVEL
    if full.sum() < 3:
        return 0.0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], full, [False]]).astype(np.int8)))
    runs = edges[1::2] - edges[::2]
    return float(runs[runs >= 3].sum()) / len(full)
