"""Load a model, chat with it, and look at what it thinks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import TYPE_CHECKING, Any, Literal, overload

import torch
from torch import Tensor
from transformers.utils.generic import ModelOutput

from coat.api.evaluation import evaluate_model
from coat.api.inputs import conversation, question
from coat.checkpoints import load_model
from coat.checkpoints.building import build_experts
from coat.checkpoints.references import Checkpoint, RunRef, resolve, resolve_adapter
from coat.config.thinking import ThinkingConfig
from coat.data.conversation import Conversation
from coat.errors import CoatError
from coat.experts.base import Expert
from coat.experts.events import Event
from coat.export.checkpoint import export
from coat.export.hub import push
from coat.generation import generate
from coat.reasoning import MORE_TOKENS, reasoned, reasoning_prompt
from coat.thinking.batch import make_batch
from coat.thinking.model import ThinkingModel

if TYPE_CHECKING:
    from coat.evaluation.scoring import Protocol, TaskScore


@dataclass
class ThinkOutput(ModelOutput):
    """Think states of one clip.

    Attributes:
        think_hidden: H_think, ``(L, d)``: the final-layer states of the think tokens.
        times: ``(L,)`` the time at the middle of the audio that each of them stands for, in seconds.
        predictions: Each head's P_k(H_think), ``(L, e_k)``, by expert; None unless the model was loaded with heads.

    Example:
        >>> from coat import CoatModel
        >>> from coat.testing.clips import noise
        >>> thought = CoatModel.from_pretrained("miniature", heads=True).think(noise(1.0))
        >>> thought.think_hidden.shape, thought.times[:3]
        (torch.Size([25, 128]), tensor([0.0100, 0.0500, 0.0900]))
        >>> sorted(thought.predictions)
        ['audio_reconstruction', 'basic_pitch', 'standin_affect', 'standin_speech']
    """

    think_hidden: Tensor | None = None
    times: Tensor | None = None
    predictions: dict[str, Tensor] | None = None


class CoatModel:
    """An audio language model with its thinking block, ready to answer.

    Example:
        >>> from coat import CoatModel
        >>> import numpy as np
        >>> model = CoatModel.from_pretrained("miniature")
        >>> tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(24_000) / 16_000)
        >>> answer = model.chat((tone, 16_000), "What note is this?")
        >>> model.think((tone, 16_000)).think_hidden.shape
        torch.Size([37, 128])
    """

    def __init__(self, model: ThinkingModel, source: Checkpoint | None = None) -> None:
        self.model = model.eval()
        self.source = source
        self._experts: dict[str, Expert] | None = None

    @classmethod
    def from_pretrained(
        cls,
        model_path: str | Path,
        adapter: str | Path | None = None,
        *,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        device_map: str | dict[str, Any] | None = None,
        attn_implementation: str | None = None,
        heads: bool = False,
        load_in_4bit: bool | None = None,
    ) -> CoatModel:
        """Load a training run, an export, or a checkpoint of a known family; it thinks if that was trained to think.

        Args:
            model_path: A folder or a hub id; ``miniature`` for the small model that ships with the package.
            adapter: An adapter that ``coat export --adapter-only`` wrote, or a training run, to put on the checkpoint.
            dtype: ``auto`` (what a run's recipe says, else bfloat16 where the accelerator computes in it),
                ``float32``, ``bfloat16``, ``float16`` or a ``torch.dtype``.
            device: Device of the model; the accelerator, or the CPU where there is none, if None.
            device_map: As in transformers, for models that one device does not hold; excludes ``device``.
            attn_implementation: As in transformers.
            heads: Load the projection heads of a run too, so that :meth:`think` predicts.
            load_in_4bit: Hold the language model in four bits (bitsandbytes); as the run was trained if None.

        Raises:
            CoatError: There is no such model, or adapter and checkpoint do not belong together.
        """
        ref = resolve(model_path) if adapter is None else resolve_adapter(adapter, base=str(model_path))
        options: dict[str, Any] = {"device_map": device_map, "attn_implementation": attn_implementation, "heads": heads}
        return cls(load_model(ref, dtype=dtype, device=device, load_in_4bit=load_in_4bit, **options), ref)

    @property
    def thinking(self) -> ThinkingConfig:
        """How it thinks."""
        return self.model.thinking

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.backbone.device

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the weights."""
        return self.model.backbone.dtype

    @property
    def tokenizer(self) -> Any:
        """The backbone's tokenizer, think tokens included."""
        return self.model.backbone.tokenizer

    def to(self, *args: Any, **options: Any) -> CoatModel:
        """Move it, as ``torch.nn.Module.to`` does."""
        self.model.to(*args, **options)
        return self

    @overload
    def chat(
        self, audio: Any, text: str, *, max_new_tokens: int = ..., stream: Literal[False] = ..., text_cot: bool = ...,
        **options: Any,
    ) -> str: ...  # fmt: skip

    @overload
    def chat(
        self, audio: Any, text: str, *, max_new_tokens: int = ..., stream: Literal[True], text_cot: bool = ...,
        **options: Any,
    ) -> Iterator[str]: ...  # fmt: skip

    def chat(
        self,
        audio: Any,
        text: str,
        *,
        max_new_tokens: int = 256,
        stream: bool = False,
        text_cot: bool = False,
        **options: Any,
    ) -> str | Iterator[str]:
        """Answer a question about one or several clips, or about none; greedily, unless options say otherwise.

        Args:
            audio: A clip in any form of :func:`coat.api.inputs.as_clip`, a list of them, or None. They go before the
                text unless it says ``<audio>`` itself.
            text: The question.
            max_new_tokens: Most tokens of the answer.
            stream: Return an iterator over the answer's pieces as they come.
            text_cot: Have the model think in text first, as the paper's rival does; the answer holds the chain, and
                :func:`coat.reasoning.final_answer` takes it off.
            **options: See :meth:`generate`.

        Raises:
            CoatError: A clip cannot be read or is too short or too long.
        """
        asked = question(audio, text, max_seconds=self._longest)
        if text_cot:
            messages = reasoned(asked.messages, reasoning_prompt(self.model.backbone))
            asked = Conversation(messages, asked.clips, asked.name)
            max_new_tokens += MORE_TOKENS
        if stream:
            return self._pieces(asked, max_new_tokens=max_new_tokens, **options)
        return generate(self.model, [asked], max_new_tokens=max_new_tokens, **options)[0]

    def generate(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], *, max_new_tokens: int = 256, **options: Any
    ) -> list[str]:
        """Answer several conversations as one batch.

        Args:
            conversations: Lists of messages in transformers' chat format; see :func:`coat.api.inputs.conversation`.
            max_new_tokens: Most tokens of an answer.
            **options: ``thinking``, a :class:`ThinkingConfig` to think in another way than the model was trained to,
                and options of transformers' ``generate``: ``temperature`` (above zero samples), ``top_p``,
                ``repetition_penalty``, others.

        Returns:
            One answer each.

        Raises:
            CoatError: A message is not understood, or a clip cannot be read.

        Example:
            >>> from coat import CoatModel
            >>> model = CoatModel.from_pretrained("miniature")
            >>> len(model.generate([[{"role": "user", "content": "Say something."}]], max_new_tokens=4))
            1
        """
        asked = [conversation(messages, max_seconds=self._longest) for messages in conversations]
        return generate(self.model, asked, max_new_tokens=max_new_tokens, **options)

    def think(self, audio: Any, text: str = "Describe the audio.") -> ThinkOutput:
        """The think states of a clip before an answer to ``text``, and what each head reads in them.

        Args:
            audio: A clip in any form of :func:`coat.api.inputs.as_clip`.
            text: The question that is asked about it.

        Raises:
            CoatError: The model has no thinking block, or the clip cannot be read.
        """
        return self._think(audio, text)[0]

    @torch.inference_mode()
    def _think(self, audio: Any, text: str) -> tuple[ThinkOutput, int]:
        """Return the output of :meth:`think`, and the number of audio tokens for each think token."""
        if not self.thinking.enabled:
            raise CoatError("This model has no thinking block.", "Load a run whose recipe has thinking.enabled: true.")
        asked = question(audio, text, max_seconds=self._longest)
        if len(asked.clips) != 1:
            raise CoatError(f"think() takes one clip, not {len(asked.clips)}.", "Call it for each.")
        batch = make_batch(self.model.builder, [asked]).to(self.device)
        output = self.model(batch)
        audio_spec, (stride,) = self.model.backbone.audio_spec, batch.think_strides
        tokens = torch.arange(int(output.think_mask[0].sum()))
        (audio_tokens,) = batch.heard_lengths
        # A think token stands for `stride` audio tokens, the last one for those that are left.
        middle = (tokens * stride + torch.clamp((tokens + 1) * stride, max=audio_tokens) - 1) / 2
        thought = ThinkOutput(
            think_hidden=output.think_hidden[0, : len(tokens)],
            times=audio_spec.first_token_seconds + middle / audio_spec.token_rate,
            predictions={name: rows[0, : len(tokens)] for name, rows in output.predictions.items()} or None,
        )
        return thought, stride

    def events(self, audio: Any, text: str = "Describe the audio.") -> list[Event]:
        """A time line of a clip, read from its think states by the heads: notes, sound events.

        Args:
            audio: A clip in any form of :func:`coat.api.inputs.as_clip`.
            text: The question that is asked about it.

        Returns:
            Events by start, in the terms of those experts that have names for what they hear (``basic_pitch``,
            ``panns``, experts of your own with :meth:`coat.experts.base.Expert.events`).

        Raises:
            CoatError: The model was not loaded from a run with ``heads=True``, or the clip cannot be read.

        Example:
            >>> from coat import CoatModel
            >>> model = CoatModel.from_pretrained("miniature", heads=True)
            >>> model.events("piano.wav")  # doctest: +SKIP
            [Event(start=0.52, end=1.04, label='A4', confidence=0.83, expert='basic_pitch')]
        """
        if not isinstance(self.source, RunRef) or not self.model.heads:
            raise CoatError("Events are read by the heads of a training run.", "from_pretrained(RUN, heads=True)")
        if self._experts is None:
            self._experts = build_experts(self.source.recipe, self.model)
        thought, stride = self._think(audio, text)
        rate = self.model.backbone.audio_spec.token_rate / stride
        found = [
            replace(event, expert=name)
            for name, rows in (thought.predictions or {}).items()
            for event in self._experts[name].events(rows, rate)
        ]
        return sorted(found, key=lambda event: (event.start, event.expert, event.label))

    def evaluate(
        self,
        tasks: Sequence[str | Path],
        output_dir: str | Path,
        *,
        data: str | None = None,
        limit: int | None = None,
        max_new_tokens: int = 256,
        batch_size: int = 32,
        protocol: Protocol = "strict",
    ) -> dict[str, TaskScore]:
        """Ask the questions of tasks and score the answers, as ``coat eval run`` does; it needs ``coat-audio[eval]``.

        Args:
            tasks: Names of benchmarks (``coat eval list`` shows them), YAML files, or manifests: every task in them.
            output_dir: Folder of the answers; what is there already is not asked again.
            data: Folder with a folder for each benchmark, or ``sample`` for the rows that ship with each; the hub if
                None.
            limit: Items of a task at most, chosen evenly.
            max_new_tokens: Longest answer to a manifest's question.
            batch_size: Questions in a batch.
            protocol: ``strict``, ``paper`` or ``upstream``; see docs/evaluation.md.

        Returns:
            Scores by task; ``scores["mmau"].leading`` has ``metric``, ``value`` and its 95 % interval.

        Raises:
            CoatError: A task or its data is not there, a question failed, or the folder is of another model.

        Example:
            >>> from coat import CoatModel
            >>> model = CoatModel.from_pretrained("miniature")
            >>> scores = model.evaluate(["my-test.jsonl"], "runs/eval")  # doctest: +SKIP
            >>> scores["transcription"].leading.value  # doctest: +SKIP
        """
        return evaluate_model(
            self.model, self.source, tasks, output_dir, data=data, limit=limit, max_new_tokens=max_new_tokens,
            batch_size=batch_size, protocol=protocol,
        )  # fmt: skip

    def save_pretrained(self, folder: str | Path, *, adapter_only: bool = False) -> Path:
        """Write a checkpoint that transformers, vLLM and others load, block included; see ``coat export``.

        Args:
            folder: A folder that is not there yet; it appears whole or not at all.
            adapter_only: Write the PEFT adapter with tokenizer and processor, and no base weights.

        Raises:
            CoatError: The folder is taken, or the model was not loaded from a run.
        """
        if not isinstance(self.source, RunRef):
            raise CoatError(
                "Only training runs are exported; this model is a checkpoint already.",
                "Copy its folder, or download it: hf download OWNER/NAME",
            )
        return export(self.source, folder, adapter_only=adapter_only, say=lambda _: None)

    def push_to_hub(self, repository: str, *, private: bool = True, adapter_only: bool = False) -> None:
        """Export the model and upload it to the hub.

        Args:
            repository: ``owner/name``.
            private: Visible to its owner alone.
            adapter_only: See :meth:`save_pretrained`.

        Raises:
            CoatError: The model was not loaded from a run, or the hub refuses.
        """
        with TemporaryDirectory() as scratch:
            push(self.save_pretrained(Path(scratch) / "export", adapter_only=adapter_only), repository, private=private)

    @property
    def _longest(self) -> float:
        return self.model.backbone.audio_spec.max_seconds

    def _pieces(self, asked: Conversation, **options: Any) -> Iterator[str]:
        """The answer's text while it is decoded in a thread; what fails there is raised here."""
        from transformers import TextIteratorStreamer

        streamer = TextIteratorStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        failed: list[BaseException] = []

        def work() -> None:
            try:
                generate(self.model, [asked], streamer=streamer, **options)
            except BaseException as error:  # raised again where the pieces are read
                failed.append(error)
                streamer.end()

        thread = Thread(target=work, daemon=True)
        thread.start()
        yield from (piece for piece in streamer if piece)
        thread.join()
        if failed:
            raise failed[0]
