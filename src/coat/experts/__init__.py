"""Frozen audio experts E_k (§3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from coat.errors import CoatError, did_you_mean
from coat.plugins import find_class, known_names

if TYPE_CHECKING:
    import torch

    from coat.audio import AudioSpec
    from coat.experts.base import Expert

GROUP = "coat.experts"
# One line an expert: its key in recipes, and where its class is. Other packages declare theirs, see coat.plugins.
REGISTRY = {
    "audio_reconstruction": "coat.experts.reconstruction:AudioReconstruction",
    "spidr": "coat.experts.spidr:SpidR",
    "panns": "coat.experts.panns:Panns",
    "emotion2vec": "coat.experts.emotion2vec:Emotion2Vec",
    "basic_pitch": "coat.experts.basic_pitch:BasicPitch",
    "resemblyzer": "coat.experts.resemblyzer:Resemblyzer",
    "opensmile": "coat.experts.opensmile:OpenSmile",
    "log_mel": "coat.experts.log_mel:LogMel",
    "encoder": "coat.experts.encoder:Encoder",
}


def expert_names() -> list[str]:
    """Every expert that recipes may name: the package's own, and what other packages declare."""
    return known_names(REGISTRY, GROUP)


def expert_class(name: str) -> type[Expert]:
    """The class of an expert, by its name or as ``my_package.module:MyExpert``.

    Raises:
        CoatError: No expert has that name, or the class cannot be imported.
    """
    from coat.experts.base import Expert

    return find_class(name, REGISTRY, GROUP, "expert", Expert)


def make_expert(name: str, options: dict[str, Any] | None = None, *, hidden_size: int, audio_spec: AudioSpec) -> Expert:
    """Build a frozen expert.

    Args:
        name: Its key in the recipe; one of the registry's, unless the options say which ``kind`` it is.
        options: Its own settings, from the recipe; ``precision: bf16`` is any expert's.
        hidden_size: d of the backbone, for experts that read its audio embeddings.
        audio_spec: The backbone's audio token rate.

    Raises:
        CoatError: Unknown name or option, or missing weights.
    """
    if not name or "." in name or ":" in name:
        raise CoatError(
            f"'{name}' cannot name an expert's head and its losses.",
            f"Give it a key of its own: experts: {{mine: {{kind: '{name}'}}}}, and name 'mine' in the stages.",
        )
    arguments = dict(options or {})
    cls = expert_class(arguments.pop("kind", name))
    precision = _precision(name, arguments.pop("precision", "fp32"))
    if not cls.needs_waveform:
        arguments |= {"hidden_size": hidden_size, "token_rate": audio_spec.token_rate}
    try:
        expert = cls(**arguments).freeze()
    except TypeError as error:
        raise CoatError(f"Expert {name} does not take these options: {error}.", "See experts in the recipe.") from None
    expert.precision = precision
    expert.name = name  # type: ignore[misc]  # several of one kind are told apart by their keys
    return expert


def _precision(name: str, asked: str) -> torch.dtype:
    import torch

    known = {"fp32": torch.float32, "bf16": torch.bfloat16}
    if asked not in known:
        raise CoatError(f"experts.{name}.precision: '{asked}' is not known.", did_you_mean(asked, list(known)))
    return known[asked]
