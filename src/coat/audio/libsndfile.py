"""Sound files by libsndfile, which is given descriptors of its own.

Given a Python file, libsndfile calls back for every read and write. What is raised in a callback is lost there: an
interrupt would end as a damaged file, or as a crash.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np


@contextmanager
def open_sound(file: BinaryIO) -> Iterator[Any]:
    """A ``soundfile.SoundFile`` of a file on disk, or of one in memory, whose own place may be another afterwards.

    Raises:
        soundfile.LibsndfileError: It is of no kind that libsndfile knows.
    """
    import soundfile

    own = _descriptor(file)
    try:
        with soundfile.SoundFile(file if own is None else own, closefd=False) as sound:
            yield sound
    finally:
        if own is not None:
            os.close(own)


def encode_sound(samples: np.ndarray, rate: int, *, container: str, subtype: str | None = None) -> bytes:
    """Encode samples as a sound file in memory.

    Args:
        samples: ``(samples,)`` or ``(samples, channels)``.
        rate: Sampling rate in Hz.
        container: libsndfile's name of the format, such as WAV, FLAC or OGG.
        subtype: libsndfile's name of the encoding; the format's usual one if None.
    """
    import soundfile

    with tempfile.TemporaryFile() as file:
        soundfile.write(file.fileno(), samples, rate, format=container, subtype=subtype, closefd=False)
        file.seek(0)
        return file.read()


def _descriptor(file: BinaryIO) -> int | None:
    """A new descriptor of the file's content; None where a file in memory can have none."""
    file.seek(0)
    try:
        file.fileno()
    except OSError:
        if not hasattr(os, "memfd_create"):  # other systems than Linux
            return None
        own = os.memfd_create("sound")
        with os.fdopen(os.dup(own), "wb") as copy:
            copy.write(file.read())
        os.lseek(own, 0, os.SEEK_SET)
        return own
    return os.open(file.name, os.O_RDONLY | getattr(os, "O_BINARY", 0))
