"""Units of verification that others do: what they share, what is kept of them after a stop, and
that an error which passes is never taken for what is wrong with a file."""

import errno
import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fsspec
import handmade
import pytest
from handmade import Corpus, Document

from exactcpt.pipeline.beam.each import Job
from exactcpt.pipeline.beam.runner import RunSettings
from exactcpt.pipeline.commands import verify_elsewhere
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.terminal import Console
from exactcpt.pipeline.verify import Report, files, store, verify
from exactcpt.pipeline.verify.report import Problems
from exactcpt.pipeline.verify.units import Inputs, Unit
from exactcpt.schemas.errors import ExactcptError, FormatError
from exactcpt.schemas.manifest import TOKEN_STORE

PART, SHARD = "000001-0000.arrow", "train/shard-00001-of-00006.arrow"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six shards and one, of three parts that each have documents in several."""
    folder = tmp_path_factory.mktemp("made")
    lengths = [150, 70, 5, 40, 64, 200, 30, 90, 20, 11, 300, 120, 33, 90, 100, 50]
    documents = [Document(n) for n in lengths]
    parts = [("a", documents[:5]), ("a", documents[5:10]), ("b", documents[10:])]
    parts[0][1].append(Document(40, "validation"))
    corpus = Corpus(parts=parts, windows_per_shard=4)
    handmade.write_store(folder / "store", corpus)
    handmade.write_shards(folder / "shards", corpus, folder / "store")
    return folder


@pytest.fixture
def place(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "place"))


class Workers:
    """In place of a Beam graph: units in their order, in this process.

    Attributes:
        units: those that were begun.
        unit: the one that is being done.
        before: is called before each.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.units: list[Unit] = []
        self.unit: Unit | None = None
        self.before: Callable[[Unit], None] = lambda _: None
        do = Inputs.do

        def done(inputs: Inputs, unit: Unit) -> Any:
            self.units.append(unit)
            self.before(unit)
            self.unit = unit
            try:
                return do(inputs, unit)
            finally:
                self.unit = None

        def do_each(job: Job, _settings: RunSettings, _folder: Folder, poll: Callable) -> None:
            for value in job.values:
                job.unit(value, job.shared)
                poll()

        monkeypatch.setattr(Inputs, "do", done)
        monkeypatch.setattr(verify_elsewhere, "do_each", do_each)


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Workers:
    return Workers(monkeypatch)


def by_others(shards: str, store: str | None) -> Report:
    settings = RunSettings(worker_type="processes")
    return verify_elsewhere.verify_elsewhere(Folder(shards), store, settings, Console(quiet=True))


def report_of(place: Path) -> Report:
    return by_others(f"{place}/shards", f"{place}/store")


def found(place: Path) -> list[str]:
    return [name for name in Folder(f"{place}/shards").names(".job") if name != ".job/lock"]


def unreadable(
    monkeypatch: pytest.MonkeyPatch, workers: Workers, kind: str, path: str
) -> list[str]:
    """Makes a file time out for units of a kind, as long as the list that is returned is filled."""
    broken, buffer = [path], files.Folder.buffer

    def read(folder: files.Folder, name: str) -> Any:
        if workers.unit and workers.unit.kind == kind and broken and name.endswith(path):
            raise OSError(errno.ETIMEDOUT, "Connection timed out")
        return buffer(folder, name)

    monkeypatch.setattr(files.Folder, "buffer", read)
    return broken


FAILING = [("part", PART), ("documents", ".parquet"), ("shards", SHARD), ("shards", PART)]
"""Kinds of units, and files that they cannot read."""


@pytest.mark.parametrize(("kind", "path"), FAILING)
def test_an_error_that_has_passed_is_not_told_after_a_stop(place, monkeypatch, workers, kind, path):
    def stop(unit: Unit) -> None:
        if unit == Unit("shards", 6, 7):
            raise KeyboardInterrupt

    broken = unreadable(monkeypatch, workers, kind, path)
    workers.before = stop
    with pytest.raises(KeyboardInterrupt):
        report_of(place)
    begun = [*workers.units]
    assert len(found(place)) == len(begun) - 1
    broken.clear()
    workers.units.clear()
    workers.before = lambda _: None
    report = report_of(place)
    *again, last = workers.units
    assert report.ok and report == verify(f"{place}/shards", f"{place}/store")
    assert last == begun[-1]
    assert {unit.kind for unit in again} == {kind}
    assert len(again) < len(begun) - 1  # what is sound stays
    assert found(place) == []


