"""The live page, by Gradio."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

from coat.errors import CoatError
from coat.view.listen import Heard, Listener

LEAD = (
    "Drop or record a clip. The page shows what each frozen expert hears in it, what the think states kept of that, on "
    "one time axis, and what the model answers with its thinking block and as it was before training."
)


def build_page(listener: Listener, title: str, examples: list[str] | None = None) -> Any:
    """The page as a Gradio application.

    Args:
        listener: Answers questions and draws pictures.
        title: Title of the page.
        examples: Clips to try.

    Raises:
        CoatError: Gradio is not installed.
    """
    try:
        import gradio as gr
    except ImportError:
        raise CoatError("The live page needs Gradio.", "pip install 'coat-audio[view]'") from None
    from matplotlib import pyplot as plt

    lock = Lock()  # one model, one question at a time

    def look(path: str | None) -> Any:
        if not path:
            raise gr.Error("Drop or record a clip first.")
        with lock:
            try:
                figure = listener.look(listener.clip(path))
            except CoatError as error:
                raise gr.Error(str(error)) from None
        plt.close(figure)
        return figure

    def ask(path: str | None, question: str) -> tuple[str, str, str, str]:
        if not path:
            raise gr.Error("Drop or record a clip first.")
        if not question.strip():
            raise gr.Error("Ask something.")
        with lock:
            try:
                clip = listener.clip(path)
                plain = listener.answer(clip, question, baseline=True)
                thought = listener.answer(clip, question, baseline=False)
            except CoatError as error:
                raise gr.Error(str(error)) from None
        return plain.text, took(plain), thought.text, took(thought)

    with gr.Blocks(title=title, analytics_enabled=False) as page:
        gr.Markdown(f"# {title}\n\n{LEAD}")
        with gr.Row():
            with gr.Column(scale=1):
                sound = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Clip", elem_id="clip")
                question = gr.Textbox(label="Question", value="What can be heard?", elem_id="question")
                button = gr.Button("Ask", variant="primary", elem_id="ask")
                with gr.Row():
                    with gr.Column():
                        plain = gr.Textbox(label="As it was", interactive=False, elem_id="baseline", lines=2)
                        plain_took = gr.Markdown(elem_id="baseline-took")
                    with gr.Column():
                        thought = gr.Textbox(label="CoAT", interactive=False, elem_id="coat", lines=2)
                        thought_took = gr.Markdown(elem_id="coat-took")
                if examples:
                    gr.Examples(examples=[[example] for example in examples], inputs=[sound], label="Clips to try")
            with gr.Column(scale=2):
                picture = gr.Plot(show_label=False, elem_id="picture")
        sound.change(look, [sound], [picture])
        gr.on([button.click, question.submit], ask, [sound, question], [plain, plain_took, thought, thought_took])
    return page


def took(heard: Heard) -> str:
    """Time and tokens of an answer, in a line."""
    times = f"{1000 * heard.first:.0f} ms to the first token, {1000 * heard.total:.0f} ms in all"
    block = f", {heard.think_tokens} think tokens in the prompt" if heard.think_tokens else ""
    return f"{times}, {heard.tokens} tokens{block}"


def serve_page(
    folder: Path, *, decoder: Path | None = None, host: str = "127.0.0.1", port: int = 7860, share: bool = False
) -> None:
    """Serve the page until it is stopped.

    Args:
        folder: A finished run.
        decoder: Draws audio embeddings as spectrograms.
        host: Address to listen on.
        port: Port to listen on.
        share: Through Gradio's tunnel, for others to see.
    """
    listener = Listener(folder, decoder)
    page = build_page(listener, f"What {folder.name} hears")
    page.launch(server_name=host, server_port=port, share=share, quiet=True)
