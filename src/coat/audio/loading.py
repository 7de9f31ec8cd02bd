"""Files and bytes to clips."""

from __future__ import annotations

from pathlib import Path

from coat.audio.clip import Clip, check_clip
from coat.audio.decoding import Stretch, bounds, count_samples, decode
from coat.audio.downmix import to_mono
from coat.audio.errors import AudioError, exists, refuse
from coat.audio.limits import problem_of_length


def load_audio(
    path: str | Path,
    *,
    start: float = 0.0,
    end: float | None = None,
    channel: int | None = None,
    max_seconds: float | None = None,
) -> Clip:
    """Decode a file to a mono clip at its native rate.

    Args:
        path: WAV, FLAC, AIFF, MP3, Ogg, Opus, WebM, M4A, MP4 (with pictures or without), 3GP, AMR and whatever else
            FFmpeg's libraries decode. It is decoded to its end, whatever its header says.
        start: Start of the segment, in seconds.
        end: The last second to read; the end of the file if None.
        channel: Take this channel alone, counted from 0; otherwise channels are mixed, see
            :mod:`coat.audio.downmix`.
        max_seconds: Refuse a clip that is longer, as soon as so much of it is decoded.

    Raises:
        AudioError: The file is missing, is not audio, is damaged, or cannot be heard; see
            :mod:`coat.audio.limits`.

    Example:
        >>> clip = load_audio("note.wav", max_seconds=30)  # doctest: +SKIP
        >>> clip.waveform.shape, clip.sampling_rate  # doctest: +SKIP
        ((48000,), 16000)
    """
    return _clip(_existing(path), str(path), Stretch(start, end), channel, max_seconds)


def decode_audio(
    data: bytes,
    name: str = "audio",
    *,
    start: float = 0.0,
    end: float | None = None,
    channel: int | None = None,
    max_seconds: float | None = None,
    max_samples: int | None = None,
) -> Clip:
    """Decode a file held in memory; see :func:`load_audio`.

    Args:
        data: The file.
        name: Name of the clip in messages.
        start: See :func:`load_audio`, as for the next three.
        end: The end of a stretch.
        channel: One channel alone.
        max_seconds: The longest clip.
        max_samples: Refuse a file with more samples, over all channels, as soon as so many are decoded: for files of
            strangers, for high rates and many channels compress to nothing.
    """
    return _clip(data, name, Stretch(start, end), channel, max_seconds, max_samples)


def measure_audio(source: str | Path | bytes, name: str = "", *, start: float = 0.0, end: float | None = None) -> float:
    """Seconds of a file or a stretch of it: by its header where that can be trusted, otherwise by decoding all of it.

    Raises:
        AudioError: It is missing, is not audio, is damaged, ends before the stretch does, or is too short for an audio
            token.
    """
    given = source if isinstance(source, bytes) else _existing(source)
    name = name or str(source)
    samples, rate = count_samples(given, name)
    first, last = bounds(Stretch(start, end), samples, rate, name)
    refuse(problem_of_length((last - first) / rate), name)
    return (last - first) / rate


def _existing(path: str | Path) -> Path:
    path = Path(path)
    if not exists(path):
        raise AudioError(
            f"There is no audio file at {path}.", "Check the path; relative paths start at the manifest.", "missing"
        )
    return path


def _clip(
    source: Path | bytes, name: str, stretch: Stretch, channel: int | None, max_seconds: float | None,
    max_samples: int | None = None,
) -> Clip:  # fmt: skip
    samples, rate = decode(source, name, stretch, max_seconds, max_samples)
    refuse(problem_of_length(samples.shape[1] / rate, max_seconds), name)
    return check_clip(Clip(to_mono(samples, name, channel), rate, name), max_seconds=max_seconds)
