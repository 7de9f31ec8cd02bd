"""Speech with the times of its words, by flite's library: every phone's end is known to the synthesiser."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Iterator
from ctypes.util import find_library
from dataclasses import dataclass

import numpy as np
import soxr

from coat.errors import CoatError

VOICES = ("us_rms", "us_slt", "us_awb", "us_kal16")
SAMPLING_RATE = 16_000
FIRST_PHONE = b"R:SylStructure.daughter1.daughter1.R:Segment.p.end"
LAST_PHONE = b"R:SylStructure.daughtern.daughtern.R:Segment.end"


@dataclass(frozen=True)
class Word:
    """A word in lower case, and when it begins and ends, in seconds."""

    text: str
    begin: float
    end: float


class _Wave(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_char_p),
        ("sample_rate", ctypes.c_int),
        ("num_samples", ctypes.c_int),
        ("num_channels", ctypes.c_int),
        ("samples", ctypes.POINTER(ctypes.c_short)),
    )


class _Voice(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("features", ctypes.c_void_p))


class Flite:
    """The voices of ``apt-get install flite``. One object a process: the library has state of its own."""

    def __init__(self) -> None:
        self._flite = _library("flite")
        for name in ("flite_usenglish", "flite_cmulex"):
            _library(name)
        pointer = ctypes.c_void_p
        for name, result, arguments in (
            ("flite_synth_text", pointer, (ctypes.c_char_p, pointer)),
            ("utt_wave", ctypes.POINTER(_Wave), (pointer,)),
            ("utt_relation", pointer, (pointer, ctypes.c_char_p)),
            ("relation_head", pointer, (pointer,)),
            ("item_next", pointer, (pointer,)),
            ("flite_ffeature_float", ctypes.c_float, (pointer, ctypes.c_char_p)),
            ("flite_ffeature_string", ctypes.c_char_p, (pointer, ctypes.c_char_p)),
            ("delete_utterance", None, (pointer,)),
            ("feat_set_float", None, (pointer, ctypes.c_char_p, ctypes.c_float)),
        ):
            function = getattr(self._flite, name)
            function.restype, function.argtypes = result, arguments
        self._flite.flite_init()
        self._voices = {}
        for voice in VOICES:
            register = getattr(_library(f"flite_cmu_{voice}"), f"register_cmu_{voice}")
            register.restype, register.argtypes = pointer, (pointer,)
            self._voices[voice] = register(None)

    def say(self, text: str, voice: str, stretch: float = 1.0) -> tuple[np.ndarray, list[Word]]:
        """Speak a sentence.

        Args:
            text: English words.
            voice: One of ``VOICES``.
            stretch: Above 1 is slower.

        Returns:
            Samples ``(samples,)`` int16 at 16 kHz, and flite's own words (``'s`` is a word of its own there).
        """
        handle = self._voices[voice]
        features = ctypes.cast(handle, ctypes.POINTER(_Voice)).contents.features
        self._flite.feat_set_float(features, b"duration_stretch", stretch)
        utterance = self._flite.flite_synth_text(text.encode(), handle)
        wave = self._flite.utt_wave(utterance).contents
        samples = np.ctypeslib.as_array(wave.samples, (wave.num_samples,)).astype(np.float32)
        rate, words = wave.sample_rate, list(self._words(utterance))
        self._flite.delete_utterance(utterance)
        if rate != SAMPLING_RATE:
            samples = soxr.resample(samples, rate, SAMPLING_RATE)
        return samples.clip(-32768, 32767).astype(np.int16), words

    def _words(self, utterance: int) -> Iterator[Word]:
        item = self._flite.relation_head(self._flite.utt_relation(utterance, b"Word"))
        while item:
            name = self._flite.flite_ffeature_string(item, b"name").decode()
            begin, end = (self._flite.flite_ffeature_float(item, path) for path in (FIRST_PHONE, LAST_PHONE))
            yield Word(name, round(begin, 3), round(end, 3))
            item = self._flite.item_next(item)


def spelled(sentence: str) -> list[str]:
    """Words of a sentence in lower case, letters and apostrophes alone."""
    return re.sub(r"[^a-z' ]", "", re.sub("[-,]", " ", sentence.lower())).split()


def timed(sentence: str, words: list[Word]) -> list[Word] | None:
    """The sentence's own words with flite's times; None where flite reads others (numbers, abbreviations)."""
    joined: list[Word] = []
    for word in words:
        if word.text.startswith("'") and joined:
            joined[-1] = Word(joined[-1].text + word.text, joined[-1].begin, word.end)
        else:
            joined.append(word)
    wanted = spelled(sentence)
    if [word.text.replace("'", "") for word in joined] != [word.replace("'", "") for word in wanted]:
        return None
    return [Word(text, word.begin, word.end) for text, word in zip(wanted, joined, strict=True)]


def _library(name: str) -> ctypes.CDLL:
    path = find_library(name)
    if path is None:
        raise CoatError(f"lib{name} is not installed.", "apt-get install flite")
    return ctypes.CDLL(path, mode=ctypes.RTLD_GLOBAL)
