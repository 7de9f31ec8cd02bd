"""One self-contained HTML page from figures and tables."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from coat.errors import CoatError
from coat.files import write_whole

PAGE = ".page.json"


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

    def is_text(self, column: int) -> bool:
        """Whether a column holds words and no numbers: these are set flush left, and broken where they are long."""
        return any(re.match(r"[^\W\d_]", row[column]) and row[column] not in ("nan", "inf") for row in self.rows)


@dataclass(frozen=True)
class Player:
    """A sound that can be played.

    Attributes:
        source: Its address, or a ``data:`` URI; empty where there is none to play.
        caption: Caption of the player.
        text: Lines below the player.
    """

    source: str
    caption: str
    text: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        title: Heading.
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


@dataclass(frozen=True)
class Page:
    """A report.

    Attributes:
        title: Title of the page.
        lead: A paragraph under the title.
        sections: Sections, in order.
    """

    title: str
    lead: str
    sections: list[Section]


def write_report(path: Path, title: str, lead: str, sections: list[Section]) -> None:
    """Write the page, whole or not at all, and beside it what it holds, to be put together with others.

    Args:
        path: File to write; ``x.html`` has ``x.page.json`` beside it.
        title: Title of the page.
        lead: A paragraph under the title.
        sections: Sections, in order.
    """
    page = Page(title, lead, sections)
    _write_html(path, title, lead, [page])
    plain = asdict(page)
    for section in plain["sections"]:
        if section["table"]:
            section["table"]["best"] = sorted(section["table"]["best"])
    write_whole(path.with_suffix(PAGE), json.dumps(plain))


def read_page(path: Path) -> Page:
    """Read the content of a report.

    Args:
        path: Path of the page, or of a folder with one.

    Raises:
        CoatError: There is none.
    """
    found = sorted(path.glob(f"*{PAGE}")) if path.is_dir() else [path.with_suffix(PAGE)]
    if len(found) != 1 or not found[0].is_file():
        raise CoatError(f"{path} is no page of coat's, nor a folder with one.", "Name the .html file.")
    raw = json.loads(found[0].read_text())
    sections = []
    for section in raw["sections"]:
        table = section["table"]
        if table:
            table = Table(table["head"], table["rows"], {(row, column) for row, column in table["best"]})
        figures = [(uri, caption) for uri, caption in section["figures"]]
        players = [Player(**player) for player in section["players"]]
        sections.append(Section(**{**section, "table": table, "figures": figures, "players": players}))
    return Page(raw["title"], raw["lead"], sections)


def write_together(path: Path, title: str, lead: str, pages: Sequence[Page]) -> None:
    """Several reports as one page that needs no other file."""
    _write_html(path, title, lead, pages)


def write_markdown(path: Path, title: str, lead: str, pages: Sequence[Page]) -> None:
    """Several reports as Markdown; figures become files in ``images/`` beside it. Sounds and code are left out."""
    lines, images = [f"# {title}", "", lead, ""], path.parent / "images"
    for page in pages:
        lines += [f"## {page.title}", "", page.lead, ""]
        for section in page.sections:
            if not (section.text or section.table or section.figures):
                continue
            lines += [f"### {section.title}", "", *([section.text, ""] if section.text else [])]
            lines += [markdown(section.table)] if section.table else []
            for number, (uri, caption) in enumerate(section.figures, 1):
                images.mkdir(parents=True, exist_ok=True)
                name = "-".join(re.findall(r"[a-z0-9]+", f"{page.title} {section.title} {number}".lower())) + ".png"
                (images / name).write_bytes(base64.b64decode(uri.partition(",")[2]))
                lines += [f"![{caption}](images/{name})", ""]
    write_whole(path, "\n".join(lines).rstrip() + "\n")


def markdown(table: Table) -> str:
    """A table for a page of documentation; what is best is bold."""
    lines = [f"| {' | '.join(table.head)} |", f"| {' | '.join('---' for _ in table.head)} |"]
    for row, cells in enumerate(table.rows):
        marked = [f"**{cell}**" if (row, column) in table.best else cell for column, cell in enumerate(cells)]
        lines.append(f"| {' | '.join(marked)} |")
    return "\n".join(lines) + "\n"


def transposed(table: Table) -> Table:
    """Rows for columns, for tables of many arms and few tasks."""
    columns = list(zip(table.head, *table.rows, strict=True))
    best = {(column - 1, row + 1) for row, column in table.best}
    return Table(list(columns[0]), [list(column) for column in columns[1:]], best)


def _write_html(path: Path, title: str, lead: str, pages: Sequence[Page]) -> None:
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("coat.reports"), autoescape=True)
    whole = environment.get_template("report.html.j2").render(title=title, lead=lead, pages=pages)
    write_whole(path, whole)
