"""A checkpoint as files: which ones are complete, what they record, and whether they are intact.

step-00000100/
    .metadata            which tensor is where, by torch.distributed.checkpoint
    __0_0.distcp  ...    the tensors that each rank wrote
    meta.json            the state of the loop, and size and checksum of every other file;
                         written last
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import xxhash

from ...schemas.disk import is_file_name, written_whole
from ...schemas.disk_errors import disk_error
from ...schemas.errors import ExactcptError, FormatError
from ...schemas.regular import hash_regular, read_regular
from ...schemas.sealed import read_sealed, sealed
from ...schemas.sizes import plural
from .log import Fields, require

__all__ = [
    "META",
    "REMOVE",
    "Written",
    "check_files",
    "checkpoint_name",
    "complete_checkpoints",
    "describe",
    "newest_checkpoint",
    "read_meta",
    "write_meta",
]

META = "meta.json"
META_FIELDS: Fields = {
    "step": int,
    "windows": int,
    "identity": dict,
    "settings": dict,
    "stretches": list,
    "earlier": (dict, type(None)),
}
SKIPPED = "skipped"
FILES = "files"
FILE_FIELDS: Fields = {"name": str, "bytes": int, "xxh3_128": str}
REMOVE = "remove it to continue from the one before"
Written = dict[str, Any]
"""A file of a checkpoint: its name, its size in bytes, and its xxh3-128."""


def checkpoint_name(step: int) -> str:
    """The name of the folder of a complete checkpoint."""
    return f"step-{step:08d}"


def complete_checkpoints(run: Path) -> list[Path]:
    """A run's complete checkpoints, oldest first."""
    folder = run / "checkpoints"
    found = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in found if re.fullmatch(r"step-\d{8,}", path.name))


def newest_checkpoint(run: Path) -> Path | None:
    """A run's newest complete checkpoint, or None."""
    return next(reversed(complete_checkpoints(run)), None)


def describe(file: Path) -> Written:
    """Reads a file that was just written, or that a checkpoint lists.

    Raises:
        FormatError: it is not an ordinary file.
        OSError: it cannot be read.
    """
    found = xxhash.xxh3_128()
    size = hash_regular(file, found)
    return {"name": file.name, "bytes": size, "xxh3_128": found.hexdigest()}


def write_meta(checkpoint: Path, meta: Mapping[str, Any], files: Iterable[Written]) -> None:
    """Writes the record of a checkpoint whose other files are on the disk."""
    listed = sorted(files, key=lambda file: file["name"])
    with written_whole(checkpoint / META) as path:
        path.write_bytes(sealed({**meta, FILES: listed}))


def read_meta(checkpoint: Path) -> dict[str, Any]:
    """Reads the state of the loop from a checkpoint.

    Returns:
        The numbers of the `step` and of the `windows` that are done, and of the steps `skipped`
        among these; the run's `identity`, `settings` and `stretches`; and `earlier`, the record of
        the run its weights came from.

    Raises:
        FormatError: the file is missing, damaged or altered.
        ExactcptError: the disk failed.
    """
    try:
        meta = read_sealed(read_regular(checkpoint / META))
        require(meta, META_FIELDS)
        meta.setdefault(SKIPPED, 0)  # older versions skipped none
        require(meta, {SKIPPED: int})
        if checkpoint.name != checkpoint_name(meta["step"]) or meta["windows"] < 0:
            raise ValueError(
                f"it is of step {meta['step']} after {plural(meta['windows'], 'window')}"
            )
    except (OSError, ValueError) as error:
        raise _unreadable(checkpoint, error) from None
    return {name: meta[name] for name in (*META_FIELDS, SKIPPED)}


def check_files(checkpoint: Path, rank: int = 0, world: int = 1) -> None:
    """Checks a rank's share of a checkpoint's files; all ranks together check every file.

    Checkpoints of older versions have no checksums, and pass.

    Raises:
        FormatError: a file is missing or was altered, or the record is damaged.
        ExactcptError: the disk failed.
    """
    for expected in _listed(checkpoint)[rank::world]:
        path = checkpoint / expected["name"]
        try:
            found = describe(path)
        except FileNotFoundError:
            raise FormatError(
                "a file of the checkpoint is missing",
                where=str(path),
                fix=f"restore it; or {REMOVE}: {checkpoint}",
            ) from None
        except OSError as error:
            raise disk_error(error, path) from None
        for name in ("bytes", "xxh3_128"):
            if found[name] != expected[name]:
                raise FormatError(
                    f"a file of the checkpoint was altered: {name} {found[name]}",
                    expected=f"{name} {expected[name]}, as {META} says",
                    where=str(path),
                    fix=f"restore it; or {REMOVE}: {checkpoint}",
                )


def _listed(checkpoint: Path) -> list[Written]:
    """The files that a checkpoint's record lists; none in older versions."""
    try:
        record = read_sealed(read_regular(checkpoint / META))
        require(record, {})
        files = record.get(FILES, [])
        if not isinstance(files, list):
            raise ValueError(f"its {FILES} are not a list")
        for file in files:
            require(file, FILE_FIELDS)
            # A name from a stranger's file must not lead out of the folder.
            if not is_file_name(file["name"]):
                raise ValueError(f"{file['name']!r} is not the name of a file in the checkpoint")
    except (OSError, ValueError) as error:
        raise _unreadable(checkpoint, error) from None
    return files


def _unreadable(checkpoint: Path, error: Exception) -> ExactcptError:
    if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
        return disk_error(error, checkpoint)  # which does not say that the checkpoint is damaged
    return FormatError(
        f"the checkpoint's {META} cannot be read: {error}", where=str(checkpoint), fix=REMOVE
    )
