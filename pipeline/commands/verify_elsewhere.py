"""Verification by worker processes, or by the workers of a Beam runner.

What a unit finds goes through a file in the set's folder, .job/verify/DIGEST/, and so does what is
found again after a command was stopped. The digest is of everything that is verified: whatever is
changed or mended meanwhile is read anew. So is where something was wrong: an error of a network
changes no file, and passes.
"""

import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import xxhash

from ...schemas.errors import FormatError
from ...schemas.manifest import MANIFEST, SHARD_SET, TOKEN_STORE, Kind, Manifest, parse
from ...schemas.runs import runs
from ...schemas.shard import SPLITS
from ..beam.each import Job, do_each
from ..beam.runner import RunSettings
from ..files.storage import Folder, is_local_url
from ..job.folder import JOB, locked
from ..job.progress import Count, Progress
from ..terminal import Console
from ..verify import Report, verify
from ..verify.documents import Rows
from ..verify.files import Folder as ReadFolder
from ..verify.files import Meter
from ..verify.report import Problems
from ..verify.segments import Seen
from ..verify.shards import no_counts, shard_of
from ..verify.store import Store
from ..verify.units import Found, Inputs, Unit

__all__ = ["verify_elsewhere"]

FOUND = f"{JOB}/verify"
TOGETHER = 1 << 28
"""Tokens of shards that one worker compares with a remote store, one after the other. Shards that
follow each other have documents of the same parts, which so are fetched once."""
READ_TOGETHER = 256
"""Of what units have found: that many at once, since a server answers each after a while."""


def verify_elsewhere(
    shards: Folder, store: str | None, settings: RunSettings, console: Console
) -> Report:
    """Verifies a shard set; see `verify`.

    Args:
        shards: the shard set. What workers find is written there, and removed at the end. It stays
            only if the command is stopped, by a person or by an error of a machine, a server or an
            engine: the same command then continues.
        store: path or URL of the token store to compare with, if there is one.
        settings: where the units run.
        console: for progress.

    Raises:
        ExactcptError: another job is at work in the set's folder, or a unit failed.
    """
    if not shards.exists(MANIFEST):
        return verify(shards.url, store)  # which says what is missing
    with locked(shards):
        try:
            report = _verified(shards, store, settings, console)
        except FormatError:
            with suppress(Exception):  # drivers raise any class; the next command removes it
                shards.remove_all(shards.names(FOUND))
            raise
        finally:
            shards.remove_empty_below(JOB)
    return report


def _verified(shards: Folder, store: str | None, settings: RunSettings, console: Console) -> Report:
    workers = _Workers(shards, store, settings)
    with Progress(console, "verify", workers.count) as progress:
        workers.poll = progress.poll
        report = verify(shards.url, store, do=workers.do)
    shards.remove_all(shards.names(FOUND))
    return report


class _Workers:
    """Those who do the units, elsewhere."""

    def __init__(self, shards: Folder, store: str | None, settings: RunSettings) -> None:
        self._shards, self._store, self._settings = shards, store, settings
        self._sizes: dict[str, int] = {}
        self._total: int | None = None
        self.poll: Any = None

    def count(self) -> Count:
        """How many bytes have been read."""
        done = self._shards.names(FOUND) if self._sizes else []
        return Count(sum(self._sizes.get(name, 0) for name in done), self._total, "byte")

    def do(self, inputs: Inputs, units: Sequence[Unit]) -> Iterator[Found]:
        """Does units; see `Do`."""
        task = _task(self._shards, None if inputs.store is None else self._store, inputs)
        if task.store is not None and not is_local_url(task.store):
            units = [*(u for u in units if u.kind != "shards"), *_shards_together(units, inputs)]
        size_of = {unit: _size(unit, inputs) for unit in units}
        self._sizes = {task.name_of(unit): size for unit, size in size_of.items()}
        self._total = sum(size_of.values())
        self._remove_unsound(inputs.manifest)
        job = Job(
            title="Verify files",
            unit=check_unit,
            values=units,
            shared=task,
            work=size_of.__getitem__,
        )
        do_each(job, self._settings, self._shards, self.poll)
        for _, found in self._found(map(task.name_of, units), inputs.manifest):
            yield found

    def _remove_unsound(self, manifest: Manifest) -> None:
        """Removes what was found before, except of units that found nothing wrong."""
        there = self._shards.names(FOUND)
        mine = [name for name in there if name in self._sizes]
        sound = {name for name, found in self._found(mine, manifest) if found.is_sound}
        self._shards.remove_all([name for name in there if name not in sound])

    def _found(self, names: Iterable[str], manifest: Manifest) -> Iterator[tuple[str, Found]]:
        for some in runs(names, lambda _: 1, READ_TOGETHER):
            for name, data in zip(some, self._shards.for_all(some, self._shards.read), strict=True):
                yield name, _loaded(data, manifest)


def _shards_together(units: Sequence[Unit], inputs: Inputs) -> Iterator[Unit]:
    window = inputs.manifest["settings"]["window"]

    def tokens(unit: Unit) -> int:
        split, i = shard_of(inputs.manifest, unit.start)
        return window * inputs.manifest["shards"][split][i]["windows"]

    for some in runs([unit for unit in units if unit.kind == "shards"], tokens, TOGETHER):
        yield Unit("shards", some[0].start, some[-1].stop)


