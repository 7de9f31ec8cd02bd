"""``coat experts``."""

from __future__ import annotations


def experts() -> None:
    """List the registered experts, with the licence of their weights."""
    from rich.console import Console
    from rich.table import Table

    from coat.experts import REGISTRY, expert_class

    table = Table("expert", "hears", "licence of the weights", "what it is")
    for name in REGISTRY:
        cls = expert_class(name)
        source = f"{cls.sampling_rate / 1000:g} kHz audio" if cls.needs_waveform else "the backbone's embeddings"
        table.add_row(name, source, cls.licence, (cls.__doc__ or "").strip().splitlines()[0])
    Console().print(table)
