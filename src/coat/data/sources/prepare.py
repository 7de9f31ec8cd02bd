"""A corpus to a manifest: sounds as files beside it, rows one a line, stopped and resumed at any record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from coat.data.sources.base import Corpus, Record
from coat.errors import CoatError
from coat.files import PARTIAL, write_whole

SAVE_EVERY = 64
DONE = b'{"records"'
LONGEST_NAME = 120
MAX_FLAC_RATE = 655_350


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


def hub_records(corpus: Corpus, *, skip: int = 0, revision: str | None = None) -> Iterator[Record]:
    """Records of a corpus on the hub, streamed; sounds as they are stored, labels by name.

    Args:
        corpus: One with a ``hub_id``.
        skip: Records that are done.
        revision: Revision of the data set.

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
    """What an import that is done or begun has written, if it is the one that is asked for."""
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
        self.corpus, self.out, self.path, self.seed = corpus, out, path, seed
        self.lines: list[Mapping[str, Any]] = []
        self.bad, self.bad_saved = bad, len(bad)
        self.keys, self.new_keys = set(map(_digest, keys)), list[str]()

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
            extra = {"choices": list(item.choices)} if item.choices else {}
            self.lines.append(row | extra | ({"metadata": dict(item.metadata)} if item.metadata else {}))

    def save(self, records: int) -> None:
        with self.path.open("a") as file:
            done = {"records": records, "keys": self.new_keys, "bad": self.bad[self.bad_saved :]}
            file.writelines(json.dumps(line) + "\n" for line in [*self.lines, done])
        self.lines, self.new_keys, self.bad_saved = [], [], len(self.bad)

    def _unique(self, key: str, place: int) -> str:
        """The record's own name, or that and its place where another record has it already."""
        while _digest(key) in self.keys:
            key = f"{key}-{place:08d}"
        self.keys.add(_digest(key))
        self.new_keys.append(key)
        return key

    def _sound(self, audio: Any, key: str) -> dict[str, Any]:
        """Where the clip is: a file that is there already, or one that is written beside the manifest.

        Raises:
            CoatError: It is no sound, or of a kind that is not known.
        """
        from coat.audio import decode_audio, load_audio

        if isinstance(audio, str):
            return {"path": str(Path(audio).resolve()), "seconds": round(load_audio(audio).seconds, 4)}
        if isinstance(audio, bytes | bytearray):
            audio = {"bytes": bytes(audio)}
        if not isinstance(audio, Mapping):
            raise CoatError(
                f"its sound is {type(audio).__name__}, and samples alone have no rate",
                "Give an Audio column, a file's bytes, or {'array', 'sampling_rate'}.",
            )
        if "start" in audio:
            return self._stretch(audio, key)
        if audio.get("array") is not None:
            return self._samples(audio, key)
        data = audio.get("bytes")
        if data is None:
            if not isinstance(audio.get("path"), str):
                raise CoatError(f"its sound has neither bytes nor a path, but {', '.join(map(str, audio))}")
            return self._sound(audio["path"], key)
        clip = decode_audio(data, str(audio.get("path") or key))
        path = self._place(key, _suffix(data))
        self._write(path, data)  # as it is stored: neither resampled nor encoded anew
        return {"path": str(path.relative_to(self.out)), "seconds": round(clip.seconds, 4)}

    def _samples(self, audio: Mapping[str, Any], key: str) -> dict[str, Any]:
        """Samples that were decoded already, as a file."""
        rate = audio.get("sampling_rate")
        if not isinstance(rate, int) or rate <= 0:
            raise CoatError("its samples have no 'sampling_rate'")
        try:
            samples = np.asarray(audio["array"], dtype=np.float32)
        except (TypeError, ValueError):
            raise CoatError("its 'array' holds no samples") from None
        if samples.ndim == 2 and samples.shape[0] < samples.shape[1]:
            samples = samples.T  # channels come first in some data sets, and are few
        return self._save(samples, rate, key)

    def _stretch(self, audio: Mapping[str, Any], key: str) -> dict[str, Any]:
        """A turn of one channel of a long recording, as a file of its own."""
        from coat.audio import load_audio

        clip = load_audio(audio["path"], start=audio["start"], end=audio["end"], channel=audio.get("channel", 0))
        return self._save(clip.waveform, clip.sampling_rate, key)

    def _save(self, samples: np.ndarray, rate: int, key: str) -> dict[str, Any]:
        import soundfile

        from coat.audio import decode_audio

        buffer = BytesIO()
        peak = float(np.abs(samples).max(initial=0.0))
        # FLAC holds nothing beyond full scale; such samples are kept as they are, and judged when they are read.
        kind = {"format": "FLAC"} if peak <= 1 and rate <= MAX_FLAC_RATE else {"format": "WAV", "subtype": "FLOAT"}
        soundfile.write(buffer, samples, rate, **kind)
        decode_audio(buffer.getvalue(), key)
        path = self._place(key, f".{kind['format'].lower()}")
        self._write(path, buffer.getvalue())
        return {"path": str(path.relative_to(self.out)), "seconds": round(len(samples) / rate, 4)}

    def _write(self, path: Path, data: bytes) -> None:
        partial = path.with_name(path.name + PARTIAL)
        partial.write_bytes(data)
        partial.replace(path)

    def _place(self, key: str, suffix: str) -> Path:
        """A file that no other record has, in folders of some thousand: file systems are slow with more.

        A name that had to be changed to be one of a file carries a digest of what it was.
        """
        digest = f"{_digest(key):016x}"
        safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_.") else "_" for c in key)[:LONGEST_NAME]
        # Some file systems do not tell capitals from small letters.
        name = safe if safe == key.lower() and not key.startswith(".") else f"{safe}-{digest}"
        folder = self.out / self.corpus.name / digest[:2]
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}{suffix}"


def _digest(key: str) -> int:
    return int.from_bytes(blake2b(key.encode("utf-8", "replace"), digest_size=8).digest(), "big")


def _suffix(data: bytes) -> str:
    kinds = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"FORM": ".aiff", b"\x1aE\xdf\xa3": ".webm"}
    if data[4:8] == b"ftyp":
        return ".m4a"
    return kinds.get(data[:4], ".mp3" if data[:3] == b"ID3" or data[:1] == b"\xff" else ".audio")
