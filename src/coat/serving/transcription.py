"""The form of a transcription request: its fields, its formats, and languages by code or name."""

from __future__ import annotations

from difflib import get_close_matches

from starlette.datastructures import FormData
from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from coat.serving.errors import RefusedError

FORM_FIELDS = ("file", "model", "prompt", "language", "response_format", "temperature", "stream")


def check_form(form: FormData) -> None:
    """Refuse fields of a transcription that are not served, or are given twice.

    Raises:
        RefusedError: There is one.
    """
    names = [name for name, value in form.multi_items() if value != ""]
    for name in names:
        if name not in FORM_FIELDS:
            near = get_close_matches(name, FORM_FIELDS, n=1)
            guess = f" Did you mean '{near[0]}'?" if near else ""
            raise RefusedError(400, f"{name[:80]} is not served here.{guess}", param=name[:80])
        if names.count(name) > 1:
            raise RefusedError(400, f"{name} is given twice.", param=name)


def check_format(response_format: str) -> None:
    """Refuse what a transcript cannot be given as.

    Raises:
        RefusedError: It has times, or is no format.
    """
    if response_format in ("srt", "vtt", "verbose_json"):
        problem = f"response_format '{response_format}' needs the times of words, which a language model does not give."
        raise RefusedError(400, f"{problem} Take json or text.", param="response_format")
    if response_format not in ("json", "text"):
        raise RefusedError(400, f"response_format is json or text, not '{response_format}'.", param="response_format")


def language_name(given: str) -> str:
    """The English name of a language, for a prompt.

    Args:
        given: A code such as ``fr``, or a name such as ``French``.

    Raises:
        RefusedError: There is no such language.

    Example:
        >>> language_name("fr"), language_name("german")
        ('French', 'German')
    """
    code = TO_LANGUAGE_CODE.get(given.strip().lower(), given.strip().lower())
    if code not in LANGUAGES:
        near = get_close_matches(code, [*LANGUAGES, *TO_LANGUAGE_CODE], n=1)
        hint = f"Did you mean '{near[0]}'?" if near else "Give a code such as 'en', or a name such as 'english'."
        raise RefusedError(400, f"There is no language '{given}'. {hint}", param="language")
    return LANGUAGES[code].title()
