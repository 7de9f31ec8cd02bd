"""A corpus to a manifest: sounds as files beside it, rows one a line, stopped and resumed at any record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from coat.data.sources.base import Corpus, Record
from coat.errors import CoatError

SAVE_EVERY = 64
DONE = b'{"records"'


@dataclass(frozen=True)
class Prepared:
    """What came of a corpus.

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


def hub_records(corpus: Corpus, *, skip: int = 0, revision: str | None = None) -> Iterator[Record]:
    """Records of a corpus on the hub, streamed; sounds as they are stored, labels by name.

    Args:
        corpus: One with a ``hub_id``.
        skip: Records that are done.
        revision: Of the data set.

    Raises:
        CoatError: The hub gives none: no network, or terms that were not accepted.
    """
    import datasets

    for split in corpus.splits:
        try:
            stream = datasets.load_dataset(
                corpus.hub_id, corpus.config, split=split, streaming=True, revision=revision, **corpus.load_options
            )
        except Exception as error:  # whatever the hub's layers raise
            raise CoatError(
                f"{corpus.name} could not be read from {corpus.hub_id}: {error}",
                f"{corpus.access}. Where there is no network, give a folder: --from FOLDER",
            ) from None
        seen = 0
        for record in plain_records(stream):
            if seen >= skip:
                yield record
            seen += 1
        skip = max(0, skip - seen)


def folder_records(corpus: Corpus, folder: Path, skip: int = 0) -> Iterator[Record]:
    """Records of a corpus in a folder: its makers' files, or a data set that ``datasets`` has saved.

    Raises:
        CoatError: The folder does not hold what it should.
    """
    if not folder.is_dir():
        raise CoatError(f"There is no folder {folder}.", f"{corpus.name}: {corpus.access}")
    if corpus.hub_id:
        import datasets

        tables = sorted(map(str, folder.rglob("*.parquet")))
        if tables:
            loaded = datasets.load_dataset("parquet", data_files=tables, split="train", streaming=True)
        elif (folder / "dataset_info.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
        else:
            raise CoatError(f"{folder} holds neither Parquet files nor a saved data set.", f"{corpus.hub_id} has both.")
        return islice(plain_records(loaded), skip, None)
    return islice(corpus.read(folder), skip, None)


def plain_records(stream: Any) -> Iterator[Record]:
    """Rows of a ``datasets`` split, map-style or streaming: nothing decoded, labels by name.

    Some cards declare 192 kHz, and decoding would resample to it; and the numbers of labels differ between mirrors.
    """
    import datasets

    features = stream.features or {}
    labels = {name: feature for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)}
    for name, feature in features.items():
        if isinstance(feature, datasets.Audio):
            stream = stream.cast_column(name, datasets.Audio(decode=False))
    for record in stream:
        yield {
            name: labels[name].int2str(value) if name in labels and isinstance(value, int) and value >= 0 else value
            for name, value in record.items()
        }


