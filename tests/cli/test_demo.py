"""The first part of ``coat demo``."""

from rich.console import Console

from coat.cli.demo import hear_first


def test_without_an_index_the_demo_goes_on_without_pocket(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    console = Console(record=True, width=200)
    assert hear_first(console) == []
    said = console.export_text()
    assert "Without pocket: pip could not fetch" in said
    assert not (tmp_path / ".cache" / "coat" / "pocket").exists()
