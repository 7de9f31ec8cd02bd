"""Transcripts as corpora write them, brought to what an answer should look like."""

from __future__ import annotations

import re

# https://github.com/SpeechColab/GigaSpeech, utils/gigaspeech_scoring.py
PUNCTUATION = {"<COMMA>": ",", "<PERIOD>": ".", "<QUESTIONMARK>": "?", "<EXCLAMATIONPOINT>": "!"}
GARBAGE = ("<SIL>", "<MUSIC>", "<NOISE>", "<OTHER>")

_SPACES = re.compile(r"\s+")
_SENTENCE = re.compile(r"(^|[.?!]\s+)([a-z])")
_BRACKETS = re.compile(r"\[(?:silence|noise|vocalized-noise|laughter)\]")
_LAUGHED = re.compile(r"\[laughter-([^\]]+)\]")
_PARTIAL = re.compile(r"\S*\[[^\]]*\]\S*")


def squeezed(text: str) -> str:
    """Single spaces, none at the ends."""
    return _SPACES.sub(" ", text).strip()


def uncapitalised(text: str) -> str:
    """LibriSpeech and others write all in capitals, without punctuation: small letters, but for I."""
    return re.sub(r"\bi\b", "I", squeezed(text.lower()))


def gigaspeech(text: str) -> str:
    """Tags to punctuation, sentences with a capital; empty where nothing is said."""
    if any(tag in text for tag in GARBAGE):
        return ""
    for tag, mark in PUNCTUATION.items():
        text = text.replace(f" {tag}", mark).replace(tag, mark)
    return _SENTENCE.sub(lambda match: match[1] + match[2].upper(), uncapitalised(text))


def switchboard(text: str) -> str:
    """ISIP's markup taken out: noises, laughter around words, words that break off, alternatives."""
    text = _LAUGHED.sub(r"\1", _BRACKETS.sub(" ", text))
    text = re.sub(r"<[^>]*>", " ", text)
    text = re.sub(r"\[([^/\]]+)/([^\]]+)\]", r"\2", text)  # said/meant
    text = _PARTIAL.sub(" ", text)
    return squeezed(text.replace("{", "").replace("}", "").replace("_1", ""))


def sentence(text: str) -> str:
    """A line of somebody's: without the quotation marks around it, ending as a sentence does."""
    text = squeezed(text)
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
    return text if not text or text[-1] in ".?!\"'" else text + "."
