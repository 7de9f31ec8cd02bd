"""SpidR: phonetic detail (Poli et al., arXiv 2512.20308)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from coat.experts.base import Picture
from coat.experts.speech import CHANNELS, Block, SpeechExpert, padding_mask, principal_components

UPSTREAM = "facebookresearch/spidr f695537"


@dataclass(frozen=True)
class SpidRSizes:
    """Sizes of the student Transformer."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    inner: int = 3072
    channels: int = CHANNELS


class SpidR(SpeechExpert):
    """The student of SpidR: its Transformer's output, 768 numbers fifty times a second. Mean squared error."""

    name: ClassVar[str] = "spidr"
    gflops_per_second = 13.77
    licence: ClassVar[str] = "CC-BY-NC-4.0 (Meta): not for commercial use"
    commercial: ClassVar[bool] = False
    reference: ClassVar[str] = "arXiv 2512.20308"
    representational: ClassVar[bool] = True
    source: ClassVar[str] = "https://dl.fbaipublicfiles.com/shared/devai/assets/models/spidr_base.pt"

    def build(self, sizes: SpidRSizes) -> None:
        """See :meth:`PretrainedExpert.build`."""
        self.build_front(sizes.width, sizes.channels)
        self.norm = nn.LayerNorm(sizes.width)
        self.blocks = nn.ModuleList(
            Block(sizes.width, sizes.heads, sizes.inner, qkv_bias=False) for _ in range(sizes.layers)
        )

    @classmethod
    def sizes_of(cls, state: Mapping[str, Tensor]) -> SpidRSizes:
        """See :meth:`PretrainedExpert.sizes_of`; heads are of 64."""
        inner, width = state["blocks.0.up.weight"].shape
        layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))
        return SpidRSizes(width, layers, width // 64, inner, len(state["projection.0.weight"]))

    @classmethod
    def random_sizes(cls, kind: str) -> SpidRSizes:
        """See :meth:`PretrainedExpert.random_sizes`."""
        return SpidRSizes() if kind == "official" else SpidRSizes(64, 2, 1, 128, 64)

    @classmethod
    def convert(cls, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See :meth:`PretrainedExpert.convert`; teacher, heads and codebooks stay behind."""
        renamed = {}
        for name, value in state.items():
            new = name
            for theirs, ours in _NAMES:
                new = new.replace(theirs, ours)
            if new.startswith(("frames.", "projection.", "positions.", "norm.", "blocks.")):
                renamed[_frames_name(new)] = value
        return renamed

    def features(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`Expert.features`."""
        x, real, counts = self.embed(waveforms, lengths)
        x = self.norm(x)
        padding = padding_mask(real, x.dtype)
        for block in self.blocks:
            x = block(x, padding)
        return x[:, : int(counts.max())], counts

    def visualise(self, features: Tensor, like: Tensor | None = None) -> Picture:
        """The directions that vary most."""
        return Picture(principal_components(features, like), "speech features", "principal component")


_NAMES = (
    ("feature_extractor.conv_layers.", "frames."),
    ("feature_projection.layer_norm.", "projection.0."),
    ("feature_projection.projection.", "projection.1."),
    ("student.pos_conv_embed.", "positions."),
    ("student.layer_norm.", "norm."),
    ("student.layers.", "blocks."),
    (".attention.qkv.", ".qkv."),
    (".attention.proj.", ".out."),
    (".final_layer_norm.", ".norm2."),
    (".feed_forward.intermediate_dense.", ".up."),
    (".feed_forward.output_dense.", ".down."),
)


def _frames_name(name: str) -> str:
    """``frames.3.weight`` is a convolution's, ``frames.3.layer_norm.weight`` a norm's; elsewhere a norm is norm1."""
    parts = name.split(".")
    if parts[0] == "frames":
        kind = "norms" if parts[2] == "layer_norm" else "convs"
        return ".".join(["frames", kind, parts[1], parts[-1]])
    return name.replace(".layer_norm.", ".norm1.") if parts[0] == "blocks" else name
