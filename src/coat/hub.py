"""Where models are: folders here, repositories on the hub, and what the hub left in its cache."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from coat.errors import CoatError

HUB_TIMEOUT = 10.0
MINIATURE, POCKET = "miniature", "pocket"
REMEDY = "Give a run, an export, a checkpoint's folder, or owner/name on the hub."


def shipped_folder() -> Path:
    """Where the miniature is, if this build of the package has it: a run, with its base in ``backbone``."""
    return Path(str(files("coat"))) / "synthetic" / "shipped"


def cache_folder() -> Path:
    """Where what was fetched and converted is kept."""
    return Path.home() / ".cache" / "coat"


def pocket_folder() -> Path:
    """Where ``coat pocket build`` puts its model."""
    return cache_folder() / POCKET


@lru_cache
def locate(model_path: str) -> str:
    """A folder or repository that is there, asked for once, before libraries ask for it again and again.

    Args:
        model_path: A folder, ``owner/name`` on the hub, ``miniature`` for the base of the miniature that ships, or
            ``pocket`` for the model that ``coat pocket build`` has put together.

    Returns:
        What to load from: the same; or the folder of the hub's cache where the hub does not answer, or not to us.

    Raises:
        CoatError: There is neither, the hub does not give it, and its cache does not hold it.
    """
    if model_path and Path(model_path).exists():
        return model_path
    if model_path == MINIATURE and shipped_folder().is_dir():
        return str(shipped_folder() / "backbone")
    if model_path == POCKET:
        if not (pocket_folder() / "config.json").is_file():
            raise CoatError("The model pocket has not been put together on this machine.", "coat pocket build")
        return str(pocket_folder())
    owner, slash, name = model_path.partition("/")
    if not slash or not owner.strip(".") or "/" in name or Path(owner).is_dir():
        raise CoatError(f"There is nothing at {model_path}.", REMEDY)
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    try:
        HfApi().model_info(model_path, timeout=HUB_TIMEOUT)
    except Exception as error:  # whatever the HTTP library of the day raises
        found = try_to_load_from_cache(model_path, "config.json")
        if isinstance(found, str):
            return str(Path(found).parent)
        if isinstance(error, GatedRepoError):
            remedy = "Accept them on its page, then: hf auth login"
            raise CoatError(f"{model_path} has terms that were not accepted.", remedy) from None
        if isinstance(error, HfHubHTTPError | HFValidationError):
            raise CoatError(f"There is nothing at {model_path}, here or on the hub.", REMEDY) from None
        off = isinstance(error, OfflineModeIsEnabled)
        why = "the hub is switched off (HF_HUB_OFFLINE)" if off else f"the hub cannot be reached ({error})"
        raise CoatError(f"There is nothing at {model_path}, and {why}.", REMEDY) from None
    return model_path
