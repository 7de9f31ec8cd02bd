"""Where models are: folders here, repositories on the hub."""

from __future__ import annotations

from pathlib import Path

from coat.errors import CoatError

REMEDY = "Give a run, an export, a checkpoint's folder, or owner/name on the hub."


def check_place(place: str) -> None:
    """Make sure that a folder or repository is there, before anything is asked of it again and again.

    Raises:
        CoatError: There is neither, or the hub cannot be asked.
    """
    if place and Path(place).exists():
        return
    owner, slash, name = place.partition("/")
    if not slash or not owner.strip(".") or "/" in name or Path(owner).is_dir():
        raise CoatError(f"There is nothing at {place}.", REMEDY)
    from huggingface_hub import HfApi, try_to_load_from_cache
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled

    if isinstance(try_to_load_from_cache(place, "config.json"), str):
        return
    try:
        HfApi().model_info(place, timeout=10)
    except (HfHubHTTPError, HFValidationError):
        raise CoatError(f"There is nothing at {place}, here or on the hub.", REMEDY) from None
    except OfflineModeIsEnabled:
        raise CoatError(f"There is nothing at {place}, and the hub is switched off (HF_HUB_OFFLINE).", REMEDY) from None
    except Exception as error:  # whatever the HTTP library of the day raises
        raise CoatError(f"There is nothing at {place}, and the hub cannot be reached ({error}).", REMEDY) from None
