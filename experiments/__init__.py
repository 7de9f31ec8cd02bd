"""Experiments that docs/results.md and docs/pocket.md report: each a command."""
