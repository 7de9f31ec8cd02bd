"""Bytes to samples, decoded to the end: a header's length is believed only where nothing speaks against it.

Uncompressed WAV and AIFF, and FLAC, are read by libsndfile where their headers are sound, which makes a stretch of a
long recording cheap. Everything else goes through FFmpeg's demuxers and decoders (PyAV), and is counted as it comes.
"""

from __future__ import annotations

import io
import mmap
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from coat.audio.clip import AudioError, refuse
from coat.audio.limits import problem_of_length, too_long

Source = Path | bytes

# Times in manifests are rounded; an end this far beyond the file is its end.
END_SLACK_SECONDS = 0.1
# What programs write in place of a length that they do not know yet.
UNKNOWN_BYTES = 0x7FFF0000
UNKNOWN_FRAMES = 2**40
# A file that ends this much before its header says was cut short; some programs miscount by a header or a block.
MISSING_SECONDS = 0.25
# Encodings that hold one value for every sample, so that bytes and seconds are in proportion.
PLAIN = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
# FFmpeg's demuxers of single files. Playlists and the like would open what they name, and are not among them.
DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,caf,dsf,eac3,flac,flv,gsm,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,"
    "mpeg,mpegts,nistsphere,ogg,rm,sox,tta,voc,w64,wav,wv,avi,iff,smjpeg,mmf,oma,qcp,tak,truehd,dts,spdif,daud,vqf,xwma"
)
OGG_PAGE = 65_307  # bytes at most
# The beginning of a file of each kind: a second one means that files were joined, and demuxers stop before it.
HEADERS = {
    "wav": re.compile(rb"RIFF....WAVE", re.DOTALL),
    "mov": re.compile(rb"\x00\x00\x00.ftyp[A-Za-z0-9 ]{4}", re.DOTALL),
    "matroska": re.compile(rb"\x1a\x45\xdf\xa3.{4,64}\x42\x82.{1,8}(?:webm|matroska)", re.DOTALL),
    "amr": re.compile(rb"#!AMR(?:-WB)?\n"),
}
# An encoder's header in the first frame of an MP3, with its count of frames; and what encoders put before the sound.
XING = re.compile(
    rb"\xff[\xe0-\xff].{10,40}(?:Xing|Info)\x00\x00\x00[\x01\x03\x05\x07\x09\x0b\x0d\x0f](.{4})", re.DOTALL
)
MP3_DELAY = 0.15
FLAC_HEADER = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")


@dataclass(frozen=True)
class Stretch:
    """A part of a file.

    Attributes:
        start: In seconds.
        end: In seconds; the end of the file if None.
    """

    start: float = 0.0
    end: float | None = None


def decode(
    source: Source, name: str, stretch: Stretch | None = None, max_seconds: float | None = None
) -> tuple[np.ndarray, int]:
    """Decode a file or a stretch of it.

    Args:
        source: A file, or its bytes.
        name: What to call it in messages.
        stretch: Which part; all of it if None.
        max_seconds: Stop, and refuse it, as soon as more than this is decoded.

    Returns:
        ``(channels, samples)`` float32, and the sampling rate in Hz.

    Raises:
        AudioError: It is not audio, is damaged or cut short, is too long, or ends before the stretch does.
    """
    stretch = stretch or Stretch()
    with _opened(source) as file:
        plain = _plain(file, name)
        if plain is not None:
            with plain:
                return _read_plain(plain, file, name, stretch, max_seconds)
        return _read_stream(file, name, stretch, max_seconds)


def count_samples(source: Source, name: str) -> tuple[int, int]:
    """How many samples a channel has, and their rate: from a header that can be trusted, or by decoding.

    Raises:
        AudioError: It is not audio, is damaged or cut short.
    """
    with _opened(source) as file:
        plain = _plain(file, name)
        if plain is not None:
            with plain:
                return plain.frames, plain.samplerate
        counted: dict[int, int] = {}
        for samples, rate in _blocks(file, name):
            counted[rate] = counted.get(rate, 0) + samples.shape[1]
    if not counted:
        raise _empty(name)
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


