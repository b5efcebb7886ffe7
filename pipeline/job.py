"""A job's folder: one job at a time, resumed only with the settings and inputs it was begun with.

.job/lock         held while a job runs
.job/state.json   settings and inputs of the job that writes this folder
.job/...          what the job needs to go on after it was killed
"""

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..schemas.errors import ExactcptError, UsageError
from ..schemas.manifest import MANIFEST
from .halt import clear_halt
from .storage import Folder, resolve

__all__ = ["JOB", "State", "begin", "differences", "locked", "renew_lock"]

JOB = ".job"
STATE = f"{JOB}/state.json"
LOCK = f"{JOB}/lock"
STALE_SECONDS = 120
"""A lock on an object store counts as left behind when it has not been renewed for this long."""


@dataclass(frozen=True, kw_only=True)
class State:
    """What the content of a job's folder follows from.

    Attributes:
        settings: every setting that changes content.
        inputs: by path or URL, what tells whether an input has changed.
    """

    settings: Mapping[str, Any]
    inputs: Mapping[str, Any]

    def to_json(self) -> bytes:
        """The state as it is kept."""
        state = {"settings": self.settings, "inputs": self.inputs}
        return json.dumps(state, indent=1, ensure_ascii=False).encode()

    @classmethod
    def of_json(cls, data: bytes) -> "State":
        """Reads a kept state."""
        return cls(**json.loads(data))


@contextmanager
def locked(folder: Folder) -> Iterator[None]:
    """Holds a folder against other jobs; on object stores as well as that can be done.

    Raises:
        ExactcptError: another job is at work in it.
    """
    if folder.is_local:
        yield from _locked_on_disk(folder)
    else:
        yield from _locked_remotely(folder)


def _locked_on_disk(folder: Folder) -> Iterator[None]:
    import filelock

    _, path = resolve(folder.url_of(LOCK))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(path, timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise _busy(folder) from None
    try:
        yield
    finally:
        lock.release()


def _locked_remotely(folder: Folder) -> Iterator[None]:
    """A file that says who and when. Two that begin in the same instant may both get it."""
    mine = f"{socket.gethostname()}:{os.getpid()}"
    if folder.exists(LOCK):
        held = json.loads(folder.read(LOCK))
        if held["by"] != mine and time.time() - held["at"] < STALE_SECONDS:
            raise _busy(folder)
    folder.write(LOCK, json.dumps({"by": mine, "at": time.time()}).encode())
    try:
        yield
    finally:
        folder.remove(LOCK)


def renew_lock(folder: Folder) -> None:
    """Tells others on an object store that the job is alive. Local locks end with their process."""
    if not folder.is_local:
        mine = f"{socket.gethostname()}:{os.getpid()}"
        folder.write(LOCK, json.dumps({"by": mine, "at": time.time()}).encode())


def _busy(folder: Folder) -> ExactcptError:
    return ExactcptError(
        "another job is at work in this folder",
        where=folder.url,
        fix="wait for it to end, or write to another folder",
    )


def begin(folder: Folder, state: State, owned: tuple[str, ...], *, overwrite: bool) -> bool:
    """Makes a folder ready for a job: new, to be continued, or finished.

    Args:
        folder: what the job writes; must be locked.
        state: settings and inputs of the job.
        owned: names and subfolders that such a job writes.
        overwrite: whether to remove what another job has written.

    Returns:
        Whether an equal job has finished already.

    Raises:
        UsageError: the folder is of another job, or holds other files.
    """
    if overwrite and _is_ours(folder):
        _remove_owned(folder, owned)
    if folder.exists(STATE):
        _refuse_if_different(folder, State.of_json(folder.read(STATE)), state)
    else:
        _refuse_foreign_files(folder)
    if folder.exists(MANIFEST):
        return True
    folder.remove_temporaries()
    clear_halt(folder)
    folder.write(STATE, state.to_json())
    return False


def _is_ours(folder: Folder) -> bool:
    """Whether a job of ours has written the folder: the state is the first thing it writes."""
    if folder.exists(STATE):
        return True
    try:
        found = json.loads(folder.read(MANIFEST))
    except (FileNotFoundError, ValueError):
        return False
    return isinstance(found, dict) and str(found.get("format")).startswith("exactcpt ")


def _remove_owned(folder: Folder, owned: tuple[str, ...]) -> None:
    """Manifest first, so that nothing half-removed is complete; state last, so that it is ours."""
    folder.remove(MANIFEST)
    for name in owned:
        if "." in name:
            folder.remove(name)
        else:
            folder.remove_tree(name)
    for name in folder.names(JOB):
        if name not in (LOCK, STATE):
            folder.remove(name)
    folder.remove(STATE)


def _refuse_foreign_files(folder: Folder) -> None:
    if folder.exists(MANIFEST) and _is_ours(folder):
        raise UsageError(
            "this folder holds finished output, but not what it was made with (.job)",
            where=folder.url,
            fix="write to another folder, or replace it with --overwrite",
        )
    foreign = [name for name in folder.names() if not name.startswith(f"{JOB}/")]
    if foreign:
        raise UsageError(
            f"this folder holds files of something else: {', '.join(foreign[:3])}",
            where=folder.url,
            expected="a new or empty folder",
        )


def _refuse_if_different(folder: Folder, old: State, new: State) -> None:
    settings = differences(old.settings, new.settings)
    if settings:
        raise UsageError(
            "this folder was begun with other settings:\n"
            + "\n".join(f"    {d}" for d in settings),
            where=folder.url,
            fix="use the same settings to go on, another folder, or --overwrite",
        )
    inputs = _input_differences(old.inputs, new.inputs)
    if inputs:
        shown = inputs[:5] + ([f"and {len(inputs) - 5} more"] if len(inputs) > 5 else [])
        raise UsageError(
            "inputs have changed since this folder was begun:\n"
            + "\n".join(f"    {d}" for d in shown),
            where=folder.url,
            fix="write to another folder, or start again with --overwrite",
        )


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """What differs between two settings, a line each: `name: old -> new`."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        keys = list(dict.fromkeys([*old, *new]))
        below = (differences(old.get(k), new.get(k), f"{name}.{k}" if name else k) for k in keys)
        return [line for lines in below for line in lines]
    return [] if old == new else [f"{name}: {json.dumps(old)} -> {json.dumps(new)}"]


def _input_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    lines = [f"gone: {path}" for path in old if path not in new]
    lines += [f"new: {path}" for path in new if path not in old]
    return lines + [f"changed: {path}" for path in new if path in old and old[path] != new[path]]
