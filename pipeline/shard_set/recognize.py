"""Recognizes a token store or shard set by its path; for anything else, says what would help."""

import json
from pathlib import PurePosixPath
from typing import Any

from ...schemas.errors import ExactcptError, FormatError, IncompleteError, UsageError
from ...schemas.json_text import parse_json
from ...schemas.manifest import MANIFEST, PARQUET_SET, SHARD_SET, TOKEN_STORE, Manifest, parse
from ...schemas.sizes import plural
from ..files.storage import Folder, resolve
from ..job.folder import STATE, State
from ..sources.formats import format_of, formats_of
from .manifest import check_manifest

__all__ = ["open_finished", "open_shard_set"]

EITHER = "the folder of a token store or shard set"
SHARDS = "the folder of a shard set"
LEVELS_LOOKED_AT = 3


def open_finished(folder: Folder) -> tuple[str, Manifest]:
    """The kind and the manifest of a token store or shard set.

    Raises:
        UsageError: nothing is there, or something else; the error says what, and what would help.
        IncompleteError: its job has not finished.
        FormatError: its manifest is corrupt, of another format, of a newer version, or impossible.
    """
    return _open(folder, EITHER)


def open_shard_set(folder: Folder) -> Manifest:
    """The manifest of a shard set.

    Raises:
        UsageError: as in `open_finished`, and for a token store.
        IncompleteError, FormatError: as in `open_finished`.
    """
    kind, manifest = _open(folder, SHARDS)
    if kind != SHARD_SET:
        raise UsageError(
            "this is a token store",
            where=folder.url,
            expected=SHARDS,
            fix=f"make a shard set from it: exactcpt pack {folder.url} --out DIR",
        )
    return manifest


def _open(folder: Folder, wanted: str) -> tuple[str, Manifest]:
    fs, path = resolve(folder.url)
    if not folder.url or not fs.exists(path):
        raise UsageError("there is nothing at this path", where=folder.url, expected=wanted)
    if not fs.isdir(path):
        raise _a_file(folder.url, wanted)
    if not folder.exists(MANIFEST):
        raise _a_folder(folder, fs, path, wanted)
    return _read(folder)


def _read(folder: Folder) -> tuple[str, Manifest]:
    data, where = folder.read(MANIFEST), folder.url_of(MANIFEST)
    try:
        found = parse_json(data)
    except ValueError:
        found = {"format": TOKEN_STORE}  # `parse` says what is wrong
    kind = found.get("format") if isinstance(found, dict) else None
    if kind == PARQUET_SET:
        raise UsageError(
            "this is a shard set that was published as Parquet",
            where=folder.url,
            expected=SHARDS,
            fix="read it as Parquet files, or publish the set with --format arrow",
        )
    if kind not in (TOKEN_STORE, SHARD_SET):
        raise FormatError(
            "this is neither a token store nor a shard set",
            expected=f'"format": "{TOKEN_STORE}" or "{SHARD_SET}"',
            where=f'{where} says "format": {json.dumps(kind)[:80]}',
        )
    manifest = parse(data, where, kind)
    if kind == SHARD_SET:
        check_manifest(manifest, where)
    return kind, manifest


def _a_file(url: str, wanted: str) -> UsageError:
    parent = Folder(url.rpartition("/")[0] or ".")
    if PurePosixPath(url).name == MANIFEST:
        return UsageError("this is a file", where=url, expected=wanted, fix=f"use {parent.url}")
    file_format = format_of(url)[0]
    if file_format is None:
        return UsageError("this is a file", where=url, expected=wanted)
    return UsageError(
        f"this is a corpus file ({file_format})",
        where=url,
        expected=wanted,
        fix=_of_corpus(url, wanted),
    )


def _a_folder(folder: Folder, fs: Any, path: str, wanted: str) -> ExactcptError:
    if folder.exists(STATE):
        return _unfinished(folder, wanted)
    above = Folder(folder.url.rpartition("/")[0] or ".")
    if above.exists(MANIFEST):
        return UsageError(
            "this folder is inside a token store or shard set",
            where=folder.url,
            expected=wanted,
            fix=f"use {above.url}",
        )
    names = [str(name) for name in fs.find(path, maxdepth=LEVELS_LOOKED_AT)]
    formats = [found for found in formats_of(names).values() if found]
    if not formats:
        neither = "this is neither a token store nor a shard set"
        what = neither if names else "this folder is empty"
        return UsageError(what, where=folder.url, expected=wanted)
    kind = max(set(formats), key=formats.count)
    return UsageError(
        f"this is a folder of {plural(formats.count(kind), 'corpus file')} ({kind})",
        where=folder.url,
        expected=wanted,
        fix=_of_corpus(folder.url, wanted),
    )


def _unfinished(folder: Folder, wanted: str) -> IncompleteError:
    try:
        inputs = State.read(folder, STATE).inputs
    except FormatError:
        return IncompleteError(
            "this token store or shard set is not finished, and the state of its job is damaged",
            where=folder.url_of(STATE),
            expected="a folder that `exactcpt tokenize`, `pack` or `reweigh` has completed",
            fix="remove the folder and run the job again",
        )
    if "shard set" in inputs:
        return IncompleteError(
            "this published data set is not finished",
            where=folder.url,
            expected=f"{wanted} that is finished",
            fix="run `exactcpt publish` again; it continues where it stopped",
        )
    is_shards = "token store" in inputs
    command = "pack" if is_shards else "tokenize"
    return IncompleteError(
        f"this {'shard set' if is_shards else 'token store'} is not finished",
        where=folder.url,
        expected=f"a folder that `exactcpt {command}` has completed",
        fix=f"run `exactcpt {command}` (or `prepare`) again; it continues where it stopped",
    )


def _of_corpus(pattern: str, wanted: str) -> str:
    source = f"--source NAME={pattern} --tokenizer PATH"
    if wanted == EITHER:
        return f"inspect a sample of it: exactcpt inspect {source}"
    return f"make shards from it: exactcpt prepare {source} --out DIR"