def prepare_corpus(
    corpus: Corpus,
    out: Path,
    records: Callable[[int], Iterable[Record]],
    *,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Prepared:
    """Write a corpus's manifest and sounds.

    Args:
        corpus: Whose.
        out: Gets ``NAME.jsonl`` and ``NAME/`` with sounds.
        records: Gives the records after so many.
        limit: At most so many records.
        seed: Of wordings and orders of options.
        progress: Called with the number of records just done.

    Raises:
        CoatError: Nothing usable came.
    """
    out.mkdir(parents=True, exist_ok=True)
    manifest, begun = out / f"{corpus.name}.jsonl", out / f"{corpus.name}.jsonl.begun"
    if manifest.is_file():
        return Prepared(manifest, sum(1 for _ in manifest.open()), 0, [])
    first = _resume(begun)
    writer = _Writer(corpus, out, begun, seed)
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
    rows = _finish(begun, manifest)
    if not rows:
        raise CoatError(f"No row came of {corpus.name}.", writer.bad[0] if writer.bad else corpus.access)
    return Prepared(manifest, rows, count, writer.bad)


def _resume(begun: Path) -> int:
    """Records that are done; lines after the last that says so were cut short, and go."""
    done, end = 0, 0
    if begun.is_file():
        with begun.open("rb") as file:
            at = 0
            for line in file:
                at += len(line)
                if line.startswith(DONE) and line.endswith(b"\n"):
                    done, end = json.loads(line)["records"], at
        with begun.open("rb+") as file:
            file.truncate(end)
    return done


def _finish(begun: Path, manifest: Path) -> int:
    """The manifest of what was begun; how many rows it has."""
    partial, rows = manifest.with_name(manifest.name + ".partial"), 0
    with begun.open("rb") as source, partial.open("wb") as file:
        for line in source:
            if not line.startswith(DONE):
                file.write(line)
                rows += 1
    if rows:
        partial.replace(manifest)
    else:
        partial.unlink()
    begun.unlink()
    return rows


class _Writer:
    """Lines are kept back until their sounds are written; then comes one that says how far it got."""

    def __init__(self, corpus: Corpus, out: Path, path: Path, seed: int) -> None:
        self.corpus, self.out, self.path, self.seed = corpus, out, path, seed
        self.lines: list[Mapping[str, Any]] = []
        self.bad: list[str] = []

    def add(self, record: Record, place: int) -> None:
        corpus, rng = self.corpus, np.random.default_rng([self.seed, place])
        asked = list(corpus.asked(record, rng))
        if not asked:
            return
        key = corpus.key(record, place)
        audios: list[dict[str, Any]] = []
        audio = corpus.audio(record) if corpus.has_audio else None
        if audio is not None:
            try:
                audios = [self._sound(audio, key)]
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
            self.lines.append(row | ({"choices": list(item.choices)} if item.choices else {}))

    def save(self, records: int) -> None:
        with self.path.open("a") as file:
            file.writelines(json.dumps(line) + "\n" for line in [*self.lines, {"records": records}])
        self.lines = []

    def _sound(self, audio: Any, key: str) -> dict[str, Any]:
        """Where the clip is: a file that is there already, or one that is written beside the manifest."""
        from coat.audio import decode_audio, load_audio

        if isinstance(audio, str):
            return {"path": str(Path(audio).resolve()), "seconds": round(load_audio(audio).seconds, 4)}
        if "start" in audio:
            return self._stretch(audio, key)
        data = audio.get("bytes")
        if data is None:
            return self._sound(str(audio["path"]), key)
        clip = decode_audio(data, str(audio.get("path") or key))
        path = self._place(key, _suffix(data))
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(data)  # as it is stored: neither resampled nor encoded anew
        partial.replace(path)
        return {"path": str(path.relative_to(self.out)), "seconds": round(clip.seconds, 4)}

    def _stretch(self, audio: Mapping[str, Any], key: str) -> dict[str, Any]:
        """A turn of one channel of a long recording, as a file of its own."""
        import soundfile

        with soundfile.SoundFile(audio["path"]) as file:
            file.seek(round(audio["start"] * file.samplerate))
            count = round((audio["end"] - audio["start"]) * file.samplerate)
            samples = file.read(count, dtype="float32", always_2d=True)[:, audio.get("channel", 0)]
            rate = file.samplerate
        path = self._place(key, ".flac")
        buffer = BytesIO()
        soundfile.write(buffer, samples, rate, format="FLAC")
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(buffer.getvalue())
        partial.replace(path)
        return {"path": str(path.relative_to(self.out)), "seconds": round(len(samples) / rate, 4)}

    def _place(self, key: str, suffix: str) -> Path:
        """Folders of some thousand files: file systems are slow with more."""
        safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in key)
        folder = self.out / self.corpus.name / f"{sum(key.encode()) % 256:02x}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{safe}{suffix}"


def _suffix(data: bytes) -> str:
    kinds = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg"}
    return kinds.get(data[:4], ".mp3" if data[:3] == b"ID3" or data[:1] == b"\xff" else ".audio")
