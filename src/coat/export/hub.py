"""Exports on the hub."""

from __future__ import annotations

from pathlib import Path

from coat.errors import CoatError


def push(folder: str | Path, repository: str, *, private: bool = True, dry_run: bool = False) -> list[tuple[str, int]]:
    """Upload an export to the hub.

    Args:
        folder: The export.
        repository: ``owner/name``.
        private: Visible to its owner alone.
        dry_run: Only say what would be uploaded.

    Returns:
        Files and their sizes in bytes.

    Raises:
        CoatError: The hub cannot be reached or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, OfflineModeIsEnabled
    from huggingface_hub.utils import validate_repo_id

    folder = Path(folder)
    files = [(str(p.relative_to(folder)), p.stat().st_size) for p in sorted(folder.rglob("*")) if p.is_file()]
    try:
        validate_repo_id(repository)
        if not dry_run:
            HfApi().create_repo(repository, private=private, exist_ok=True)
            HfApi().upload_folder(repo_id=repository, folder_path=folder, commit_message="CoAT export")
    except HFValidationError as error:
        raise CoatError(f"'{repository}' is not a name on the hub: {error}", "Use owner/name.") from None
    except OfflineModeIsEnabled:
        raise CoatError("The hub is switched off here (HF_HUB_OFFLINE).", "Unset it, or use --dry-run.") from None
    except (HfHubHTTPError, OSError) as error:
        raise CoatError(f"The hub did not take the upload: {error}", "Log in first: hf auth login") from None
    return files
