"""Files and bytes to samples: a header's length is believed only where nothing speaks against it.

Uncompressed WAV and AIFF, and FLAC, are read by libsndfile where their headers are sound, which makes a stretch of a
long recording cheap. Everything else goes through FFmpeg's demuxers and decoders: :mod:`coat.audio.stream`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from coat.audio.errors import AudioError, empty, refuse
from coat.audio.headers import FLAC_HEADER, chunks_are_sound, is_joined
from coat.audio.libsndfile import open_sound
from coat.audio.limits import problem_of_length, too_long
from coat.audio.stream import UNKNOWN_FRAMES, blocks

Source = Path | bytes

# Times in manifests are rounded; an end this far beyond the file is its end.
END_SLACK_SECONDS = 0.1
# Encodings that hold one value for every sample, so that bytes and seconds are in proportion.
PLAIN = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")


@dataclass(frozen=True)
class Stretch:
    """A part of a file.

    Attributes:
        start: Start, in seconds.
        end: In seconds; the end of the file if None.
    """

    start: float = 0.0
    end: float | None = None


def decode(
    source: Source,
    name: str,
    stretch: Stretch | None = None,
    max_seconds: float | None = None,
    max_samples: int | None = None,
) -> tuple[np.ndarray, int]:
    """Decode a file or a stretch of it.

    Args:
        source: A file, or its bytes.
        name: Name of the clip in messages.
        stretch: Segment to decode; the whole file if None.
        max_seconds: Stop, and refuse it, as soon as more than this is decoded.
        max_samples: The same for samples, all channels counted.

    Returns:
        ``(channels, samples)`` float32, and the sampling rate in Hz.

    Raises:
        AudioError: It is not audio, is damaged or cut short, is too long, or ends before the stretch does.
    """
    stretch = stretch or Stretch()
    with _opened(source) as file, _plain(file, name) as plain:
        if plain is not None:
            return _read_plain(plain, file, name, stretch, max_seconds, max_samples)
        return _read_stream(file, name, stretch, max_seconds, max_samples)


def count_samples(source: Source, name: str) -> tuple[int, int]:
    """How many samples a channel has, and their rate: from a header that can be trusted, or by decoding.

    Raises:
        AudioError: It is not audio, is damaged or cut short.
    """
    with _opened(source) as file, _plain(file, name) as plain:
        if plain is not None:
            return plain.frames, plain.samplerate
        counted: dict[int, int] = {}
        for samples, rate in blocks(file, name):
            counted[rate] = counted.get(rate, 0) + samples.shape[1]
    if not counted:
        raise empty(name)
    rate = next(iter(counted))
    return round(sum(count * rate / own for own, count in counted.items())), rate


@contextmanager
def _opened(source: Source) -> Iterator[BinaryIO]:
    if isinstance(source, bytes):
        yield io.BytesIO(source)
        return
    try:
        file = source.open("rb")
    except OSError as error:
        raise AudioError(f"{source} cannot be opened ({error.strerror or error}).", "Check the file.") from None
    with file:
        yield file


@contextmanager
def _plain(file: BinaryIO, name: str) -> Iterator[Any | None]:
    """The file opened by libsndfile, if its header can be trusted; None if it must be decoded to know its length."""
    head = file.read(12)
    file.seek(0)
    chunked = head[:4] in (b"RIFF", b"RF64", b"RIFX", b"FORM")
    sound_header = chunks_are_sound(file, name) if chunked else head[:4] == b"fLaC"
    file.seek(0)
    if not sound_header:
        yield None
        return
    import soundfile

    with ExitStack() as opened:
        try:
            sound = opened.enter_context(open_sound(file))
        except (soundfile.LibsndfileError, RuntimeError):
            sound = None
        file.seek(0)
        plain = sound and 0 < sound.frames < UNKNOWN_FRAMES
        yield sound if plain and (sound.format == "FLAC" or sound.subtype.startswith(PLAIN)) else None


def _check_samples(count: int, max_samples: int | None, name: str) -> None:
    if max_samples is not None and count > max_samples:
        raise AudioError(
            f"{name} holds more than {max_samples:,} samples over all its channels, the most that are decoded here.",
            "Send one channel at 16 or 48 kHz, for example: ffmpeg -i in.wav -ac 1 -ar 16000 out.wav",
            "too long",
        )


def _read_plain(
    sound: Any, file: BinaryIO, name: str, stretch: Stretch, max_seconds: float | None, max_samples: int | None
) -> tuple[np.ndarray, int]:
    import soundfile

    rate, frames = sound.samplerate, sound.frames
    first, last = bounds(stretch, frames, rate, name)
    refuse(problem_of_length((last - first) / rate, max_seconds), name)  # before hours of it are decoded
    _check_samples((last - first) * sound.channels, max_samples, name)
    try:
        sound.seek(first)
        samples = sound.read(last - first, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError):
        samples = np.empty((0, sound.channels), np.float32)
    if sound.format == "FLAC" and last == frames and is_joined(file, FLAC_HEADER):
        file.seek(0)
        return _read_stream(file, name, stretch, max_seconds, max_samples)
    if len(samples) < last - first:
        file.seek(0)
        good, _ = _read_stream(file, name, stretch, max_seconds, max_samples)  # which may say where it breaks off
        raise AudioError(
            f"{name} is damaged: {good.shape[1] / rate:.2f} of {(last - first) / rate:.2f} s could be decoded.",
            "Get it anew from its source.",
            "damaged",
        )
    return samples.T, rate


def _read_stream(
    file: BinaryIO, name: str, stretch: Stretch, max_seconds: float | None, max_samples: int | None
) -> tuple[np.ndarray, int]:
    parts: list[tuple[np.ndarray, int]] = []
    decoded = 0
    done, passed = 0.0, 0  # seconds that are decoded; samples of them that end before the stretch, and are not kept
    for samples, rate in blocks(file, name):
        done += samples.shape[1] / rate
        decoded += samples.size
        _check_samples(decoded, max_samples, name)
        if done < stretch.start and (not parts or rate == parts[0][1]):
            passed += sum(part.shape[1] for part, _ in parts)
            parts = [(samples, rate)]
            continue
        parts.append((samples, rate))
        if stretch.end is not None and done >= stretch.end:
            break
        if max_seconds is not None and too_long(done - stretch.start, max_seconds):
            raise AudioError(
                f"{name} lasts more than {max_seconds:g} s, the most that this model hears. Nothing is cut silently.",
                f"Cut it first, for example: ffmpeg -i in.wav -t {max_seconds:g} out.wav",
                "too long",
            )
    if not parts:
        raise empty(name)
    samples, rate = _one_rate(parts)
    first, last = bounds(stretch, passed + samples.shape[1], rate, name)
    return samples[:, first - passed : last - passed], rate


def bounds(stretch: Stretch, frames: int, rate: int, name: str) -> tuple[int, int]:
    """First and last sample of a stretch.

    Raises:
        AudioError: The file ends before it.
    """
    last = frames if stretch.end is None else round(stretch.end * rate)
    first = round(stretch.start * rate)
    if last > frames + END_SLACK_SECONDS * rate or first > frames:
        raise AudioError(
            f"{name} lasts {frames / rate:.2f} s; a stretch "
            + (f"up to {stretch.end:g} s" if stretch.end is not None else f"from {stretch.start:g} s")
            + " is asked for.",
            "Correct the row's 'start' and 'end', or 'offset' and 'duration'.",
            "stretch",
        )
    return first, min(last, frames)


def _one_rate(parts: list[tuple[np.ndarray, int]]) -> tuple[np.ndarray, int]:
    """Blocks joined. Where files of other rates or channels were joined, all are as the first is."""
    channels, rate = parts[0][0].shape[0], parts[0][1]
    if all(own == rate and samples.shape[0] == channels for samples, own in parts):
        return np.concatenate([samples for samples, _ in parts], axis=1), rate
    import soxr

    runs: list[tuple[list[np.ndarray], int]] = []
    for samples, own in parts:
        if runs and runs[-1][1] == own and runs[-1][0][-1].shape[0] == samples.shape[0]:
            runs[-1][0].append(samples)
        else:
            runs.append(([samples], own))
    made = []
    for pieces, own in runs:
        run = np.concatenate(pieces, axis=1)
        run = run if run.shape[0] == channels else np.repeat(run.mean(axis=0, keepdims=True), channels, axis=0)
        made.append(run if own == rate else soxr.resample(run.T, own, rate).T.astype(np.float32))
    return np.concatenate(made, axis=1), rate
