import pytest
from safetensors.torch import save_file
from torch import full

from coat.checkpoints import resolve
from coat.checkpoints.fingerprint import checkpoint_fingerprint, files_fingerprint
from coat.hub import MINIATURE, locate


@pytest.fixture(autouse=True)
def no_hub(monkeypatch):
    """Whoever asks the hub for a name of ours waits for its retries, and is told of another's model by that name."""
    for name in ("cached_file", "hub.cached_file"):
        monkeypatch.setattr(f"transformers.utils.{name}", lambda *_, **__: pytest.fail("the hub was asked"))
    locate.cache_clear()
    yield
    locate.cache_clear()


def test_names_of_our_own_are_not_asked_of_the_hub():
    run = resolve("miniature")
    assert files_fingerprint(MINIATURE) == files_fingerprint(run.base)
    assert checkpoint_fingerprint(run) == files_fingerprint(run.path, MINIATURE)


def test_pocket_counts_by_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.setattr("coat.hub.pocket_folder", lambda: tmp_path)
    (tmp_path / "config.json").write_text("{}")
    keys = set()
    for value in (0.0, 1.0):
        save_file({"w": full((3,), value)}, tmp_path / "model.safetensors")
        keys.add(files_fingerprint("pocket"))
    assert len(keys) == 2
