"""Thinking in text before the answer, as an inference mode of every family: the rival of Tables 2 and F.

A family with a think mode of its own is asked by it; any other by a sentence at the end of the question. What is
scored is what stands after the chain of thought.
"""

from __future__ import annotations

import re

from coat.backbones.base import Backbone
from coat.data.conversation import Message, with_ending

# For families without a think mode of their own.
PROMPT = "\nThink step by step about what you hear. Then write the final answer alone on a last line, after 'Answer:'."
# Tokens of a chain of thought, beside those of the answer.
MORE_TOKENS = 1024
_THOUGHT = re.compile(r"^.*</think(?:ing)?>", re.DOTALL | re.IGNORECASE)
_ANSWER = re.compile(
    r"(?:^|\n|\*|\.\s)\s*(?:the\s+)?(?:final\s+)?answer(?:\s+is)?\s*:\**\s*(.+)\Z", re.DOTALL | re.IGNORECASE
)


def reasoning_prompt(backbone: Backbone) -> str:
    """The sentence that asks a model for a chain of thought: its own, where its think mode is on."""
    return backbone.think_prompt if backbone.thinks_in_text else PROMPT


def reasoned(messages: list[Message], prompt: str) -> list[Message]:
    """A conversation whose last question asks for a chain of thought."""
    *before, last = messages
    return [*before, with_ending(last, prompt)]


def final_answer(text: str) -> str:
    """The answer after a chain of thought: the text after ``</think>``, after the last "Answer:", or all of it.

    A chain that was cut before its answer gives no answer.
    """
    if re.match(r"\s*<think", text, re.IGNORECASE) and not _THOUGHT.match(text):
        return ""
    text = _THOUGHT.sub("", text).strip()
    found = None
    for match in re.finditer(r"answer", text, re.IGNORECASE):
        start = max(0, match.start() - 12)
        found = _ANSWER.search(text, start) or found
    return found[1].strip() if found else text
