"""A job's folder: one job at a time, resumed only with the settings and inputs it was begun with.

.job/lock            held while a job runs
.job/state.json      settings and inputs of the job that writes this folder
.job/prepared.json   settings and raw inputs of a finished shard set, whose store may be gone
.job/removing        present while a job's files are being removed
.job/...             what the job needs to continue after it was killed
"""

import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...schemas.disk import make_folder
from ...schemas.disk_errors import disk_error
from ...schemas.errors import ExactcptError, UsageError
from ...schemas.json_text import parse_json
from ...schemas.manifest import MANIFEST, SHARD_SET, TOKEN_STORE, Kind, Manifest, parse
from ...schemas.remote import publishes_whole
from ..files.json_files import REPLACE, damaged_json, read_json
from ..files.storage import Folder, resolve

__all__ = [
    "JOB",
    "PREPARED",
    "STATE",
    "Finished",
    "State",
    "begin",
    "differences",
    "discard",
    "forget_progress",
    "is_half_removed",
    "is_of",
    "locked",
    "refuse_other_inputs",
    "require_available",
    "tidy",
]

JOB = ".job"
STATE = f"{JOB}/state.json"
PREPARED = f"{JOB}/prepared.json"
LOCK = f"{JOB}/lock"
REMOVING = f"{JOB}/removing"
KEPT = (LOCK, STATE, PREPARED)
"""What a finished job's folder keeps in .job."""
STALE_SECONDS = 120
"""A lock on an object store that has not been renewed for this long counts as left behind."""
RENEW_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class State:
    """What determines the content of a job's folder.

    Attributes:
        settings: every setting that changes the content.
        inputs: path or URL -> values that change when the input changes.
    """

    settings: Mapping[str, Any]
    inputs: Mapping[str, Any]

    def to_json(self) -> bytes:
        """The state as it is written to state.json."""
        state = {"settings": self.settings, "inputs": self.inputs}
        text = json.dumps(state, indent=1, ensure_ascii=False)
        return text.encode(errors="backslashreplace")  # as in manifests: names that are not UTF-8

    @classmethod
    def read(cls, folder: Folder, name: str) -> "State":
        """Reads what `to_json` has written.

        Args:
            folder: a job's folder.
            name: the file, such as STATE.

        Raises:
            FormatError: the file is damaged.
        """
        found = read_json(folder, name, ("settings", "inputs"), REPLACE)
        for key, value in found.items():
            if not isinstance(value, dict):
                raise damaged_json(f"{key!r} is not an object", folder.url_of(name), REPLACE)
        return cls(settings=found["settings"], inputs=found["inputs"])


@dataclass(frozen=True, kw_only=True)
class Finished:
    """The output of a finished job.

    Attributes:
        manifest: the manifest of the output.
        before: whether an earlier run of an equal job wrote it.
    """

    manifest: Manifest
    before: bool

    @classmethod
    def found_in(cls, folder: Folder, kind: Kind) -> "Finished":
        """Reads what an earlier run wrote.

        Args:
            folder: the output; it has a manifest.
            kind: the manifest's format, TOKEN_STORE or SHARD_SET.

        Raises:
            FormatError: the manifest is not one of this kind.
        """
        manifest = parse(folder.read(MANIFEST), folder.url_of(MANIFEST), kind)
        return cls(manifest=manifest, before=True)


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Keeps other jobs out of a folder; on object stores as far as they allow.

    A folder that is still empty at the end is removed again.

    Raises:
        ExactcptError: another job is at work in it.
    """
    if folder.is_local:
        yield from _locked_on_disk(folder)
    else:
        yield from _locked_remotely(folder)


def _locked_on_disk(folder: Folder) -> Iterator[None]:
    import filelock

    path = Path(resolve(folder.url_of(LOCK))[1])
    make_folder(path.parent)
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise _busy(folder) from None
    except OSError as error:  # flock's own do not name the file
        raise disk_error(error, path) from None
    try:
        yield
    finally:
        with suppress(OSError):  # what the job has written is whole; an empty folder may stay
            if folder.names(JOB) == [LOCK]:
                path.unlink()  # while it is held, so that no other job can acquire it
        with suppress(OSError):
            lock.release()
        folder.remove_if_empty(JOB)
        folder.remove_if_empty()


def _locked_remotely(folder: Folder) -> Iterator[None]:
    """Locks by a file that says who and when.

    Of two jobs that begin at once, one gets it; both may where one that was killed has left its
    lock, and on servers that overwrite what they were told to create. A job that was suspended for
    so long that another one took its lock leaves it to that one, whose attempt ends its own.
    """
    mine = _process(os.getpid())
    if not folder.create_if_absent(LOCK, _lock_of(mine)):
        held = read_json(folder, LOCK, ("by", "at"))
        if not isinstance(held["at"], int | float):
            raise damaged_json("'at' is not a time", folder.url_of(LOCK))
        is_fresh = time.time() - held["at"] < STALE_SECONDS
        if held["by"] != mine and is_fresh and not _has_ended(held["by"]):
            raise _busy(folder, "; the lock of one that was killed expires after two minutes")
        _write_lock(folder, mine)
    ended = threading.Event()

    def renew() -> None:
        while not ended.wait(RENEW_SECONDS):
            with suppress(Exception):  # drivers raise any class; the next renewal may succeed
                if not _is_taken(folder, mine):
                    _write_lock(folder, mine)

    renewal = threading.Thread(name="exactcpt-lock", target=renew, daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join()
        with suppress(Exception):  # drivers raise any class; a lock that stays expires
            if not _is_taken(folder, mine):
                folder.remove(LOCK)


def _is_taken(folder: Folder, mine: str) -> bool:
    """Whether the lock is another job's."""
    return folder.exists(LOCK) and read_json(folder, LOCK, ("by",))["by"] != mine


