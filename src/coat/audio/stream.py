"""Compressed sound and containers, decoded to the end by FFmpeg's libraries (PyAV), and counted as it comes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from coat.audio.errors import AudioError, check_not_cut, joined, unreadable
from coat.audio.headers import HEADERS, is_joined, page_is_cut, xing_frames
from coat.audio.libsndfile import open_sound
from coat.audio.scale import to_unit

UNKNOWN_FRAMES = 2**40
# What MP3 encoders put before the sound, which their count of frames holds.
MP3_DELAY = 0.15
# FFmpeg's demuxers of single files. Playlists and the like would open what they name, and are not among them.
DEMUXERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,caf,dsf,eac3,flac,flv,gsm,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpc,mpc8,"
    "mpeg,mpegts,nistsphere,ogg,rm,sox,tta,voc,w64,wav,wv,avi,iff,smjpeg,mmf,oma,qcp,tak,truehd,dts,spdif,daud,vqf,xwma"
)


def blocks(file: BinaryIO, name: str) -> Iterator[tuple[np.ndarray, int]]:
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
        if kind in HEADERS and is_joined(file, HEADERS[kind]):
            raise joined(name)
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
            check_not_cut(promised, done, name)
        if kind == "ogg" and page_is_cut(file):
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
    return to_unit(values)


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
        frames = xing_frames(file)
        return None if frames is None else frames * packet_seconds - MP3_DELAY
    if kind == "matroska":  # whose duration is that of its longest stream
        return container.duration / 1e6 if container.duration and len(container.streams) == 1 else None
    if stream.duration is None or kind not in ("mov", "flac", "aiff", "au", "w64", "caf"):
        return None
    return float(stream.duration * stream.time_base)


def _last_resort(file: BinaryIO, name: str, error: Exception) -> Iterator[tuple[np.ndarray, int]]:
    """Formats that libsndfile knows and FFmpeg does not."""
    import soundfile

    try:
        with open_sound(file) as sound:
            if not 0 < sound.frames < UNKNOWN_FRAMES:
                raise ValueError
            yield sound.read(dtype="float32", always_2d=True).T, sound.samplerate
    except (soundfile.LibsndfileError, RuntimeError, TypeError, ValueError):
        file.seek(0)
        if file.read(4) == b"OggS" and page_is_cut(file):
            raise AudioError(
                f"{name} was cut short within its first page: 0.00 s could be decoded.",
                "Get it anew from its source.",
                "damaged",
            ) from None
        what = getattr(error, "strerror", None) or str(error)
        raise unreadable(name, what) from None
