"""Errors about audio that cannot be read."""

from __future__ import annotations

from pathlib import Path

from coat.audio.limits import Problem
from coat.errors import CoatError

# A file that ends this much before its header says was cut short; some programs miscount by a header or a block.
MISSING_SECONDS = 0.25


class AudioError(CoatError):
    """A clip that cannot be heard.

    Attributes:
        kind: ``missing``, ``unreadable``, ``damaged``, ``stretch``, ``channels``, ``duration``, or the kind of a
            :class:`coat.audio.limits.Problem`.
    """

    def __init__(self, problem: str, remedy: str = "", kind: str = "unreadable") -> None:
        super().__init__(problem, remedy)
        self.kind = kind

    def __reduce__(self) -> tuple[type[AudioError], tuple[str, str, str]]:  # type: ignore[override]
        """From a worker's process, whole."""
        return type(self), (self.problem, self.remedy, self.kind)

    def named(self, name: str) -> AudioError:
        """The same, with the row that holds the clip before it."""
        return AudioError(f"{name}: {self.problem}", self.remedy, self.kind)


def refuse(problem: Problem | None, name: str) -> None:
    """Raise what is wrong with a clip, if anything is."""
    if problem:
        raise AudioError(f"{name} {problem.text}", problem.remedy, problem.kind)


def exists(path: str | Path) -> bool:
    """Whether there is a file at a path; a path that no file system takes has none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False


def unreadable(name: str, what: str) -> AudioError:
    """It is no sound that is known here."""
    given = Path(name).name if exists(name) else "IN"
    return AudioError(
        f"{name} cannot be read as audio ({what}).",
        f"Convert it first, for example: ffmpeg -i '{given}' -ar 16000 -ac 1 clip.wav",
    )


def empty(name: str) -> AudioError:
    """It holds no sample."""
    return AudioError(
        f"{name} lasts 0 ms; at least 100 ms are needed for one audio token.", "Leave this clip out.", "too short"
    )


def joined(name: str) -> AudioError:
    """It is several files one after another, of a kind that is read to the end of the first."""
    return AudioError(
        f"{name} holds several recordings one after another, of which players hear the first alone.",
        "Join sounds, not files, for example: sox a.wav b.wav joined.wav",
        "damaged",
    )


def check_not_cut(promised: float, decoded: float, name: str) -> None:
    """Raise an AudioError if a file ends before its header says, in seconds."""
    if promised - decoded > MISSING_SECONDS:
        raise AudioError(
            f"{name} was cut short: its header says {promised:.2f} s, and {decoded:.2f} s could be decoded.",
            "Get it anew from its source; or keep what is good: ffmpeg -i in -c:a flac out.flac",
            "damaged",
        )
