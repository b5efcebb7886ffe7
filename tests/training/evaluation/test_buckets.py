"""Losses by what a target can see, against slow oracles that look at one target at a time."""

import math
import zlib

import numpy as np
import pytest
from handmade import read_manifest, read_shard
from hypothesis import given
from hypothesis import strategies as st
from tiny import shard_set

from exactcpt.schemas.errors import UsageError
from exactcpt.schemas.shard_set import open_set
from exactcpt.training.evaluation import buckets
from exactcpt.training.evaluation.config import TASKS

TASK_NAMES = TASKS["buckets"]
SEGMENTS = st.lists(
    st.lists(st.integers(0, 3), min_size=2, max_size=40).map(lambda ids: np.array(ids, np.int32)),
    max_size=3,
)


def loss(context, target):
    """Any function of a context and a target will do."""
    return zlib.crc32(bytes([*context, 9, target])) / 2**32


def losses_of(sequences):
    return [
        np.array([loss(ids[:i].tolist(), int(ids[i])) for i in range(1, len(ids))])
        for ids in sequences
    ]


def bucket(context):
    return 0 if context < 8 else int(math.log2(context)) - 2


def slow(segments, horizon):
    """(table, bin) -> values of its targets, one target at a time."""
    found = {}
    for ids in (segment.tolist() for segment in segments):
        seen = {}
        for at in range(1, len(ids)):
            whole = loss(ids[:at], ids[at])
            found.setdefault(("bucket", bucket(at)), []).append(whole)
            cut = 0 if at < 2 * horizon else (at // horizon - 1) * horizon
            short = loss(ids[cut:at], ids[at])
            assert at - cut == at or horizon <= at - cut < 2 * horizon
            found.setdefault(("gain-tau", bucket(at)), []).append(short - whole)
            before = seen.get((ids[at - 1], ids[at]))
            place = -1 if before is None else int(math.log2(at - before))
            found.setdefault(("recurrence", place), []).append(whole)
            seen[ids[at - 1], ids[at]] = at
    return found


@given(windows=st.lists(SEGMENTS, max_size=3), horizon=st.integers(1, 20))
def test_rows_are_those_of_the_oracle(windows, horizon):
    tasks = ("bucket", "gain-tau", "recurrence")
    found = buckets.window_rows(
        windows, losses_of, tasks=tasks, gains={"gain-tau": horizon}, longest=64
    )
    for rows, segments in zip(found, windows, strict=True):
        expected = slow(segments, horizon)
        assert {(table, place) for table, place, _, _ in rows} == expected.keys()
        for table, place, targets, total in rows:
            values = expected[table, place]
            assert targets == len(values)
            assert total == pytest.approx(sum(values), abs=1e-9)
        assert [row[0] for row in rows] == sorted((row[0] for row in rows), key=tasks.index)


@given(segments=SEGMENTS, horizon=st.integers(8, 30))
def test_the_gain_is_exactly_nothing_where_the_short_context_is_the_whole(segments, horizon):
    (rows,) = buckets.window_rows(
        [segments], losses_of, tasks=("gain-tau",), gains={"gain-tau": horizon}, longest=64
    )
    highs = {b: 2 ** (b + 3) - 1 for b in range(4)}
    assert all(total == 0.0 for _, b, _, total in rows if highs[b] < 2 * horizon)


def test_a_piece_too_many_would_be_seen(monkeypatch):
    """Pieces from the first token on: what they give for short contexts is not the whole loss."""
    ids = np.arange(30, dtype=np.int32) % 7

    def rows():
        return buckets.window_rows(
            [[ids]], losses_of, tasks=("gain-tau",), gains={"gain-tau": 8}, longest=64
        )[0]

    assert rows()[0][3] == 0.0
    monkeypatch.setattr(buckets, "pieces", lambda length, horizon: range(1, length - 8, horizon))
    assert rows()[1][3] != 0.0


@given(ids=st.lists(st.integers(0, 4), min_size=2, max_size=60))
def test_recurrence(ids):
    found = buckets.recurrence(np.array(ids, np.int32))
    for at in range(1, len(ids)):
        pairs = [at - j for j in range(1, at) if ids[j - 1 : j + 1] == ids[at - 1 : at + 1]]
        assert found[at - 1] == (min(pairs) if pairs else 0)


def test_horizons(tmp_path):
    shards = open_set(shard_set(tmp_path / "shards", tau=32))
    assert buckets.horizons(TASK_NAMES, shards) == {
        "gain-128": 128,
        "gain-512": 512,
        "gain-tau": 32,
    }
    assert buckets.horizons(["recurrence"], shards) == {}


def test_windows_and_their_segments(tmp_path):
    folder = shard_set(tmp_path / "shards", times=3)
    chosen = buckets.open_windows(open_set(folder), 3, seed=0)
    columns = read_shard(folder / "validation" / "shard-00000-of-00001.arrow")
    assert len(chosen.numbers) == len({*chosen.numbers}) == 3
    for number in chosen.numbers:
        expected, start = [], 0
        lengths, documents = columns["seq_lengths"][number], columns["doc_index"][number]
        for length, document in zip(lengths, documents, strict=True):
            if document >= 0 and length > 1:
                expected.append(columns["input_ids"][number][start : start + length])
            start += length
        assert [ids.tolist() for ids in chosen.segments(number)] == expected


def test_the_first_windows_are_the_same_however_many(tmp_path):
    shards = open_set(shard_set(tmp_path / "shards", times=3))
    few, many = (buckets.open_windows(shards, count, seed=1) for count in (2, 100))
    assert many.numbers[:2] == few.numbers
    assert len(many.numbers) == read_manifest(shards.root)["splits"]["validation"]["windows"]
    assert few.digest != many.digest
    assert few.digest == buckets.open_windows(shards, 2, seed=1).digest
    assert few.numbers != buckets.open_windows(shards, 2, seed=3).numbers


def test_targets_are_those_of_the_manifest(tmp_path):
    """All validation windows together have its histogram."""
    folder = shard_set(tmp_path / "shards", times=3)
    chosen = buckets.open_windows(open_set(folder), 100, seed=0)
    rows = buckets.window_rows(
        [chosen.segments(n) for n in chosen.numbers],
        lambda sequences: [np.ones(len(ids) - 1) for ids in sequences],
        tasks=("bucket",), gains={}, longest=64,
    )  # fmt: skip
    table = buckets.score_table(chosen.numbers, rows).to_pydict()
    counts = read_manifest(folder)["splits"]["validation"]["histogram"]
    for number, count in enumerate(counts):
        mine = [t for t, b in zip(table["targets"], table["bucket"], strict=True) if b == number]
        assert sum(mine) == count
    assert table["ce_sum"] == table["targets"]


def test_no_validation_windows(tmp_path):
    from handmade import Corpus, Document, write_shards, write_store

    packed = Corpus([("a", [Document(300)])])
    write_store(tmp_path / "store", packed)
    write_shards(tmp_path / "shards", packed, tmp_path / "store")
    with pytest.raises(UsageError, match="the shard set has no validation windows"):
        buckets.open_windows(open_set(tmp_path / "shards"), 1, seed=0)
