"""The folder of one evaluation: of one model, one suite and one length.

    manifest.json     what was evaluated, and how; written last
    items.parquet     the items, the same for all models of one tokenizer
    prompts.jsonl     the items for another program, where no model is evaluated
    scores.parquet    the scores, item by item or window by window
    scores.jsonl      while it is unfinished: one line for each batch that is scored

The folder is named after the suite, the length (in `standard` the task), and a digest of everything
that the scores depend on, so an evaluation that is finished is found again, and one that was
interrupted goes on.
"""

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import filelock
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ...schemas.disk import make_folder, remove_unfinished, written_whole
from ...schemas.errors import ExactcptError, UsageError
from ...schemas.manifest import EVALUATION, FORMAT_VERSION, MANIFEST, Manifest, dump, parse
from ...schemas.regular import read_regular

__all__ = [
    "ITEMS",
    "PROMPTS",
    "QUESTIONS",
    "SCORES",
    "Journal",
    "ResultFolder",
    "content_digest",
    "versions",
]

ITEMS = "items.parquet"
PROMPTS = "prompts.jsonl"
QUESTIONS = "questions.jsonl"
SCORES = "scores.parquet"
JOURNAL = "scores.jsonl"
LOCK = ".lock"

Identity = Mapping[str, Any]


class ResultFolder:
    """The folder of one evaluation.

    Args:
        parent: the folder with the evaluations of a model.
        identity: the fields of the manifest that the scores depend on; `suite`, `length` and
            `tasks` are among them.

    Attributes:
        path: the folder.
    """

    def __init__(self, parent: Path, identity: Identity) -> None:
        self._identity = dict(identity)
        self._digest = xxhash.xxh3_128_hexdigest(json.dumps(self._identity).encode())
        which = identity["length"] or "-".join(identity["tasks"])
        name = f"{identity['suite']}-{which}-{self._digest[:8]}"
        self.path = parent / name

    def finished(self) -> Manifest | None:
        """The manifest of the finished evaluation, or None.

        Raises:
            FormatError: the manifest is damaged.
        """
        path = self.path / MANIFEST
        return parse(read_regular(path), str(path), EVALUATION) if path.is_file() else None

    def items(self) -> pa.Table | None:
        """The items of a finished evaluation, or None if its suite has none."""
        path = self.path / ITEMS
        return pq.read_table(path) if path.is_file() else None

    def scores(self) -> pa.Table:
        """The scores of a finished evaluation."""
        return pq.read_table(self.path / SCORES)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Makes the folder and keeps other processes out of it.

        What a killed process had not finished writing is removed.

        Raises:
            ExactcptError: another process is at work in it.
            UsageError: it cannot be made or written to.
        """
        lock = filelock.FileLock(self.path / LOCK, timeout=0)
        try:
            make_folder(self.path)
            lock.acquire()
            remove_unfinished(self.path, (ITEMS, PROMPTS, QUESTIONS, SCORES, MANIFEST))
        except filelock.Timeout:
            raise ExactcptError(
                "another process makes the same evaluation",
                where=str(self.path),
                fix="wait for it to end",
            ) from None
        except OSError as error:
            raise UsageError(
                f"the results cannot be written: {error.strerror}",
                where=str(self.path),
                fix="name another folder with --out",
            ) from None
        try:
            yield
        finally:
            (self.path / LOCK).unlink(missing_ok=True)
            lock.release()

    @contextmanager
    def journal(self) -> Iterator["Journal"]:
        """The batches that were scored before an interruption, to be continued."""
        journal = Journal(self.path / JOURNAL, self._digest)
        try:
            yield journal
        finally:
            journal.close()

    def write(self, tables: Mapping[str, pa.Table], more: Mapping[str, Any]) -> Manifest:
        """Writes the files, the manifest last, and removes the journal.

        Args:
            tables: name of a Parquet file -> its rows.
            more: the fields of the manifest that are not in the identity.
        """
        for name, table in tables.items():
            with written_whole(self.path / name) as scratch:
                pq.write_table(table, scratch)
        manifest = {
            "format": EVALUATION,
            "format_version": FORMAT_VERSION,
            **self._identity,
            **more,
        }
        with written_whole(self.path / MANIFEST) as scratch:
            scratch.write_bytes(dump(manifest))
        (self.path / JOURNAL).unlink(missing_ok=True)
        return manifest


class Journal:
    """The scores of an unfinished evaluation, batch by batch.

    A line is one batch: the names of its rows, their scores, and the seconds it took. JSON keeps
    float64 to the last bit. A last line that was not finished is dropped, and so is a journal of
    another evaluation.

    Args:
        path: the file.
        digest: of the evaluation; the file's first line.

    Attributes:
        scores: name of a row -> its scores.
        seconds: what all batches took.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        self.scores: dict[str, Any] = {}
        self.seconds = 0.0
        kept = self._read(digest)
        path.write_bytes(b"".join(kept))
        self._file = path.open("ab")

    def _read(self, digest: str) -> list[bytes]:
        """Takes the finished batches from the file; returns the lines to keep."""
        head = json.dumps(digest).encode() + b"\n"
        try:
            lines = read_regular(self._path).splitlines(keepends=True)
        except FileNotFoundError:
            return [head]
        if lines[:1] != [head]:
            return [head]
        kept = [head]
        for line in lines[1:]:
            try:
                batch = json.loads(line) if line.endswith(b"\n") else None
            except ValueError:
                batch = None
            if batch is None:
                break
            self._take(batch)
            kept.append(line)
        return kept

    def _take(self, batch: Mapping[str, Any]) -> None:
        self.scores |= batch["scores"]
        self.seconds += batch["seconds"]

    def add(self, scores: Mapping[str, Any], seconds: float) -> None:
        """Records a batch: name of a row -> its scores, as JSON values."""
        batch = {"scores": scores, "seconds": seconds}
        self._file.write(json.dumps(batch).encode() + b"\n")
        self._file.flush()
        self._take(batch)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def content_digest(table: pa.Table) -> str:
    """The xxh3-128 of a table's names and values, whatever version of Parquet holds them."""
    found = xxhash.xxh3_128()
    for name in table.column_names:
        found.update(json.dumps([name, table[name].to_pylist()], separators=(",", ":")).encode())
    return found.hexdigest()


def versions(*libraries: str) -> dict[str, str]:
    """The versions of Python, of exactcpt and of some libraries."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in ("exactcpt", *libraries)},
    }
