"""A task's rows: of the hub, of a folder, of its own sample, or of a manifest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

from coat.data.manifest import read_manifest
from coat.errors import CoatError
from coat.evaluation.items import Item, Sound, can_rotate, is_open, item_of_manifest, item_of_row, name_of
from coat.evaluation.task import Columns, Source, Task, load_task, task_names

SAMPLE = "sample"
MEASURERS = 8
MANIFESTS = (".jsonl", ".json", ".gz", ".zst", ".parquet")
# Tasks of a manifest that are scored by word errors, by name or group.
SPOKEN = ("transcription", "asr")


@dataclass(frozen=True)
class Opened:
    """A task with its rows.

    Attributes:
        task: The task.
        items: The questions; clips are not decoded, nor measured before :func:`measured`.
        place: Path or hub id of the data.
        revision: Revision of the data.
        skipped: Rows that are not asked, by why: ids.
        bad: Rows that cannot be asked, with what is wrong.
        ignore: Fields of a manifest's rows that were passed over.
    """

    task: Task
    items: list[Item]
    place: str
    revision: str = ""
    skipped: dict[str, list[str]] = field(default_factory=dict)
    bad: dict[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()


def open_tasks(
    names: Sequence[str],
    data: str | None = None,
    scratch: Path | None = None,
    *,
    max_new_tokens: int = 256,
    ignore: Sequence[str] = (),
) -> list[Opened]:
    """Open tasks by name: shipped ones, YAML files, manifests (every task in them), or ``all``.

    Args:
        names: Names of tasks.
        data: A folder with a folder a task, or ``sample`` for the rows that ship with each; the hub if None.
        scratch: Folder for samples.
        max_new_tokens: Most tokens of an answer to a manifest's question.
        ignore: Fields of manifests' rows to pass over.

    Raises:
        CoatError: A task is not there, or its data cannot be had.
    """
    opened: list[Opened] = []
    for name in names:
        if name == "all":
            opened += [open_task(load_task(each), data, scratch) for each in task_names()]
        elif is_manifest(name):
            opened += open_manifest_tasks(Path(name), max_new_tokens=max_new_tokens, ignore=ignore)
        else:
            opened.append(open_task(load_task(name), data, scratch))
    doubled = [name for name, count in Counter(each.task.name for each in opened).items() if count > 1]
    if doubled:
        raise CoatError(f"{', '.join(doubled)}: asked twice.", "Name each task once.")
    return opened


def open_task(task: Task, data: str | None = None, scratch: Path | None = None) -> Opened:
    """Open one task.

    Raises:
        CoatError: Its data cannot be had, or lacks columns.
    """
    if data == SAMPLE:
        if scratch is None:
            raise CoatError("The sample needs a folder to be written to.", "Give scratch=.")
        folder = scratch / task.name
        write_sample(task, folder)
        return _of_dataset(task, _load_folder(task, folder), SAMPLE, "", folder)
    if data is not None:
        folder = _folder_of(task, Path(data))
        if task.source.reader and not list(folder.glob("*.parquet")):
            from coat.evaluation.eval2000 import read_eval2000

            return _of_records(task, read_eval2000(folder), str(folder))
        return _of_dataset(task, _load_folder(task, folder), str(folder), _folder_state(folder), folder)
    if not task.source.hub:
        raise CoatError(f"{task.name} is not on the hub.", f"{task.source.access} Then: --data FOLDER")
    if task.columns.audio_is == "paths":
        raise CoatError(f"The clips of {task.name} are files beside its rows.", task.source.access)
    dataset, name, revision = _load_hub(task)
    return _of_dataset(task, dataset, name, revision)


def is_manifest(name: str) -> bool:
    """Whether a name is a manifest's, not a task's or a task file's."""
    return Path(name).suffix in MANIFESTS


def open_manifest_tasks(path: Path, *, max_new_tokens: int = 256, ignore: Sequence[str] = ()) -> list[Opened]:
    """Every task of a manifest: its rows by their ``task``, scored by what they are.

    Rows with ``choices`` are choices; those of the task or group ``transcription`` or ``asr`` are scored by word
    errors; all others by whether the answer equals theirs.
    """
    groups: dict[str, list[Any]] = defaultdict(list)
    for row in read_manifest(path, ignore=ignore):
        groups[row.task or path.stem].append(row)
    opened = []
    for name, rows in sorted(groups.items()):
        kind: Any = "exact"
        if all(row.choices for row in rows):
            kind = "choice"
        elif all(name in SPOKEN or row.group in SPOKEN for row in rows):
            kind = "transcript"
        columns = Columns(options="choices") if kind == "choice" else Columns()
        title = name.replace("_", " ")
        task = Task(name=name, title=title, kind=kind, source=Source(), columns=columns, max_new_tokens=max_new_tokens)
        items, bad = [], {}
        for row in rows:
            try:
                items.append(item_of_manifest(task, row))
            except CoatError as error:
                bad[row.id] = error.problem
        opened.append(Opened(task, items, str(path), _file_state([path]), bad=bad, ignore=tuple(ignore)))
    return opened


