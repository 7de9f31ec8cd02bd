"""The three tokens of the thinking block (§3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

THINK_START = "<|audio_think_start|>"
THINK = "<|audio_think|>"
THINK_END = "<|audio_think_end|>"
RESERVED = (THINK_START, THINK, THINK_END)


@dataclass(frozen=True)
class ThinkTokens:
    """Token ids of tau_s, tau_p and tau_e."""

    start: int
    think: int
    end: int

    @property
    def ids(self) -> tuple[int, int, int]:
        """The three ids: they are trained, never predicted, and suppressed in generation."""
        return self.start, self.think, self.end


def add_think_tokens(tokenizer: Any) -> ThinkTokens:
    """Make sure the tokenizer holds the three tokens, as special tokens, and return their ids.

    Calling it again, or on a tokenizer saved with them, changes nothing.
    """
    names = list(RESERVED)
    known = tokenizer.get_vocab()
    missing = [name for name in names if name not in known]
    if missing:
        tokenizer.add_tokens(missing, special_tokens=True)
    return ThinkTokens(*tokenizer.convert_tokens_to_ids(names))