def _size(unit: Unit, inputs: Inputs) -> int:
    if unit.kind == "part":
        assert inputs.store is not None
        return inputs.store.size_of(unit.start)
    if unit.kind == "documents":
        return 0
    places = (shard_of(inputs.manifest, number) for number in range(unit.start, unit.stop))
    return sum(inputs.manifest["shards"][split][i]["bytes"] for split, i in places)


@dataclass(frozen=True, kw_only=True)
class VerifyTask:
    """What all units share.

    Attributes:
        shards: path or URL of the shard set.
        store: that of the token store, if there is one to compare with.
        manifests: xxh3-128 of the manifests of both.
        has_documents: whether the documents table can be used.
        digest: of all that is verified.
    """

    shards: str
    store: str | None
    manifests: tuple[str, ...]
    has_documents: bool
    digest: str

    def name_of(self, unit: Unit) -> str:
        """The file with what a unit has found."""
        return f"{FOUND}/{self.digest}/{unit.kind}-{unit.start:07d}-{unit.stop:07d}.npz"


def _task(shards: Folder, store: str | None, inputs: Inputs) -> VerifyTask:
    folders = [shards] if store is None else [shards, Folder(store)]
    manifests = tuple(xxhash.xxh3_128_hexdigest(folder.read(MANIFEST)) for folder in folders)
    stamps = [shards.stamps(kind) for kind in (*SPLITS, "documents")]
    if store is not None:
        stamps.append(Folder(store).stamps("parts"))
    everything = [version("exactcpt"), manifests, stamps, inputs.documents is not None]
    return VerifyTask(
        shards=shards.url,
        store=store,
        manifests=manifests,
        has_documents=inputs.documents is not None,
        digest=xxhash.xxh3_128_hexdigest(json.dumps(everything).encode(errors="backslashreplace")),
    )


@lru_cache(maxsize=2)
def _manifests(task: VerifyTask) -> tuple[Manifest, Manifest | None]:
    """The manifests of the set and of its store; a process reads them once."""
    urls = (task.shards,) if task.store is None else (task.shards, task.store)
    kinds: tuple[Kind, ...] = (SHARD_SET, TOKEN_STORE)
    found: list[Manifest] = []
    for url, digest, kind in zip(urls, task.manifests, kinds, strict=False):
        data = Folder(url).read(MANIFEST)
        if xxhash.xxh3_128_hexdigest(data) != digest:
            raise FormatError(
                "a folder has been replaced while it was verified",
                where=url,
                fix="run the command again once no job writes there",
            )
        found.append(parse(data, Folder(url).url_of(MANIFEST), kind))
    return found[0], found[1] if len(found) > 1 else None


def check_unit(unit: Unit, task: VerifyTask) -> dict[str, int]:
    """Does a unit, unless it was done before, and writes down what it has found.

    Raises:
        FormatError: the set or its store has been replaced.
    """
    folder, name = Folder(task.shards), task.name_of(unit)
    if folder.exists(name):
        return {}
    manifest, of_store = _manifests(task)
    documents = None
    if task.has_documents and unit.kind == "shards":
        documents = Rows(ReadFolder(task.shards, Problems(), Meter()), manifest)
    store = None
    if task.store is not None and of_store is not None:
        store = Store(task.store, of_store)
    inputs = Inputs(shards=task.shards, manifest=manifest, documents=documents, store=store)
    found = inputs.do(unit)
    folder.write(name, _dumped(found))
    return {"files": found.files, "bytes": found.bytes}


def _dumped(found: Found) -> bytes:
    """What a unit found, as a file of arrays: NumPy reads those without running code."""
    told = {
        "problems": found.problems.to_json(),
        "files": found.files,
        "bytes": found.bytes,
        "complete": found.complete,
        "batches": found.batches,
        "tokens": found.tokens,
        "unusable": sorted(found.unusable),
        "counts": {
            split: [one.windows, one.segments, one.cut_documents]
            for split, one in found.counts.items()
        },
    }
    arrays: dict[str, Any] = {"whole": found.seen.whole, "pieces": found.seen.pieces}
    for split, one in found.counts.items():
        arrays |= {f"{split}.codes": one.codes, f"{split}.documents": one.documents}
    file = io.BytesIO()
    np.savez(file, told=np.frombuffer(json.dumps(told).encode(), np.uint8), **arrays)
    return file.getvalue()


def _loaded(data: bytes, manifest: Manifest) -> Found:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        told = json.loads(arrays["told"].tobytes())
        counts = no_counts(manifest) if told["counts"] else {}
        for split, (windows, segments, cut_documents) in told["counts"].items():
            one = counts[split]
            one.codes, one.documents = arrays[f"{split}.codes"], arrays[f"{split}.documents"]
            one.windows, one.segments, one.cut_documents = windows, segments, cut_documents
        return Found(
            problems=Problems.from_json(told["problems"]),
            files=told["files"],
            bytes=told["bytes"],
            complete=told["complete"],
            batches=told["batches"],
            counts=counts,
            seen=Seen(arrays["whole"], arrays["pieces"]),
            tokens=Counter(told["tokens"]),
            unusable={*told["unusable"]},
        )
