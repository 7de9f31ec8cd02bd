"""Manifest rows to what an optimizer step trains on: decode, prompt, targets."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from torch import multiprocessing
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from coat.data.batching import micro_batches
from coat.data.conversation import Conversation
from coat.data.manifest import Row
from coat.errors import CoatError
from coat.experts.align import pool
from coat.experts.base import Expert
from coat.features.cache import FeatureCache
from coat.thinking.batch import Batch, Encoded, collate, encode
from coat.thinking.prompt import Prompt, PromptBuilder

IDLE_SECONDS = 0.5
# What passes in place of rows that are all left out: nothing of it is trained on.
IDLE_MESSAGES = ({"role": "user", "content": "-"}, {"role": "assistant", "content": "-", "loss": False})


class ManifestDataset(Dataset[Row]):
    """Rows as they are; the collator decodes them."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]


class TrainingCollator:
    """Turns the rows of an optimizer step into the batches that pass one after another.

    Args:
        builder: The prompt builder.
        experts: Active experts that need waveforms.
        caches: Precomputed features of some of them; the others are given recordings and run live.
        audio_cache: Precomputed audio embeddings; without it the tower runs.
        rows: At most so many in a pass; all of a step if None.
        tokens: At most so many padded tokens in a pass.
        max_tokens: Rows with more are too long: a prompt is never cut.
        on_bad_row: ``raise`` or ``skip`` rows whose audio cannot be read, or that are too long.
        idle_audio: Give batches of text alone some silence for the tower; see :class:`Batch`.
        seed: Seed of the stride that a row is given, where ``thinking.mixed`` names several.
    """

    def __init__(
        self,
        builder: PromptBuilder,
        experts: Sequence[Expert] = (),
        caches: Mapping[str, FeatureCache] | None = None,
        audio_cache: FeatureCache | None = None,
        *,
        rows: int | None = None,
        tokens: int | None = None,
        max_tokens: int | None = None,
        on_bad_row: Literal["raise", "skip"] = "raise",
        idle_audio: bool = False,
        seed: int = 0,
    ) -> None:
        self.builder, self.audio_cache, self.seed = builder, audio_cache, seed
        self.mixed = builder.thinking.mixed or {}
        self._builders = {stride: builder.at(stride) for stride in self.mixed}
        self.caches = {e.name: caches[e.name] for e in experts if caches and e.name in caches}
        self.live_rates = sorted({e.sampling_rate for e in experts if e.name not in self.caches})
        # Of all processes that collate: a step that did not fit makes later ones smaller, from loader workers too.
        self._rows = multiprocessing.Value("q", rows or 0)
        self.tokens, self.max_tokens = tokens, max_tokens
        self.on_bad_row, self.idle_audio = on_bad_row, idle_audio

    @property
    def rows(self) -> int | None:
        """At most so many in a pass; None takes all of a step."""
        return self._rows.value or None

    @rows.setter
    def rows(self, most: int) -> None:
        self._rows.value = most

    def __call__(self, rows: Sequence[Row]) -> list[Batch] | CoatError:
        """A step's batches, or what is wrong with its rows: raised in a worker, it would arrive as a traceback."""
        try:
            return self.batches(rows)
        except CoatError as error:
            return error

    def batches(self, rows: Sequence[Row]) -> list[Batch]:
        """Decode the rows' clips once and build right-padded batches of like length.

        Where every row is left out, one batch comes back that holds nothing to train on.

        Raises:
            CoatError: A row is unusable, and rows are not to be skipped.
        """
        encoded, skipped = [], []
        # Of the rows themselves: the same in every process, worker and resumed run.
        rng = random.Random("/".join([str(self.seed), *(row.id for row in rows)]))
        for row in rows:
            try:
                encoded.append(self._encode(row, self._draw(rng)))
            except CoatError as error:
                if self.on_bad_row == "raise":
                    raise CoatError(
                        error.problem, error.remedy or "Mend the row, or leave such rows out: data.on_bad_row: skip"
                    ) from None
                skipped.append(f"{row.id}: {error.problem}")
        if not encoded:
            encoded = [encode(self.builder, Conversation(list(IDLE_MESSAGES), []))]
        lengths = [len(item.prompt.input_ids) for item in encoded]
        passes = micro_batches(lengths, rows=self.rows or len(encoded), tokens=self.tokens)
        batches = [self._batch([encoded[place] for place in places]) for places in passes]
        batches[0] = replace(batches[0], skipped=tuple(skipped))
        return batches

    def _draw(self, rng: random.Random) -> PromptBuilder:
        """The builder, at a stride that is drawn where several are mixed."""
        if not self.mixed:
            return self.builder
        (stride,) = rng.choices(list(self.mixed), list(self.mixed.values()))
        return self._builders[stride]

    def _encode(self, row: Row, builder: PromptBuilder) -> Encoded:
        limit = builder.backbone.audio_spec.max_seconds
        item = encode(builder, row.conversation(answered=True, max_seconds=limit))
        check_tokens(row, item.prompt, self.max_tokens)
        return item

    def _batch(self, encoded: list[Encoded]) -> Batch:
        embed = self.audio_cache.get if self.audio_cache else None
        batch = collate(self.builder, encoded, live_rates=self.live_rates, embed=embed)
        clips = [clip for item in encoded for clip in item.clips]
        counts = [count for item in encoded for count in item.num_audio_tokens]
        for name, cache in self.caches.items() if clips else ():
            features = pad_sequence(list(map(cache.get, clips, counts)), batch_first=True)
            batch.targets[name] = pool(features, counts, batch.think_strides)
        if self.idle_audio and not clips and not self.audio_cache:
            backbone = self.builder.backbone
            silence = np.zeros(round(IDLE_SECONDS * backbone.audio_spec.sampling_rate), dtype=np.float32)
            batch = replace(batch, idle_audio=backbone.audio_features([silence]))
        return batch


def check_tokens(row: Row, prompt: Prompt, max_tokens: int | None) -> None:
    """Raise a CoatError if a row's prompt is longer than it may be: a prompt is never cut."""
    if max_tokens is not None and len(prompt.input_ids) > max_tokens:
        raise CoatError(
            f"Row {row.id} takes {len(prompt.input_ids)} tokens, more than data.max_tokens ({max_tokens}); "
            "nothing is cut."
        )


def fits(builder: PromptBuilder, max_tokens: int | None = None) -> Callable[[Row, Sequence[float]], None]:
    """Check for :func:`coat.data.checks.check_manifest`: whether training would accept the prompt of a row.

    Args:
        builder: The prompt builder of the backbone, which may be without weights.
        max_tokens: See :class:`TrainingCollator`.

    Returns:
        A function of a row and the seconds of its clips, which raises a CoatError if it would not.
    """
    rate = builder.backbone.audio_spec.sampling_rate

    def check(row: Row, seconds: Sequence[float]) -> None:
        counts = [builder.backbone.num_audio_tokens(round(each * rate)) for each in seconds]
        check_tokens(row, builder.build(row.messages, counts, name=f"Row {row.id}"), max_tokens)

    return check
