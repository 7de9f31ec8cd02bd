"""Time lines of events in the formats that annotation programs read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from coat.errors import CoatError, did_you_mean
from coat.experts.events import Event
from coat.files import write_whole


def write_events(path: str | Path, events: Sequence[Event], seconds: float, name: str = "clip") -> None:
    """Write a time line, in the format that the file's ending names.

    Args:
        path: ``.json``; ``.rttm`` (NIST); ``.TextGrid`` (Praat, a tier for each expert); or ``.txt`` (Audacity's
            labels: start, end and label with tabs).
        events: By start.
        seconds: Length of the clip.
        name: The clip's name in RTTM: its file's name without its ending.

    Raises:
        CoatError: The ending is none of these.
    """
    ending = Path(path).suffix.lower()
    if ending not in WRITERS:
        raise CoatError(f"Events are not written as {ending or 'a file without an ending'}.", did_you_mean(
            ending, list(WRITERS)))  # fmt: skip
    write_whole(Path(path), WRITERS[ending](events, seconds, name))


def as_json(events: Sequence[Event], seconds: float, name: str) -> str:
    """The clip's length and its events, with every field."""
    return json.dumps({"clip": name, "seconds": seconds, "events": [asdict(event) for event in events]}, indent=1)


def as_rttm(events: Sequence[Event], seconds: float, name: str) -> str:
    """A line for each event; RTTM's type is SPEAKER whatever is heard, because its readers skip other types."""
    del seconds
    file = name.replace(" ", "_")
    return "".join(
        f"SPEAKER {file} 1 {event.start:.3f} {event.end - event.start:.3f} <NA> <NA> {event.label.replace(' ', '_')} "
        f"{event.confidence:.3f} <NA>\n"
        for event in events
    )


def as_labels(events: Sequence[Event], seconds: float, name: str) -> str:
    """Audacity's label track."""
    del seconds, name
    return "".join(f"{event.start:.6f}\t{event.end:.6f}\t{event.label}\n" for event in events)


def as_textgrid(events: Sequence[Event], seconds: float, name: str) -> str:
    """Praat's interval tiers. A tier holds no two intervals at once: what overlaps goes to further tiers."""
    del name
    tiers: dict[str, list[Event]] = {}
    for event in events:
        number = 1
        while (tier := tiers.setdefault(f"{event.expert} {number}", [])) and tier[-1].end > event.start + 1e-9:
            number += 1
        tier.append(event)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {seconds}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for index, (title, tier) in enumerate(tiers.items(), 1):
        intervals = _with_gaps(tier, seconds)
        lines += [f"    item [{index}]:", '        class = "IntervalTier"', f'        name = "{title}"']
        lines += ["        xmin = 0", f"        xmax = {seconds}", f"        intervals: size = {len(intervals)}"]
        for number, (start, end, label) in enumerate(intervals, 1):
            quoted = label.replace('"', '""')
            lines += [f"        intervals [{number}]:", f"            xmin = {start}", f"            xmax = {end}"]
            lines += [f'            text = "{quoted}"']
    return "\n".join(lines) + "\n"


def _with_gaps(tier: Sequence[Event], seconds: float) -> list[tuple[float, float, str]]:
    """Intervals that fill a clip, with empty texts where there is no event."""
    filled, at = [], 0.0
    for event in tier:
        if event.start > at:
            filled.append((at, event.start, ""))
        at = min(event.end, seconds)
        filled.append((event.start, at, event.label))
    return [*filled, (at, seconds, "")] if at < seconds else filled


WRITERS: dict[str, Callable[[Sequence[Event], float, str], str]] = {
    ".json": as_json,
    ".rttm": as_rttm,
    ".textgrid": as_textgrid,
    ".txt": as_labels,
}
