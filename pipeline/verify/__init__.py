"""Re-derives what a shard set claims, from its bytes.

It is written against the format (the README of `schemas/`) and never calls the code that wrote the
files: the split, copies, contexts, codes, histograms and weights are computed a second time, in
another way. So a mistake in the writing code shows up here instead of agreeing with itself. The
order of windows and their division into groups and shards are not checked.

    manifest ── documents table ──┐
       │                          ├── what each document should have
       └── shards, one record ────┴── what it has ── counted ── compared with the manifest
           batch at a time

    report.py       the checks by name, and what they found
    files.py        names, sizes and checksums of files
    documents.py    the documents table        selection.py   duplicates, split and mixing
    shards.py       files and record batches   windows.py     segments, padding, ids and codes
    segments.py     segments and documents     claims.py      the manifest's counts and weights
    store.py        the token store            draws.py       random numbers of the format
    encoding.py     the tokenizer, and what the tokens of the store lack

Memory: about 70 bytes per stored document, and 20 per piece of a document split across windows (at
most two per window); tokens are memory-mapped and read one record batch at a time. Files of a
remote filesystem go through an unnamed temporary file, one after the other.
"""

from collections.abc import Callable

from ...schemas.manifest import SHARD_SET
from ...schemas.sizes import plural
from .claims import check_counts, check_version, check_weights, note_counts
from .documents import check_documents, read_documents
from .files import Folder, Meter, check_folder, named_files
from .report import CHECKS, Check, Finding, Problems, Report
from .selection import check_duplicates, check_mixing, check_split
from .shards import Shards
from .store import open_store

__all__ = ["CHECKS", "Check", "Finding", "Report", "verify"]


def verify(
    shards: str, store: str | None = None, *, progress: Callable[[int, int], None] | None = None
) -> Report:
    """Checks a shard set on its own, or against its token store too.

    Args:
        shards: path or fsspec URL of the shard set.
        store: path or fsspec URL of the token store.
        progress: called after each file with the bytes done and the total.

    Raises:
        IncompleteError: there is no manifest.
        FormatError: the manifest is not JSON, of another format, or not as its schema says.
    """
    problems = Problems()
    meter = Meter(progress)
    folder = Folder(shards, problems, meter)
    manifest, _ = folder.manifest(SHARD_SET)
    meter.total += sum(entry["bytes"] for entry in named_files(manifest))
    against = None
    if store is None:
        problems.note("store", "skipped: no store given")
    else:
        against = open_store(Folder(store, problems, meter), manifest, problems, meter)
    check_folder(folder, manifest, problems)
    check_version(manifest, problems)
    documents = read_documents(folder, manifest, against, problems)
    if documents is not None:
        check_documents(documents, manifest, problems)
        check_split(documents, manifest["settings"], problems)
        check_duplicates(documents, manifest["settings"], problems)
        check_mixing(documents, manifest, problems)
    reader = Shards(folder, manifest, documents, against, problems)
    reader.read()
    note_counts(reader.counts, manifest["settings"]["window"], problems)
    if reader.complete:
        check_counts(reader.counts, manifest, documents is not None, problems)
    else:
        problems.note("histogram", "skipped: not all windows could be read")
    check_weights(manifest, problems)
    problems.note("files", f"{plural(meter.files, 'file')}, {plural(meter.done, 'byte')}")
    return Report(
        checks=problems.checks(),
        findings=tuple(problems.findings),
        windows=sum(count.windows for count in reader.counts.values()),
        tokens=sum(count.tokens for count in reader.counts.values()),
        documents=0 if documents is None else len(documents),
        bytes=meter.done,
    )
