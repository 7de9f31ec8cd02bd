"""How a model thinks: one configuration for recipes, runs, exports, processors and servers (§3.2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Literal, get_args

Placement = Literal["assistant_prefix", "before_assistant"]
Fill = Literal["token", "audio", "random"]
FILLS: tuple[Fill, ...] = get_args(Fill)
Positions = Literal["sequence", "audio"]
POSITIONS: tuple[Positions, ...] = get_args(Positions)
Tokens = Literal["added", "reserved"]
TOKENS: tuple[Tokens, ...] = get_args(Tokens)
PLACEMENTS: tuple[Placement, ...] = get_args(Placement)


@dataclass(frozen=True)
class ThinkingConfig:
    """The thinking block (§3.2).

    Attributes:
        enabled: False is the plain backbone, as a baseline.
        placement: Head of the assistant turn, or right before its header.
        stride: Audio tokens that one think token stands for; 1 is the paper.
        max_tokens: Think tokens of a clip at most: a longer clip gets a longer stride.
        fill: Input of think positions: the trained token; ``audio``, the token plus the audio embeddings that it stands
            for; or fixed ``random`` vectors, as a control. Servers and exports know the token alone.
        positions: Positions that the language model is told of. ``sequence``, the paper: think tokens one after
            another, and the answer behind them. ``audio``: each think token at the audio tokens that it stands for, and
            the answer where it would be without the block.
        tokens: Origin of the three think tokens. ``added`` are new ones at the vocabulary's end; ``reserved`` are those
            that the checkpoint's vocabulary keeps unused (such as ``<unused7>``), renamed, so that no matrix grows.
        mixed: Strides that training draws from, row by row, with their shares; 0 is no block. The model then answers at
            each of them; ``stride`` is what it answers at unless it is asked otherwise.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> ThinkingConfig(stride=2).num_think_tokens(25)
        13
        >>> ThinkingConfig(max_tokens=100).num_think_tokens(750)
        94
    """

    enabled: bool = True
    placement: Placement = "assistant_prefix"
    stride: int = 1
    max_tokens: int | None = None
    fill: Fill = "token"
    positions: Positions = "sequence"
    tokens: Tokens = "added"
    mixed: Mapping[int, float] | None = field(default=None, hash=False)

    # Read by pydantic where recipes hold this class; it is not imported here, for exports carry this file.
    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.placement not in PLACEMENTS:
            raise ValueError(f"placement must be one of {', '.join(PLACEMENTS)}, got {self.placement!r}")
        if self.stride < 1:
            raise ValueError(f"stride must be at least 1, got {self.stride}")
        if self.max_tokens is not None and self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}")
        if self.fill not in FILLS:
            raise ValueError(f"fill must be one of {', '.join(FILLS)}, got {self.fill!r}")
        if self.positions not in POSITIONS:
            raise ValueError(f"positions must be one of {', '.join(POSITIONS)}, got {self.positions!r}")
        if self.tokens not in TOKENS:
            raise ValueError(f"tokens must be one of {', '.join(TOKENS)}, got {self.tokens!r}")
        if self.mixed is not None:
            # JSON has no keys that are numbers.
            object.__setattr__(self, "mixed", {int(stride): float(share) for stride, share in self.mixed.items()})
            if any(stride < 0 or share <= 0 for stride, share in self.mixed.items()):
                raise ValueError(f"mixed has strides from 0 up and their shares above 0, got {self.mixed}")
            if not math.isclose(sum(self.mixed.values()), 1.0, abs_tol=1e-6):
                raise ValueError(f"the shares of mixed must add up to 1, got {sum(self.mixed.values()):g}")
            if not self.enabled:
                raise ValueError("mixed draws lengths of the block, and enabled is false: there is none")

    def at(self, stride: int) -> ThinkingConfig:
        """This configuration at another stride; 0 is without a block.

        Example:
            >>> ThinkingConfig(mixed={0: 0.5, 1: 0.5}).at(2).num_think_tokens(25)
            13
            >>> ThinkingConfig().at(0).enabled
            False

        Raises:
            ValueError: The stride is negative, or there is no block to give one to.
        """
        if stride and not self.enabled:
            raise ValueError("the model has no thinking block, and is asked for one")
        return replace(self, mixed=None, enabled=stride > 0, stride=max(1, stride))

    def clip_stride(self, num_audio_tokens: int) -> int:
        """The stride of a clip of L_a audio tokens: as configured, or longer where ``max_tokens`` asks for it."""
        if self.max_tokens is None:
            return self.stride
        return self.stride * max(1, math.ceil(math.ceil(num_audio_tokens / self.stride) / self.max_tokens))

    def num_think_tokens(self, num_audio_tokens: int) -> int:
        """L, the think tokens of a clip of L_a audio tokens."""
        return math.ceil(num_audio_tokens / self.clip_stride(num_audio_tokens))


PAPER = ThinkingConfig()
