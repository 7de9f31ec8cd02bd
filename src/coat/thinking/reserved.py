"""Think tokens out of what a vocabulary keeps unused, so that no matrix of a checkpoint grows."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from coat.errors import CoatError
from coat.thinking.tokens import RESERVED

# Names that vocabularies give to tokens without a use: Gemma's, Llama's, Mistral's, Qwen's first and Phi's.
UNUSED = re.compile(
    r"<unused\d+>|<\|reserved_special_token_\d+\|>|<SPECIAL_\d+>|<\|extra_\d+\|>|<\|dummy_\d+\|>|\[unused\d+\]"
)


def name_reserved(tokenizer: Any) -> Any:
    """A tokenizer three of whose unused tokens, the last ones, are the think tokens, at the ids that they had.

    A tokenizer that holds think tokens is given back as it is.

    Raises:
        CoatError: Its vocabulary has fewer than three unused tokens.
    """
    known = tokenizer.get_vocab()
    if set(RESERVED) <= set(known):
        return tokenizer
    unused = sorted((index, token) for token, index in known.items() if UNUSED.fullmatch(token))[-len(RESERVED) :]
    if len(unused) < len(RESERVED):
        raise CoatError(
            f"The vocabulary has {len(unused) or 'no'} tokens that are kept unused, and three are needed.",
            "Leave thinking.tokens at added.",
        )
    names = {token: name for (_, token), name in zip(unused, RESERVED, strict=True)}
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        for path in Path(folder).glob("*.json"):
            path.write_text(json.dumps(_renamed(json.loads(path.read_text()), names), ensure_ascii=False))
        _make_special(Path(folder) / "tokenizer.json", [index for index, _ in unused])
        return type(tokenizer).from_pretrained(folder)


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    """JSON with some strings replaced wherever they stand alone."""
    if isinstance(value, dict):
        return {names.get(key, key): _renamed(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    return names.get(value, value) if isinstance(value, str) else value


def _make_special(path: Path, ids: list[int]) -> None:
    """Let a tokenizer's file say of the think tokens that they are special, as of those that are added."""
    fields = json.loads(path.read_text())
    others = [token for token in fields["added_tokens"] if token["id"] not in ids]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    ours = [{"id": index, "content": name, **plain} for index, name in zip(ids, RESERVED, strict=True)]
    fields["added_tokens"] = sorted(others + ours, key=lambda token: token["id"])
    path.write_text(json.dumps(fields, ensure_ascii=False))
