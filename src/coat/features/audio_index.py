"""Which file holds which sound: content keys and durations, kept so that nothing is decoded twice to know them."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from coat.audio import too_long
from coat.data.manifest import AudioRef, listed
from coat.errors import CoatError

log = logging.getLogger("coat")

# Decoded as :mod:`coat.audio` decodes now; what an earlier decoder made of a file has another table's name.
TABLE = "decoded_2"
COMMIT_EVERY = 512
DECODERS = 4


@dataclass(frozen=True)
class Sound:
    """One clip, as it was decoded.

    Attributes:
        ref: A file that holds it.
        key: Key of its content.
        samples: At its native rate.
        sampling_rate: In Hz.
    """

    ref: AudioRef
    key: str
    samples: int
    sampling_rate: int

    @property
    def seconds(self) -> float:
        """Duration."""
        return self.samples / self.sampling_rate


class SoundIndex:
    """A small database of sounds by file; a file that has changed since is not in it.

    Args:
        path: Path of the database; made if it is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as database, database:
            database.execute(
                f"CREATE TABLE IF NOT EXISTS {TABLE} (file TEXT, start REAL, stop REAL, channel INTEGER, size INTEGER, "
                "modified INTEGER, key TEXT, samples INTEGER, rate INTEGER, "
                "PRIMARY KEY (file, start, stop, channel))"
            )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60)

    def listen(
        self,
        refs: Iterable[AudioRef],
        *,
        max_seconds: float | None = None,
        on_bad_row: Literal["raise", "skip"] = "raise",
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Sound]:
        """The sound of each file, decoding those that are new.

        Args:
            refs: Files or stretches of files; one that is named twice is heard once.
            max_seconds: Refuse longer clips.
            on_bad_row: ``skip`` leaves files out that cannot be heard, with a warning.
            progress: Called with (clips just done, clips in all).

        Raises:
            CoatError: Files are missing, or cannot be heard; up to ten are named.
        """
        unique = list(dict.fromkeys(refs))
        problems: list[str] = []
        remedy = ""
        with closing(self._connect()) as database, ThreadPoolExecutor(DECODERS) as pool:
            known = [self._known(database, ref) for ref in unique]
            heard = {sound.ref: sound for sound in known if sound and not too_long(sound.seconds, max_seconds)}
            if progress:
                progress(len(heard), len(unique))
            new = [ref for ref in unique if ref not in heard]
            for start in range(0, len(new), COMMIT_EVERY):
                part = new[start : start + COMMIT_EVERY]
                for ref, found in zip(part, pool.map(lambda ref: _hear(ref, max_seconds), part), strict=True):
                    if isinstance(found, CoatError):
                        problems.append(found.problem)
                        remedy = remedy or found.remedy
                    else:
                        heard[ref] = found
                with database:
                    database.executemany(
                        f"INSERT OR REPLACE INTO {TABLE} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        [_line(heard[ref]) for ref in part if ref in heard],
                    )
                if progress:
                    progress(len(part), len(unique))
        if problems and on_bad_row == "raise":
            raise CoatError(f"Audio is unusable in {listed(problems, 'file')}", remedy)
        if problems:
            log.warning("Left out, for their audio is unusable: %s", listed(problems, "file"))
        return [heard[ref] for ref in unique if ref in heard]

    def _known(self, database: sqlite3.Connection, ref: AudioRef) -> Sound | None:
        try:
            identity = ref.identity()
        except OSError:
            return None  # listening to it will say what is wrong
        row = database.execute(
            f"SELECT key, samples, rate FROM {TABLE} WHERE file = ? AND start = ? AND stop = ? AND channel = ? "
            "AND size = ? AND modified = ?",
            identity,
        ).fetchone()
        return Sound(ref, *row) if row else None


def _hear(ref: AudioRef, max_seconds: float | None) -> Sound | CoatError:
    try:
        clip = ref.load(max_seconds)
    except CoatError as error:
        return error
    return Sound(ref, clip.content_key, len(clip.waveform), clip.sampling_rate)


def _line(sound: Sound) -> Sequence[object]:
    return (*sound.ref.identity(), sound.key, sound.samples, sound.sampling_rate)
