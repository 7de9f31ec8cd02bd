"""Records of a corpus: streamed from the hub, or read from a folder."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from coat.data.sources.base import Corpus, Record
from coat.errors import CoatError


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
