"""Lengths in file headers, and evidence against them."""

from __future__ import annotations

import io
import mmap
import re
import struct
from typing import BinaryIO

from coat.audio.errors import MISSING_SECONDS, AudioError, check_not_cut, joined

# What programs write in place of a length that they do not know yet.
UNKNOWN_BYTES = 0x7FFF0000
OGG_PAGE = 65_307  # bytes at most
# The beginning of a file of each kind: a second one means that files were joined, and demuxers stop before it.
HEADERS = {
    "wav": re.compile(rb"RIFF....WAVE", re.DOTALL),
    "mov": re.compile(rb"\x00\x00\x00.ftyp[A-Za-z0-9 ]{4}", re.DOTALL),
    "matroska": re.compile(rb"\x1a\x45\xdf\xa3.{4,64}\x42\x82.{1,8}(?:webm|matroska)", re.DOTALL),
    "amr": re.compile(rb"#!AMR(?:-WB)?\n"),
}
# An encoder's header in the first frame of an MP3, with its count of frames.
XING = re.compile(
    rb"\xff[\xe0-\xff].{10,40}(?:Xing|Info)\x00\x00\x00[\x01\x03\x05\x07\x09\x0b\x0d\x0f](.{4})", re.DOTALL
)
FLAC_HEADER = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")


def chunks_are_sound(file: BinaryIO, name: str) -> bool:
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
            if rate:
                check_not_cut(length / rate, (size - place) / rate, name)
            return False
        file.seek(place + length + length % 2)
        _check_rest(file, name, size, rate)
        return True
    return False


def _check_rest(file: BinaryIO, name: str, size: int, rate: int) -> None:
    """Data after the samples: chunks of other kinds, or a few bytes without meaning."""
    place = file.tell()
    head = file.read(8)
    if head[:4] in (b"RIFF", b"FORM", b"RF64"):
        raise joined(name)
    known = len(head) == 8 and all(32 <= byte < 127 for byte in head[:4])
    if not known and rate and (size - place) / rate > MISSING_SECONDS:
        raise AudioError(
            f"{name} holds {(size - place) / rate:.1f} s more than its header says: its recorder was stopped, or files "
            "were joined.",
            "Write its header anew, for example: ffmpeg -ignore_length 1 -i in.wav out.wav",
            "damaged",
        )


def is_joined(file: BinaryIO, header: re.Pattern[bytes]) -> bool:
    """Whether a file holds more than one header of its kind."""
    # Not closed by hand: an interrupt would find the search holding on to the map, and end in an error of its own.
    data = file.getbuffer() if isinstance(file, io.BytesIO) else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return sum(1 for _ in zip(header.finditer(data), range(2), strict=False)) > 1


def page_is_cut(file: BinaryIO) -> bool:
    """Whether the last page of an Ogg file ends before its own table of segments says."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 2 * OGG_PAGE))
    tail = file.read()
    place = tail.rfind(b"OggS")
    if place < 0 or len(tail) < place + 27:
        return True
    table = tail[place + 27 : place + 27 + tail[place + 26]]
    return len(tail) < place + 27 + tail[place + 26] + sum(table)


def xing_frames(file: BinaryIO) -> int | None:
    """Frames that an MP3 encoder counted into its first one, if it did."""
    file.seek(0)
    found = XING.search(file.read(256 * 1024))
    return struct.unpack(">I", found[1])[0] if found else None
