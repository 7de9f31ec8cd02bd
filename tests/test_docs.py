"""Links in the documentation lead somewhere, its commands and code are what there is, and every expert has its page."""

import ast
import importlib.util
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
import typer
import yaml

from coat.cli.app import app
from coat.config.reading import parse_recipe
from coat.config.recipe import Recipe
from coat.experts import REGISTRY
from coat.synthetic.demo import OTHER_END
from coat.versions import VERSION

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


def test_what_the_demo_says_of_five_seeds_is_what_was_measured():
    text = (ROOT / "docs" / "results.md").read_text()
    measured = []
    for heading, place in (("Made again", 5), ("Twice the steps", 4), ("At the positions of the audio", 7)):
        table = re.split(rf"\n### {heading}[^\n]*\n", text)[1].split("\n\n|")[1].split("\n\n")[0]
        rows = {row.split("|")[1].strip(" *"): row.split("|") for row in table.splitlines()[1:]}
        measured += [rows[name][place].strip(" *") for name in ("pitch class", "mood", "word errors")]
    said = re.findall(r"[+-]\d+\.\d", OTHER_END)
    for cell, figure in zip(measured, said, strict=True):
        assert cell.startswith(f"{figure} ["), (cell, figure)


def test_what_the_demo_says_of_the_block_alone_is_what_was_measured():
    section = (ROOT / "docs" / "results.md").read_text().split("Over two seeds, all arms on one machine")[1]
    (row,) = (line for line in section.splitlines() if "+ block, at the audio" in line)
    means = [np.mean([float(value) for value in cell.split(",")]) for cell in row.split("|")[2:4]]
    said = re.search(r"came to ([\d.]+) notes and ([\d.]+) moods", OTHER_END).groups()
    np.testing.assert_allclose([float(figure) for figure in said], means, atol=0.1)


def test_the_architecture_page_shows_every_room():
    listed = (ROOT / "docs" / "architecture.md").read_text().split("## Rooms")[1].split("```")[1]
    lines = listed.split("src/coat/\n")[1].splitlines()
    named = [name.rstrip("/") for line in lines for name in line.strip().split("  ")[0].split()]
    there = {path.name for path in (ROOT / "src" / "coat").iterdir() if not path.name.startswith("_")}
    assert sorted(named) == sorted(there - {"py.typed"})


def blocks(kind):
    """Every code block of a kind, with where it is."""
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in re.finditer(rf"```{kind}\n(.*?)```", text, re.DOTALL):
            line = text[: match.start()].count("\n") + 2
            found.append(pytest.param(match[1], id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def commands(block):
    """A shell block's commands, as lists of words, without comments, redirections and the settings before it."""
    for line in block.replace("\\\n", " ").splitlines():
        command = []
        for word in [*shlex.split(line, comments=True), ";"]:
            if word in (";", "&&", "|", "||", "&", ">", "2>"):
                if command:
                    yield command
                command = []
            elif command or not re.fullmatch(r"[A-Z_]+=.*", word):
                command.append(word)


def check_coat(words):
    """That the command line takes them."""
    command, arguments = typer.main.get_command(app), list(words[1:])
    while hasattr(command, "commands") and arguments and arguments[0] in command.commands:
        command = command.commands[arguments.pop(0)]
    if hasattr(command, "commands"):
        assert all(each.startswith("--") for each in arguments), words
        return
    with click.Context(command) as context:
        given, left, _ = command.make_parser(context).parse_args(arguments)  # raises for unknown options
    assert not left, words
    missing = [each.name for each in command.params if each.required and given.get(each.name) is None]
    assert not missing, words


@pytest.mark.parametrize("block", blocks("bash"))
def test_commands_are_what_there_is(block):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(block):
        program, rest = words[0].removeprefix(".venv/bin/"), words[1:]
        if program.startswith("python") and rest[:2] == ["-m", "coat"]:
            program, rest = "coat", rest[2:]
        if program == "coat":
            check_coat(["coat", *rest])
        elif program == "make":
            assert set(rest) <= set(targets), words
        elif program.startswith("python") and rest[0] == "-m":
            assert importlib.util.find_spec(rest[1]), words
        elif program.startswith("python") and rest[0].endswith(".py"):
            assert (ROOT / rest[0]).is_file(), words
        for word in words:
            if re.fullmatch(r"(recipes|scripts|benchmarks)/\S+\.(yaml|sh|py)", word):
                assert (ROOT / word).is_file(), word


@pytest.mark.parametrize("block", blocks("python"))
def test_code_asks_for_what_is_there(block):
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "coat":
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name) or importlib.util.find_spec(f"{node.module}.{alias.name}"), block


@pytest.mark.parametrize("block", blocks("yaml"))
def test_fields_of_recipes_are_what_there_is(block):
    fields = yaml.safe_load(block)
    if not isinstance(fields, dict) or not set(fields) <= {*Recipe.model_fields, "extends"}:
        return  # a mixture, a task
    fields.pop("extends", None)
    stages = [{"steps": 1, **stage} for stage in fields.get("stages", [{"name": "one"}])]
    data = fields.get("data") or {}
    data = data if {"train_dataset", "mixture"} & {*data} else {"train_dataset": "train.jsonl", **data}
    parse_recipe({**fields, "stages": stages, "data": data}, "the page")


def test_changelog_and_citation_name_the_version_and_its_day():
    released = re.findall(r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert released[0] == (VERSION, str(cited["date-released"]))
    assert cited["version"] == VERSION
