"""Splits of a data set (train, validation, test), as the names of its files tell them.

The rules are those of the `datasets` library, for a folder that has no configuration:

    data/NAME-00000-of-00005.*    the split NAME
    a folder's name               train, training, validation, valid, dev, val, test, testing, eval,
                                  evaluation, alone or between separators: `my-test/a.jsonl`
    a file's name                 the same words, and a separator after them: `c4-train.00.json`

A separator is one of `-._ `, a digit, or the beginning or end of a name; so `tests/` and
`latest.txt` tell no split. A folder tells more than a file's name, and an inner folder more than an
outer one.

The library drops files that tell no split if others do. Here they count as training data, so that
no word in a name loses them silently.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["ALL", "HELD_OUT", "TRAIN", "SplitChoice", "choose_split", "split_by_name"]

ALL, TRAIN = "all", "train"
WORDS = {
    TRAIN: ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
HELD_OUT = ("validation", "test")
SEPARATOR = "[-._ 0-9]"
SHARD = re.compile(r"data/(\w+(?:\.\w+)*)-\d{5}-of-\d{5}[^/]*\.[^/]*")
IN_FOLDER = {
    split: re.compile(f"(?:^|.*{SEPARATOR})(?:{'|'.join(words)})(?:{SEPARATOR}.*)?", re.DOTALL)
    for split, words in WORDS.items()
}
IN_FILE = {
    split: re.compile(f"(?:^|.*{SEPARATOR})(?:{'|'.join(words)}){SEPARATOR}.*", re.DOTALL)
    for split, words in WORDS.items()
}


def split_by_name(name: str) -> str | None:
    """The split that a file's name tells, or None; names are relative to the data set's folder."""
    if shard := SHARD.fullmatch(name):
        return shard[1]
    *folders, base = name.split("/")
    told = (_first_match(IN_FOLDER, folder) for folder in reversed(folders))
    return next(filter(None, told), None) or _first_match(IN_FILE, base)


def _first_match(patterns: Mapping[str, re.Pattern[str]], part: str) -> str | None:
    return next((split for split, each in patterns.items() if each.fullmatch(part)), None)


@dataclass(frozen=True, kw_only=True)
class SplitChoice:
    """Which files are read.

    Attributes:
        splits: the files by split; None for those that tell none.
        read: the splits that are read, among those; empty if the user must choose one.
    """

    splits: Mapping[str | None, Sequence[str]]
    read: Sequence[str | None]


def choose_split(splits: Mapping[str, str | None], wanted: str | None) -> SplitChoice:
    """Chooses the split to read.

    Args:
        splits: file -> the split it belongs to, or None.
        wanted: the split asked for, `ALL`, or None for training data.
    """
    groups: dict[str | None, list[str]] = {}
    for file, split in splits.items():
        groups.setdefault(split, []).append(file)
    if wanted is None:
        return SplitChoice(splits=groups, read=_for_training(groups))
    if wanted == ALL or (wanted == TRAIN and list(groups) == [None]):
        return SplitChoice(splits=groups, read=list(groups))
    return SplitChoice(splits=groups, read=[wanted] if wanted in groups else [])


def _for_training(found: Mapping[str | None, Sequence[str]]) -> list[str | None]:
    """The splits that are training data, if they can be told from the others."""
    named = [split for split in found if split is not None]
    if TRAIN in named:
        return [split for split in found if split in (TRAIN, None)]
    if named and None in found and all(split in HELD_OUT for split in named):
        return [None]
    return list(found) if len(named) <= 1 else []
