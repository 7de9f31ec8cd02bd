"""Against values worked out by hand; ``make test-lmms`` compares with lmms-eval's own functions."""

import pytest

from coat.evaluation import upstream

OPTIONS = ["Dog barking", "A car horn", "Rain", "Piano"]


@pytest.mark.parametrize(
    ("answer", "letter", "letter_or_text", "matched"),
    [
        ("C", (1, True), (1, True), False),
        ("C. Rain", (1, True), (1, True), True),
        ("Rain", (0.25, False), (0.25, False), True),
        ("The answer is Rain.", (0.25, False), (0.25, False), True),
        ("...so the answer is C", (1, True), (1, True), False),
        ("I think it is rain rather than a piano", (0.25, False), (0.0, True), False),
        ("", (0.25, False), (0.25, False), False),
        ("<answer>C</answer>", (0.25, False), (0.25, False), False),
        ("C\n\nIt could be (A) as well", (1, True), (1, True), False),
    ],
)
def test_what_lmms_eval_makes_of_an_answer(answer, letter, letter_or_text, matched):
    assert upstream.choice_score(answer, OPTIONS, 2, "letter") == letter
    assert upstream.choice_score(answer, OPTIONS, 2, "letter_or_text") == letter_or_text
    assert upstream.string_match(upstream.cut(answer), OPTIONS, 2) is matched


def test_a_fifth_option_cannot_be_chosen_there():
    five = [*OPTIONS, "Harp"]
    assert upstream.choice_score("E", five, 4, "letter") == (0.0, False)
    assert upstream.choice_score("E", five, 4, "letter_or_text") == (1.0, True)


def test_the_average_of_random_draws_is_what_they_come_to():
    """1,000 silent answers score 25 % there; here exactly."""
    scores = [upstream.choice_score("", OPTIONS, place % 4, "letter")[0] for place in range(1000)]
    assert sum(scores) / 1000 == 0.25


def test_the_first_digit_and_the_last_rating():
    verdict = "Explanation: The 1st part is right.\nRating: 4"
    assert upstream.judge_score(verdict, "first_digit") == 20
    assert upstream.judge_score(verdict, "rating") == 4
    assert upstream.judge_score("Rating: 4 out of 5", "rating") is None


def test_word_errors_by_each_rule():
    assert upstream.word_errors("the red cat", "The red dog.", "wer") == (1, 3)
    assert upstream.word_errors("colour", "color", "wer_basic") == (0, 1)
    assert upstream.word_errors("Colour", "color", "wer_by_utterance") == (1.0, 1.0)  # no normaliser there
    assert upstream.word_errors("the answer: 'we must act now'", "we must act now", "wer_by_utterance")[0] > 0
    assert upstream.word_errors("<text>we must act now</text>", "we must act now", "wer_by_utterance") == (0, 1)
    assert upstream.word_errors("Transcription: 'we must act now'", "we must act now", "wer_by_utterance") == (0, 1)
    assert upstream.word_errors("noise", "<MUSIC>", "wer") == (1, 0)  # an empty reference counts insertions


def test_vocal_sounds_are_looked_for_in_their_order():
    assert upstream.first_contained("a sigh and a sneeze", "Sigh")
    assert not upstream.first_contained("a sneeze, then a sniff", "Sneeze")
    assert upstream.first_contained("clearing the throat", "Throat clearing")
    assert upstream.exact_match("Yes.", "YES")
    assert not upstream.exact_match("", "YES")
