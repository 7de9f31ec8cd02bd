"""Languages as OpenAI's API names them: ISO 639-1 codes, and English names."""

from __future__ import annotations

from difflib import get_close_matches

from transformers.models.whisper.tokenization_whisper import LANGUAGES, TO_LANGUAGE_CODE

from coat.serving.errors import RefusedError


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
