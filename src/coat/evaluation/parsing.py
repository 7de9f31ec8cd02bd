"""Parse answers: an option, a class, or nothing that can be made out.

Nothing is guessed. An answer that names no option, or several, is unparsed; under ``strict`` it is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from coat.evaluation.task import LETTERS

DISAGREE = -1

_MARKED = re.compile(r"<answer>(.*?)</answer>|\\boxed\{(?:\\text\{)?([^{}]*)\}", re.IGNORECASE | re.DOTALL)
_FINAL = re.compile(
    r"(?:final answer|correct (?:answer|option|choice)|best (?:answer|option|choice)|answer|option|choice)"
    r"\s*(?:is|would be|should be|:|=)+\s*:?[ \t]*",
    re.IGNORECASE,
)
_BARE = re.compile(r"^(?:option|choice|answer)?\W*([A-Za-z])\W*$", re.IGNORECASE)
_LEADING = re.compile(
    r"^(?:option|choice)?\s*[(\[*_]*([A-Z])[)\]*_]*\s*[.):,\-]+\**\s*(?=\S)|^\(([A-Z])\)", re.IGNORECASE
)
_OPENING_LETTER = re.compile(r"^(?:option|choice)?\s*[(\[*_]*([A-Za-z])(?![\w'])")
# "The answer is a dog" names no letter; "the answer is A because" does.
_ARTICLE = re.compile(r"^[aAI]\s+(?!because|since|as\b|for\b|due\b|given|which)\w")
_BRACKETED = re.compile(r"\(([A-Z])\)")
_SPACES = re.compile(r"\s+")


def parse_choice(answer: str, options: Sequence[str]) -> int | None:
    r"""The place of the option that an answer chooses; None if it chooses none, or more than one.

    In this order: what is marked (``<answer>``, ``\boxed``), a bare letter, a letter that leads ("C. Rain"), what
    follows "the answer is", an option's text alone, the one option that is mentioned, the one bracketed letter.
    A letter and a text that disagree choose nothing.

    Args:
        answer: The model's answer.
        options: Without letters.
    """
    text = answer.strip()
    marked = _MARKED.findall(text)
    found = _stated("".join(marked[-1]).strip() if marked else text, options)
    if found is not None or marked:
        return None if found == DISAGREE else found
    for said in _finals(text):
        found = _stated(said, options)
        if found is None:
            found = _opening_letter(said, options)
        if found is not None:
            return None if found == DISAGREE else found
    mentioned = _mentioned(text, options)
    if mentioned:
        return mentioned[0] if len(mentioned) == 1 else None
    letters = {letter for letter in _BRACKETED.findall(text) if LETTERS.index(letter) < len(options)}
    return LETTERS.index(letters.pop()) if len(letters) == 1 else None


def parse_label(answer: str, labels: Mapping[str, Sequence[str]]) -> str | None:
    """The class that an answer names, by its name or another word for it; None if it names none, or several.

    Args:
        answer: The model's answer.
        labels: Classes, with other words for each.
    """
    marked = _MARKED.findall(answer)
    text = "".join(marked[-1]) if marked else answer
    finals = _finals(text)
    for part in (text, *finals):
        words = _plain(part)
        for label, others in labels.items():
            if words in {_plain(word) for word in (label, *others)}:
                return label
    for part in (*finals, text):
        found = _labels_in(_plain(part), labels)
        if len(found) == 1:
            return found.pop()
        if found:
            return None
    return None


def _finals(text: str) -> list[str]:
    """Texts after "the answer is", to the end of their lines; the last comes first."""
    return [text[match.end() :].split("\n")[0].strip() for match in _FINAL.finditer(text)][::-1]


def _labels_in(words: str, labels: Mapping[str, Sequence[str]]) -> set[str]:
    places = [(word, label) for label, others in labels.items() for word in map(_plain, (label, *others))]
    found = set()
    # Longer names first, and taken out, so that "throat clearing" is not also something shorter inside it.
    for word, label in sorted(places, key=lambda pair: -len(pair[0])):
        words, count = re.subn(rf"(?<!\w){re.escape(word)}(?!\w)", " ", words)
        if count:
            found.add(label)
    return found


def _stated(text: str, options: Sequence[str]) -> int | None:
    """An answer that is a letter, an option's text, or both; ``DISAGREE`` where these are two."""
    if match := _BARE.match(text):
        return _place(match[1], options)
    plain = _plain(text)
    by_text = [i for i, option in enumerate(options) if _plain(option) == plain]
    if len(by_text) == 1:
        return by_text[0]
    match = _LEADING.match(text)
    if match is None or len(set(_BRACKETED.findall(text))) > 1:
        return None
    by_letter = _place(match[1] or match[2], options)
    rest = _plain(text[match.end() :].split("\n")[0])
    said = [i for i, option in enumerate(options) if _plain(option) == rest]
    return DISAGREE if by_letter is not None and said and by_letter not in said else by_letter


def _opening_letter(text: str, options: Sequence[str]) -> int | None:
    match = _OPENING_LETTER.match(text)
    if match is None or _ARTICLE.match(text):
        return None
    return _place(match[1], options)


def _mentioned(text: str, options: Sequence[str]) -> list[int]:
    """Options whose text occurs; one that lies inside another that occurs does not count."""
    words, found = _plain(text), []
    for index in sorted(range(len(options)), key=lambda i: -len(_plain(options[i]))):
        option = _plain(options[index])
        if not option:
            continue
        words, count = re.subn(rf"(?<!\w){re.escape(option)}(?!\w)", " | ", words)
        if count:
            found.append(index)
    return found


def _place(letter: str, options: Sequence[str]) -> int | None:
    place = LETTERS.index(letter.upper())
    return place if place < len(options) else None


def _plain(text: str) -> str:
    """Small letters, words and numbers alone, single spaces."""
    return _SPACES.sub(" ", re.sub(r"[^\w\s'#+/-]|_", " ", text.lower())).strip()
