"""Inputs that were touched or copied since a job began: their checksums say whether they changed.

Times and etags are what a listing gives for nothing, so a job compares these first. `rsync`, `cp`
and `git` change them and not the bytes.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from ...schemas.errors import FormatError
from ...schemas.manifest import MANIFEST
from ...schemas.sizes import plural
from ..files.json_files import REPLACE, read_json
from ..files.storage import Folder
from ..job.folder import JOB, STATE, State, is_of
from ..sources.listing import InputFile
from ..sources.scanning import scan
from .plan import TokenizePlan

__all__ = ["is_of_plan", "same_inputs", "state_as_begun"]

MADE = ("parts", f"{JOB}/counts")
"""What units have made of inputs: `tokenize` parts, `weigh` counts."""
THREADS = 8
Say = Callable[[str], None]
"""Tells a person something."""
_checksums: dict[InputFile, str] = {}
"""What this process has read: a job asks for its store, for its shard set, and once more when the
store is discarded, and inputs may be terabytes."""


def state_as_begun(plan: TokenizePlan, store: Folder, say: Say) -> State:
    """The state of a plan, with the inputs as a store's job has listed them if they are the same.

    Raises:
        FormatError: the store's own state is damaged.
    """
    if not store.exists(STATE):
        return plan.state
    kept = State.read(store, STATE)
    return replace(plan.state, inputs=same_inputs(plan, kept.inputs, store, say))


def is_of_plan(store: Folder, plan: TokenizePlan, say: Say) -> bool:
    """Whether a token store was begun with this plan, however often its inputs were copied."""
    try:
        return is_of(store, state_as_begun(plan, store, say))
    except FormatError:
        return False


def same_inputs(
    plan: TokenizePlan, kept: Mapping[str, Any], folder: Folder, say: Say
) -> dict[str, Any]:
    """The inputs of a plan, in the words of a job's state.

    Args:
        plan: what to tokenize.
        kept: the inputs in a state of an earlier job.
        folder: the store or the shard set that the job has made, or has begun to make.
        say: told what is read, because that may take long.

    Returns:
        The inputs of `plan.state`; one that differs from the kept one in its time alone, and has
        the same bytes, is as it was kept.
    """
    inputs = dict(plan.state.inputs)
    touched = [
        file
        for files in plan.input_files.values()
        for file in files
        if file.bytes is not None and _differs_in_time_alone(inputs[file.url], kept.get(file.url))
    ]
    if not touched:
        return inputs
    digests = _digests(plan, folder)
    known = [file for file in touched if file.url in digests]
    _read(known, say)
    same = [file for file in known if _checksums[file] == digests[file.url]]
    unread = [file for file in touched if file.url not in digests]
    # Nothing has come of any file yet, if nothing is made. Else a file without a checksum has been
    # used: how many rows it has says which splits the files behind it are.
    if unread and not any(folder.names(made) for made in MADE):
        same += unread
    return inputs | {file.url: kept[file.url] for file in same}


def _read(files: Sequence[InputFile], say: Say) -> None:
    """Reads the checksums of files that have not been read."""
    new = [file for file in files if file not in _checksums]
    if new:
        size = sum(file.bytes or 0 for file in new)
        say(
            f"{plural(len(new), 'input')} with another time than before: reading "
            f"{size / 1e6:,.1f} MB to compare the bytes"
        )
        with ThreadPoolExecutor(THREADS) as pool:
            found = pool.map(lambda file: scan(file, ()).xxh3_128, new)
            _checksums.update(zip(new, found, strict=True))


def _differs_in_time_alone(now: Any, before: Any) -> bool:
    return isinstance(before, list) and before != now and before[:-1] == now[:-1]


def _digests(plan: TokenizePlan, folder: Folder) -> dict[str, str | None]:
    """The checksums of the input files by URL; an unfinished job may not have read all of them."""
    if folder.exists(MANIFEST):
        listed = read_json(folder, MANIFEST, ("inputs",), REPLACE)["inputs"]
        by_path = {(each["source"], each["path"]): each["xxh3_128"] for each in listed}
        return {
            file.url: by_path.get((source, file.path))
            for source, files in plan.input_files.items()
            for file in files
        }
    facts: dict[str, Any] = {}
    for name in folder.names(f"{JOB}/files"):
        facts |= read_json(folder, name)
    return {url: each["xxh3_128"] for url, each in facts.items()}
