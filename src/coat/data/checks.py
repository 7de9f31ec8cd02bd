"""Everything that may be wrong with a data set, found at once: rows, texts, files, sounds.

Unlike opening a manifest for training, a check does not stop at what is unusable: it goes through all of it and says
how much there is of each kind.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from coat.audio import AudioError, Clip
from coat.data.manifest import AudioRef, Row, RowError, existing, is_another_clips, no_rows, row_of
from coat.data.reading import read_records
from coat.errors import CoatError
from coat.processes import each

ERROR, WARNING = "error", "warning"
SILENT_DB = -60.0
# A run of samples at full scale, and how much of a clip such runs may be.
CLIPPED_LEVEL, CLIPPED_SHARE = 0.999, 1e-3
MIN_RATE = 16_000
# Answers to choices are called unbalanced if chance would make them so in one of a thousand sets.
UNBALANCED_P = 1e-3
MIN_CHOICES = 20
CHUNK = 32
# Where no backbone says what it hears: a small file can unpack to days of sound.
LONGEST_DECODED = 3600.0

# Kind of finding: how grave, and what it means.
KINDS = {
    "malformed row": (ERROR, "cannot be understood, or its marks and clips differ in number"),
    "empty answer": (ERROR, "there is nothing to learn from it"),
    "no answer": (ERROR, "there is no assistant message to train on, or to score by"),
    "duplicate id": (ERROR, "ids must differ within a manifest"),
    "missing file": (ERROR, "there is no file at the path"),
    "unreadable audio": (ERROR, "is no audio, or holds NaN"),
    "damaged audio": (ERROR, "breaks off, was cut short, or holds several recordings"),
    "wrong stretch": (ERROR, "the file ends before the stretch that is asked for"),
    "another duration": (ERROR, "the row's duration is far from the file's: one of them is another clip's"),
    "cancelling channels": (ERROR, "mixed to mono nearly nothing is left; or there is no such channel"),
    "over full scale": (ERROR, "samples on the scale of integers"),
    "constant offset": (ERROR, "the waveform is far from zero on average"),
    "too short": (ERROR, "less than one audio token"),
    "too long": (ERROR, "longer than the backbone hears: refused, or left out with data.on_bad_row: skip"),
    "unusable prompt": (ERROR, "the backbone takes no such conversation, or none so long"),
    "silent": (WARNING, f"quieter than {SILENT_DB:.0f} dB of full scale"),
    "clipped": (WARNING, "runs of samples at full scale"),
    "low rate": (WARNING, "below 16 kHz: high frequencies are missing"),
    "wrong duration": (WARNING, "the manifest says another duration than the file has"),
    "duplicate audio": (WARNING, "the same sound under several names"),
    "duplicate row": (WARNING, "the same question about the same sound with the same answer"),
    "unbalanced choices": (WARNING, "right answers stand at some places more often than chance has it"),
}
# What is wrong with a clip, by :class:`coat.audio.AudioError`'s kinds.
OF_CLIPS = {
    "missing": "missing file",
    "unreadable": "unreadable audio",
    "not finite": "unreadable audio",
    "damaged": "damaged audio",
    "stretch": "wrong stretch",
    "channels": "cancelling channels",
    "over full scale": "over full scale",
    "offset": "constant offset",
    "too short": "too short",
    "too long": "too long",
}
# Says whether a backbone takes a row whose clips last so many seconds, by raising a CoatError where it does not.
Fits = Callable[[Row, Sequence[float]], None]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        kind: One of ``KINDS``.
        row: The row's id, or its line.
        text: Description of the finding.
        audio: The file, where it can be listened to.
    """

    kind: str
    row: str
    text: str
    audio: str = ""


