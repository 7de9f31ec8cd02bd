"""Projection heads P_k: think states to expert-aligned predictions (Eq. 3, Table 5)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

HeadKind = Literal["transformer", "linear"]


class LinearHead(nn.Module):
    """The ablation of Table 5: one linear map."""

    def __init__(self, hidden_size: int, feature_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden_size, feature_dim)

    def forward(self, think_hidden: Tensor, mask: Tensor) -> Tensor:
        """``(N, L, d)`` think states and ``(N, L)`` real frames -> ``(N, L, e_k)``."""
        del mask
        return self.project(think_hidden)


class TransformerHead(nn.Module):
    """One pre-norm Transformer block over the think states, then a linear map.

    Attention goes both ways: heads exist only in training and analysis, and an expert's frame may depend
    on what comes after it.
    """

    def __init__(self, hidden_size: int, feature_dim: int, num_heads: int, ffn_ratio: float) -> None:
        super().__init__()
        self.block = nn.TransformerEncoderLayer(
            hidden_size, num_heads, round(hidden_size * ffn_ratio), dropout=0.0, activation="gelu",
            batch_first=True, norm_first=True,
        )  # fmt: skip
        self.norm = nn.LayerNorm(hidden_size)
        self.project = nn.Linear(hidden_size, feature_dim)

    def forward(self, think_hidden: Tensor, mask: Tensor) -> Tensor:
        """``(N, L, d)`` think states and ``(N, L)`` real frames -> ``(N, L, e_k)``."""
        # torch's fast inference path drops padded frames and changes shapes; the plain path is exact.
        blocked = torch.zeros(mask.shape, dtype=think_hidden.dtype, device=mask.device)
        blocked = blocked.masked_fill(~mask, torch.finfo(think_hidden.dtype).min)
        return self.project(self.norm(self.block(think_hidden, src_key_padding_mask=blocked)))


def start_at(head: nn.Module, mean: Tensor) -> None:
    """Let a head predict its expert's mean feature ``(e_k,)`` for every frame until it learns better.

    A random start costs far more than the mean does, and the first steps would go into unlearning it.
    """
    project = head.get_submodule("project")
    assert isinstance(project, nn.Linear)
    with torch.no_grad():
        project.weight.zero_()
        project.bias.copy_(mean)


def make_head(
    kind: HeadKind, hidden_size: int, feature_dim: int, *, num_heads: int = 8, ffn_ratio: float = 4.0
) -> nn.Module:
    """A head P_k.

    Args:
        kind: ``transformer`` (the paper) or ``linear`` (its ablation).
        hidden_size: The width d of the language model.
        feature_dim: e_k.
        num_heads: Attention heads of the Transformer block.
        ffn_ratio: Width of its feed-forward layer over d.
    """
    if kind == "linear":
        return LinearHead(hidden_size, feature_dim)
    return TransformerHead(hidden_size, feature_dim, num_heads, ffn_ratio)
