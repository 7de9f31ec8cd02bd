"""Recipes: what to train, on what, with which experts."""

from coat.config.reading import load_recipe
from coat.config.recipe import Recipe

__all__ = ["Recipe", "load_recipe"]
