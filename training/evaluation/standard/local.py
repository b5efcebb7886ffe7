"""Items of the six benchmarks from local files, so that no network is needed.

    DIR/<task>.jsonl          the items, one JSON object in a line, with the fields of the data set
    DIR/<task>.shots.jsonl    the solved examples before them; needed unless there are none

For lm-eval they become a task that includes its own and reads these files.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import xxhash

from ....schemas.errors import FormatError, UsageError
from ....schemas.json_text import parse_json
from ....schemas.regular import read_regular
from ....schemas.sizes import plural
from .tasks import SIX

__all__ = ["LocalTask", "local_tasks", "task_file"]

SUBJECT = "subject"
"""Divides the items of mmlu into the tasks of lm-eval."""

FIRST = ("mmlu",)
"""Tasks whose examples are the first ones. For others they are drawn, one more than there will be:
if the item itself is among them, it is left out."""

TEXT, CHOICES, NUMBER, OPTIONS = "a text", "a list of texts", "a whole number", "an object"

FIELDS: Mapping[str, Mapping[str, str]] = {
    "mmlu": {SUBJECT: TEXT, "question": TEXT, "choices": CHOICES, "answer": NUMBER},
    "arc_challenge": {"question": TEXT, "choices": OPTIONS, "answerKey": TEXT},
    "hellaswag": {
        "activity_label": TEXT, "ctx_a": TEXT, "ctx_b": TEXT, "endings": CHOICES, "label": TEXT,
    },
    "winogrande": {"sentence": TEXT, "option1": TEXT, "option2": TEXT, "answer": TEXT},
    "piqa": {"goal": TEXT, "sol1": TEXT, "sol2": TEXT, "label": NUMBER},
    "gsm8k": {"question": TEXT, "answer": TEXT},
}  # fmt: skip
"""Task -> the fields that it reads, and what each must be; others are passed on."""

SPLITS = {"train": "shots", "dev": "shots", "validation": "items", "test": "items"}
"""What lm-eval's tasks call their splits -> which of the two files it is."""

Record = dict[str, Any]


class LocalTask(NamedTuple):
    """The data of one of lm-eval's tasks.

    Attributes:
        name: of the task, such as mmlu_anatomy.
        items: what is asked.
        shots: the solved examples.
    """

    name: str
    items: list[Record]
    shots: list[Record]


def local_tasks(folder: Path, task: str, shots: int) -> tuple[list[LocalTask], str]:
    """Reads the data of a benchmark.

    Args:
        folder: with the files.
        task: one of `SIX`.
        shots: how many solved examples stand before each item.

    Returns:
        The tasks of lm-eval that it has, and the digest of the files.

    Raises:
        UsageError: the task is none of the six, a file is missing, or it has too few examples.
        FormatError: a line is not of this task.
    """
    if task not in SIX:
        raise UsageError(
            f"--data has no items for the task {task}",
            expected=f"--tasks with any of {', '.join(SIX)}",
            fix="evaluate other tasks without --data: from the hub, or from its cache",
        )
    found = xxhash.xxh3_128()
    items = _records(folder / f"{task}.jsonl", task, found)
    examples = _records(folder / f"{task}.shots.jsonl", task, found, shots) if shots else {}
    tasks: list[LocalTask] = []
    for subject, own in items.items():
        solved = examples.get(subject, [])
        needed = shots + (shots > 0 and task not in FIRST)
        if len(solved) < needed:
            raise UsageError(
                f"there {'is' if len(solved) == 1 else 'are'} only "
                f"{plural(len(solved), 'solved example')}" + (f" of {subject}" if subject else ""),
                where=str(folder / f"{task}.shots.jsonl"),
                expected=f"at least {needed}, for {shots} before every item",
                fix="add some, or give a smaller number with --shots",
            )
        tasks.append(LocalTask(f"{task}_{subject}" if subject else task, own, solved))
    return tasks, found.hexdigest()


def _records(
    path: Path, task: str, digest: "xxhash.xxh3_128", shots: int = 0
) -> dict[str, list[Record]]:
    """The records of a file by subject, in their order; those of most tasks have none."""
    try:
        data = read_regular(path)
    except OSError as error:
        fix = f"add the file, or give --shots 0 instead of {shots}" if shots else "add the file"
        raise UsageError(
            f"the data of {task} cannot be read: {error.strerror}",
            where=str(path),
            expected="one JSON object in a line",
            fix=f"{fix}; or leave {task} out of --tasks",
        ) from None
    digest.update(len(data).to_bytes(8, "little") + data)
    found: dict[str, list[Record]] = {}
    for where, record in _lines(data, path):
        _check(record, task, where)
        found.setdefault(record[SUBJECT] if SUBJECT in FIELDS[task] else "", []).append(record)
    if not found:
        raise FormatError(f"the data of {task} are empty", where=str(path), expected="some items")
    return found


def _lines(data: bytes, path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            where = f"{path}, line {number:,}"
            try:
                yield where, parse_json(line)
            except ValueError as error:
                raise FormatError(f"the line is not JSON: {error}", where=where) from None


def _check(record: Any, task: str, where: str) -> None:
    """Checks that a record is of a task.

    Raises:
        FormatError: a field is missing, or is something else.
    """
    for name, kind in FIELDS[task].items():
        value = record.get(name) if isinstance(record, dict) else None
        if not _is(value, kind):
            raise FormatError(
                f"the line is not of {task}: its field {name!r} is not {kind}",
                where=where,
                expected=f"an object with {', '.join(FIELDS[task])}",
                fix="give each task the data set that it is named after",
            )


def _is(value: Any, kind: str) -> bool:
    if kind == TEXT:
        return isinstance(value, str)
    if kind == NUMBER:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind == CHOICES:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    options = value if isinstance(value, dict) else {}
    return all(_is(options.get(name), CHOICES) for name in ("text", "label"))


def task_file(task: LocalTask, theirs: Path, folder: Path) -> Path:
    """Writes a task for lm-eval that is its own with these items.

    Args:
        task: the data.
        theirs: lm-eval's file of the task.
        folder: where to write; also for the copies that the library `datasets` makes.

    Returns:
        The file of the task.
    """
    data = {"items": task.items, "shots": task.shots or task.items}
    for what, records in data.items():
        lines = "".join(json.dumps(record) + "\n" for record in records)
        (folder / f"{task.name}.{what}.jsonl").write_text(lines)
    files = {split: str(folder / f"{task.name}.{what}.jsonl") for split, what in SPLITS.items()}
    config = {
        "include": str(theirs),
        "task": task.name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
    }
    path = folder / f"{task.name}.yaml"
    path.write_text(json.dumps(config))  # JSON is YAML
    return path
