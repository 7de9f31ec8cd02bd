"""A corpus to a manifest: sounds as files beside it, rows one a line, stopped and resumed at any record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from coat.data.sources.base import Corpus, Record
from coat.data.sources.sounds import Sounds, digest_of
from coat.errors import CoatError
from coat.files import PARTIAL, write_whole

SAVE_EVERY = 64
DONE = b'{"records"'


@dataclass(frozen=True)
class Prepared:
    """Outcome of preparing a corpus.

    Attributes:
        manifest: Its path.
        rows: In it.
        records: That were read.
        bad: Records whose sound could not be read, with what was wrong.
    """

    manifest: Path
    rows: int
    records: int
    bad: list[str]


def prepare_corpus(
    corpus: Corpus,
    out: Path,
    records: Callable[[int], Iterable[Record]],
    *,
    limit: int | None = None,
    seed: int = 0,
    origin: str = "",
    progress: Callable[[int], None] | None = None,
) -> Prepared:
    """Write a corpus's manifest and sounds, or return what the same call has written before.

    Args:
        corpus: The corpus.
        out: Gets ``NAME.jsonl``, ``NAME/`` with sounds, and ``NAME.import.json``, which says what was asked for.
        records: Gives the records after so many.
        limit: At most so many records.
        seed: Seed of wordings and orders of options.
        origin: Folder or revision that the records come from.
        progress: Called with the number of records just done.

    Raises:
        CoatError: Nothing usable came, or the manifest that is there was written by another call or by hand.
    """
    out.mkdir(parents=True, exist_ok=True)
    manifest, begun = out / f"{corpus.name}.jsonl", out / f"{corpus.name}.jsonl.begun"
    about, asked = out / f"{corpus.name}.import.json", _asked(corpus, limit, seed, origin)
    if manifest.is_file() or begun.is_file():
        written = _claimed(manifest, about, asked)
        if manifest.is_file():
            return Prepared(manifest, **written)
    write_whole(about, json.dumps({"asked": asked}, indent=1))
    first, keys, bad = _resume(begun)
    writer = _Writer(corpus, out, begun, seed, keys, bad)
    count = first
    for record in records(first):
        if limit is not None and count >= limit:
            break
        writer.add(record, count)
        count += 1
        if count % SAVE_EVERY == 0:
            writer.save(count)
            if progress:
                progress(SAVE_EVERY)
    writer.save(count)
    made = Prepared(manifest, _finish(begun, manifest), count, writer.bad)
    if not made.rows:
        raise CoatError(f"No row came of {corpus.name}.", made.bad[0] if made.bad else corpus.access)
    written = {"rows": made.rows, "records": made.records, "bad": made.bad}
    write_whole(about, json.dumps({"asked": asked, "written": written}, indent=1))
    manifest.with_name(manifest.name + PARTIAL).replace(manifest)
    begun.unlink()
    return made


def _asked(corpus: Corpus, limit: int | None, seed: int, origin: str) -> dict[str, Any]:
    """All that decides what is written."""
    return {
        "corpus": corpus.hub_id or corpus.name,
        "config": corpus.config,
        "splits": list(corpus.splits),
        "question": getattr(corpus, "question", ""),
        "ignored fields": sorted(getattr(corpus, "ignore", ())),
        "from": origin,
        "limit": limit,
        "seed": seed,
    }


def _claimed(manifest: Path, about: Path, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Find what an import that is done or begun has written, if it is the one that is asked for."""
    before = json.loads(about.read_text()) if about.is_file() else {}
    if "asked" not in before or (manifest.is_file() and "written" not in before):
        raise CoatError(
            f"{manifest} is there already, and is not what an import has written.", "Give another folder, or move it."
        )
    differ = [f"{name} {before['asked'].get(name)!r}, now {value!r}" for name, value in asked.items()
              if before["asked"].get(name) != value]  # fmt: skip
    if differ:
        raise CoatError(
            f"{manifest} was imported with another " + "; ".join(differ) + ".",
            f"Give another folder, or delete {manifest.name} and what belongs to it to import it anew.",
        )
    return dict(before.get("written", {}))


def _resume(begun: Path) -> tuple[int, list[str], list[str]]:
    """Records that are done, what they are called, and which were bad; lines after the last of these were cut short."""
    done, end, keys, bad = 0, 0, list[str](), list[str]()
    if begun.is_file():
        with begun.open("rb") as file:
            at = 0
            for line in file:
                at += len(line)
                if line.startswith(DONE) and line.endswith(b"\n"):
                    told = json.loads(line)
                    done, end = told["records"], at
                    keys += told["keys"]
                    bad += told["bad"]
        with begun.open("rb+") as file:
            file.truncate(end)
    return done, keys, bad


def _finish(begun: Path, manifest: Path) -> int:
    """Write the rows of what was begun, where the manifest is renamed from; how many they are."""
    partial, rows = manifest.with_name(manifest.name + PARTIAL), 0
    with begun.open("rb") as source, partial.open("wb") as file:
        for line in source:
            if not line.startswith(DONE):
                file.write(line)
                rows += 1
    if not rows:
        partial.unlink()
        begun.unlink()
    return rows


class _Writer:
    """Lines are kept back until their sounds are written; then comes one that says how far it got."""

    def __init__(
        self, corpus: Corpus, out: Path, path: Path, seed: int, keys: Iterable[str], bad: list[str]
    ) -> None:  # fmt: skip
        self.corpus, self.path, self.seed = corpus, path, seed
        self.sounds = Sounds(out, corpus.name)
        self.lines: list[Mapping[str, Any]] = []
        self.bad, self.bad_saved = bad, len(bad)
        self.keys, self.new_keys = set(map(digest_of, keys)), list[str]()

    def add(self, record: Record, place: int) -> None:
        corpus, rng = self.corpus, np.random.default_rng([self.seed, place])
        try:
            asked = list(corpus.asked(record, rng))
        except CoatError as error:
            raise CoatError(f"Record {place}: {error.problem}", error.remedy) from None
        if not asked:
            return
        key = self._unique(corpus.key(record, place), place)
        audios: list[dict[str, Any]] = []
        audio = corpus.audio(record) if corpus.has_audio else None
        if audio is not None:
            try:
                audios = [self.sounds.add(audio, key)]
            except CoatError as error:
                self.bad.append(f"{key}: {error.problem}")
                return
        for number, item in enumerate(asked):
            mark = "<audio>" if audios else ""
            row = {
                "id": f"{corpus.name}-{key}" + (f"-{number}" if len(asked) > 1 else ""),
                "messages": list(item.messages)
                or [
                    {"role": "user", "content": mark + item.question},
                    {"role": "assistant", "content": item.answer},
                ],
                "audios": audios,
                "task": item.task,
                "group": corpus.group,
                "source": corpus.name,
                "licence": corpus.licence,
                "language": corpus.language,
            }
            extra = {"choices": list(item.choices)} if item.choices else {}
            self.lines.append(row | extra | ({"metadata": dict(item.metadata)} if item.metadata else {}))

    def save(self, records: int) -> None:
        with self.path.open("a") as file:
            done = {"records": records, "keys": self.new_keys, "bad": self.bad[self.bad_saved :]}
            file.writelines(json.dumps(line) + "\n" for line in [*self.lines, done])
        self.lines, self.new_keys, self.bad_saved = [], [], len(self.bad)

    def _unique(self, key: str, place: int) -> str:
        """The record's own name, or that and its place where another record has it already."""
        while digest_of(key) in self.keys:
            key = f"{key}-{place:08d}"
        self.keys.add(digest_of(key))
        self.new_keys.append(key)
        return key