@dataclass
class Checked:
    """Findings of a check.

    Attributes:
        path: Path of the manifest.
        rows: Usable or not.
        clips: Different stretches of files.
        seconds: Seconds of each clip that could be read.
        rates: Clips by sampling rate.
        tasks: Rows by task.
        answer_words: Words in each answer.
        letters: Right answers by their place, of rows with choices.
        by_chance: Their value if every place were as good.
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
    fits: Fits | None = None,
    audio: bool = True,
    ignore: Collection[str] = (),
    workers: int = 2,
    progress: Callable[[str, int, int], None] | None = None,
) -> Checked:
    """Check a manifest and all that it names, by the functions that training reads it by.

    Args:
        path: JSON Lines, a JSON array or Parquet, see :mod:`coat.data.reading`.
        max_seconds: The longest clip that the backbone hears.
        fits: Says whether the backbone takes a row; see :func:`coat.training.dataset.fits`.
        audio: Decode every clip; without it only rows and texts are checked.
        ignore: Fields of rows to pass over.
        workers: Processes that decode.
        progress: Called with (what, just done, in all).

    Raises:
        CoatError: There is no such file, it is no file of rows, or it holds none.
    """
    path = existing(path)
    checked = Checked(path, heard=audio)
    names: dict[AudioRef, list[tuple[str, float | None]]] = defaultdict(list)
    seen: Counter[str] = Counter()
    texts: dict[tuple[str, tuple[AudioRef, ...]], list[str]] = defaultdict(list)
    for row in _rows(path, ignore, checked):
        seen[row.id] += 1
        checked.tasks[row.task or "none"] += 1
        checked.answer_words.append(len(row.answer.split()))
        _count_choice(row, checked)
        texts[json.dumps(row.messages), tuple(row.audios)].append(row.id)
        for ref in row.audios:
            names[ref].append((row.id, ref.known_seconds))
    if not checked.rows:
        raise no_rows(path)
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
    lengths = {ref: _told(ref) for ref in names}
    if audio:
        lengths = _listen(checked, names, max_seconds, workers, progress)
    if fits:
        _judge_prompts(checked, _rows(path, ignore), lengths, fits)
    return checked


def _rows(path: Path, ignore: Collection[str], checked: Checked | None = None) -> Iterator[Row]:
    """Rows that can be used; where ``checked`` is given, the others are noted there."""
    for record in read_records(path):
        if checked:
            checked.rows += 1
        try:
            yield row_of(record, path.parent, ignore=ignore, answered=True)
        except RowError as error:
            if checked:
                checked.findings.append(Finding(error.kind, record.where, str(error)))


def _told(ref: AudioRef) -> float:
    """Seconds of a clip that is not decoded, as far as its row says."""
    return ref.known_seconds or (ref.end - ref.start if ref.end is not None else 1.0)


def _judge_prompts(checked: Checked, rows: Iterator[Row], lengths: dict[AudioRef, float], fits: Fits) -> None:
    for row in rows:
        if all(ref in lengths for ref in row.audios):
            try:
                fits(row, [lengths[ref] for ref in row.audios])
            except CoatError as error:
                checked.findings.append(Finding("unusable prompt", row.id, error.problem))


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
) -> dict[AudioRef, float]:
    """Decode every clip; the seconds of those that can be used."""
    sounds: dict[str, list[str]] = defaultdict(list)
    lengths: dict[AudioRef, float] = {}
    hear = partial(_hear, max_seconds=LONGEST_DECODED if max_seconds is None else max_seconds)
    for heard in each(hear, list(names), workers=workers, chunk=CHUNK):
        (row, _), place = names[heard.ref][0], str(heard.ref.path)
        if heard.problem:
            checked.findings.append(Finding(heard.kind, row, heard.problem))
        else:
            lengths[heard.ref] = heard.seconds
            checked.seconds.append(heard.seconds)
            checked.rates[heard.rate] += 1
            sounds[heard.key].append(place)
            checked.findings += [Finding(kind, row, text, place) for kind, text in _judge(heard)]
            for name, known in names[heard.ref]:
                if known is not None and abs(known - heard.seconds) > max(0.05, 0.01 * heard.seconds):
                    told = f"{known:.2f} s in the manifest, {heard.seconds:.2f} s in the file"
                    kind = "another duration" if is_another_clips(known, heard.seconds) else "wrong duration"
                    checked.findings.append(Finding(kind, name, told, place))
        if progress:
            progress("clips", 1, len(names))
    for places in sounds.values():
        if len(places) > 1:
            checked.findings.append(
                Finding("duplicate audio", places[0], f"again at {', '.join(places[1:4])}", places[0])
            )
    return lengths


def _judge(heard: Heard) -> Iterator[tuple[str, str]]:
    if heard.level < SILENT_DB:
        yield "silent", f"{heard.level:.0f} dB" if math.isfinite(heard.level) else "nothing but zeros"
    if heard.clipped > CLIPPED_SHARE:
        yield "clipped", f"{heard.clipped:.1%} of its samples"
    if heard.rate < MIN_RATE:
        yield "low rate", f"{heard.rate} Hz"


def _hear(ref: AudioRef, max_seconds: float) -> Heard:
    try:
        clip = replace(ref, known_seconds=None).load(max_seconds)  # which is judged row by row
    except AudioError as error:
        return Heard(ref, OF_CLIPS[error.kind], error.problem)
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
