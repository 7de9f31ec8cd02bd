"""``coat serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coat.errors import CoatError


def serve(
    model_path: Annotated[str, typer.Argument(help="A run, an export or a plain checkpoint.")],
    name: Annotated[str | None, typer.Option(help="The model's name in requests; the folder's if left out.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; beyond loopback a key is needed.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8000,
    api_key_file: Annotated[Path | None, typer.Option(help="A file that holds the API key.")] = None,
    backend: Annotated[str, typer.Option(help="auto (vLLM where it is installed), vllm, or transformers.")] = "auto",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A host that audio may be fetched from; .example.org for all below it.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin of web pages that may call the server, such as https://example.org; * for any."),
    ] = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Requests answered together.")] = 16,
    max_queue: Annotated[int, typer.Option(min=1, help="Requests that may wait.")] = 128,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 1024,
    max_body_mb: Annotated[int, typer.Option(min=1, help="Largest request.")] = 64,
    max_prompt_tokens: Annotated[int, typer.Option(min=1, help="Longest prompt in tokens, block included.")] = 16_384,
    request_timeout: Annotated[float, typer.Option(min=1, help="Seconds from arrival to last token.")] = 300.0,
    transcription_prompt: Annotated[
        str, typer.Option(help="What /v1/audio/transcriptions asks the model.")
    ] = "Transcribe the speech.",
    vllm_args: Annotated[
        list[str] | None, typer.Argument(help="After --: passed to vLLM as they are.", show_default=False)
    ] = None,
) -> None:
    """Serve a model behind OpenAI's API: with vLLM where it is installed, else with the embedded server.

    coat serve pitch-model --port 8000
    """
    from coat.cli.quiet import quiet

    quiet()
    from coat.serving.launch import ServeOptions
    from coat.serving.launch import serve as start

    if backend not in ("auto", "vllm", "transformers"):
        raise CoatError(f"There is no backend '{backend}'.", "One of auto, vllm, transformers.")
    if api_key_file is not None and not api_key_file.is_file():
        raise CoatError(f"There is no file {api_key_file}.", "Write the key into it, readable by you alone.")
    key = api_key_file.read_text().strip() if api_key_file else None
    if api_key_file and not key:
        raise CoatError(f"{api_key_file} is empty.", "Write the key into it.")
    start(
        ServeOptions(
            model_path, name, host, port, key, backend,  # type: ignore[arg-type]
            allowed_hosts=tuple(allow_host or ()), allowed_origins=tuple(allow_origin or ()),
            max_batch=max_batch, max_queue=max_queue, max_new_tokens=max_new_tokens, max_body_mb=max_body_mb,
            max_prompt_tokens=max_prompt_tokens, request_timeout=request_timeout,
            transcription_prompt=transcription_prompt, extra=tuple(vllm_args or ()),
        ),
        say=lambda line: typer.echo(line, err=True),
    )  # fmt: skip
