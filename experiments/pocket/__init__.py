"""Pocket, a small real audio language model: what it learns to hear from, and how."""
