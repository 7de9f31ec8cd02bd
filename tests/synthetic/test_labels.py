"""Manifests with few labels."""

from collections import Counter

from experiments.labels import main

from coat.files import read_jsonl, write_jsonl
from coat.synthetic.labels import LABELLED_ROWS, labelled_manifest


def test_labels_are_few_and_clips_are_all_there(tmp_path, capsys):
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    rows = [
        {"id": f"{n}-{task}", "task": task, "audios": [f"{n}.wav"]}
        for n in range(300) for task in ("transcription", "mood", "pitch_class")
    ]  # fmt: skip
    write_jsonl(corpus / "train.jsonl", rows)
    main(["50", "all", "--world", str(tmp_path), "--seeds", "2"])
    assert "train-labels-50-seed{seed}.jsonl" in capsys.readouterr().out
    for count, clips in (("50", 50), ("all", 300)):
        chosen = []
        for seed in (0, 1):
            made = read_jsonl(labelled_manifest(corpus, count, seed))
            tasks = Counter(row["task"] for row in made)
            assert tasks == {"transcription": 300, "mood": LABELLED_ROWS, "pitch_class": LABELLED_ROWS}
            chosen.append({row["audios"][0] for row in made if row["task"] == "mood"})
            assert len(chosen[-1]) == clips
        assert (chosen[0] == chosen[1]) == (count == "all"), "each seed labels clips of its own"
    path = labelled_manifest(corpus, "50", 0)
    path.write_text("kept")
    main(["50", "--world", str(tmp_path)])
    assert path.read_text() == "kept"