def _write_lock(folder: Folder, mine: str) -> None:
    folder.write(LOCK, _lock_of(mine))


def _process(number: int) -> str:
    """A name that no other process has: containers may share a host's name, and not its numbers."""
    with suppress(OSError):
        return f"{socket.gethostname()}:{Path('/proc/self/ns/pid').readlink()}:{number}"
    return f"{socket.gethostname()}::{number}"


def _has_ended(holder: object) -> bool:
    """Whether the holder of a lock was a process of this machine, and is no more."""
    number = str(holder).rpartition(":")[2]
    if not number.isdecimal() or holder != _process(int(number)):
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def _lock_of(mine: str) -> bytes:
    return json.dumps({"by": mine, "at": time.time()}).encode()


def _busy(folder: Folder, more: str = "") -> ExactcptError:
    return ExactcptError(
        "another job is at work in this folder",
        where=folder.url,
        fix=f"wait for it to end, or write to another folder{more}",
    )


def begin(folder: Folder, state: State, owned: tuple[str, ...], *, overwrite: bool) -> bool:
    """Prepares a folder for a job, which is new, continued or already finished.

    Args:
        folder: the output folder; must be locked.
        state: settings and inputs of the job.
        owned: names of the files and subfolders that such a job writes.
        overwrite: whether to remove what an earlier job has written.

    Returns:
        Whether an equal job has already finished.

    Raises:
        UsageError: the folder belongs to another job, or holds other files.
    """
    if overwrite or folder.exists(REMOVING):
        _remove_owned(folder, owned)
    if folder.exists(STATE):
        kept = State.read(folder, STATE)
        _refuse_other_settings(folder, kept.settings, state.settings)
        refuse_other_inputs(folder, kept.inputs, state.inputs)
    else:
        _refuse_without_state(folder)
    folder.remove_temporaries()
    if folder.exists(MANIFEST):
        forget_progress(folder)  # of a job that was killed after it had written its manifest
        return True
    folder.write(STATE, state.to_json())
    return False


def require_available(
    folder: Folder, settings: Mapping[str, Any], owned: tuple[str, ...], *, overwrite: bool
) -> None:
    """Checks, before the inputs are known, that `begin` will accept a folder; changes nothing.

    Args:
        folder: the output folder; must be locked.
        settings: the settings of the job.
        owned: names of the files and subfolders that such a job writes.
        overwrite: whether what an earlier job has written will be removed.

    Raises:
        UsageError: the folder belongs to another job, or holds other files.
    """
    if (overwrite or folder.exists(REMOVING)) and _is_ours(folder):
        _refuse_foreign_files(folder, (MANIFEST, *owned))
    elif folder.exists(STATE):
        _refuse_other_settings(folder, State.read(folder, STATE).settings, settings)
    else:
        _refuse_without_state(folder)


def is_of(folder: Folder, state: State) -> bool:
    """Whether a folder was begun by a job of this state."""
    return folder.exists(STATE) and folder.read(STATE) == state.to_json()


def discard(folder: Folder, owned: tuple[str, ...]) -> None:
    """Removes what a job has written, and then the folder if it is empty.

    Raises:
        ExactcptError: another job is at work in it.
    """
    with locked(folder):
        if not _is_ours(folder):
            return
        folder.remove_temporaries()
        _remove_written(folder, owned)


def is_half_removed(folder: Folder) -> bool:
    """Whether a job began to remove what another had written, and was killed before the end.

    At the very end, nothing but the lock is left, or empty folders.
    """
    if folder.exists(REMOVING):
        return True
    return folder.is_local and Path(resolve(folder.url)[1]).is_dir() and {*folder.names()} <= {LOCK}


