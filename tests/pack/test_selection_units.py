"""Selection over a whole store, against one that has all documents in a list."""

from collections import Counter
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stores import NO_FILE, part_of_nothing

from exactcpt.pipeline.core.parameters import Exact
from exactcpt.pipeline.core.selection import Epochs, Share, is_validation, rank
from exactcpt.pipeline.files.arrow import write_batches
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.pack import repeated_units, selection_units
from exactcpt.pipeline.pack.documents import PartRef, PlanSettings
from exactcpt.pipeline.pack.repeated_units import (
    find_repeated,
    hash_ranges,
    merge_repeated,
    part_runs,
    spread_hashes,
)
from exactcpt.pipeline.pack.selection_units import (
    Measure,
    candidates,
    measure,
    plain_quotas,
    quotas,
    selected,
    source_runs,
    targets,
)
from exactcpt.pipeline.pack.task import PackTask
from exactcpt.pipeline.tokens.store import StoredFile
from exactcpt.schemas.errors import ExactcptError
from exactcpt.schemas.store import index_name, index_schema

Document = tuple[int, int]  # what its content hash begins with, tokens

few_hashes = st.integers(0, 6).map(lambda i: i * 0x2AAAAAAAAAAAAAAA)
documents = st.tuples(few_hashes | st.integers(0, 2**64 - 1), st.integers(1, 100))
stores = st.lists(
    st.tuples(st.sampled_from("abc"), st.lists(documents, min_size=1, max_size=10)),
    min_size=1,
    max_size=5,
).map(lambda parts: sorted(parts, key=lambda part: part[0]))


def write_indices(folder: Path, parts: list[tuple[str, list[Document]]]) -> tuple[PartRef, ...]:
    """A store of which there are only the indices."""
    refs: list[PartRef] = []
    first = 0
    for number, (source, some) in enumerate(parts):
        name = f"{number:06d}-0000"
        hashes = [value.to_bytes(8, "big") + bytes(8) for value, _ in some]
        rows = range(len(some))
        batch = pa.record_batch(
            [pa.array([n for _, n in some], pa.int32()), pa.array(hashes, pa.binary(16)), rows],
            schema=index_schema(),
        )
        index = write_batches(Folder(str(folder)), index_name(name), index_schema(), [batch])
        tokens = sum(n for _, n in some)
        refs.append(
            PartRef(
                part=name,
                source=source,
                first_document=first,
                documents=len(some),
                tokens=tokens,
                file=NO_FILE,
                index=StoredFile(**index),
            )
        )
        first += len(some)
    return tuple(refs)


def task_of(folder: Path, parts: tuple[PartRef, ...], **changes) -> PackTask:
    settings = PlanSettings(
        window=16, packing="concat", validation_fraction=Fraction(1, 4), seed=changes.pop("seed", 0)
    )
    chosen = {"mixing": {}, "token_budget": None, "dedup": False} | changes
    return PackTask(
        store=str(folder),
        out=str(folder / "out"),
        parts=parts,
        settings=settings,
        exact=Exact(tau=4),
        group_tokens=1 << 20,
        shard_bytes=1 << 20,
        pad_id=0,
        **chosen,
    )


def select(task: PackTask) -> tuple[dict, list[int], list[int]]:
    """Quotas, repeated documents, and the copies of all documents, as the graph gets them."""
    files = find_all_repeated(task) if task.dedup else {}
    if task.mixes:
        measures: dict[str, list[Measure]] = {}
        some_runs = source_runs(task.parts)
        assert [part for run in some_runs for part in run] == [*task.parts]
        for run in some_runs:
            assert len({part.source for part in run}) == 1
            source, found = measure(run, task, files)
            measures.setdefault(source, []).append(found)
        wanted = targets(task, {name: Measure.total(m) for name, m in measures.items()})
        collected: dict[str, list] = {}
        for run in reversed(some_runs):
            for source, some in candidates(run, task, files, wanted):
                collected.setdefault(source, []).append(some)
        chosen = quotas(task, wanted, collected)
    else:
        chosen = plain_quotas(task)
    copies: list[int] = []
    repeated: list[int] = []
    for part in task.parts:
        documents = selected(part, task, files, chosen[part.source])
        copies += documents.copies.tolist()
        repeated += documents.index[documents.repeated].tolist()
    return chosen, repeated, copies


def find_all_repeated(task: PackTask) -> dict[str, str]:
    """Units in an order that no graph would have them in."""
    runs = part_runs(task.parts)
    spread = [spread_hashes(run, task) for run in reversed(runs)]
    found = [find_repeated(i, task, spread) for i in reversed(range(hash_ranges(task.parts)))]
    return dict(pair for run in reversed(runs) for pair in merge_repeated(run, task, found))