def _plain(file: BinaryIO, name: str) -> Any | None:
    """The file opened by libsndfile, if its header can be trusted; None if it must be decoded to know its length."""
    head = file.read(12)
    file.seek(0)
    chunked = head[:4] in (b"RIFF", b"RF64", b"RIFX", b"FORM")
    sound_header = _chunks_are_sound(file, name) if chunked else head[:4] == b"fLaC"
    file.seek(0)
    if not sound_header:
        return None
    import soundfile

    try:
        sound = soundfile.SoundFile(file)
    except (soundfile.LibsndfileError, RuntimeError):
        file.seek(0)
        return None
    if 0 < sound.frames < UNKNOWN_FRAMES and (sound.format == "FLAC" or sound.subtype.startswith(PLAIN)):
        return sound
    sound.close()
    file.seek(0)
    return None


def _chunks_are_sound(file: BinaryIO, name: str) -> bool:
    """Whether the chunk of samples of a WAV or AIFF file says how long it is, and is as long.

    Raises:
        AudioError: It was cut short, or something that is not a chunk follows it.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    kind = file.read(12)
    order, wanted = (">", b"SSND") if kind[:4] in (b"FORM", b"RIFX") else ("<", b"data")
    wanted = b"data" if kind[:4] == b"RIFX" else wanted
    rate = 0  # bytes a second
    while len(head := file.read(8)) == 8:
        length, place = struct.unpack(order + "I", head[4:])[0], file.tell()
        if head[:4] == b"fmt ":
            rate = struct.unpack(order + "HHIIHH", file.read(16).ljust(16, b"\0"))[3]
        if head[:4] != wanted:
            file.seek(place + length + length % 2)
            continue
        if kind[:4] == b"RF64" or length == 0 or length >= UNKNOWN_BYTES:
            return kind[:4] == b"RF64"
        if place + length > size:
            _check_not_cut(length / rate, (size - place) / rate, name) if rate else None
            return False
        file.seek(place + length + length % 2)
        _check_rest(file, name, size, rate)
        return True
    return False


def _check_rest(file: BinaryIO, name: str, size: int, rate: int) -> None:
    """What follows the samples: chunks of other kinds, or a few bytes of no meaning."""
    place = file.tell()
    head = file.read(8)
    if head[:4] in (b"RIFF", b"FORM", b"RF64"):
        raise _joined(name)
    known = len(head) == 8 and all(32 <= byte < 127 for byte in head[:4])
    if not known and rate and (size - place) / rate > MISSING_SECONDS:
        raise AudioError(
            f"{name} holds {(size - place) / rate:.1f} s more than its header says: its recorder was stopped, or files "
            "were joined.",
            "Write its header anew, for example: ffmpeg -ignore_length 1 -i in.wav out.wav",
            "damaged",
        )


def _read_plain(
    sound: Any, file: BinaryIO, name: str, stretch: Stretch, max_seconds: float | None
) -> tuple[np.ndarray, int]:
    import soundfile

    rate, frames = sound.samplerate, sound.frames
    first, last = _bounds(stretch, frames, rate, name)
    refuse(problem_of_length((last - first) / rate, max_seconds), name)  # before hours of it are decoded
    try:
        sound.seek(first)
        samples = sound.read(last - first, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError):
        samples = np.empty((0, sound.channels), np.float32)
    if sound.format == "FLAC" and last == frames and _is_joined(file, FLAC_HEADER):
        file.seek(0)
        return _read_stream(file, name, stretch, max_seconds)
    if len(samples) < last - first:
        file.seek(0)
        good, _ = _read_stream(file, name, stretch, max_seconds)  # which may say where it breaks off
        raise AudioError(
            f"{name} is damaged: {good.shape[1] / rate:.2f} of {(last - first) / rate:.2f} s could be decoded.",
            "Get it anew from its source.",
            "damaged",
        )
    return samples.T, rate


def _read_stream(file: BinaryIO, name: str, stretch: Stretch, max_seconds: float | None) -> tuple[np.ndarray, int]:
    parts: list[tuple[np.ndarray, int]] = []
    done = 0.0  # seconds
    for samples, rate in _blocks(file, name):
        parts.append((samples, rate))
        done += samples.shape[1] / rate
        if stretch.end is not None and done >= stretch.end:
            break
        if max_seconds is not None and too_long(done - stretch.start, max_seconds):
            raise AudioError(
                f"{name} lasts more than {max_seconds:g} s, the most that this model hears. Nothing is cut silently.",
                f"Cut it first, for example: ffmpeg -i in.wav -t {max_seconds:g} out.wav",
                "too long",
            )
    if not parts:
        raise _empty(name)
    samples, rate = _one_rate(parts)
    first, last = _bounds(stretch, samples.shape[1], rate, name)
    return samples[:, first:last], rate


def _bounds(stretch: Stretch, frames: int, rate: int, name: str) -> tuple[int, int]:
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
    for blocks, own in runs:
        run = np.concatenate(blocks, axis=1)
        run = run if run.shape[0] == channels else np.repeat(run.mean(axis=0, keepdims=True), channels, axis=0)
        made.append(run if own == rate else soxr.resample(run.T, own, rate).T.astype(np.float32))
    return np.concatenate(made, axis=1), rate


def _blocks(file: BinaryIO, name: str) -> Iterator[tuple[np.ndarray, int]]:
    """Decoded blocks ``(channels, samples)`` with their rate, to the end.

    Raises:
        AudioError: It is no audio, or breaks off; the message says how much was good.
    """
    import av

    try:
        # Only this file is read: whatever else a file names is not opened.
        container: Any = av.open(
            file,
            mode="r",
            options={"format_whitelist": DEMUXERS, "protocol_whitelist": "none"},
            metadata_errors="replace",
        )
    except (av.error.FFmpegError, ValueError, OSError) as error:
        yield from _last_resort(file, name, error)
        return
    with container:
        stream = container.streams.best("audio")
        if stream is None:
            raise AudioError(f"{name} holds no sound: it has pictures or text alone.", "Name another file.")
        kind = container.format.name.split(",")[0]
        if kind in HEADERS and _is_joined(file, HEADERS[kind]):
            raise _joined(name)
        done = packet_seconds = 0.0
        try:
            for packet in container.demux(stream):
                if packet.duration:
                    packet_seconds = float(packet.duration * packet.time_base)
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    codec, packet_head = stream.codec.name, bytes(packet)[:2]
                    if _is_tag(packet_head, codec):
                        continue
                    if not _is_pause(packet_head, codec):
                        raise
                    done += packet_seconds
                    yield np.zeros((1, round(packet_seconds * stream.rate)), np.float32), stream.rate
                    continue
                for frame in frames:
                    done += frame.samples / frame.sample_rate
                    yield _samples(frame), frame.sample_rate
        except av.error.FFmpegError as error:
            raise AudioError(
                f"{name} is damaged: {done:.2f} s could be decoded, then it breaks off ({error.strerror}).",
                "Get it anew from its source, or cut it before that.",
                "damaged",
            ) from None
        promised = _promised(file, container, stream, kind, packet_seconds)
        if promised:
            _check_not_cut(promised, done, name)
        if kind == "ogg" and _page_is_cut(file):
            raise AudioError(
                f"{name} was cut short: its last page is not whole; {done:.2f} s could be decoded.",
                "Get it anew from its source; or keep what is good: ffmpeg -i in -c:a flac out.flac",
                "damaged",
            )


def _samples(frame: Any) -> np.ndarray:
    """A frame's samples, ``(channels, samples)`` float32 in [-1, 1]."""
    values = frame.to_ndarray()
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    return (values / np.float64(2 ** (8 * values.itemsize - 1))).astype(np.float32)


