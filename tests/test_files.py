import pytest
from hypothesis import given
from hypothesis import strategies as st

from coat.files import short_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/demo"], ["demo"]),
        (["runs/base", "runs/pitch"], ["base", "pitch"]),
        (["ladder/sft-seed0/eval", "ladder/full-seed0/eval"], ["sft-seed0", "full-seed0"]),
        (["a/x/eval", "b/x/eval"], ["a", "b"]),
        (["a/x/eval", "b/x/eval", "b/y/eval"], ["a/x", "b/x", "b/y"]),
        (["runs/a/eval", "runs/a"], ["eval", "a"]),
        (["a", "b/a"], ["a", "b/a"]),
        (["a", "a"], ["a", "a"]),
    ],
)
def test_names_are_what_folders_do_not_share(paths, names):
    assert short_names(paths) == names


def test_the_folder_that_one_is_in_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert short_names(["."]) == [tmp_path.name]


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join), min_size=1, max_size=5))
def test_different_folders_have_different_names(paths):
    assert len(set(short_names(paths))) == len(set(paths))
