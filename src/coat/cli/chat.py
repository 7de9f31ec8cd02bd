"""``coat chat``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coat.errors import CoatError


def chat(
    arguments: Annotated[
        list[str],
        typer.Argument(
            help="A run, export or plain checkpoint, and the question; with --miniature, a clip and the question."
        ),
    ],
    audio: Annotated[list[Path] | None, typer.Option("--audio", help="A clip. Repeatable.")] = None,
    miniature: Annotated[bool, typer.Option("--miniature", help="Ask the small model that ships with coat.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Where an answer is cut at the latest.")] = 256,
    temperature: Annotated[float, typer.Option(min=0, help="Sample; 0 takes the likeliest token.")] = 0.0,
    top_p: Annotated[
        float, typer.Option(min=0, max=1, help="Sample among tokens that hold so much probability.")
    ] = 1.0,
    repetition_penalty: Annotated[float, typer.Option(min=0.01, help="Above 1, words are repeated less.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Of sampling.")] = None,
    text_cot: Annotated[
        bool, typer.Option("--text-cot", help="Think in text first, and show it: the paper's rival.")
    ] = False,
) -> None:
    r"""Ask a question about a clip.

    coat chat RUN --audio clip.wav "What note is this?"

    coat chat --miniature clip.wav "What note is this?"
    """
    clips = list(audio or [])
    *places, question = arguments
    if miniature:
        clips += [Path(place) for place in places]
    elif len(places) != 1:
        raise CoatError("coat chat needs a run and a question.", 'coat chat RUN --audio clip.wav "What note is this?"')
    from coat.cli.quiet import quiet

    quiet()
    from coat.api import Coat

    model = Coat.miniature() if miniature else Coat.load(places[0])
    if not model.model.thinking.enabled:
        typer.echo("A plain model: it answers without a thinking block.", err=True)
    if not temperature and (top_p < 1 or seed is not None):
        raise CoatError("--top-p and --seed are of sampling, and nothing is sampled.", "Add --temperature 0.7")
    if seed is not None:
        import torch

        torch.manual_seed(seed)
    sampling = {"temperature": temperature, "top_p": top_p} if temperature else {}
    answer = model.chat(
        clips,
        question,
        max_new_tokens=max_new_tokens,
        text_cot=text_cot,
        repetition_penalty=repetition_penalty,
        **sampling,
    )
    typer.echo(answer)
