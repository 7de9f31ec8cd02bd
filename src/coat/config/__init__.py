"""Recipes: what to train, on what, with which experts."""

from coat.config.recipe import Recipe, load_recipe

__all__ = ["Recipe", "load_recipe"]
