import json
import time
from dataclasses import replace
from pathlib import Path

import apache_beam as beam
import pytest
import xxhash
import zstandard
from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner
from stores import (
    contents,
    differing,
    read_store,
    splits_of,
    summaries,
    task_of,
    tokenize_all,
    write_jsonl,
)

from exactcpt.pipeline.beam.transforms import Crew
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job.attempt import attempt_at
from exactcpt.pipeline.sources.reading import BadFileError
from exactcpt.pipeline.tokens import units
from exactcpt.pipeline.tokens.graph import tokenize_graph
from exactcpt.pipeline.tokens.units import scan_files, scan_tasks, tokenize_split


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Three files of some KB."""
    for name in "abc":
        lines = [f"{name} {i}\n\n" * (i % 7) for i in range(60)]
        write_jsonl(tmp_path / "in" / f"{name}.jsonl", lines)
    return tmp_path / "in"


@pytest.mark.parametrize("scan_bytes", [1, 5000, 1 << 20])
def test_every_file_is_scanned_once_large_ones_alone(corpus, monkeypatch, scan_bytes):
    monkeypatch.setattr(units, "SCAN_BYTES", scan_bytes)
    splits = splits_of({"a": corpus}, 500)
    scans = scan_tasks(splits)
    assert [scan.ordinal for scan in scans] == list(range(len(scans)))
    files = [(file.url, starts) for scan in scans for file, starts in scan.files]
    assert [url for url, _ in files] == [str(corpus / f"{name}.jsonl") for name in "abc"]
    for url, starts in files:
        members = [m for split in splits for m in split.members if m.file.url == url]
        assert list(starts) == [m.start for m in members if m.start]
        assert len(starts) > 2
    for scan in scans:
        assert scan.work == sum(file.bytes for file, _ in scan.files)
        assert scan.work <= scan_bytes or len(scan.files) == 1


def test_nothing_to_scan():
    assert scan_tasks([]) == []


def test_a_scan_counts_newlines_and_digests(corpus, tmp_path):
    task = task_of(tmp_path / "store")
    (scan,) = scan_tasks(splits_of({"a": corpus}, 500))
    found = dict(scan_files(scan, task.store))
    kept = json.loads((tmp_path / "store/.job/files/000000.json").read_text())
    assert found.keys() == kept.keys()
    for url, newlines in found.items():
        data = Path(url).read_bytes()
        assert newlines == {at: data[:at].count(b"\n") for at in newlines}
        assert len(newlines) > 2
        assert kept[url]["xxh3_128"] == xxhash.xxh3_128_hexdigest(data)


def test_a_scan_is_kept(corpus, tmp_path):
    task = task_of(tmp_path / "store")
    (scan,) = scan_tasks(splits_of({"a": corpus}, 500))
    first = scan_files(scan, task.store)
    for path in corpus.iterdir():
        path.unlink()
    assert scan_files(scan, task.store) == first


def test_nothing_is_told_of_files_that_are_read_whole(corpus, tmp_path):
    """There may be millions of them, and what is told goes to every worker."""
    task = task_of(tmp_path / "store")
    (scan,) = scan_tasks(splits_of({"a": corpus}))
    assert scan_files(scan, task.store) == scan_files(scan, task.store) == []
    kept = json.loads((tmp_path / "store/.job/files/000000.json").read_text())
    assert len(kept) == 3


def tokenized_by_a_graph(splits, task, threads):
    """As the embedded runner does it, in this process."""
    with attempt_at(Folder(task.store), engine=None) as attempt:
        crew = Crew(attempt, processes=1, threads=threads)
        pipeline = beam.Pipeline(runner=FnApiRunner())
        tokenize_graph(pipeline, task, scan_tasks(splits), splits, crew)
        pipeline.run().wait_until_finish()


@pytest.mark.parametrize("threads", [1, 4])
def test_files_are_scanned_when_they_are_tokenized(corpus, tmp_path, monkeypatch, threads):
    """Each once, before its first split, and when those of the file before it have begun.

    The splits of a file follow one another, though they differ in size. So of the file before, no
    more are unfinished than the other threads can be at work on.
    """
    monkeypatch.setattr(units, "SCAN_BYTES", 1)
    told: list[tuple[str, str]] = []
    scan, write_parts = units.scan, units.write_parts

    def scanned(file, starts):
        time.sleep(0.01)  # another unit would begin the same
        told.append(("scanned", file.url))
        return scan(file, starts)

    def written(split, *rest):
        write_parts(split, *rest)
        told.append(("tokenized", split.members[0].file.url))

    monkeypatch.setattr(units, "scan", scanned)
    monkeypatch.setattr(units, "write_parts", written)
    splits = splits_of({"a": corpus}, 500)
    tokenized_by_a_graph(splits, task_of(tmp_path / "here"), threads)
    files = [str(corpus / f"{name}.jsonl") for name in "abc"]
    assert [url for what, url in told if what == "scanned"] == files
    for before, url in zip([None, *files], files, strict=False):
        at = told.index(("scanned", url))
        assert ("tokenized", url) not in told[:at]
        assert told[at:].count(("tokenized", before)) < threads
    tokenize_all(splits, task_of(tmp_path / "before"))
    assert contents(tmp_path / "here") == contents(tmp_path / "before")


def test_documents_without_an_id_are_named_by_their_line_in_the_file(tmp_path):
    """Wherever the file was split."""
    corpus = tmp_path / "in.jsonl"
    corpus.write_text("".join(f'{{"text": "line {i}"}}\n\n' for i in range(200)))
    tokenize_all(splits_of({"a": corpus}, 300), task_of(tmp_path / "store"))
    found = read_store(tmp_path / "store")
    assert [d.id for d in found] == [f"in.jsonl:{2 * i + 1}" for i in range(200)]
    assert len({d.part for d in found}) > 5


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """Four compressed files that share a split; the second and the third are cut off."""
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abcd":
        lines = [json.dumps({"id": f"{name}{i}", "text": f"{name} {i}"}) for i in range(50)]
        data = zstandard.compress("\n".join(lines).encode())
        (folder / f"{name}.jsonl.zst").write_bytes(data[:-9] if name in "bc" else data)
    return folder


def test_a_bad_file_ends_the_job(damaged, tmp_path):
    (split,) = splits_of({"a": damaged})
    with pytest.raises(BadFileError) as error:
        tokenize_split(split, task_of(tmp_path / "store"), {})
    assert error.value.where == str(damaged / "b.jsonl.zst")


def test_bad_files_are_noted_one_after_the_other(damaged, tmp_path):
    """The job does the same: a split is tried again without the file that was found bad."""
    (split,) = splits_of({"a": damaged})
    task = task_of(tmp_path / "store", skip_bad_files=True)
    store = Folder(task.store)
    noted: list[set[str]] = []
    while not noted or len(noted) < 2 or noted[-1] != noted[-2]:
        tokenize_split(split, task, {})
        found = [json.loads(store.read(name)) for name in store.names(".job/bad")]
        assert all(bad["reason"] for bad in found)
        noted.append({bad["url"] for bad in found})
        left = tuple(m for m in split.members if m.file.url not in noted[-1])
        split = replace(split, members=left)
        assert len(noted) < 6
    assert noted[-1] == {str(damaged / f"{name}.jsonl.zst") for name in "bc"}
    assert [d.id[0] for d in read_store(tmp_path / "store")] == ["a"] * 50 + ["d"] * 50


def test_units_may_run_twice(corpus, tmp_path):
    splits, task = splits_of({"a": corpus}, 500), task_of(tmp_path / "store")
    tokenize_all(splits, task)
    once = contents(tmp_path / "store")
    tokenize_all(splits, task)
    assert differing(contents(tmp_path / "store"), once) == []
    assert len(summaries(tmp_path / "store")) == len(splits)
