"""The work units of tokenization: what the Beam graph maps over files and splits.

Each reads files and writes files, and writes nothing that is already there. So a unit may run
twice, and a job that was killed can be continued.
"""

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import xxhash

from ...schemas.runs import runs
from ..beam.metrics import note_done
from ..files.json_files import read_json
from ..files.storage import Folder
from ..job.folder import JOB
from ..sources.listing import InputFile
from ..sources.records import BadFileError, skippable
from ..sources.scanning import scan
from ..sources.splits import Split
from .parts import write_parts
from .task import TokenizeTask

__all__ = [
    "Reading",
    "ScanTask",
    "readings",
    "scan_and_tokenize",
    "scan_files",
    "scan_tasks",
    "scanned",
    "tokenize_split",
]

SCAN_BYTES = 64 << 20
"""Input per scan task; each larger file has its own task."""


@dataclass(frozen=True)
class ScanTask:
    """Files to read once, each with the byte offsets at which its ranges begin."""

    ordinal: int
    files: tuple[tuple[InputFile, tuple[int, ...]], ...]

    @property
    def work(self) -> int:
        """Bytes to read."""
        return sum(file.bytes or 0 for file, _ in self.files)


def scan_tasks(splits: Sequence[Split]) -> list[ScanTask]:
    """Groups the files of splits into tasks; files of unknown size are not scanned."""
    offsets: dict[InputFile, list[int]] = {}
    for split in splits:
        for member in split.members:
            ranged = member.file.format == "jsonl" and member.start
            offsets.setdefault(member.file, []).extend([member.start] if ranged else [])
            for file in member.file.beside:
                offsets.setdefault(file, [])
    files = [(file, tuple(starts)) for file, starts in offsets.items() if file.bytes is not None]
    tasks = runs(files, lambda each: each[0].bytes or 0, SCAN_BYTES)
    return [ScanTask(i, tuple(run)) for i, run in enumerate(tasks)]


@dataclass(frozen=True)
class Reading:
    """A split, and the scans that its files are in.

    Attributes:
        split: what is read.
        scans: to be done before, unless they are.
        rank: the work of all splits that the largest of these scans is for. In its order, splits of
            one file follow one another, and those of large files come first.
    """

    split: Split
    scans: tuple[ScanTask, ...]
    rank: int


def readings(splits: Sequence[Split], scans: Sequence[ScanTask]) -> list[Reading]:
    """Splits with the scans that their files are in."""
    scan_of = {file: scan for scan in scans for file, _ in scan.files}
    found: list[tuple[Split, tuple[ScanTask, ...]]] = []
    work: Counter[int] = Counter()
    for split in splits:
        files = (f for m in split.members for f in (m.file, *m.file.beside))
        mine = {scan_of[file].ordinal: scan_of[file] for file in files if file in scan_of}
        found.append((split, tuple(mine.values())))
        work.update(dict.fromkeys(mine, split.work))
    return [
        Reading(split, mine, max((work[scan.ordinal] for scan in mine), default=split.work))
        for split, mine in found
    ]


def scan_files(scans: ScanTask, out: str) -> list[tuple[str, dict[int, int]]]:
    """Reads files once and writes down their digests.

    Args:
        scans: the files.
        out: the folder that the job writes.

    Returns:
        By URL, the newlines before each range of the files that are read in ranges, and nothing
        for all other files: every worker gets what is returned here.
    """
    store = Folder(out)
    name = f"{JOB}/files/{scans.ordinal:06d}.json"
    if store.exists(name):
        known = read_json(store, name, (file.url for file, _ in scans.files))
        newlines = {
            url: {int(at): n for at, n in each["newlines"].items()} for url, each in known.items()
        }
    else:
        facts = {file.url: scan(file, starts) for file, starts in scans.files}
        note_done(files=len(facts), input_bytes=scans.work)
        store.write(name, json.dumps({url: asdict(each) for url, each in facts.items()}).encode())
        newlines = {url: each.newlines for url, each in facts.items()}
    return [(url, before) for url, before in newlines.items() if before]


_scanning = [threading.Lock() for _ in range(64)]
"""A scan holds one of them: two units of this process never scan the same file."""


def scanned(scans: Sequence[ScanTask], out: str) -> dict[str, dict[int, int]]:
    """Does the scans of a split, unless other units have; returns what `scan_files` does.

    For a process that does all units of a job, and calls it when it is about to read the split: the
    operating system then still has a file in memory from its scan, and a disk reads it once.
    """
    newlines: dict[str, dict[int, int]] = {}
    for each in scans:
        with _scanning[each.ordinal % len(_scanning)]:
            newlines.update(scan_files(each, out))
    return newlines


def scan_and_tokenize(reading: Reading, task: TokenizeTask) -> None:
    """Tokenizes a split whose files may not have been scanned; see `scanned`."""
    tokenize_split(reading.split, task, scanned(reading.scans, task.store))


def tokenize_split(
    split: Split, task: TokenizeTask, newlines: Mapping[str, Mapping[int, int]]
) -> None:
    """Tokenizes a split; a bad file is noted if the task says that such files are left out."""
    try:
        with skippable():
            write_parts(split, task, newlines)
    except BadFileError as error:
        if not task.skip_bad_files:
            raise
        bad = {"url": error.where, "reason": error.found}
        name = f"{JOB}/bad/{xxhash.xxh3_64_hexdigest(str(error.where).encode())}.json"
        Folder(task.store).write(name, json.dumps(bad).encode())
