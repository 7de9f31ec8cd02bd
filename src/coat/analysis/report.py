"""One self-contained HTML page from figures and tables."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from coat.files import write_whole


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        head: Column titles.
        rows: Cells; the first of each row is its title.
        best: ``(row, column)`` of cells to stress.
    """

    head: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]] = field(default_factory=set)


@dataclass(frozen=True)
class Player:
    """A sound that can be played.

    Attributes:
        source: Its address, or a ``data:`` URI; empty where there is none to play.
        caption: What it is.
        text: Lines below it.
    """

    source: str
    caption: str
    text: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: Its heading.
        text: A paragraph, as plain text.
        table: Shown under the text.
        figures: ``data:`` URIs with their captions.
        code: Preformatted text at the end.
        players: Sounds.
    """

    title: str
    text: str = ""
    table: Table | None = None
    figures: list[tuple[str, str]] = field(default_factory=list)
    code: str = ""
    players: list[Player] = field(default_factory=list)


def write_report(path: Path, title: str, lead: str, sections: list[Section]) -> None:
    """Write the page, whole or not at all.

    Args:
        path: Where it goes.
        title: Its title.
        lead: A paragraph under the title.
        sections: In order.
    """
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("coat.analysis"), autoescape=True)
    page = environment.get_template("report.html.j2").render(title=title, lead=lead, sections=sections)
    write_whole(path, page)
