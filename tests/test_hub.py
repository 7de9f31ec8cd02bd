import httpx
import pytest

from coat.errors import CoatError
from coat.hub import locate


def test_folders_are_there(tmp_path):
    locate(str(tmp_path))


@pytest.mark.parametrize("place", ["nothing", "./nothing", "/no/such/place", "a/b/c", ""])
def test_what_cannot_be_on_the_hub_is_not_looked_for(place):
    with pytest.raises(CoatError, match="There is nothing at"):
        locate(place)


def test_a_missing_run_in_a_folder_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(CoatError, match="There is nothing at runs/none\\."):
        locate("runs/none")


def test_without_a_network_the_cache_is_used(tmp_path, monkeypatch):
    """In seconds, not minutes: libraries below would ask again and again."""
    locate.cache_clear()
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(CoatError, match=r"the hub cannot be reached \(no route\)"):
        locate("someone/something")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(tmp_path / "config.json"))
    assert locate("someone/something") == str(tmp_path)
    locate.cache_clear()


def test_what_is_cached_is_used_where_the_hub_refuses_us(tmp_path, monkeypatch):
    """A gated checkpoint that was fetched once needs no login again."""
    from huggingface_hub.errors import GatedRepoError

    response = httpx.Response(403, request=httpx.Request("GET", "https://hub"))
    refusal = GatedRepoError("gated", response=response)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: (_ for _ in ()).throw(refusal))
    locate.cache_clear()
    with pytest.raises(CoatError, match="terms that were not accepted"):
        locate("someone/gated")
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: str(tmp_path / "config.json"))
    assert locate("someone/gated") == str(tmp_path)
    locate.cache_clear()


def test_the_hub_being_out_of_reach_is_said(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CoatError, match="switched off"):
        locate("someone/something")
