"""Data sets of several files: the one that holds the tokens, and those that belong to it.

    megatron     NAME.bin    NAME.idx
    datatrove    NAME.ds     NAME.ds.index; NAME.ds.metadata, if it is there
    mds          *.mds       index.json in the same folder

A source is made of the files with the tokens. What belongs to them is never a corpus of its own,
and is part of what identifies the input.
"""

from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple

from ..core.choices import Format

__all__ = ["INDEX", "Companion", "companions", "data_file", "loss_mask", "without_companions"]

INDEX = "index.json"
BIN, IDX = ".bin", ".idx"
DS, DS_INDEX, DS_METADATA, DS_LOSS = ".ds", ".ds.index", ".ds.metadata", ".ds.loss"
BESIDE_DS = (DS_INDEX, DS_METADATA, DS_LOSS)


class Companion(NamedTuple):
    """A file that belongs to one with tokens.

    Attributes:
        path: where it is.
        writer: the program that writes both.
        needed: whether the tokens cannot be read without it.
    """

    path: str
    writer: str
    needed: bool = True


def companions(path: str, of: Format | None) -> list[Companion]:
    """What belongs to a file with the tokens of a format, or may do so."""
    match of:
        case "megatron":
            return [Companion(path.removesuffix(BIN) + IDX, "Megatron-LM")]
        case "datatrove":
            stem = path.removesuffix(DS)
            return [
                Companion(stem + DS_INDEX, "datatrove"),
                Companion(stem + DS_METADATA, "datatrove", needed=False),
            ]
        case "mds":
            return [Companion(_sibling(path, INDEX), "MosaicML Streaming")]
    return []


def loss_mask(path: str, of: Format | None) -> str | None:
    """The file that would say which tokens of a file are no targets; None for most formats."""
    return path.removesuffix(DS) + DS_LOSS if of == "datatrove" else None


def data_file(path: str, of: Format | None) -> str:
    """The file with the tokens, given any file of its data set."""
    if of == "megatron" and path.endswith(IDX):
        return path.removesuffix(IDX) + BIN
    if of == "datatrove":
        for ending in BESIDE_DS:
            if path.endswith(ending):
                return path.removesuffix(ending) + DS
    return path


def without_companions(paths: Iterable[str]) -> list[str]:
    """The paths without those that belong to another one of them."""
    everything = list(paths)
    there = set(everything)
    of_mds = {_folder(path) for path in everything if _is_mds(path)}
    return [
        path
        for path in everything
        if not any(
            data in there
            for data in (data_file(path, "megatron"), data_file(path, "datatrove"))
            if data != path
        )
        and not (PurePosixPath(path).name == INDEX and _folder(path) in of_mds)
    ]


def _is_mds(path: str) -> bool:
    """Whether a name is that of a shard, in whatever way it is compressed."""
    return ".mds" in PurePosixPath(path).suffixes[-2:]


def _folder(path: str) -> str:
    return path.rpartition("/")[0]


def _sibling(path: str, name: str) -> str:
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}{name}"