def _is_tag(head: bytes, codec: str) -> bool:
    """Whether what could not be decoded is a tag between frames, as joined MP3 and AAC files hold them."""
    return codec.startswith(("mp3", "mp2", "aac")) and not (len(head) == 2 and head[0] == 0xFF and head[1] >= 0xE0)


def _is_pause(head: bytes, codec: str) -> bool:
    """Whether it is comfort noise or a gap, which telephones send in pauses and FFmpeg does not decode: silence."""
    silent_from = {"amrnb": 8, "amr_nb": 8, "amrwb": 9, "amr_wb": 9}.get(codec)
    return silent_from is not None and bool(head) and (head[0] >> 3) & 15 >= silent_from


def _promised(file: BinaryIO, container: Any, stream: Any, kind: str, packet_seconds: float) -> float | None:
    """Seconds that a header says, of formats that count them exactly."""
    if kind == "mp3":  # whose demuxer guesses where files were joined
        file.seek(0)
        found = XING.search(file.read(256 * 1024))
        return struct.unpack(">I", found[1])[0] * packet_seconds - MP3_DELAY if found else None
    if kind == "matroska":  # whose duration is that of its longest stream
        return container.duration / 1e6 if container.duration and len(container.streams) == 1 else None
    if stream.duration is None or kind not in ("mov", "flac", "aiff", "au", "w64", "caf"):
        return None
    return float(stream.duration * stream.time_base)


