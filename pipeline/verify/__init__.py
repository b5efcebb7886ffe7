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
    units.py        what may be done at the same time, by many

Memory: about 70 bytes per stored document, and 24 per piece of a document split across windows (at
most two per window); tokens are memory-mapped and read one record batch at a time. Files of a
remote filesystem go through an unnamed temporary file.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from ...schemas.manifest import SHARD_SET, Manifest
from ...schemas.sizes import plural
from .claims import Counts, check_counts, check_version, check_weights, note_counts
from .documents import Documents, check_documents, read_documents
from .encoding import check_counts_of_tokens
from .files import Folder, Meter, check_folder, named_files
from .report import CHECKS, Check, Finding, Problems, Report
from .segments import Coverage
from .selection import check_duplicates, check_mixing, check_split
from .shards import no_counts
from .store import Store, check_store
from .units import Do, Found, Inputs, here, units_of

__all__ = ["CHECKS", "Check", "Finding", "Report", "verify"]


def verify(
    shards: str,
    store: str | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
    do: Do = here,
) -> Report:
    """Checks a shard set on its own, or against its token store too.

    Args:
        shards: path or fsspec URL of the shard set.
        store: path or fsspec URL of the token store.
        progress: called after each file with the bytes done and the total.
        do: does the units of the work.

    Raises:
        IncompleteError: there is no manifest.
        FormatError: the manifest is not JSON, of another format, or not as its schema says.
    """
    problems, of_set, meter = Problems(), Problems(), Meter(progress)
    manifest, _ = Folder(shards, problems, meter).manifest(SHARD_SET)
    of_store = None
    if store is None:
        problems.note("store", "skipped: no store given")
    else:
        of_store = check_store(Folder(store, problems, meter), manifest, problems)
    meter.total += _bytes(manifest, of_store)
    against = None if store is None or of_store is None else Store(store, of_store)
    documents = _check_set(Folder(shards, of_set, meter), manifest, against, of_set)
    inputs = Inputs(shards=shards, manifest=manifest, documents=documents, store=against)
    found = _taken(do(inputs, units_of(manifest, of_store)), problems, meter)
    usable, not_compared = set[int](), set[int]()
    if of_store is not None and against is not None:
        usable = _add_parts(islice(found, len(of_store["parts"])), of_store, against, problems)
    problems.merge(of_set)
    if of_store is not None:
        for one in islice(found, len(manifest["documents"])):
            not_compared |= one.unusable
    counts = _add_shards(found, manifest, documents, problems, not_compared)
    if against is not None:
        _check_compared(usable & not_compared, against, problems)
    check_weights(manifest, problems)
    problems.note("files", f"{plural(meter.files, 'file')}, {plural(meter.done, 'byte')}")
    return Report(
        checks=problems.checks(),
        findings=tuple(problems.findings),
        windows=sum(count.windows for count in counts.values()),
        tokens=sum(count.tokens for count in counts.values()),
        documents=0 if documents is None else len(documents),
        bytes=meter.done,
    )


def _bytes(manifest: Manifest, store: Manifest | None) -> int:
    """The size of all files that will be read."""
    parts = () if store is None else store["parts"]
    files = [part[kind] for part in parts for kind in ("file", "index")]
    return sum(entry["bytes"] for entry in [*named_files(manifest), *files])


def _check_set(
    folder: Folder, manifest: Manifest, against: Store | None, problems: Problems
) -> Documents | None:
    """Checks all but the shards; the documents, or None if their table cannot be used."""
    check_folder(folder, manifest, problems)
    check_version(manifest, problems)
    documents = read_documents(folder, manifest, against, problems)
    if documents is not None:
        check_documents(documents, manifest, problems)
        check_split(documents, manifest["settings"], problems)
        check_duplicates(documents, manifest["settings"], problems)
        check_mixing(documents, manifest, problems)
    return documents


def _taken(found: Iterable[Found], problems: Problems, meter: Meter) -> Iterator[Found]:
    """What units found, after its problems and files have been added to all others."""
    for one in found:
        problems.merge(one.problems)
        meter.advance(one.bytes, one.files)
        yield one


def _add_parts(
    found: Iterable[Found], manifest: Manifest, store: Store, problems: Problems
) -> set[int]:
    """Adds up the tokens of a store's parts, and compares them with its manifest.

    Returns:
        The numbers of the parts that can be used.
    """
    tokens: dict[str, Counter[str]] = {}
    usable: set[int] = set()
    for number, one in enumerate(found):
        if one.complete:
            usable.add(number)
        tokens.setdefault(store.source_of(number), Counter()).update(one.tokens)
    if len(usable) == len(manifest["parts"]):
        check_counts_of_tokens(tokens, manifest, problems)
    return usable


def _check_compared(missed: set[int], store: Store, problems: Problems) -> None:
    """Tells of parts that one unit could use and another could not, as after a network error."""
    for number in sorted(missed):
        problems.add(
            "store",
            store.where(number),
            "it could be read once, but not again to compare it with documents or shards",
            "a part that can be read each time; run verify again",
        )


def _add_shards(
    found: Iterable[Found],
    manifest: Manifest,
    documents: Documents | None,
    problems: Problems,
    not_compared: set[int],
) -> dict[str, Counts]:
    """Adds up what is in the shards, compares it with the manifest, and returns the counts.

    The parts of the store that units could not use are added to `not_compared`.
    """
    counts, complete, batches = no_counts(manifest), True, 0
    coverage = None if documents is None else Coverage(documents, problems)
    for one in found:
        complete &= one.complete
        not_compared |= one.unusable
        batches += one.batches
        for split, some in one.counts.items():
            counts[split].merge(some)
        if coverage is not None:
            coverage.add(one.seen)
    shards = sum(len(entries) for entries in manifest["shards"].values())
    of_batches = plural(batches, "record batch", "record batches")
    problems.note("schema", f"{plural(shards, 'shard')}, {of_batches}")
    note_counts(counts, manifest["settings"]["window"], problems)
    if not complete:
        problems.note("coverage", "skipped: not all windows could be read")
        problems.note("histogram", "skipped: not all windows could be read")
        return counts
    if coverage is not None:
        coverage.check()
    check_counts(counts, manifest, documents is not None, problems)
    return counts
