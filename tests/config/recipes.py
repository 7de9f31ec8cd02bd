"""A recipe that is right, to be spoilt by tests."""

GOOD = {
    "stages": [
        {"name": "warm-up", "steps": 10, "experts": {"audio_reconstruction": "auto"}},
        {"name": "experts", "steps": 20, "experts": {"audio_reconstruction": 1.0, "basic_pitch": "auto"}},
    ],
    "data": {"train_dataset": "train.jsonl"},
}
