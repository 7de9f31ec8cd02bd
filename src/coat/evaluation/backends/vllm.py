"""VLLM in this process, on an export or a plain checkpoint; the package's plug-in puts the block in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from coat.errors import CoatError
from coat.evaluation.backends.base import Request, described, processor_options
from coat.evaluation.backends.endpoint import spoken
from coat.generation import Reply
from coat.thinking.tokens import RESERVED


class VllmBackend:
    """Hands vLLM many questions at once; it batches them itself.

    Args:
        folder: An export, or a checkpoint of vLLM's own.
        model_path: The model's path or name as it was given, for the record.
        fingerprint: Fingerprint of the weights.
        profile: The family of models whose prompts it is given.
        think: False leaves an export's block out.
        stride: Audio tokens for each think token; as the export is configured if None.
        is_export: Whether there is a block to leave out.
        hears: Seconds that the model takes in one clip; longer ones are given in pieces.
        at_once: Questions that are decoded and handed over together.
        **options: Options of ``vllm.LLM``, such as ``tensor_parallel_size``.

    Raises:
        CoatError: vLLM is not installed here.
    """

    name = "vllm"

    def __init__(
        self,
        folder: str,
        *,
        model_path: str,
        fingerprint: str,
        profile: str,
        think: bool = True,
        stride: int | None = None,
        is_export: bool = True,
        hears: float | None = None,
        at_once: int = 256,
        **options: Any,
    ) -> None:
        try:
            from vllm import LLM
        except ImportError:
            raise CoatError(
                "vLLM is not installed in this environment.",
                "pip install vllm, or serve the model and ask it: --backend openai",
            ) from None
        options = {"limit_mm_per_prompt": {"audio": 8}, **options} if hears is not None else options
        self.engine = LLM(folder, **options)
        self.model_path, self.profile, self.hears, self.at_once = model_path, profile, hears, at_once
        vocabulary = self.engine.get_tokenizer().get_vocab()
        self.think_tokens = {vocabulary[token] for token in RESERVED if token in vocabulary}
        if stride and not is_export:
            raise CoatError(f"{model_path} has no thinking block, and is asked for one.", "Leave --think out.")
        self.asks = processor_options(think=think, stride=stride) if is_export else {}
        self.fingerprint = f"{fingerprint} | {described(self.asks) if is_export else 'no block'}"

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply | Exception]]:
        """See :class:`coat.evaluation.backends.base.Backend`."""
        from vllm import SamplingParams

        order = sorted(range(len(requests)), key=lambda index: -requests[index].seconds)
        for start in range(0, len(order), self.at_once):
            chosen, messages = [], []
            for index in order[start : start + self.at_once]:
                try:
                    messages.append(spoken(requests[index].conversation(self.hears)))
                    chosen.append(index)
                except Exception as error:  # of one question; the caller names it
                    yield index, error
            limits = [SamplingParams(temperature=0, max_tokens=requests[i].max_new_tokens) for i in chosen]
            yield from zip(chosen, self._replies(messages, limits), strict=True)

    def _replies(self, messages: list[Any], limits: list[Any]) -> list[Reply | Exception]:
        """Replies of one batch; each question alone where the batch fails, so that the one at fault is known."""
        try:
            made = self.engine.chat(messages, limits, use_tqdm=False, mm_processor_kwargs=self.asks or None)
        except Exception as error:
            if len(messages) == 1:
                return [error]
            return [
                self._replies([one], [limit])[0] for one, limit in zip(messages, limits, strict=True)
            ]  # fmt: skip
        return [
            Reply(
                answer.outputs[0].text.strip(),
                len(answer.prompt_token_ids or ()),
                sum(token in self.think_tokens for token in answer.prompt_token_ids or ()),
                len(answer.outputs[0].token_ids),
                answer.outputs[0].finish_reason != "length",
            )
            for answer in made
        ]
