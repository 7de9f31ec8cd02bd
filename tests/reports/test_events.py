import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coat.audio import Clip
from coat.errors import CoatError
from coat.experts.events import Event
from coat.reports.events import as_textgrid, write_events
from coat.testing.clips import noise

CHORD = [Event(0.2, 1.0, "C4", 0.9, "basic_pitch"), Event(0.2, 0.8, "E4", 0.5, "basic_pitch"),
         Event(1.0, 1.5, 'say "G4"', 0.7, "basic_pitch"), Event(0.0, 1.5, "Dog bark", 0.4, "panns")]  # fmt: skip


def test_every_format_by_hand(tmp_path):
    events = sorted(CHORD, key=lambda event: event.start)
    for ending in ("json", "rttm", "txt", "TextGrid"):
        write_events(tmp_path / f"out.{ending}", events, 1.5, "my clip")
    told = json.loads((tmp_path / "out.json").read_text())
    assert told["clip"] == "my clip"
    assert told["events"][0] == {"start": 0.0, "end": 1.5, "label": "Dog bark", "confidence": 0.4, "expert": "panns"}
    assert (tmp_path / "out.rttm").read_text().splitlines()[:2] == [
        "SPEAKER my_clip 1 0.000 1.500 <NA> <NA> Dog_bark 0.400 <NA>",
        "SPEAKER my_clip 1 0.200 0.800 <NA> <NA> C4 0.900 <NA>",
    ]
    assert (tmp_path / "out.txt").read_text().splitlines()[1] == "0.200000\t1.000000\tC4"
    grid = (tmp_path / "out.TextGrid").read_text()
    assert [line.split('"')[1] for line in grid.splitlines() if "name =" in line] == [
        "panns 1",
        "basic_pitch 1",
        "basic_pitch 2",
    ]
    assert 'text = "say ""G4"""' in grid


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(CoatError, match=r"not written as \.csv"):
        write_events(tmp_path / "out.csv", CHORD, 1.5)


TIMES = st.tuples(st.integers(0, 40), st.integers(1, 20), st.sampled_from("ab"))


@given(st.lists(TIMES, max_size=12))
def test_tiers_of_a_textgrid_fill_the_clip_and_lose_nothing(drawn):
    events = sorted((Event(a / 10, (a + b) / 10, c, 0.5, c) for a, b, c in drawn), key=lambda e: (e.start, e.label))
    texts = []
    for tier in as_textgrid(events, 6.0, "clip").split("    item [")[1:]:
        _, *parts = tier.split("        intervals [")
        at = 0.0
        for part in parts:
            start, end = (float(part.split(f"{name} = ")[1].split("\n")[0]) for name in ("xmin", "xmax"))
            assert start == at < end
            at = end
            texts.append(part.split('text = "')[1].split('"')[0])
        assert at == 6.0
    assert sorted(filter(None, texts)) == sorted(event.label for event in events)


def test_a_picture_has_a_row_for_every_label():
    from coat.reports.plots import plot_events

    clip: Clip = noise(1.5)
    figure = plot_events(clip, [*CHORD, Event(0.1, 0.4, "C3", 0.9, "basic_pitch")])
    rows = [label.get_text() for label in figure.axes[1].get_yticklabels()]
    assert rows == ['say "G4"', "C3", "C4", "E4", "Dog bark"]