def measured(opened: Opened, progress: Callable[[int], None] | None = None) -> Opened:
    """Items with the seconds and content keys of their clips; those that are too long are left out, and named.

    Args:
        opened: The questions of one task.
        progress: Called with the number of items just measured.
    """
    from concurrent.futures import ThreadPoolExecutor

    def measure(item: Item) -> Item | str:
        try:
            found = [sound.measure() for sound in item.sounds]
        except CoatError as error:
            return error.problem
        except Exception as error:  # whatever a codec raises; the row is named, and the others go on
            return f"{type(error).__name__}: {error}"
        clips = tuple(key for _, key in found)
        cluster = item.cluster or (clips[0] if clips else item.id)
        return replace(item, seconds=sum(seconds for seconds, _ in found), clips=clips, cluster=cluster)

    task, items = opened.task, []
    skipped = {why: list(ids) for why, ids in opened.skipped.items()}
    bad = dict(opened.bad)
    with ThreadPoolExecutor(MEASURERS) as pool:
        for item, found in zip(opened.items, pool.map(measure, opened.items), strict=True):
            if progress:
                progress(1)
            if isinstance(found, str):
                bad[item.id] = found
            elif found.seconds > task.max_seconds:
                skipped.setdefault(f"longer than {task.max_seconds:g} s", []).append(item.id)
            else:
                items.append(found)
    return replace(opened, items=items, skipped=skipped, bad=bad)


def orders_of(item: Item, count: int) -> range:
    """Rotations in which its options are asked: at most as many as there are options."""
    return range(min(count, len(item.options)) if count > 1 and can_rotate(item) else 1)


def write_sample(task: Task, folder: Path) -> Path:
    """Write a task's sample rows in the data's own schema: Parquet, tones for clips, labels as numbers."""
    import datasets

    path = folder / "sample.parquet"
    if path.is_file():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    # Column order is by name here; nothing may depend on it.
    table = datasets.Dataset.from_list(list(task.sample))
    features = {}
    for name, feature in table.features.items():
        labels = task.label_names.get(name)
        features[name] = datasets.ClassLabel(names=list(labels)) if labels else feature
    table = table.cast(datasets.Features(features)) if task.label_names else table
    if task.columns.audio_is == "paths":
        for index, row in enumerate(task.sample):
            for name in row[task.columns.audio]:
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(_tone(index))
    else:
        sounds = [{"bytes": _tone(index), "path": f"{index}.wav"} for index in range(len(task.sample))]
        plain = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
        table = table.add_column(task.columns.audio, sounds, feature=plain)
        table = table.cast_column(task.columns.audio, datasets.Audio(sampling_rate=task.sample_rate, decode=False))
    partial = path.with_name(path.name + ".partial")
    table.to_parquet(partial)
    partial.replace(path)
    return path


def _tone(index: int) -> bytes:
    """A file of a tone that is higher and longer for each row."""
    import numpy as np

    from coat.audio.libsndfile import encode_sound

    time = np.arange(round((0.6 + 0.15 * index) * 16_000)) / 16_000
    return encode_sound(0.2 * np.sin(2 * np.pi * 220 * (index + 1) * time), 16_000, container="WAV")


def _folder_of(task: Task, data: Path) -> Path:
    """The folder of a task's own, or the one that is given, where it holds the rows itself.

    Raises:
        CoatError: There is neither.
    """
    own = data / task.name
    if own.is_dir():
        return own
    if not data.is_dir():
        raise CoatError(f"There is no folder {data}.", f"{task.name} needs its rows there, as Parquet.")
    if task.source.reader or any(data.glob("*.parquet")) or (data / "dataset_info.json").is_file():
        return data
    raise CoatError(f"{data} has no folder {task.name}, and holds no Parquet files itself.", f"Put them into {own}.")


