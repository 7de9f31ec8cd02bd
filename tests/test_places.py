import pytest

from coat.errors import CoatError
from coat.places import check_place


def test_folders_are_there(tmp_path):
    check_place(str(tmp_path))


@pytest.mark.parametrize("place", ["nothing", "./nothing", "/no/such/place", "a/b/c", ""])
def test_what_cannot_be_on_the_hub_is_not_looked_for(place):
    with pytest.raises(CoatError, match="There is nothing at"):
        check_place(place)


def test_a_missing_run_in_a_folder_is_not_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(CoatError, match="There is nothing at runs/none\\."):
        check_place("runs/none")


def test_the_hub_being_out_of_reach_is_said(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CoatError, match="switched off"):
        check_place("someone/something")
