"""Audio in: decode, mix to mono, resample, refuse what cannot be heard."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from io import BytesIO
from pathlib import Path

import numpy as np

from coat.errors import CoatError

MIN_SECONDS = 0.1
# Times in manifests are rounded; an end this far beyond the file is its end.
END_SLACK_SECONDS = 0.1


@dataclass(frozen=True)
class Clip:
    """A mono recording at its native rate.

    Attributes:
        waveform: ``(samples,)`` float32 in [-1, 1].
        sampling_rate: Samples a second.
        name: Where it came from, for messages.
    """

    waveform: np.ndarray
    sampling_rate: int
    name: str = "clip"

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return len(self.waveform) / self.sampling_rate

    @cached_property
    def content_key(self) -> str:
        """A hash of the samples and their rate: the same sound has the same key whatever its file is called."""
        digest = blake2b(np.ascontiguousarray(self.waveform, dtype=np.float32).tobytes(), digest_size=16)
        digest.update(str(self.sampling_rate).encode())
        return digest.hexdigest()

    def at(self, sampling_rate: int) -> np.ndarray:
        """The waveform at another rate, ``(samples,)`` float32, by soxr's high-quality resampler."""
        if sampling_rate == self.sampling_rate:
            return self.waveform
        import soxr

        return soxr.resample(self.waveform, self.sampling_rate, sampling_rate).astype(np.float32)


@dataclass(frozen=True)
class Hearing:
    """How a family turns seconds into audio tokens.

    Attributes:
        sampling_rate: Of the waveforms it takes, in Hz.
        token_rate: r_s, audio tokens a second.
        first_token_seconds: The time at the middle of the first audio token.
        max_seconds: The longest clip it hears.
    """

    sampling_rate: int
    token_rate: float
    first_token_seconds: float
    max_seconds: float


def load_audio(
    path: str | Path, *, start: float = 0.0, end: float | None = None, max_seconds: float | None = None
) -> Clip:
    """Decode a file to a mono clip at its native rate.

    Args:
        path: A file that libsndfile reads (wav, flac, ogg, mp3, ...).
        start: Where to begin, in seconds.
        end: Where to stop, in seconds; the end of the file if None.
        max_seconds: Refuse a clip that is longer.

    Raises:
        CoatError: The file is missing, is not audio, holds nothing, holds NaN, or is too short or too long.
    """
    path = Path(path)
    if not path.is_file():
        raise CoatError(f"There is no audio file at {path}.", "Check the path; relative paths start at the manifest.")
    return _decode(path, str(path), start, end, max_seconds)


def decode_audio(data: bytes, name: str = "audio", *, max_seconds: float | None = None) -> Clip:
    """Decode a file held in memory; see :func:`load_audio`."""
    return _decode(BytesIO(data), name, 0.0, None, max_seconds)


def _decode(source: Path | BytesIO, name: str, start: float, end: float | None, max_seconds: float | None) -> Clip:
    import soundfile

    try:
        with soundfile.SoundFile(source) as file:
            rate = file.samplerate
            if end is not None and round(end * rate) > file.frames + END_SLACK_SECONDS * rate:
                raise CoatError(
                    f"{name} lasts {file.frames / rate:.2f} s; a stretch up to {end:g} s is asked for.",
                    "Correct the row's 'end'.",
                )
            first = min(round(start * rate), file.frames)
            last = file.frames if end is None else min(round(end * rate), file.frames)
            check_not_longer((last - first) / rate, name, max_seconds)  # before hours of it are decoded
            file.seek(first)
            samples = file.read(max(last - first, 0), dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise CoatError(
            f"{name} cannot be read as audio ({error}).",
            f"Convert it first, for example: ffmpeg -i '{Path(name).name}' -ar 16000 -ac 1 clip.wav",
        ) from None
    return check_clip(Clip(samples.mean(axis=1), rate, name), max_seconds=max_seconds)


def check_clip(clip: Clip, *, max_seconds: float | None = None) -> Clip:
    """Return the clip if a model can hear it.

    Raises:
        CoatError: It is shorter than ``MIN_SECONDS``, longer than ``max_seconds``, or holds NaN or infinity.
    """
    check_length(clip.seconds, clip.name)
    check_not_longer(clip.seconds, clip.name, max_seconds)
    if not np.isfinite(clip.waveform).all():
        raise CoatError(f"{clip.name} holds NaN or infinite samples.", "Decode it anew from its source.")
    return clip


def check_not_longer(seconds: float, name: str, max_seconds: float | None) -> None:
    """Raise a CoatError if a clip is longer than a model hears."""
    if max_seconds is not None and seconds > max_seconds + 1e-6:
        raise CoatError(
            f"{name} lasts {seconds:.1f} s; this model hears at most {max_seconds:g} s. Nothing is cut silently.",
            f"Cut it first, for example: ffmpeg -i in.wav -t {max_seconds:g} out.wav",
        )


def check_length(seconds: float, name: str) -> None:
    """Raise a CoatError if a clip is too short to make one audio token."""
    if seconds < MIN_SECONDS:
        raise CoatError(
            f"{name} lasts {seconds * 1000:.0f} ms; at least {MIN_SECONDS * 1000:.0f} ms are needed "
            "for one audio token.",
            "Leave this clip out, or join it with its neighbour.",
        )
