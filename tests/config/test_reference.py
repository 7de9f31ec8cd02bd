from pathlib import Path

from coat.config.recipe import Recipe
from coat.config.reference import reference


def test_the_page_in_docs_is_the_recipe_of_today():
    page = Path(__file__).parents[2] / "docs" / "recipes.md"
    assert page.read_text() == reference(), "python -m coat.config.reference > docs/recipes.md"


def test_every_field_is_described():
    lines = [line for line in reference().splitlines() if line.startswith("| `")]
    assert len(lines) > 25
    assert [line for line in lines if line.endswith("|  |")] == []
    assert all(f"`{name}" in reference() for name in Recipe.model_fields)
