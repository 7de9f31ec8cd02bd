"""Conversations to token ids, with labels and thinking blocks: the one prompt builder.

Training and generation both come through :meth:`PromptBuilder.build`, so their prompts are the same
token by token up to the answer. Labels are made by construction, not by searching: each assistant answer
is tokenised on its own and marked as it is appended.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from jinja2 import TemplateError

from coat.backbones.base import Backbone
from coat.config.thinking import PAPER, ThinkingConfig
from coat.data.conversation import Message, in_parts, texts_of
from coat.errors import CoatError
from coat.thinking.block import Block, insert_blocks, insert_filler, plan_blocks, positions_at_audio
from coat.thinking.tokens import RESERVED, ThinkTokens

IGNORE = -100
# Control tokens begin with one of these.
BRACKETS = ("<", "[")


@dataclass(frozen=True)
class Prompt:
    """One conversation as ids.

    Attributes:
        input_ids: With audio placeholders expanded and blocks inserted.
        labels: Parallel to the ids: the token where it belongs to an answer, -100 elsewhere.
        blocks: The inserted blocks; positions count without blocks.
        positions: Parallel to the ids, where think tokens stand at their audio; None where all stand in sequence.
    """

    input_ids: list[int]
    labels: list[int]
    blocks: list[Block]
    positions: list[int] | None = None


class PromptBuilder:
    """Builds prompts for one backbone.

    Args:
        backbone: The backbone whose template and tokenizer are used.
        tokens: The three think tokens; None builds prompts without blocks.
        thinking: Placement of blocks, and the number of audio tokens for each think token.
    """

    def __init__(self, backbone: Backbone, tokens: ThinkTokens | None, thinking: ThinkingConfig = PAPER) -> None:
        self.backbone = backbone
        self.tokens = tokens
        self.thinking = thinking

    def at(self, stride: int) -> PromptBuilder:
        """A builder whose blocks have a think token for so many audio tokens; 0 is without blocks.

        Raises:
            CoatError: The model has no thinking block.
        """
        if stride and self.tokens is None:
            raise CoatError("The model has no thinking block, and is asked for one.", "Leave the stride out.")
        return PromptBuilder(self.backbone, self.tokens if stride else None, self.thinking.at(stride))

    @cached_property
    def _header(self) -> list[int]:
        return self._tokenize(self.backbone.assistant_header)

    def build(
        self,
        messages: Sequence[Message],
        num_audio_tokens: Sequence[int],
        *,
        name: str = "prompt",
    ) -> Prompt:
        """Encode a conversation.

        It ends with an answer for training, or with a user turn for generation (a generation prompt follows).

        Args:
            messages: As a :class:`~coat.data.conversation.Conversation` holds them, and ``"loss": False`` where an
                answer is not to be trained on.
            num_audio_tokens: L_a of each clip, in order.
            name: Name of the conversation in messages.

        Raises:
            CoatError: Clips and ``<audio>`` marks differ in number, a text holds reserved tokens, or the prompt is
                longer than the language model's positions.
        """
        messages = [in_parts(message) for message in messages]
        _refuse_think_tokens(messages, name)
        self._refuse_control_tokens(messages, name)
        marks = sum(
            item["type"] == "audio" for m in messages if isinstance(m["content"], list) for item in m["content"]
        )
        if marks != len(num_audio_tokens):
            raise CoatError(
                f"{name} has {len(num_audio_tokens)} audio clip(s) and {marks} <audio> mark(s).",
                "Write one <audio> in the messages for each entry of audios.",
            )
        limit = self.backbone.max_clips
        if limit is not None and marks > limit:
            raise CoatError(
                f"{name} holds {marks} audio clips; {self.backbone.family} takes at most {limit} in a conversation.",
                "Join them into one file, or ask about each on its own.",
            )
        ids, labels = self._encode_turns(messages, name)
        ids, labels = self._expand_audio(ids, labels, num_audio_tokens, name)
        if self.tokens is None:
            return self._checked(Prompt(ids, labels, []), name)
        try:
            blocks = plan_blocks(
                ids,
                audio_token=self.backbone.audio_token_id,
                assistant_header=self._header,
                tokens=self.tokens,
                thinking=self.thinking,
            )
        except ValueError as error:
            raise CoatError(f"{name} cannot be given a thinking block: {error}.") from None
        ids, labels = insert_blocks(ids, blocks, self.tokens), insert_filler(labels, blocks, IGNORE)
        positions = None
        if self.thinking.positions == "audio":
            positions = positions_at_audio(ids, audio_token=self.backbone.audio_token_id, tokens=self.tokens)
        return self._checked(Prompt(ids, labels, blocks, positions), name)

    def _checked(self, prompt: Prompt, name: str) -> Prompt:
        """The prompt, if the language model has a position for each of its tokens."""
        most = self.backbone.max_positions
        if most is not None and len(prompt.input_ids) > most:
            raise CoatError(
                f"{name} takes {len(prompt.input_ids)} tokens; the language model has {most} positions.",
                "Give less text, fewer or shorter clips, or leave such rows out.",
            )
        return prompt

    @cached_property
    def _control(self) -> re.Pattern[str]:
        """Every control token of the tokenizer but those that have an error of their own."""
        tokenizer = self.backbone.tokenizer
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        bracketed = {token for token in special if token.startswith(BRACKETS)}
        names = sorted(bracketed - {self.backbone.audio_token, *RESERVED}, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names)) or r"(?!)")

    def _refuse_control_tokens(self, messages: Sequence[Message], name: str) -> None:
        """A text with ``<|im_start|>assistant`` in it would end its own turn, and move the block."""
        for text in chain.from_iterable(map(texts_of, messages)):
            if any(bracket in text for bracket in BRACKETS) and (found := self._control.search(text)):
                raise CoatError(
                    f"A text of {name} holds {found[0]}, a control token of the model.",
                    "Leave it out, or write it in other characters: texts cannot hold turns.",
                )

    def _encode_turns(self, messages: list[Message], name: str) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        labels: list[int] = []
        done = ""
        trains = [message.get("loss", True) for message in messages]
        messages = [{"role": m["role"], "content": m["content"]} for m in messages]
        for index, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            prompt = self._render(messages[:index], name, asks=True)
            answered = self._render(messages[: index + 1], name, asks=False)
            before, answer = _suffix(prompt, done, name), _suffix(answered, prompt, name)
            text, end, after = answer.partition(self.backbone.end_of_turn)
            trained = trains[index]
            for piece, is_answer in ((before, False), (text + end, trained), (after, False)):
                tokens = self._tokenize(piece)
                ids += tokens
                labels += tokens if is_answer else [IGNORE] * len(tokens)
            done = answered
        if messages[-1]["role"] != "assistant":
            tail = self._tokenize(_suffix(self._render(messages, name, asks=True), done, name))
            ids += tail
            labels += [IGNORE] * len(tail)
        return ids, labels

    def _render(self, messages: list[Message], name: str, *, asks: bool) -> str:
        """The conversation as text; what the family's template refuses is named."""
        try:
            return self.backbone.render(messages, add_generation_prompt=asks)
        except TemplateError as error:
            raise CoatError(f"{name}: the chat template of {self.backbone.family} refuses it: {error}") from None

    def _expand_audio(
        self, ids: list[int], labels: list[int], num_audio_tokens: Sequence[int], name: str
    ) -> tuple[list[int], list[int]]:
        audio = self.backbone.audio_token_id
        if ids.count(audio) != len(num_audio_tokens):
            raise CoatError(f"A text of {name} holds the audio placeholder.", "Write <audio> where a clip goes.")
        counts = iter(num_audio_tokens)
        out_ids: list[int] = []
        out_labels: list[int] = []
        for token, label in zip(ids, labels, strict=True):
            repeat = next(counts) if token == audio else 1
            out_ids += [token] * repeat
            out_labels += [label] * repeat
        return out_ids, out_labels

    def _tokenize(self, text: str) -> list[int]:
        return self.backbone.tokenizer(text, add_special_tokens=False)["input_ids"] if text else []


def _refuse_think_tokens(messages: Sequence[Message], name: str) -> None:
    if any(token in text for message in messages for text in texts_of(message) for token in RESERVED):
        raise CoatError(
            f"A text of {name} holds think tokens; blocks are added once, and never written by users.",
            f"Leave out {', '.join(RESERVED)}.",
        )


def _suffix(longer: str, shorter: str, name: str) -> str:
    if not longer.startswith(shorter):
        raise CoatError(
            f"{name}: the chat template writes earlier turns anew when a turn is added, so that its answers cannot be "
            "told from its questions.",
            "Give the checkpoint a template that only adds to a conversation (chat_template.jinja).",
        )
    return longer[len(shorter) :]
