"""How lmms-eval 0.7.3 scores an answer, so that published numbers can be reproduced, and nothing of it left to chance.

Where it draws an option at random for an answer that it cannot read, this gives what it scores on average. MMAU's
and MMAR's own scorer, which compares words, is beside it. Compared with lmms-eval's functions by ``make test-lmms``.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Any

from coat.evaluation.task import LETTERS, UpstreamRule

# Every generation task stops there, by default.
UNTIL = "\n\n"
# The order in which VocalSound's names are looked for; the first that is contained counts.
VOCAL = ("Laughter", "Sniff", "Throat", "Cough", "Sigh", "Sneeze")
FIXED_LETTERS = 4
_ENDS = (",", ".", "!", "?", ";", ":", "'")


def cut(answer: str) -> str:
    """An answer up to the first empty line."""
    return answer.split(UNTIL)[0]


def choice_score(answer: str, options: Sequence[str], right: int, rule: UpstreamRule) -> tuple[float, bool]:
    """The score of a choice in expectation, and whether the answer could be read.

    Args:
        answer: The model's answer.
        options: Without letters.
        right: The right one's place.
        rule: ``letter`` knows A to D, whatever there is; ``letter_or_text`` the options' own letters, and their texts.
    """
    by_text = rule == "letter_or_text"
    letters = LETTERS[: len(options)] if by_text else LETTERS[:FIXED_LETTERS]
    found = _letter(cut(answer), letters, options if by_text else ())
    if found is None:
        return (1 / len(letters) if right < len(letters) else 0.0), False
    return float(found == right), True


def string_match(answer: str, options: Sequence[str], right: int) -> bool:
    """MMAU's and MMAR's own rule: every word of the right option, and none that only wrong ones have."""
    said, wanted = _words(answer), _words(options[right])
    wrong = set().union(*(_words(option) for place, option in enumerate(options) if place != right)) - wanted
    return bool(said) and wanted <= said and not (said & wrong)


def exact_match(answer: str, reference: str) -> bool:
    """Equal but for case and punctuation."""
    return _unpunctuated(cut(answer)) == _unpunctuated(reference)


def first_contained(answer: str, reference: str) -> bool:
    """Whether the first of VocalSound's names that the answer contains is the right one."""
    found = next((name for name in VOCAL if name.lower() in cut(answer).lower()), None)
    return reference == {"Throat": "Throat clearing"}.get(str(found), found)


def word_errors(answer: str, reference: str, rule: UpstreamRule) -> tuple[float, float]:
    """Word errors, and words of the reference; for ``wer_by_utterance`` the rate, and one."""
    from rapidfuzz.distance import Levenshtein

    answer = cut(answer)
    if rule == "wer_by_utterance":
        said, wanted = _extracted(answer).lower().split(), reference.strip().lower().split()
        return (Levenshtein.distance(wanted, said) / max(len(wanted), 1) if wanted else 1.0), 1.0
    said, wanted = (_tokens(text, basic=rule == "wer_basic") for text in (answer, reference))
    return float(Levenshtein.distance(wanted, said)), float(len(wanted))


def judge_score(verdict: str, rule: UpstreamRule) -> float | None:
    """Score in a judge's answer: the first digit from 0 to 5, times 20; or a rating at its end."""
    if rule == "first_digit":
        found = re.search(r"[0-5]", verdict)
        return 20.0 * int(found[0]) if found else None
    found = re.search(r"Rating:\s*([0-5])\s*$", verdict)
    return float(found[1]) if found else None


def _letter(answer: str, letters: str, options: Sequence[str]) -> int | None:
    """The letter that is read of an answer; a space at either end keeps words apart."""
    for char in _ENDS:
        answer = answer.strip(char)
    text = f" {answer} "
    plain = "{} " if options else " {} "
    for pattern in ("({})", plain, "{}."):
        found = [place for place, letter in enumerate(letters) if pattern.format(letter) in text]
        if found:
            # Of several the last in the text; where letters stand in brackets, some look for them bare, and find none.
            last = "({})" if pattern == "({})" and options else " {} "
            return max(found, key=lambda place: (text.rfind(last.format(letters[place])), -place))
    if options and len(text.split()) > 5:
        low = text.lower()
        found = [place for place, option in enumerate(options) if option.lower() in low]
        if found:
            return max(found, key=lambda place: (low.rfind(options[place].lower()), -place))
    return None


def _words(text: str) -> set[str]:
    return set(re.findall(r"\b\w+\b", text.lower()))


def _unpunctuated(text: str) -> str:
    return text.lower().translate(str.maketrans("", "", string.punctuation))


@cache
def _normalisers() -> tuple[Any, Any]:
    from whisper_normalizer.basic import BasicTextNormalizer
    from whisper_normalizer.english import EnglishTextNormalizer

    return EnglishTextNormalizer(), BasicTextNormalizer()


def _tokens(text: str, *, basic: bool) -> list[str]:
    text = re.sub(r"\s+", " ", re.sub(r"<\|.*?\|>", " ", text))
    text = re.sub(r" ?([!,.?;:])", r"\1", text).lstrip(" ")
    english, plain = _normalisers()
    text = english(text)
    text = plain(text) if basic else text
    kept = (t for t in text.split(" ") if not all(unicodedata.category(c)[0] == "P" for c in t))
    return " ".join(kept).lower().split()


def _extracted(answer: str) -> str:
    """VoxPopuli's reading of a transcript: out of tags, out of quotation marks, without what introduces it."""
    text = answer.strip()
    for tag in ("answer", "response", "result", "transcription", "text"):
        if found := re.search(rf"<{tag}>\s*([\s\S]*?)\s*</{tag}>", text, re.IGNORECASE):
            return found[1].strip()
    introduced = (
        r"(?:the\s+)?original\s+content\s+(?:of\s+)?(?:this\s+)?audio\s+is\s*:\s*['\"](.+?)['\"]\s*$",
        r"(?:the\s+)?(?:audio|speech)\s+(?:content|transcription|says)\s*:\s*['\"](.+?)['\"]\s*$",
        r"transcription\s*:\s*['\"](.+?)['\"]\s*$",
    )
    for pattern in introduced:
        if found := re.search(pattern, text, re.IGNORECASE | re.DOTALL):
            return found[1].strip()
    for pattern in (r"^['\"](.+?)['\"]$", r"['\"]([^'\"]{20,})['\"]"):
        if found := re.search(pattern, text, re.DOTALL):
            return found[1].strip()
    for pattern in (
        r"^(?:here\s+is\s+)?(?:the\s+)?transcription\s*:\s*",
        r"^(?:the\s+)?(?:audio|speech)\s+(?:says|contains)\s*:\s*",
        r"^(?:answer|response|result)\s*:\s*",
    ):
        text = re.sub(pattern, "", text, flags=re.IGNORECASE)
    return text.strip()
