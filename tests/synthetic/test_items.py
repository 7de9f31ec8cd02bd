from collections import Counter

from coat.files import read_jsonl
from coat.synthetic.items import make_scarce


def test_scarce_answers_are_few_and_every_clip_is_still_heard(corpus):
    rows = read_jsonl(corpus / "train.jsonl")
    mixture = make_scarce(rows, ("mood", "pitch_class"), 6, repeats=3, seed=0)
    for task in ("mood", "pitch_class"):
        labelled = [row for row in mixture if row["task"] == task]
        assert len(labelled) == 18
        assert set(Counter(row["audios"][0] for row in labelled).values()) == {3}
    plentiful = [row for row in mixture if row["task"] not in ("mood", "pitch_class") and row["audios"]]
    heard = Counter(row["audios"][0] for row in plentiful)
    assert set(heard) == {row["audios"][0] for row in rows if row["audios"]}
    assert set(heard.values()) == {1}
    assert len({row["id"] for row in mixture}) == len(mixture)


def test_the_seed_chooses_which_clips_are_labelled(corpus):
    rows = read_jsonl(corpus / "train.jsonl")

    def labelled(seed):
        mixture = make_scarce(rows, ("mood",), 6, repeats=1, seed=seed)
        return {row["audios"][0] for row in mixture if row["task"] == "mood"}

    assert labelled(0) == labelled(0)
    assert labelled(0) != labelled(1)


def test_a_choice_names_its_answer_among_others(corpus):
    facts = {fact["audio"]: fact for fact in read_jsonl(corpus / "clips.jsonl")}
    rows = [row for row in read_jsonl(corpus / "test.jsonl") if row["task"] == "choice"]
    assert rows
    for row in rows:
        fact = facts[row["audios"][0]]
        answer = row["choices"]["ABCD".index(row["messages"][1]["content"])]
        assert answer == fact.get("family", fact.get("event"))
        assert len(set(row["choices"])) == 4
        assert all(
            f"{letter}. {name}" in row["messages"][0]["content"]
            for letter, name in zip("ABCD", row["choices"], strict=True)
        )
