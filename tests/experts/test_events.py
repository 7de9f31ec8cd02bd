import numpy as np
import torch

from coat.experts.basic_pitch import NOTE_NAMES, PITCH_CLASSES
from coat.experts.events import Event, events_of
from coat.experts.panns import Panns, audioset_labels


def test_runs_above_the_threshold_are_events():
    heard = np.zeros((10, 2))
    heard[2:5, 0] = [0.5, 0.7, 0.9]
    heard[7:10, 0] = 1.0
    heard[4, 1] = 0.9  # too short
    found = events_of(heard, ["Dog", "Cat"], 10.0, threshold=0.5, min_seconds=0.2)
    assert found == [Event(0.2, 0.5, "Dog", 0.7), Event(0.7, 1.0, "Dog", 1.0)]
    assert all(type(event.start) is float for event in found)
    assert events_of(np.zeros((0, 2)), ["Dog", "Cat"], 10.0, threshold=0.5, min_seconds=0.2) == []


def test_notes_are_named_as_musicians_name_them():
    assert (NOTE_NAMES[0], NOTE_NAMES[3], NOTE_NAMES[48], NOTE_NAMES[87]) == ("A0", "C1", "A4", "C8")
    assert {name.rstrip("0123456789") for name in NOTE_NAMES} == set(PITCH_CLASSES)


def test_panns_names_classes_that_it_hears():
    expert = Panns(weights="random", sizes="tiny").freeze()
    with torch.no_grad():
        expert.classifier.weight.zero_()
        expert.classifier.bias.fill_(-9.0)
        expert.classifier.bias[3] = 2.0
    (event,) = expert.events(torch.zeros(25, expert.feature_dim), 25.0)
    assert (event.start, event.end, event.label) == (0.0, 1.0, audioset_labels()[3])
    assert abs(event.confidence - 0.8808) < 1e-3
