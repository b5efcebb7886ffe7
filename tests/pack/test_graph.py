"""The graphs on every runner that needs no cluster: the same bytes as unit after unit."""

import gzip
import json
import shutil
from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from stores import (
    contents,
    differing,
    parts_of,
    read_store,
    splits_of,
    task_of,
    tokenize_all,
    write_jsonl,
)

from exactcpt.pipeline.beam.runner import RunSettings, run
from exactcpt.pipeline.core.parameters import Exact
from exactcpt.pipeline.core.selection import Epochs, Share, is_validation, rank
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.pack.documents import PlanSettings
from exactcpt.pipeline.pack.graph import pack_graph
from exactcpt.pipeline.pack.task import PackTask
from exactcpt.pipeline.pack.units import GROUPS
from exactcpt.pipeline.tokens.graph import tokenize_graph
from exactcpt.pipeline.tokens.units import scan_tasks
from exactcpt.schemas.errors import ExactcptError

pytestmark = pytest.mark.slow

WINDOW = 32
SEED = 5
SPLIT_BYTES = 4000

ONE = RunSettings()
RUNS = {
    "repeated bundles": RunSettings(beam_args=("--direct_runner_bundle_repeat=1",)),
    "two threads": RunSettings(workers=2),
    "three threads": RunSettings(workers=3),
    "two processes": RunSettings(workers=2, worker_type="processes"),
    "a job service": RunSettings(
        runner="PortableRunner",
        beam_args=("--job_endpoint=embed", "--environment_type=LOOPBACK"),
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> dict[str, Path]:
    """Three sources in three ways of storage, with repeated and empty documents."""
    folder = tmp_path_factory.mktemp("in")
    poems = ["\n".join(f"{word} {i}" for word in ("rose", "mary") * (i % 9)) for i in range(120)]
    plain = write_jsonl(folder / "plain.jsonl", poems)
    packed = write_jsonl(folder / "packed.jsonl", [*poems[:30], *(f"{i}." * i for i in range(60))])
    squeezed = write_jsonl(folder / "squeezed.jsonl", ["long " * 300, *poems[10:20], "short"])
    (folder / "packed.jsonl.gz").write_bytes(gzip.compress(packed.read_bytes(), mtime=0))
    (folder / "squeezed.jsonl.zst").write_bytes(zstandard.compress(squeezed.read_bytes()))
    return {
        "a": plain,
        "b": folder / "packed.jsonl.gz",
        "c": folder / "squeezed.jsonl.zst",
    }


@pytest.fixture(scope="module")
def store(inputs, tmp_path_factory) -> Path:
    """What the units write, one after the other."""
    folder = tmp_path_factory.mktemp("stores") / "one"
    tokenize_all(splits_of(inputs, SPLIT_BYTES), task_of(folder, split_bytes=SPLIT_BYTES))
    return folder


def run_tokenize(inputs, store: Path, settings: RunSettings) -> None:
    splits = splits_of(inputs, SPLIT_BYTES)
    task = task_of(store, split_bytes=SPLIT_BYTES)

    def build(p, crew):
        tokenize_graph(p, task, scan_tasks(splits), splits, crew)

    run(build, settings, Folder(str(store)))


def pack_task(store: Path, out: Path, **changes) -> PackTask:
    chosen = {
        "exact": Exact(tau=4),
        "mixing": {},
        "token_budget": None,
        "dedup": False,
        "group_tokens": 2000,
        "shard_bytes": 5 * WINDOW * 15,
    }
    settings = PlanSettings(
        window=WINDOW,
        packing=changes.pop("packing", "concat"),
        validation_fraction=Fraction(1, 10),
        seed=SEED,
    )
    return PackTask(
        store=str(store),
        out=str(out),
        parts=parts_of(store),
        settings=settings,
        pad_id=0,
        **(chosen | changes),
    )


def run_pack(task: PackTask, settings: RunSettings) -> None:
    def build(p, crew):
        pack_graph(p, task, crew)

    run(build, settings, Folder(task.out))
    assert json.loads(Folder(task.out).read(GROUPS))["groups"] > 2


MIXED = {
    "dedup": True,
    "mixing": {"a": Epochs(Fraction(1, 2)), "b": Epochs(Fraction(5, 2))},
}


@pytest.fixture(scope="module")
def packed(store, tmp_path_factory) -> dict[str, dict[str, bytes]]:
    """Shard sets as one worker writes them."""
    folder = tmp_path_factory.mktemp("shards")
    for name, changes in (("plain", {}), ("mixed", MIXED)):
        run_pack(pack_task(store, folder / name, **changes), ONE)
    return {name: contents(folder / name) for name in ("plain", "mixed")}


@pytest.mark.parametrize("how", RUNS)
def test_both_graphs_write_the_same_bytes_on(how, inputs, store, packed, tmp_path, monkeypatch):
    settings = RUNS[how]
    if not settings.is_embedded:
        monkeypatch.setenv("no_grpc_proxy", "localhost,127.0.0.1")
    run_tokenize(inputs, tmp_path / "store", settings)
    assert differing(contents(tmp_path / "store"), contents(store)) == []
    run_pack(pack_task(store, tmp_path / "mixed", **MIXED), settings)
    assert differing(contents(tmp_path / "mixed"), packed["mixed"]) == []
    if how != "two processes":
        run_pack(pack_task(store, tmp_path / "plain"), settings)
        assert differing(contents(tmp_path / "plain"), packed["plain"]) == []


def test_one_worker_writes_what_the_units_write(inputs, store, tmp_path):
    run_tokenize(inputs, tmp_path / "store", ONE)
    assert differing(contents(tmp_path / "store"), contents(store)) == []
    assert len(parts_of(store)) == 5


# what is packed


def shard_segments(out: Path, split: str) -> list[tuple[int, int, int]]:
    """(document, offset, length) of every segment of a split but padding."""
    found = []
    for path in sorted((out / split).glob("*.arrow")):
        columns = pa.ipc.open_file(path).read_all()
        for row in columns.select(["doc_index", "doc_offset", "seq_lengths"]).to_pylist():
            found += zip(row["doc_index"], row["doc_offset"], row["seq_lengths"], strict=True)
    return [segment for segment in found if segment[0] != -1]


def expected_copies(store: Path, wanted: dict[str, Fraction | None], dedup: bool) -> list[int]:
    """How often each document is packed; sources that want None are seen once."""
    documents = read_store(store)
    prefixes = np.array([int.from_bytes(d.content_hash[:8], "big") for d in documents], np.uint64)
    validates, ranks = is_validation(prefixes, Fraction(1, 10), SEED), rank(prefixes, SEED)
    copies, seen, train = [0] * len(documents), set(), {name: [] for name in wanted}
    for i, document in enumerate(documents):
        if not (dedup and document.content_hash in seen):
            copies[i] = 1
            if not validates[i]:
                train[document.source].append(i)
        seen.add(document.content_hash)
    for name, copies_wanted in wanted.items():
        if copies_wanted is None:
            continue
        left = int(copies_wanted % 1 * sum(len(documents[i].tokens) for i in train[name]))
        for i in sorted(train[name], key=lambda i: (ranks[i], i)):
            copies[i] = int(copies_wanted) + (left > 0)
            left -= len(documents[i].tokens)
    return copies


def train_tokens(store: Path) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for document in read_store(store):
        prefix = np.array([int.from_bytes(document.content_hash[:8], "big")], np.uint64)
        if not is_validation(prefix, Fraction(1, 10), SEED)[0]:
            counts[document.source] += len(document.tokens)
    return dict(counts)


def by_epochs(_: dict[str, int]) -> dict[str, Fraction | None]:
    return {"a": Fraction(1, 2), "b": Fraction(5, 2), "c": None}


def by_budget(tokens: dict[str, int]) -> dict[str, Fraction | None]:
    """3000 tokens: a fifth from `b`, the rest from `a` and `c`, `a` thrice as often as `c`."""
    scale = Fraction(2400, 3 * tokens["a"] + tokens["c"])
    return {"a": 3 * scale, "b": Fraction(600, tokens["b"]), "c": scale}


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, lambda _: dict.fromkeys("abc")),
        ({"dedup": True}, lambda _: dict.fromkeys("abc")),
        (MIXED, by_epochs),
        ({**MIXED, "packing": "best_fit"}, by_epochs),
        (
            {
                "mixing": {"a": Epochs(Fraction(3)), "b": Share(Fraction(1, 5))},
                "token_budget": 3000,
            },
            by_budget,
        ),
    ],
)
def test_every_document_is_packed_as_often_as_it_should(store, tmp_path, changes, wanted):
    run_pack(pack_task(store, tmp_path, **changes), RunSettings(workers=2))
    copies = expected_copies(store, wanted(train_tokens(store)), changes.get("dedup", False))
    table = [
        row
        for path in sorted((tmp_path / "documents").glob("*.parquet"))
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    assert [row["copies"] for row in table] == copies
    documents = read_store(store)
    for split in ("train", "validation"):
        packed = Counter(
            (d, offset + i) for d, offset, n in shard_segments(tmp_path, split) for i in range(n)
        )
        expected = Counter(
            {
                (row["doc_index"], i): row["copies"]
                for row in table
                if row["split"] == split
                for i in range(len(documents[row["doc_index"]].tokens))
            }
        )
        assert list((packed - expected) + (expected - packed))[:5] == []
    assert len(list((tmp_path / "train").iterdir())) > 3


def test_the_weights_are_of_the_whole_corpus(store, tmp_path):
    run_pack(pack_task(store, tmp_path), RunSettings(workers=2))
    plans = [json.loads(p.read_text()) for p in (tmp_path / ".job/plans").glob("*.json")]
    histograms = [
        share["histogram"] for one in plans for share in one["splits"]["train"]["sources"].values()
    ]
    table = json.loads((tmp_path / ".job/weights.json").read_text())["table"]
    assert [row["targets"] for row in table] == np.sum(histograms, 0).tolist()
    weights = [1.0] + [row["weight"] for row in table]
    for path in (tmp_path / "train").iterdir():
        dictionary = pa.ipc.open_file(path).get_batch(0)["loss_weight"].flatten().dictionary
        assert dictionary.to_pylist()[1:] == np.array(weights[1:], np.float32).tolist()
    for path in (tmp_path / "validation").iterdir():
        dictionary = pa.ipc.open_file(path).get_batch(0)["loss_weight"].flatten().dictionary
        assert dictionary.to_pylist() == [0.0] + [1.0] * len(table)


# what goes wrong


@pytest.mark.parametrize("settings", [ONE, RunSettings(workers=2)], ids=["one", "two"])
def test_a_unit_that_fails_ends_the_graph_with_its_own_error(store, tmp_path, settings):
    lost = tmp_path / "store"
    shutil.copytree(store, lost)
    task = pack_task(lost, tmp_path / "out")
    shutil.rmtree(lost / "parts")
    with pytest.raises(ExactcptError, match=r"reading or writing failed: .*No such file"):
        run_pack(task, settings)


def test_a_panic_of_a_library_ends_the_graph(inputs, tmp_path, monkeypatch):
    """It is no Exception; Beam alone would wait forever."""

    class PanicException(BaseException):
        pass

    def panic(*_: object) -> None:
        raise PanicException("out of bounds")

    monkeypatch.setattr("exactcpt.pipeline.tokens.builder.content_hashes", panic)
    with pytest.raises(ExactcptError, match="internal error: PanicException: out of bounds"):
        run_tokenize(inputs, tmp_path / "store", RunSettings(workers=2))
