"""Docstrings and help texts are whole phrases: "Seed of the weights", never "Of the weights" or "Which weights"."""

import re
from pathlib import Path

import pytest

import coat

SOURCE = Path(coat.__file__).parent
BEGINS = r'"""(?:Of|What) |(?:help|description)="Of '
FIELDS = r"^ +\*{0,2}[a-z_]+(?:, [a-z_]+)*: (?:(?:Of|What|Which|Where|Whose|Who|How|When) |(?:Theirs|The same)\.$)"
ELLIPTIC = re.compile(f"{BEGINS}|{FIELDS}", re.MULTILINE)


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_description_is_elliptic(path):
    assert not ELLIPTIC.findall(path.read_text())
