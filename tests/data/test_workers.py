"""Loader workers read what the parent reads, however they are started, and whatever the parent had read before."""

import json

import pytest
from torch.utils.data import DataLoader

from coat.data.index import open_manifest
from coat.training.dataset import ManifestDataset

ROWS = 4000


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("many") / "rows.jsonl"
    # Lines of many lengths, so that one that is read from a wrong place does not parse, or is another row.
    rows = ({"id": f"r{i}", "question": f"{i} " * (1 + i % 97), "answer": f"{i}"} for i in range(ROWS))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def ids(rows):
    return [(row.id, row.messages[0]["content"].split()[0], row.answer) for row in rows]


@pytest.mark.parametrize(("workers", "start"), [(2, "fork"), (8, "fork"), (3, "spawn")])
def test_every_row_is_itself(path, start, workers):
    rows = open_manifest(path)
    assert rows[7].id == "r7"  # the parent has the file open, as calibration and a filled cache leave it
    order = [(place * 1237) % ROWS for place in range(ROWS if start == "fork" else 400)]
    loader = DataLoader(
        ManifestDataset(rows), sampler=order, batch_size=16, collate_fn=ids, num_workers=workers,
        multiprocessing_context=start,
    )  # fmt: skip
    heard = [row for batch in loader for row in batch]
    assert heard == [(f"r{place}", f"{place}", f"{place}") for place in order]
    assert rows[3].id == "r3"
