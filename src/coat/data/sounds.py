"""Which file holds which sound: content keys and durations, kept so that nothing is decoded twice to know them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from coat.data.manifest import AudioRef, listed
from coat.errors import CoatError

COMMIT_EVERY = 512
DECODERS = 4


@dataclass(frozen=True)
class Sound:
    """One clip, as it was decoded.

    Attributes:
        ref: A file that holds it.
        key: Of its content.
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
        path: Of the database; made if it is not there.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with closing(self._connect()) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS sounds (file TEXT, start REAL, stop REAL, size INTEGER, modified INTEGER, "
                "key TEXT, samples INTEGER, rate INTEGER, PRIMARY KEY (file, start, stop))"
            )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=60)

    def listen(
        self,
        refs: Iterable[AudioRef],
        *,
        max_seconds: float | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Sound]:
        """The sound of each file, decoding those that are new.

        Args:
            refs: Files or stretches of files; one that is named twice is heard once.
            max_seconds: Refuse longer clips.
            progress: Called with (clips just done, clips in all).

        Raises:
            CoatError: Files are missing, or cannot be heard; up to ten are named.
        """
        unique = list(dict.fromkeys(refs))
        problems: list[str] = []
        remedy = ""
        with closing(self._connect()) as database, ThreadPoolExecutor(DECODERS) as pool:
            limit = float("inf") if max_seconds is None else max_seconds + 1e-6
            known = [self._known(database, ref) for ref in unique]
            heard = {sound.ref: sound for sound in known if sound and sound.seconds <= limit}
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
                        "INSERT OR REPLACE INTO sounds VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                        [_line(heard[ref]) for ref in part if ref in heard],
                    )
                if progress:
                    progress(len(part), len(unique))
        if problems:
            raise CoatError(f"Audio is unusable in {listed(problems, 'file')}", remedy)
        return [heard[ref] for ref in unique]

    def _known(self, database: sqlite3.Connection, ref: AudioRef) -> Sound | None:
        try:
            identity = ref.identity()
        except OSError:
            return None  # listening to it will say what is wrong
        row = database.execute(
            "SELECT key, samples, rate FROM sounds WHERE file = ? AND start = ? AND stop = ? AND size = ? "
            "AND modified = ?",
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