def _of_dataset(task: Task, dataset: Any, place: str, revision: str, folder: Path = Path()) -> Opened:
    import datasets

    from coat.data.sources.records import plain_records

    column = task.columns.audio
    missing = [name for name in task.columns.needed() if name not in dataset.column_names]
    if missing:
        raise CoatError(
            f"{place} has no column {', '.join(missing)} for {task.name}; it has {', '.join(dataset.column_names)}.",
            "The data set may have changed: give a revision, or a task file with other columns.",
        )
    if isinstance(dataset.features[column], datasets.Audio):
        dataset = dataset.cast_column(column, datasets.Audio(decode=False))
    files = dataset[column] if task.columns.audio_is == "paths" else None
    items, bad, left_out = [], {}, []
    for index, raw in enumerate(plain_records(dataset.remove_columns([column]))):
        if task.leave_out_open and is_open(task, raw):
            left_out.append(name_of(task, raw, index))
            continue
        try:
            sounds = [_sound(dataset, index, task)] if files is None else _sounds_in(folder, files[index])
            items.append(item_of_row(task, raw, index, *sounds))
        except CoatError as error:
            bad[f"row {index}"] = error.problem
    return Opened(task, _unique(items), place, revision, {"without options": left_out} if left_out else {}, bad)


def _sounds_in(folder: Path, names: str | Sequence[str]) -> list[Sound]:
    """The files that a row names, in the data's folder.

    Raises:
        CoatError: One of them leads out of it.
    """
    sounds = []
    for name in [names] if isinstance(names, str) else names:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise CoatError(f"{name} is no file within {folder}.", "Rows name their clips within the data's folder.")
        sounds.append(Sound.of_file(path))
    return sounds


def _of_records(task: Task, records: Sequence[dict[str, Any]], place: str) -> Opened:
    items = []
    for index, raw in enumerate(records):
        audio = raw[task.columns.audio]
        sound = Sound.of_file(Path(audio["path"]), audio["start"], audio["end"], audio["channel"])
        items.append(item_of_row(task, raw, index, sound))
    return Opened(task, _unique(items), place, _file_state({Path(r[task.columns.audio]["path"]) for r in records}))


def _unique(items: list[Item]) -> list[Item]:
    """Ids made unique by place, where the data uses one twice."""
    counts = Counter(item.id for item in items)
    return [replace(item, id=f"{item.id}#{i}") if counts[item.id] > 1 else item for i, item in enumerate(items)]


def _sound(dataset: Any, index: int, task: Task) -> Sound:
    column, name = task.columns.audio, f"{task.name} row {index}"

    def fetch() -> bytes:
        audio = dataset[index][column]
        if audio.get("bytes") is not None:
            return bytes(audio["bytes"])
        return Sound.of_file(Path(str(audio["path"]))).fetch()

    return Sound(name, fetch)


def _load_folder(task: Task, folder: Path) -> Any:
    import datasets

    tables = sorted(map(str, folder.rglob("*.parquet")))
    if tables:
        return datasets.load_dataset("parquet", data_files=tables, split="train")
    if (folder / "dataset_info.json").is_file():
        return datasets.load_from_disk(str(folder))
    raise CoatError(
        f"{folder} holds neither Parquet files nor a saved data set for {task.name}.",
        f"{task.source.hub or task.title}: {task.source.access}",
    )


def _load_hub(task: Task) -> tuple[Any, str, str]:
    """The data set under the first of its names that the hub knows."""
    import datasets
    from huggingface_hub import HfApi

    source, problems = task.source, []
    for name in (source.hub, *source.also):
        try:
            dataset = datasets.load_dataset(name, source.config, split=source.split, revision=source.revision)
            revision = HfApi().dataset_info(name, revision=source.revision).sha or ""
            return dataset, name, revision
        except Exception as error:  # whatever the hub's layers raise
            problems.append(f"{name}: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
    raise CoatError(
        f"{task.name} could not be read from the hub. {'; '.join(problems)}",
        f"{source.access}. Where there is no network, give a folder with its Parquet files: --data FOLDER",
    )


def _folder_state(folder: Path) -> str:
    return _file_state(path for path in folder.rglob("*") if path.is_file())


def _file_state(paths: Any) -> str:
    """Names and sizes of files: what a folder of data is called."""
    digest = blake2b(digest_size=8)
    for path in sorted(paths):
        digest.update(f"{path.name} {path.stat().st_size}\n".encode())
    return f"files {digest.hexdigest()}"
