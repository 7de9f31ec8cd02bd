"""``coat chat``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from coat.errors import CoatError


def chat(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="A run, export, checkpoint or hub id; clips; and the question, without which it is a conversation.",
            show_default=False,
        ),
    ] = None,
    audio: Annotated[list[Path] | None, typer.Option("--audio", help="A clip. Repeatable.")] = None,
    miniature: Annotated[bool, typer.Option("--miniature", help="Ask the small model that ships with coat.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Where an answer is cut at the latest.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="Sample; 0 takes the likeliest token.")] = 0.0,
    top_p: Annotated[
        float, typer.Option(min=0, max=1, help="Sample among tokens that hold so much probability.")
    ] = 1.0,
    repetition_penalty: Annotated[float, typer.Option(min=0.01, help="Above 1, words are repeated less.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Seed of sampling.")] = None,
    text_cot: Annotated[
        bool, typer.Option("--text-cot", help="Think in text first, and show it: the paper's rival.")
    ] = False,
) -> None:
    r"""Ask a question about a clip, or hold a conversation where no question is given.

    coat chat RUN clip.wav "What note is this?"

    coat chat --miniature clip.wav "What note is this?"

    coat chat RUN

    Without a question it is a conversation: /audio FILE adds a clip.
    """
    from coat.hub import MINIATURE

    model_path, clips, question = _read([MINIATURE] * miniature + (arguments or []))
    clips = [*(audio or []), *clips]
    if not temperature and (top_p < 1 or seed is not None):
        raise CoatError("--top-p and --seed are of sampling, and nothing is sampled.", "Add --temperature 0.7")
    if text_cot and question is None:
        raise CoatError("--text-cot answers one question.", "Give the question, or leave out --text-cot.")
    from coat.cli.quiet import quiet

    quiet()
    from coat.api.model import CoatModel

    model = CoatModel.from_pretrained(model_path)
    if not model.thinking.enabled:
        typer.echo("A plain model: it answers without a thinking block.", err=True)
    if question is not None and not clips:
        typer.echo("No clip was given: this answers the text alone. Clips stand before the question.", err=True)
    if seed is not None:
        import torch

        torch.manual_seed(seed)
    sampling = {"temperature": temperature, "top_p": top_p} if temperature else {}
    options: dict[str, Any] = {"max_new_tokens": max_new_tokens, "repetition_penalty": repetition_penalty, **sampling}
    if question is None:
        _converse(model.model, clips, options)
    else:
        typer.echo(model.chat(clips, question, text_cot=text_cot, **options))


def _read(arguments: list[str]) -> tuple[str, list[Path], str | None]:
    """The model, clips and the question; None asks for a conversation.

    Raises:
        CoatError: There is no model, or a clip is not there.
    """
    example = 'coat chat RUN clip.wav "What note is this?"'
    if not arguments or (" " in arguments[0] and not Path(arguments[0]).exists()):
        raise CoatError("coat chat needs a run and a question.", example)
    model_path, *rest = arguments
    question = rest.pop() if rest and not _is_clip(rest[-1]) else None
    for given in rest:
        if not Path(given).is_file():
            raise CoatError(f"There is no audio file at {given}.", f"Clips come before the question: {example}")
    return model_path, [Path(given) for given in rest], question


def _is_clip(given: str) -> bool:
    """A file, or what is named like one: a misspelt name is no question."""
    return Path(given).is_file() or (" " not in given and bool(re.fullmatch(r"\.\w{2,5}", Path(given).suffix)))


def _converse(model: Any, clips: list[Path], options: dict[str, Any]) -> None:
    """Read questions from the terminal, or from a pipe, and answer each as its tokens come."""
    import sys

    from transformers import TextStreamer

    from coat.cli.interactive import HELP, Dialogue, converse, typed_lines

    dialogue = Dialogue(model, options)
    for clip in clips:
        dialogue.add_audio(clip)
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        typer.echo(HELP)
    streamer = TextStreamer(model.backbone.tokenizer, skip_prompt=True, skip_special_tokens=True)
    converse(dialogue, typed_lines("> " if is_terminal else ""), typer.echo, streamer)
