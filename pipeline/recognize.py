"""What a path is: a token store, a shard set, or something that was meant to become one."""

import json
from pathlib import PurePosixPath
from typing import Any

from ..schemas.errors import ExactcptError, FormatError, IncompleteError, UsageError
from ..schemas.manifest import MANIFEST, SHARD_SET, TOKEN_STORE, Manifest, parse
from .formats import format_of
from .job import JOB
from .storage import Folder, resolve

__all__ = ["open_finished"]

EITHER = "the folder of a token store or shard set"
LEVELS_LOOKED_AT = 3


def open_finished(folder: Folder) -> tuple[str, Manifest]:
    """The kind and the manifest of a token store or shard set.

    Raises:
        UsageError: there is nothing, or something else: what it seems to be, and what would help.
        IncompleteError: its job has not finished.
        FormatError: its manifest is corrupt, of another format, or of a newer version.
    """
    fs, path = resolve(folder.url)
    if not fs.exists(path):
        raise UsageError("there is nothing at this path", where=folder.url, expected=EITHER)
    if not fs.isdir(path):
        raise _a_file(folder.url)
    if not folder.exists(MANIFEST):
        raise _a_folder(folder, fs, path)
    return _read(folder)


def _read(folder: Folder) -> tuple[str, Manifest]:
    data, where = folder.read(MANIFEST), folder.url_of(MANIFEST)
    try:
        found = json.loads(data)
    except ValueError:
        found = {"format": TOKEN_STORE}  # it is for `parse` to say what is wrong
    kind = found.get("format") if isinstance(found, dict) else None
    if kind not in (TOKEN_STORE, SHARD_SET):
        raise FormatError(
            "this is no token store and no shard set",
            expected=f'"format": "{TOKEN_STORE}" or "{SHARD_SET}"',
            where=f'{where} says "format": {json.dumps(kind)[:80]}',
        )
    return kind, parse(data, where, kind)


def _a_file(url: str) -> UsageError:
    parent = Folder(url.rpartition("/")[0] or ".")
    if PurePosixPath(url).name == MANIFEST:
        return UsageError("this is a file", where=url, expected=EITHER, fix=f"name {parent.url}")
    file_format = format_of(url)[0]
    if file_format is None:
        return UsageError("this is a file", where=url, expected=EITHER)
    return UsageError(
        f"this is a file of a corpus ({file_format})",
        where=url,
        expected=EITHER,
        fix=_tokenize(url),
    )


def _a_folder(folder: Folder, fs: Any, path: str) -> ExactcptError:
    if folder.exists(f"{JOB}/state.json"):
        return _unfinished(folder)
    above = Folder(folder.url.rpartition("/")[0] or ".")
    if above.exists(MANIFEST):
        return UsageError(
            "this folder is a part of a token store or shard set",
            where=folder.url,
            expected=EITHER,
            fix=f"name {above.url}",
        )
    names = [str(name) for name in fs.find(path, maxdepth=LEVELS_LOOKED_AT)]
    formats = [found for found in (format_of(name)[0] for name in names) if found]
    if not formats:
        what = "this folder is empty" if not names else "this is no token store and no shard set"
        return UsageError(what, where=folder.url, expected=EITHER)
    kind = max(set(formats), key=formats.count)
    return UsageError(
        f"this is a folder with {formats.count(kind):,} files of records ({kind}), as a corpus has",
        where=folder.url,
        expected=EITHER,
        fix=_tokenize(folder.url),
    )


def _unfinished(folder: Folder) -> IncompleteError:
    is_shards = "token store" in json.loads(folder.read(f"{JOB}/state.json"))["inputs"]
    command = "pack" if is_shards else "tokenize"
    return IncompleteError(
        f"this {'shard set' if is_shards else 'token store'} is not finished",
        where=folder.url,
        expected=f"a folder that `exactcpt {command}` has completed",
        fix=f"run `exactcpt {command}` (or `prepare`) again; it goes on where it stopped",
    )


def _tokenize(pattern: str) -> str:
    return f"make a token store of it: exactcpt tokenize --source NAME={pattern} --tokenizer PATH"