def test_a_part_that_only_some_units_could_read_is_told(place, monkeypatch, workers):
    unreadable(monkeypatch, workers, "shards", PART)
    report = report_of(place)
    (finding,) = report.findings
    assert (finding.check, finding.where) == ("store", "part 000001-0000")
    assert finding.found.startswith("it could be read once, but not again")


@pytest.mark.parametrize(
    ("error", "stays"),
    [(KeyboardInterrupt(), True), (ExactcptError("a server"), True), (FormatError("a set"), False)],
)
def test_what_was_found_stays_only_if_the_same_command_can_go_on(place, workers, error, stays):
    def fail(unit: Unit) -> None:
        if unit.kind == "shards":
            raise error

    workers.before = fail
    with pytest.raises(type(error)):
        report_of(place)
    assert bool(found(place)) == stays
    workers.before = lambda _: None
    assert report_of(place).ok
    assert not (place / "shards/.job").exists()


# Which shards are checked together


def test_local_shards_are_units_of_their_own(place, workers):
    report_of(place)
    assert [u for u in workers.units if u.kind == "shards"] == [
        Unit("shards", i, i + 1) for i in range(7)
    ]


def test_shards_that_are_compared_with_a_remote_store_go_together(
    made, workers, monkeypatch, tmp_path
):
    remote = f"memory:/{tmp_path}"
    memory = fsspec.filesystem("memory")
    memory.put(f"{made}/", f"{tmp_path}/", recursive=True)
    monkeypatch.setattr(verify_elsewhere, "TOGETHER", 9 * 64)
    try:
        report = by_others(f"{remote}/shards", f"{remote}/store")
        together = [(u.start, u.stop) for u in workers.units if u.kind == "shards"]
        workers.units.clear()
        by_others(f"{remote}/shards", None)
        alone = [(u.start, u.stop) for u in workers.units if u.kind == "shards"]
    finally:
        memory.rm(str(tmp_path), recursive=True)
    assert report == verify(f"{made}/shards", f"{made}/store")
    assert report.ok
    assert together == [(0, 2), (2, 4), (4, 7)]
    assert alone == [(i, i + 1) for i in range(7)]


# Threads that share a store


def together(count: int, do: Callable[[], object]) -> None:
    threads = [threading.Thread(target=do) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counter[str]]:
    """How often each part is opened; four that open one at the same time wait for each other."""
    times, open_part, barrier = Counter[str](), store._open_part, threading.Barrier(4)

    def slow(folder: Any, entry: Any, *more: Any) -> Any:
        times[entry["part"]] += 1
        with suppress(threading.BrokenBarrierError):
            barrier.wait(0.3)
        return open_part(folder, entry, *more)

    monkeypatch.setattr(store, "_open_part", slow)
    return times


@pytest.fixture
def shared(place: Path) -> store.Store:
    manifest, _ = files.Folder(f"{place}/store", Problems(), files.Meter()).manifest(TOKEN_STORE)
    return store.Store(f"{place}/store", manifest)


def test_threads_open_a_part_once(shared, opened):
    problems, meter, parts = Problems(), files.Meter(), []
    together(4, lambda: parts.append(shared._part(1)))
    assert opened == {"000001-0000": 1}
    assert len({id(part) for part in parts}) == 1
    # What opening read is told to whom it belongs, though another opened the part.
    assert shared.check_part(1, problems, meter) is not None
    assert (meter.files, meter.done) == (2, shared.size_of(1))
    assert opened == {"000001-0000": 1}


def test_why_a_part_cannot_be_used_is_told_though_another_opened_it(place, shared, opened):
    for path in (place / "store").rglob("000000-0000*"):
        path.unlink()
    assert shared._part(0).batches == []
    assert shared.unusable() == {0}
    problems = Problems()
    assert shared.check_part(0, problems, files.Meter()) is None
    assert [finding.found for finding in problems.findings] == ["the file is missing"] * 2
    assert opened == {"000000-0000": 1}


def test_units_of_shards_count_no_tokens(place, workers, monkeypatch):
    counted: list[Unit | None] = []
    count = store.count_tokens

    def counting(*arguments: Any) -> Any:
        counted.append(workers.unit)
        return count(*arguments)

    monkeypatch.setattr(store, "count_tokens", counting)
    report_of(place)
    assert counted == [Unit("part", i, i + 1) for i in range(3)]
