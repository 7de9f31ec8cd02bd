import pytest
from hypothesis import given
from hypothesis import strategies as st

from coat.evaluation.parsing import parse_choice, parse_label

OPTIONS = ["Dog barking", "A car horn", "Rain", "Piano"]
EMOTIONS = {"anger": ("angry",), "happiness": ("happy",), "neutral": (), "sadness": ("sad",)}


@pytest.mark.parametrize(
    "answer",
    [
        "C", "c", "(C)", "C.", "**C**", "C. Rain", "C) Rain", "(C) Rain", "C - Rain", "**C. Rain**", "Option C: Rain",
        "Option C", "Rain", "rain.", "The answer is Rain.", "The answer is: C", "...so the answer is C",
        "The correct option is (C).", "<answer>C</answer>", "<answer>Rain</answer>", r"\boxed{C}", "Answer: C",
        "The sound is (C)", "C.\n\nThe rain falls.", "The answer is C because A is wrong", "It is rain.",
        "Not the piano. The answer is: Rain", "Answer: A car horn? No. Answer: C",
    ],
)  # fmt: skip
def test_an_answer_that_chooses_is_read(answer):
    assert OPTIONS[parse_choice(answer, OPTIONS)] == "Rain"


@pytest.mark.parametrize(
    "answer",
    [
        "", " ", "I cannot hear the audio.", "I think it is rain rather than a piano", "D. Rain", "E", "I am sure",
        "a dog is barking", "<answer></answer>", "Answer: D. Rain", "(A) or (B)", "The answer is a mystery",
    ],
)  # fmt: skip
def test_an_answer_that_does_not_choose_is_not_guessed(answer):
    assert parse_choice(answer, OPTIONS) is None


def test_options_that_hold_each_other_are_told_apart():
    assert parse_choice("I hear a bass guitar", ["guitar", "bass guitar"]) == 1
    assert parse_choice("It is the guitar", ["guitar", "bass guitar"]) == 0


def test_letters_past_the_end_are_no_options():
    assert parse_choice("C", ["yes", "no"]) is None
    assert parse_choice("E", ["1", "2", "3", "4", "5"]) == 4


@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=10), min_size=2, max_size=8))
def test_reading_never_fails_and_stays_among_the_options(answer, options):
    found = parse_choice(answer, options)
    assert found is None or 0 <= found < len(options)


@given(st.integers(0, 3), st.sampled_from(["{l}", "({l})", "{l}. {o}", "{o}", "The answer is {l}.", "Answer: {o}"]))
def test_rotating_the_options_rotates_the_letter(order, form):
    rotated = OPTIONS[order:] + OPTIONS[:order]
    for place, option in enumerate(rotated):
        assert parse_choice(form.format(l="ABCD"[place], o=option), rotated) == place


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("Anger", "anger"), ("angry.", "anger"), ("The speaker is sad", "sadness"), ("happy", "happiness"),
        ("The answer is sadness.", "sadness"), ("sad, not happy", None), ("", None), ("unhappy", None),
        ("angered", None), ("I first thought anger. Answer: sad", "sadness"), ("joy", None),
    ],
)  # fmt: skip
def test_classes_are_read_by_name_and_other_words(answer, label):
    assert parse_label(answer, EMOTIONS) == label


def test_longer_names_go_first():
    sounds = {"Throat clearing": ("throat",), "Clearing": ()}
    assert parse_label("throat clearing", sounds) == "Throat clearing"
    assert parse_label("a throat-like clearing", sounds) is None
