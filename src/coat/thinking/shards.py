"""Weights that processes hold in shards (FSDP), as whole tensors and back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def in_shards(weights: Mapping[str, Tensor], held: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors as processes hold those that they replace: in the same shards, or whole."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    def placed(value: Tensor, like: Tensor | None) -> Tensor:
        if not isinstance(like, DTensor):
            return value
        return distribute_tensor(value.to(like.device, like.dtype), like.device_mesh, like.placements)

    return {name: placed(value, held.get(name)) for name, value in weights.items()}


def whole(value: Tensor) -> Tensor:
    """All of a tensor that processes may hold shards of."""
    gather = getattr(value, "full_tensor", None)
    return (gather() if gather else value).detach()
