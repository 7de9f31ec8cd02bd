"""One clip of a row: which file, and which stretch of it, in any of the ways that others say it."""

from __future__ import annotations

from typing import Any

from coat.data.fields import kind_of, refuse_unknown, seconds_of, text_of

# Where in its file a clip is, and how long it is: of a row with one clip, or of an audio entry.
STRETCH = ("start", "end", "offset", "duration", "seconds", "channel")
TIMES = STRETCH[:-1]
PLACE = ("path", "audio", "audio_url", "url")
KNOWN = frozenset((*PLACE, *STRETCH, "type", "bytes"))
FETCH = "Save it as a file first (coat data import does it for data sets of the hub)."


def clip_entry(raw: Any) -> dict[str, Any]:
    """One clip: ``{"path"}`` and what is known of its stretch."""
    if isinstance(raw, str):
        return {"path": _path(raw)}
    if not isinstance(raw, dict):
        raise ValueError(f"an entry of 'audios' must be a path, or an object with a 'path', not {kind_of(raw)}")
    if raw.get("array") is not None or raw.get("bytes") is not None:
        raise ValueError(f"a clip must name its file: sound inside a row is not read. {FETCH}")
    refuse_unknown(raw, KNOWN, "in an audio entry, ")
    places = [raw[name] for name in PLACE if raw.get(name) is not None]
    if len(places) != 1:
        raise ValueError("an audio entry must name its file, once: {'path': ...}")
    place = places[0]
    if isinstance(place, dict):  # OpenAI's way: {"audio_url": {"url": ...}}
        refuse_unknown(place, ("url", "path"), "in an audio entry, ")
        place = place.get("url", place.get("path"))
    if not isinstance(place, str):
        raise ValueError(f"an audio entry must name its file: sound inside a row is not read. {FETCH}")
    return {"path": _path(place)} | _stretch(raw, "an audio entry")


def _path(text: str) -> str:
    path = text_of(text, "the path of a clip").removeprefix("file://")
    if path.startswith("data:"):
        raise ValueError(f"a clip is a data: URL; sound inside a row is not read. {FETCH}")
    if "://" in path:
        raise ValueError(f"{path[:80]} is on a network: fetch it first, and name the file")
    if not path.strip():
        raise ValueError("the path of a clip is empty")
    if "\0" in path or len(path.encode()) > 4095 or any(len(part.encode()) > 255 for part in path.split("/")):
        raise ValueError(f"the path of a clip is none that a file system takes: {path[:40]!r}...")
    return path


def take_stretch(row: dict[str, Any], clips: list[dict[str, Any]]) -> None:
    """``start``, ``duration`` and the like of a row are its one clip's."""
    given = [name for name in STRETCH if row.get(name) is not None]
    if not given:
        return
    if len(clips) != 1:
        raise ValueError(
            f"'{given[0]}' of a row is its one clip's; this row has {len(clips)}: say it in the entries of 'audios'"
        )
    clip = clips[0]
    if len(clip) > 1 and (set(given) != {"seconds"} or "seconds" in clip):
        raise ValueError(f"'{given[0]}' is given in the row, and its audio entry says where the clip is too")
    clip |= _stretch(row, "the row")


def _stretch(given: dict[str, Any], where: str) -> dict[str, Any]:
    """``start`` and ``end``, ``seconds`` and ``channel``, of any of the ways to say them."""
    values = {name: seconds_of(given[name], name, where) for name in TIMES if given.get(name) is not None}
    if "start" in values and "offset" in values:
        raise ValueError(f"{where} has both 'start' and 'offset'")
    made: dict[str, Any] = {}
    start = values.get("start", values.get("offset"))
    length, end = values.get("duration"), values.get("end")
    if start is not None and length is not None:
        if end is not None:
            raise ValueError(f"{where} has both 'end' and 'duration' beside its start")
        end = start + length
    elif length is not None:
        if "seconds" in values:
            raise ValueError(f"{where} has both 'seconds' and 'duration'")
        values["seconds"] = length
    if start:
        made["start"] = start
    if end is not None:
        if end <= (start or 0.0):
            raise ValueError(f"a stretch from {start or 0.0:g} s to {end:g} s holds nothing")
        made["end"] = end
    if "seconds" in values:
        if values["seconds"] == 0:
            raise ValueError(f"'seconds' of {where} is 0")
        made["seconds"] = values["seconds"]
    if (channel := given.get("channel")) is not None:
        if isinstance(channel, bool) or not isinstance(channel, int) or not 0 <= channel < 4096:
            raise ValueError(f"'channel' of {where} must be a whole number from 0, not {str(channel)[:40]!r}")
        made["channel"] = channel
    return made