def _page_is_cut(file: BinaryIO) -> bool:
    """Whether the last page of an Ogg file ends before its own table of segments says."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 2 * OGG_PAGE))
    tail = file.read()
    place = tail.rfind(b"OggS")
    if place < 0 or len(tail) < place + 27:
        return True
    table = tail[place + 27 : place + 27 + tail[place + 26]]
    return len(tail) < place + 27 + tail[place + 26] + sum(table)


def _last_resort(file: BinaryIO, name: str, error: Exception) -> Iterator[tuple[np.ndarray, int]]:
    """Formats that libsndfile knows and FFmpeg does not."""
    import soundfile

    file.seek(0)
    try:
        with soundfile.SoundFile(file) as sound:
            if not 0 < sound.frames < UNKNOWN_FRAMES:
                raise ValueError
            yield sound.read(dtype="float32", always_2d=True).T, sound.samplerate
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError):
        file.seek(0)
        if file.read(4) == b"OggS" and _page_is_cut(file):
            raise AudioError(
                f"{name} was cut short within its first page: 0.00 s could be decoded.",
                "Get it anew from its source.",
                "damaged",
            ) from None
        what = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{name} cannot be read as audio ({what}).", _remedy(name)) from None


def _is_joined(file: BinaryIO, header: re.Pattern[bytes]) -> bool:
    """Whether a file holds more than one header of its kind."""
    if isinstance(file, io.BytesIO):
        found = header.finditer(file.getbuffer())
        return sum(1 for _ in zip(found, range(2), strict=False)) > 1
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = header.finditer(data)
        several = sum(1 for _ in zip(found, range(2), strict=False)) > 1
        del found  # which holds on to the map
        return several


def _check_not_cut(promised: float, decoded: float, name: str) -> None:
    if promised - decoded > MISSING_SECONDS:
        raise AudioError(
            f"{name} was cut short: its header says {promised:.2f} s, and {decoded:.2f} s could be decoded.",
            "Get it anew from its source; or keep what is good: ffmpeg -i in -c:a flac out.flac",
            "damaged",
        )


def _joined(name: str) -> AudioError:
    return AudioError(
        f"{name} holds several recordings one after another, of which players hear the first alone.",
        "Join sounds, not files, for example: sox a.wav b.wav joined.wav",
        "damaged",
    )


def _empty(name: str) -> AudioError:
    return AudioError(
        f"{name} lasts 0 ms; at least 100 ms are needed for one audio token.", "Leave this clip out.", "too short"
    )


def _remedy(name: str) -> str:
    given = Path(name).name if exists(name) else "IN"
    return f"Convert it first, for example: ffmpeg -i '{given}' -ar 16000 -ac 1 clip.wav"


def exists(path: str | Path) -> bool:
    """Whether there is a file at a path; a path that no file system takes has none."""
    try:
        return Path(path).is_file()
    except (OSError, ValueError):
        return False
