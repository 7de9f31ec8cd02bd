import pytest

from coat.reasoning import PROMPT, final_answer, reasoned, reasoning_prompt


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>It rains, so A is wrong.</think>\nC", "C"),
        ("I hear rain.\nAnswer: C. Rain", "C. Rain"),
        ("First the answer: B seems likely. But no.\n**Final answer:** C", "C"),
        ("The answer is: C", "C"),
        ("C", "C"),
        ("It answers the phone.\nAnswer: a telephone", "a telephone"),
        ("<think>a chain that was cut", ""),
    ],
)
def test_what_stands_after_the_chain(text, answer):
    assert final_answer(text) == answer


def test_a_family_is_asked_by_its_own_mode_once_that_is_on(backbone):
    assert reasoning_prompt(backbone) == PROMPT
    asked = reasoned([{"role": "user", "content": "<audio>What?"}], PROMPT)
    assert asked == [{"role": "user", "content": f"<audio>What?{PROMPT}"}]