def select_slowly(task: PackTask, parts) -> list[int]:
    """How many copies every document has, with all of them in one list."""
    settings = task.settings
    everything = [(source, value, n) for source, some in parts for value, n in some]
    prefixes = np.array([value for _, value, _ in everything], np.uint64)
    validates = is_validation(prefixes, settings.validation_fraction, settings.seed).tolist()
    ranks = rank(prefixes, settings.seed).tolist()
    seen: set[int] = set()
    kept = []
    for i, (_, value, _) in enumerate(everything):
        if not (task.dedup and value in seen):
            kept.append(i)
        seen.add(value)
    copies = [0] * len(everything)
    for i in kept:
        copies[i] = 1
    tokens = Counter(dict.fromkeys(task.sources, 0))
    for i in kept:
        if not validates[i]:
            tokens[everything[i][0]] += everything[i][2]
    wanted = wanted_slowly(task, tokens)
    for name in task.sources:
        train = [i for i in kept if not validates[i] and everything[i][0] == name]
        target = int(wanted[name] % 1 * tokens[name])
        for i in sorted(train, key=lambda i: (ranks[i], i)):
            copies[i] = int(wanted[name]) + (target > 0)
            target -= everything[i][2]
    return copies


def wanted_slowly(task: PackTask, tokens) -> dict[str, Fraction]:
    budget, mixing = task.token_budget, task.mixing
    plain = {
        name: mixing.get(name, Epochs(Fraction(1))).epochs
        for name in tokens
        if not isinstance(mixing.get(name), Share)
    }
    if budget is None:
        return plain
    shares = {name: asked.share for name, asked in mixing.items() if isinstance(asked, Share)}
    left = budget * (1 - sum(shares.values()))
    weight = sum(plain[name] * tokens[name] for name in plain)
    wanted = {name: e * left / weight if weight else Fraction(0) for name, e in plain.items()}
    for name in tokens.keys() & shares.keys():
        wanted[name] = budget * shares[name] / tokens[name] if tokens[name] else Fraction(0)
    return wanted


epochs = st.sampled_from(["0", "0.5", "1", "2.5", "3"]).map(lambda e: Epochs(Fraction(e)))
shares = st.sampled_from(["0.1", "0.3"]).map(lambda s: Share(Fraction(s)))


def test_measures_stay_few_however_many_parts_there_are():
    """Each has half a mebibyte, and some runners hold all of them."""
    parts = [
        part_of_nothing(
            part=f"{i}", source="ab"[i > 100_000], first_document=0, documents=8000, tokens=1
        )
        for i in range(125_000)
    ]
    some_runs = source_runs(parts)
    assert [part.part for run in some_runs for part in run] == [part.part for part in parts]
    assert all(len({part.source for part in run}) == 1 for run in some_runs)
    assert len(some_runs) < 300


@pytest.mark.slow
@given(
    stores,
    st.booleans(),
    st.dictionaries(st.sampled_from("abc"), epochs),
    st.integers(0, 3),
    st.sampled_from([1, 3, 1 << 20]),
)
def test_copies_by_epochs(tmp_path_factory, parts, dedup, mixing, seed, run_size):
    folder = tmp_path_factory.mktemp("store")
    refs = write_indices(folder, parts)
    task = task_of(folder, refs, dedup=dedup, mixing=mixing, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repeated_units, "DOCUMENTS_PER_RUN", run_size)
        patch.setattr(selection_units, "DOCUMENTS_PER_RUN", run_size)
        _, repeated, copies = select(task)
    assert copies == select_slowly(task, parts)
    values = [value for _, some in parts for value, _ in some]
    expected = [i for i, value in enumerate(values) if value in values[:i]]
    assert repeated == (expected if dedup else [])


@pytest.mark.slow
@given(
    stores,
    st.booleans(),
    st.dictionaries(st.sampled_from("abc"), epochs | shares),
    st.integers(1, 1000),  # of documents of one token: the most copies there may be
)
def test_copies_by_budget(tmp_path_factory, parts, dedup, mixing, budget):
    folder = tmp_path_factory.mktemp("store")
    refs = write_indices(folder, parts)
    task = task_of(folder, refs, dedup=dedup, mixing=mixing, token_budget=budget)
    assert task.mixes
    assert select(task)[2] == select_slowly(task, parts)


def test_a_source_of_which_everything_validates(tmp_path):
    """It has no training tokens, so nothing to mix."""
    values = np.arange(200, dtype=np.uint64)
    inside = is_validation(values, Fraction(1, 4), 0)
    parts = [
        ("a", [(int(v), 10) for v in values[inside][:5]]),
        ("b", [(int(v), 10) for v in values[~inside][:6]]),
    ]
    refs = write_indices(tmp_path, parts)
    for mixing, budget in (
        ({"a": Epochs(Fraction(1, 2))}, None),
        ({"a": Share(Fraction(1, 2))}, 60),
        ({}, 30),
    ):
        task = task_of(tmp_path, refs, mixing=mixing, token_budget=budget)
        chosen, _, copies = select(task)
        assert chosen["a"].last is None
        assert copies[:5] == [1] * 5
        assert sum(copies[5:]) == (6 if budget is None else 3)


