"""``coat chat MODEL`` without a question: a conversation on the terminal."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coat.audio import Clip, load_audio
from coat.data.conversation import Conversation, Message, user_message
from coat.errors import CoatError
from coat.generation import generate
from coat.thinking.model import ThinkingModel

HELP = """/audio FILE   add a clip to the next question
/reset        forget the conversation
/help         show this
/quit         end (also Ctrl-D)"""


@dataclass
class Dialogue:
    """A conversation that remembers its turns.

    Attributes:
        model: Answers.
        options: Options of :func:`coat.generation.generate`.
        messages: The turns so far.
        clips: Those that the turns hold, in order.
        pending: Clips for the next question.
    """

    model: ThinkingModel
    options: Mapping[str, Any] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    clips: list[Clip] = field(default_factory=list)
    pending: list[Clip] = field(default_factory=list)

    def add_audio(self, path: str | Path) -> Clip:
        """Add a clip to the next question.

        Raises:
            CoatError: It cannot be read, or is too short or too long for the model.
        """
        clip = load_audio(path, max_seconds=self.model.backbone.audio_spec.max_seconds)
        self.pending.append(clip)
        return clip

    def ask(self, text: str, streamer: Any = None) -> str:
        """Ask a question, after everything that was said before; a question that fails leaves no trace but its clips.

        Args:
            text: The question.
            streamer: One of transformers' streamers; it is given the answer's tokens as they come.

        Raises:
            CoatError: The conversation cannot be encoded: it is too long, or holds more clips than the model takes.
        """
        messages: list[Message] = [*self.messages, user_message(text, len(self.pending))]
        clips = [*self.clips, *self.pending]
        options = {**self.options, **({} if streamer is None else {"streamer": streamer})}
        answer = generate(self.model, [Conversation(messages, clips, "the conversation")], **options)[0]
        self.messages, self.clips, self.pending = [*messages, {"role": "assistant", "content": answer}], clips, []
        return answer

    def reset(self) -> None:
        """Forget everything."""
        self.messages, self.clips, self.pending = [], [], []


def converse(dialogue: Dialogue, lines: Iterable[str], say: Callable[[str], None], streamer: Any = None) -> None:
    """Answer lines until they end or one of them is ``/quit``.

    Args:
        dialogue: Remembers.
        lines: Lines that the user types.
        say: Shows a line; answers too where there is no streamer.
        streamer: Shows answers as they come.
    """
    for line in lines:
        command, _, rest = line.strip().partition(" ")
        try:
            if command == "/quit":
                return
            if command == "/audio":
                clip = dialogue.add_audio(Path(rest.strip()).expanduser())
                say(f"{clip.name}: {clip.seconds:.1f} s, for the next question")
            elif command == "/reset":
                dialogue.reset()
                say("A new conversation.")
            elif command.startswith("/"):
                say(HELP)
            elif line.strip():
                answer = dialogue.ask(line.strip(), streamer)
                if streamer is None:
                    say(answer)
        except CoatError as error:
            say(f"{error.problem} {error.remedy}".strip())


def typed_lines(prompt: str = "> ") -> Iterable[str]:
    """Lines that the user types, to the end of the input; arrow keys bring earlier lines back."""
    with contextlib.suppress(ImportError):  # Windows has none
        import readline  # noqa: F401
    while True:
        try:
            yield input(prompt)
        except EOFError:
            return
