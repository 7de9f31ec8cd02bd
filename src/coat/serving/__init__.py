"""Exports behind an OpenAI-compatible endpoint."""
