"""Keep other libraries' chatter out of the user's terminal."""

from __future__ import annotations


def quiet(*, downloads: bool = True) -> None:
    """Show errors of transformers and friends, and no bars or warnings of theirs.

    Args:
        downloads: Leave tqdm's own bars, such as those of downloads from the hub.
    """
    import os
    import warnings

    warnings.filterwarnings("ignore")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    if not downloads:
        os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