def _is_ours(folder: Folder) -> bool:
    """Whether a job of this program has written the folder."""
    if folder.exists(STATE) or folder.exists(REMOVING):
        return True
    try:
        manifest = parse_json(folder.read(MANIFEST))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(manifest, dict) and manifest.get("format") in (TOKEN_STORE, SHARD_SET)


def _remove_owned(folder: Folder, owned: tuple[str, ...]) -> None:
    """Removes what a job has written, if there is nothing else in the folder."""
    if not _is_ours(folder):
        return
    folder.remove_temporaries()
    _refuse_foreign_files(folder, (MANIFEST, *owned))
    _remove_written(folder, owned)


def _remove_written(folder: Folder, owned: tuple[str, ...]) -> None:
    """Removes a job's files.

    The manifest is removed first, so that the rest never counts as complete. REMOVING is written
    next and removed last: a job that finds it removes the rest. Each step is on the disk before the
    next one: what came back after a power cut would count as the next job's own.
    """
    folder.remove(MANIFEST)
    folder.keep_removed()
    folder.write(REMOVING, b"")
    for name in owned:
        folder.remove_tree(name)
    folder.keep_removed()
    _clear_job(folder, keep=(LOCK, REMOVING))
    folder.remove(REMOVING)


def forget_progress(folder: Folder) -> None:
    """Removes what only an unfinished job needs in order to continue; for a finished job.

    That includes what killed workers have left of files: an engine goes on without them. What
    cannot be removed stays for the next command that finds the job finished: its output is
    complete, so this is no error.
    """
    with suppress(Exception):  # drivers raise any class
        if not publishes_whole(folder.url):
            folder.remove_temporaries()
        _clear_job(folder, keep=KEPT)


def tidy(folder: Folder) -> None:
    """Does `forget_progress` for a finished job whose folder is not locked, if there is need."""
    if set(folder.names(JOB)) - set(KEPT) or folder.has_folders(JOB):
        with suppress(ExactcptError), locked(folder):  # another command may be at work there
            forget_progress(folder)


def _clear_job(folder: Folder, *, keep: tuple[str, ...]) -> None:
    folder.remove_all([name for name in folder.names(JOB) if name not in keep])
    folder.remove_empty_below(JOB)


def _refuse_without_state(folder: Folder) -> None:
    """Refuses a folder that is not empty: without a state, what it was begun with is unknown."""
    if _is_ours(folder):
        raise UsageError(
            "this folder holds finished output, but not the record of its settings (.job)",
            where=folder.url,
            fix="write to another folder, or replace it with --overwrite",
        )
    _refuse_foreign_files(folder, ())


def _refuse_foreign_files(folder: Folder, owned: tuple[str, ...]) -> None:
    """Refuses files that are neither owned nor in the folder .job."""
    ours = (f"{JOB}/", *(f"{name}/" for name in owned))
    foreign = [n for n in folder.names() if n not in owned and not n.startswith(ours)]
    if foreign:
        raise UsageError(
            f"this folder holds other files: {', '.join(foreign[:3])}",
            where=folder.url,
            expected="a new or empty folder",
        )


def _refuse_other_settings(folder: Folder, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    found = differences(old, _as_kept(new))
    if found:
        raise UsageError(
            "this folder was begun with other settings:\n" + "\n".join(f"    {d}" for d in found),
            where=folder.url,
            fix="use the same settings to continue, or another folder, or --overwrite",
        )


def refuse_other_inputs(folder: Folder, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    """Checks that the inputs are those that a folder was begun with.

    Args:
        folder: the output folder of the job.
        old: the inputs in the state of the folder.
        new: the inputs of this run.

    Raises:
        UsageError: they differ.
    """
    new = _as_kept(new)
    found = _input_differences(old, new)
    if found:
        shown = found[:5] + ([f"and {len(found) - 5} more"] if len(found) > 5 else [])
        raise UsageError(
            "inputs have changed since this folder was begun:\n"
            + "\n".join(f"    {d}" for d in shown),
            where=folder.url,
            fix="write to another folder, or start again with --overwrite",
        )
    if list(old) != list(new):
        raise UsageError(
            "this folder was begun with its sources in another order",
            where=folder.url,
            fix="name them in the same order to continue, or use another folder, or --overwrite",
        )


def _as_kept(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The value as it comes back from JSON, with lists for tuples."""
    return json.loads(json.dumps(value))


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """The differences between two settings, one line each: `name: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        below = (differences(old.get(k), new.get(k), f"{name}.{k}" if name else k) for k in keys)
        return [line for lines in below for line in lines]
    return [] if old == new else [f"{name}: {json.dumps(old)} -> {json.dumps(new)}"]


def _input_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = [f"gone: {path}" for path in old if path not in new]
    lines += [f"new: {path}" for path in new if path not in old]
    return lines + [f"changed: {path}" for path in new if path in old and old[path] != new[path]]
