"""A hook of mkdocs: pages that live outside ``docs/``, and every file of the project that a page links to.

The pages in ``docs/`` are read in the repository too, where they link to sources and recipes by path. On the site such
a file is a page of its own, so that all links can be checked and none needs a host.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
# Pages outside docs/, and where they are on the site.
PAGES = {
    "README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "CHANGELOG.md": "CHANGELOG.md",
    "benchmarks/README.md": "benchmarks/README.md", "benchmarks/gpu.md": "benchmarks/gpu.md",
}  # fmt: skip
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
LANGUAGES = {".py": "python", ".yaml": "yaml", ".sh": "bash", ".toml": "toml", ".json": "json"}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages, and the sources that any page links to."""
    written = {file.src_uri: ROOT / "docs" / file.src_uri for file in files if file.src_uri.endswith(".md")}
    written |= {there: ROOT / here for here, there in PAGES.items()}
    for here, there in PAGES.items():
        files.append(File.generated(config, there, content=(ROOT / here).read_text()))
    for notebook in sorted((ROOT / "examples").glob("*.ipynb")):
        files_of_notebook(files, config, notebook)
    sources = {target for path in written.values() for target in _targets(path) if _is_source(target)}
    for target in sorted(sources):
        files.append(File.generated(config, _on_site(target), content=_shown(target)))
    return files


def files_of_notebook(files: Files, config: Any, notebook: Path) -> None:
    """A notebook as a page, with its pictures beside it."""
    from nbconvert import MarkdownExporter

    text, resources = MarkdownExporter().from_filename(str(notebook), resources={"unique_key": notebook.stem})
    files.append(File.generated(config, f"examples/{notebook.stem}.md", content=text))
    for name, data in resources.get("outputs", {}).items():
        files.append(File.generated(config, f"examples/{name}", content=data))


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links by their place in the repository become links by their place on the site."""
    origin = next((ROOT / here for here, there in PAGES.items() if there == page.file.src_uri), None)
    origin = origin or ROOT / "docs" / page.file.src_uri
    if page.file.src_uri.startswith(("source/", "examples/")):
        return markdown
    start = str(PurePosixPath(page.file.src_uri).parent)

    def moved(match: re.Match[str]) -> str:
        target = _resolve(origin, match[2])
        if target is None:
            return match[0]
        return f"{match[1]}{os.path.relpath(_on_site(target), start)}{match[3] or ''}{match[4]}"

    return LINK.sub(moved, markdown)


def _targets(page: Path) -> Iterator[Path]:
    for match in LINK.finditer(page.read_text()):
        target = _resolve(page, match[2])
        if target is not None:
            yield target


def _resolve(page: Path, link: str) -> Path | None:
    """The file of the project that a link is to; None for addresses elsewhere."""
    if "://" in link or link.startswith("mailto:"):
        return None
    target = (page.parent / link).resolve()
    return target.relative_to(ROOT) if target.exists() else None


def _is_source(target: Path) -> bool:
    return str(target) not in PAGES and target.parts[:1] != ("docs",) and target.suffix != ".ipynb"


def _on_site(target: Path) -> str:
    if str(target) in PAGES:
        return PAGES[str(target)]
    if target.suffix == ".ipynb":
        return str(target.with_suffix(".md"))
    if target.parts[:1] == ("docs",):
        return str(PurePosixPath(*target.parts[1:]))
    return f"source/{target}.md"


def _shown(target: Path) -> str:
    path = ROOT / target
    if path.is_dir():
        below = sorted(each for each in path.iterdir() if each.suffix in LANGUAGES)
        return f"# {target}\n\n" + "\n".join(f"- `{each.name}`" for each in below) + "\n"
    fence = "~" * 8
    return f"# {target}\n\n{fence}{LANGUAGES.get(path.suffix, '')}\n{path.read_text()}\n{fence}\n"
