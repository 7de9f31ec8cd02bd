"""The live page, by Gradio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from coat.errors import CoatError
from coat.pocket.recordings import SHIPPED
from coat.view.listen import Heard, Listener

EXPERTS = "what each frozen expert hears in it, what the think states kept of that, on one time axis"
NO_EXPERTS = "its spectrogram, the notes that basic-pitch hears in it where that is installed"
# The recordings that ship with the package.
EXAMPLES = [str(path) for path in sorted(SHIPPED.glob("*.flac"))]


def build_page(listener: Listener, title: str, examples: Sequence[str] = ()) -> Any:
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
    answers = [("baseline", "As it was", True)] if listener.compares else []
    answers.append(("coat", listener.answers_as, False))

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

    def ask(path: str | None, question: str) -> list[str]:
        if not path:
            raise gr.Error("Drop or record a clip first.")
        if not question.strip():
            raise gr.Error("Ask something.")
        with lock:
            try:
                clip = listener.clip(path)
                heard = [listener.answer(clip, question, baseline=baseline) for _, _, baseline in answers]
            except CoatError as error:
                raise gr.Error(str(error)) from None
        return [text for each in heard for text in (each.text, took(each))]

    with gr.Blocks(title=title, analytics_enabled=False) as page:
        gr.Markdown(f"# {title}\n\n{_lead(listener)}")
        with gr.Row():
            with gr.Column(scale=1):
                sound = gr.Audio(sources=["upload", "microphone"], type="filepath", label="Clip", elem_id="clip")
                question = gr.Textbox(label="Question", value="What can be heard?", elem_id="question")
                button = gr.Button("Ask", variant="primary", elem_id="ask")
                said = []
                with gr.Row():
                    for name, label, _ in answers:
                        with gr.Column():
                            said.append(gr.Textbox(label=label, interactive=False, elem_id=name, lines=2))
                            said.append(gr.Markdown(elem_id=f"{name}-took"))
                if examples:
                    gr.Examples(examples=[[example] for example in examples], inputs=[sound], label="Clips to try")
            with gr.Column(scale=2):
                picture = gr.Plot(show_label=False, elem_id="picture")
        sound.change(look, [sound], [picture])
        gr.on([button.click, question.submit], ask, [sound, question], said)
    return page


def _lead(listener: Listener) -> str:
    """Say what the page shows, in a sentence."""
    shown = EXPERTS if listener.experts else NO_EXPERTS
    before = ", and as it was before training" if listener.compares else ""
    block = " with its thinking block" if listener.model.thinking.enabled else ""
    return f"Drop or record a clip. The page shows {shown}, and what the model answers{block}{before}."


def took(heard: Heard) -> str:
    """Time and tokens of an answer, in a line."""
    times = f"{1000 * heard.first:.0f} ms to the first token, {1000 * heard.total:.0f} ms in all"
    block = f", {heard.think_tokens} think tokens in the prompt" if heard.think_tokens else ""
    return f"{times}, {heard.tokens} tokens{block}"


def serve_page(
    model_path: str | Path,
    *,
    decoder: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 7860,
    share: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Serve the page until it is stopped.

    Args:
        model_path: A run or one of its checkpoints, an export, an adapter, a plain checkpoint, or a name.
        decoder: Draws audio embeddings as spectrograms.
        host: Address to listen on.
        port: Port to listen on.
        share: Through Gradio's tunnel, for others to see.
        say: Called with the address, once there is something to show.
    """
    page = build_page(Listener(model_path, decoder), f"What {Path(model_path).name} hears", EXAMPLES)
    say(f"http://{host}:{port}")
    page.launch(server_name=host, server_port=port, share=share, quiet=True)
