"""Rows that are decoded together, a token of each at a time, and may join and leave between tokens.

transformers' ``generate`` answers a batch to its end, and its manager of continuous batches takes token ids alone,
where prompts here come as embeddings with sound in them.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from coat.backbones.base import Backbone


class Decoding:
    """The cache of keys and values of many rows, padded on the left, and the logits of each row's next token.

    Args:
        backbone: In evaluation mode, on its device.
        suppressed: Token ids that are never said.

    Attributes:
        logits: ``(B, V)`` float32, of each row's next token.
    """

    def __init__(self, backbone: Backbone, suppressed: Sequence[int] = ()) -> None:
        self.backbone = backbone
        self.suppressed = list(suppressed)
        names = inspect.signature(backbone.language_model.forward).parameters
        self._cache_name = "cache" if "cache" in names else "past_key_values"  # of older versions
        self.clear()

    def clear(self) -> None:
        """Forget every row."""
        self.cache: Any = None
        self.logits = torch.empty(0)
        self.mask = torch.empty(0)
        self.places = torch.empty(0)

    def read(
        self,
        embeddings: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor | None = None,
        *,
        most: int | None = None,
        **token_inputs: Tensor,
    ) -> Iterator[None]:
        """Read prompts part by part; their rows then come after those that are there.

        Args:
            embeddings: ``(B, T, d)``, padded on the left.
            attention_mask: ``(B, T)``.
            position_ids: ``(B, T)``; one after another if None.
            most: Positions in a part, over all rows; None takes all at once.
            **token_inputs: From :meth:`Backbone.token_inputs`, ``(B, T, ...)``.

        Yields:
            Nothing, after each part but the last: others may go on before the next.
        """
        if position_ids is None:
            position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        rows, length = attention_mask.shape
        width = length if most is None else max(1, most // rows)
        cache, logits = None, self.logits
        for start in range(0, length, width):
            if start:
                yield
            part = slice(start, start + width)
            cache, logits = self._pass(
                embeddings[:, part], attention_mask[:, : start + width], position_ids[:, part], cache,
                {name: value[:, part] for name, value in token_inputs.items()},
            )  # fmt: skip
        self._join(cache, logits, attention_mask, position_ids[:, -1] + 1)

    def _join(self, cache: Any, logits: Tensor, attention_mask: Tensor, places: Tensor) -> None:
        """Put the rows of a cache after those that are there."""
        if self.cache is None:
            self.cache, self.mask, self.logits, self.places = cache, attention_mask, logits, places
            return
        columns = max(self.mask.shape[1], attention_mask.shape[1])
        for mine, theirs in zip(self.cache.layers, cache.layers, strict=True):
            _join_layers(mine, theirs, columns)
        self.mask = torch.cat([_padded(mask, columns, 1) for mask in (self.mask, attention_mask)])
        self.logits = torch.cat([self.logits, logits])
        self.places = torch.cat([self.places, places])

    def likeliest(self) -> list[int]:
        """The likeliest next token of each row."""
        return self.logits.argmax(-1).tolist()

    def step(self, tokens: Sequence[int]) -> None:
        """Say a token in each row, and find the logits of the next."""
        if not tokens:
            return
        ids = torch.tensor(tokens, device=self.mask.device)[:, None]
        self.mask = F.pad(self.mask, (0, 1), value=1)
        self.cache, self.logits = self._pass(
            self.backbone.input_embeddings(ids, []),
            self.mask,
            self.places[:, None],
            self.cache,
            self.backbone.token_inputs(ids),
        )
        self.places = self.places + 1

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all rows but some, and the columns that are padding in all of these."""
        if len(rows) == len(self.mask):
            return
        if not rows:
            self.clear()
            return
        kept = torch.tensor(rows, device=self.mask.device)
        self.mask, self.logits, self.places = self.mask[kept], self.logits[kept], self.places[kept]
        padding = int(self.mask.any(0).int().argmax())
        self.mask = self.mask[:, padding:]
        for layer in self.cache.layers:
            _keep_in_layer(layer, kept, self.mask.shape[1])

    def _pass(
        self, embeddings: Tensor, mask: Tensor, places: Tensor, cache: Any, token_inputs: dict[str, Tensor]
    ) -> tuple[Any, Tensor]:
        """A pass of the language model; its cache, and the logits ``(B, V)`` of the next tokens."""
        out = self.backbone.language_model(
            inputs_embeds=embeddings, attention_mask=mask, position_ids=places, use_cache=True,
            **{self._cache_name: cache}, **token_inputs,
        )  # fmt: skip
        logits = self.backbone.logits(out.last_hidden_state[:, -1]).float()
        logits[:, self.suppressed] = float("-inf")
        return out[self._cache_name], logits


def _padded(x: Tensor, size: int, dim: int) -> Tensor:
    """Zeros before the first entries of a dimension, to a size."""
    missing = size - x.shape[dim]
    return F.pad(x, (*(0,) * (2 * (x.dim() - 1 - dim)), missing, 0)) if missing else x


def _holds(layer: Any) -> bool:
    """Whether a layer has keys and values of its own; some take those of a lower one."""
    return isinstance(getattr(layer, "keys", None), Tensor)


def _kept_columns(layer: Any, columns: int) -> int:
    """Columns that a layer holds of so many: those within its window, if it has one."""
    return min(columns, layer.sliding_window - 1) if layer.is_sliding else columns


def _join_layers(mine: Any, theirs: Any, columns: int) -> None:
    """Put the rows of one layer's cache after those of another, the ends of all side by side."""
    if not _holds(mine):
        return
    held = _kept_columns(mine, columns)
    mine.keys = torch.cat([_padded(layer.keys, held, 2) for layer in (mine, theirs)])
    mine.values = torch.cat([_padded(layer.values, held, 2) for layer in (mine, theirs)])
    if mine.is_sliding:
        mine.cumulative_length = columns


def _keep_in_layer(layer: Any, rows: Tensor, columns: int) -> None:
    """Keep some rows of a layer's cache, and the last columns."""
    if not _holds(layer):
        return
    rows, held = rows.to(layer.keys.device), _kept_columns(layer, columns)
    layer.keys, layer.values = (x[rows][:, :, x.shape[2] - held :] for x in (layer.keys, layer.values))
    if layer.is_sliding:
        layer.cumulative_length = columns
