"""A stage of the paper's size: manifests of all corpora checked, planned and drawn.

    python benchmarks/mixture.py                 # 1.6 M rows in 18 manifests, a stage of 1.6 M
    python benchmarks/mixture.py --rows 100000

Manifests are synthetic, with durations in them, as `coat data prepare` writes; audio is not touched.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from coat.config.reading import parse_recipe
from coat.data.batching import StepRows
from coat.training.corpus import open_corpus

# Parts of all rows, by public row counts; the groups and shares are those of the recipes.
SOURCES = {
    "asr": (40, {"librispeech": 280, "gigaspeech": 420, "common-voice": 260, "voxpopuli": 110, "switchboard": 100,
                 "spgispeech": 130}),
    "qa": (20, {"audiocaps-qa": 20, "iemocap-qa": 5, "librisqa": 60, "clotho-aqa": 15}),
    "captioning": (10, {"audiocaps": 35, "clotho": 15}),
    "choice": (10, {"meld": 8, "iemocap": 5, "librisqa-choice": 40}),
    "music": (10, {"musicbench": 40}),
    "spoken": (5, {"gsqa": 30}),
    "text": (5, {"wildjailbreak": 27}),
}  # fmt: skip


def main() -> None:
    """Write, check, plan, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_600_000)
    parser.add_argument("--budget", type=int, default=1_600_000)
    args = parser.parse_args()
    total = sum(part for _, sources in SOURCES.values() for part in sources.values())
    with tempfile.TemporaryDirectory() as place:
        groups = {}
        for group, (share, sources) in SOURCES.items():
            groups[group] = {"share": share, "sources": []}
            for name, part in sources.items():
                path = Path(place) / f"{name}.jsonl"
                write(path, name, group, round(args.rows * part / total))
                groups[group]["sources"].append(str(path))
        recipe = parse_recipe(
            {
                "stages": [{"name": "stage", "steps": args.budget // 16}],
                "data": {"mixture": {"groups": groups}},
            }
        )
        began = time.perf_counter()
        parsed = sum(1 for path in Path(place).glob("*.jsonl") for line in path.open("rb") if json.loads(line))
        print(f"the limit, {parsed:,} rows parsed by json in one process: {time.perf_counter() - began:.1f} s")
        for turn in ("first time", "again"):
            began = time.perf_counter()
            corpus = open_corpus(recipe.data, 30.0)
            print(f"{len(corpus.rows):,} rows checked, {turn}: {time.perf_counter() - began:.1f} s")
        began = time.perf_counter()
        draw = corpus.draw(recipe, 0)
        steps = StepRows(corpus.rows.seconds, draw=draw, steps=recipe.stages[0].steps, batch_size=16, seed=0)
        seen = np.zeros(len(corpus.rows), dtype=np.int16)
        for rows in steps:
            np.add.at(seen, rows, 1)
        spent = time.perf_counter() - began
        print(f"{int(seen.sum()):,} rows drawn in {len(steps):,} steps: {spent:.1f} s; most often {seen.max()} times")
        for line in corpus.plan(recipe.data, args.budget).lines:
            numbers = f"{line.pool:>9,} {line.share:>6.1%} {line.samples:>9,} {line.epochs:>5.2f}"
            print(f"  {line.group:<11} {line.source:<16} {numbers}")
        began = time.perf_counter()
        for index in np.random.default_rng(0).integers(0, len(corpus.rows), 10_000).tolist():
            corpus.rows[index]
        print(f"10,000 rows read anywhere: {time.perf_counter() - began:.2f} s")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def write(path: Path, name: str, group: str, rows: int) -> None:
    """A manifest of so many rows."""
    rng = np.random.default_rng(len(name))
    with path.open("w") as file:
        for index, seconds in enumerate(rng.gamma(4, 2.5, rows).clip(0.5, 29.9)):
            messages = [
                {"role": "user", "content": "<audio>Transcribe the speech."},
                {"role": "assistant", "content": "the small red dog finds two boats by the river " * (1 + index % 3)},
            ]
            audio = {"path": f"clips/{index // 1000}/{index}.flac", "seconds": round(seconds, 3)}
            row = {"id": f"{name}-{index}", "messages": messages, "task": group, "group": group, "source": name}
            row |= {"language": "en", "audios": [audio]}
            if name == "wildjailbreak":
                row["audios"], messages[0]["content"] = [], "Say a colour."
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
