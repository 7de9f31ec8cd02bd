"""Modules that extras install, and the extra to name where one is missing.

``pip install coat-audio`` answers, thinks and exports; training, evaluation, probes and reports are extras.
"""

from __future__ import annotations

from importlib.util import find_spec

from coat.errors import CoatError

# Module: the first of the extras that bring it.
EXTRAS = {
    "julius": "train", "loky": "train", "pyarrow": "train", "datasets": "train", "scipy": "train",
    "tensorboard": "train", "matplotlib": "train", "jiwer": "eval", "whisper_normalizer": "eval",
    "sklearn": "eval", "mir_eval": "eval",
    "openai": "eval", "onnx": "pitch", "mido": "miniature", "fastapi": "serve", "uvicorn": "serve",
    "multipart": "serve", "python_multipart": "serve", "prometheus_client": "serve",
    "bitsandbytes": "quantized", "gradio": "view", "ray": "scale", "pytest": "dev",
    "gguf": "pocket", "opensmile": "opensmile", "mistral_common": "voxtral",
}  # fmt: skip


def missing(error: ImportError) -> CoatError | None:
    """The error to show for a module that an extra would have brought; None for any other.

    Args:
        error: As Python raised it.

    Example:
        >>> missing(ModuleNotFoundError("No module named 'jiwer'", name="jiwer")).remedy
        "pip install 'coat-audio[eval]'"
    """
    module = (error.name or "").partition(".")[0]
    if module not in EXTRAS:
        return None
    return CoatError(f"This needs {module}, which is not installed.", f"pip install 'coat-audio[{EXTRAS[module]}]'")


def need(extra: str) -> None:
    """Ask for an extra before long work begins.

    Raises:
        CoatError: Something of it is not installed.
    """
    gone = [module for module, of in EXTRAS.items() if of == extra and find_spec(module) is None]
    if gone:
        raise CoatError(f"This needs {', '.join(gone)}.", f"pip install 'coat-audio[{extra}]'")
