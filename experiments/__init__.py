"""Experiments on the small world that docs/results.md reports: each a command, on top of ``coat.ablation``."""
