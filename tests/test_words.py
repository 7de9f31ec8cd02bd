"""Docstrings and help texts are whole phrases: "Seed of the weights", never "Of the weights"."""

import re
from pathlib import Path

import pytest

import coat

SOURCE = Path(coat.__file__).parent
ELLIPTIC = re.compile(r'"""Of |^ +\*{0,2}[a-z_]+(?:, [a-z_]+)*: Of |(?:help|description)="Of ', re.MULTILINE)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_description_begins_with_of(path):
    assert not ELLIPTIC.findall(path.read_text())
