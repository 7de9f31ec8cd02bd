"""Links in the documentation lead somewhere, and every expert has its page."""

import re
from pathlib import Path

import pytest

from coat.experts import REGISTRY

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").glob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor and found.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", found.read_text(), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in slugs, target


@pytest.mark.parametrize("name", [name for name in REGISTRY if not name.startswith("standin_")])
def test_every_expert_has_a_page(name):
    page = ROOT / "docs" / "experts" / f"{name.replace('_', '-')}.md"
    assert "hears" in page.read_text()
    assert f"({page.name})" in (page.parent / "index.md").read_text()


def test_the_architecture_page_shows_every_room():
    listed = (ROOT / "docs" / "architecture.md").read_text().split("## Rooms")[1].split("```")[1]
    lines = listed.split("src/coat/\n")[1].splitlines()
    named = [name.rstrip("/") for line in lines for name in line.strip().split("  ")[0].split()]
    there = {path.name for path in (ROOT / "src" / "coat").iterdir() if not path.name.startswith("_")}
    assert sorted(named) == sorted(there - {"py.typed"})