def test_runs_and_ranges_are_bounded():
    parts = [
        part_of_nothing(part=f"{i}", source="a", first_document=0, documents=n, tokens=n)
        for i, n in enumerate([1 << 22, 1 << 22, 1, 1 << 24, 5])
    ]
    runs = part_runs(parts)
    assert [run.ordinal for run in runs] == list(range(len(runs)))
    assert [part for run in runs for part in run.parts] == parts
    assert [run.documents for run in runs] == [1 << 23, 1, 1 << 24, 5]
    assert hash_ranges(parts[:2]) == 1
    assert hash_ranges(parts[:3]) == 2
    assert hash_ranges(parts) == 4


def test_every_hash_is_written_into_its_range_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setattr(repeated_units, "DOCUMENTS_PER_RUN", 2)
    values = [0, 2**62 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 3 * 2**62, 1]
    parts = [("a", [(v, 1) for v in values[i : i + 2]]) for i in range(0, 8, 2)]
    task = task_of(tmp_path, write_indices(tmp_path, parts))
    for run in part_runs(task.parts):
        spread_hashes(run, task)
    found = {}
    for path in sorted((tmp_path / "out/.job/hashes").iterdir()):
        run, hash_range = map(int, path.stem.split("-"))
        for row in pa.ipc.open_file(path).read_all().to_pylist():
            value = int.from_bytes(row["content_hash"][:8], "big")
            assert value == values[row["doc_index"]]
            assert run == row["doc_index"] // 2
            found[row["doc_index"]] = hash_range
    assert [found[i] for i in range(8)] == [v >> 62 for v in values]


def test_repeated_documents_are_found_once(tmp_path, monkeypatch):
    """What has been written is not worked out again, nor read."""
    monkeypatch.setattr(repeated_units, "DOCUMENTS_PER_RUN", 2)
    parts = [("a", [(1, 1), (2, 2)]), ("a", [(2**63, 1), (1, 4)])]
    task = task_of(tmp_path, write_indices(tmp_path, parts))
    files = find_all_repeated(task)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.arrow")}
    (tmp_path / "parts").rename(tmp_path / "gone")
    assert find_all_repeated(task) == files
    assert {p: p.stat().st_mtime_ns for p in times} == times
    assert len(times) == 4 + 4 + 2


def test_a_source_without_documents_has_the_copies_asked_for(tmp_path):
    refs = write_indices(tmp_path, [("a", [(2**40, 10)])])
    mixing = {"a": Epochs(Fraction(1)), "none": Epochs(Fraction(3))}
    assert select(task_of(tmp_path, refs, mixing=mixing))[0]["none"].copies == 3
    plain = {"a": Epochs(Fraction(1)), "none": Epochs(Fraction(1))}
    assert select(task_of(tmp_path, refs, mixing=plain))[0]["none"].copies == 1


@pytest.mark.parametrize(
    ("mixing", "budget"),
    [({}, 10_000_000), ({"a": Share(Fraction(1, 2))}, 20_000_000)],
)
def test_a_source_is_not_seen_more_often_than_anybody_can_want(tmp_path, mixing, budget):
    values = np.arange(30, dtype=np.uint64)
    train = values[~is_validation(values, Fraction(1, 4), 0)][:10]
    parts = [("a", [(int(value), 1000) for value in train])]
    refs = write_indices(tmp_path, parts)
    chosen = select(task_of(tmp_path, refs, mixing=mixing, token_budget=budget))[0]
    assert chosen["a"].copies == 1000
    with pytest.raises(ExactcptError) as error:
        select(task_of(tmp_path, refs, mixing=mixing, token_budget=budget + 1000))
    assert str(error.value) == (
        "source 'a' would be seen 1,001 times\n"
        "  expected: at most 1,000 times: it has 10,000 training tokens\n"
        "  fix:      lower --token-budget or the source's share or epochs, or give it more text"
    )


@pytest.mark.parametrize(
    ("changes", "mixes"),
    [
        ({}, False),
        ({"mixing": {"a": Epochs(Fraction(1))}}, False),
        ({"mixing": {"a": Epochs(Fraction(2))}}, True),
        ({"token_budget": 5}, True),
        ({"dedup": True}, False),
    ],
)
def test_what_mixes(tmp_path, changes, mixes):
    assert task_of(tmp_path, (), **changes).mixes == mixes
