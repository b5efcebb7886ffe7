"""Shard sets through `import exactcpt`, against Arrow's own reading of their columns."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from handmade import edit_shard
from tiny import corpus, set_of, shard_set

import exactcpt
from exactcpt.schemas.errors import FormatError, UsageError

SHARD = "train/shard-00000-of-00002.arrow"


@pytest.fixture
def folder(tmp_path) -> Path:
    return shard_set(tmp_path / "shards")


def rows(folder: Path, split: str) -> list[dict]:
    found: list[dict] = []
    for path in sorted((folder / split).glob("*.arrow")):
        with pa.memory_map(str(path)) as source:
            found += pa.ipc.open_file(source).read_all().to_pylist()
    return found


@pytest.mark.parametrize("split", ["train", "validation"])
def test_windows_are_the_rows_of_the_shards(folder, split):
    windows = exactcpt.open_shards(folder, split)
    expected = rows(folder, split)
    assert len(windows) == len(expected) > 1
    for window, row in zip(windows, expected, strict=True):
        padded = row["doc_index"][-1] == -1
        real = len(row["seq_lengths"]) - padded
        assert window.ids.tolist() == row["input_ids"]
        assert window.weights.tolist() == row["loss_weight"]
        assert windows.code_weights[window.codes].tolist() == row["loss_weight"]
        assert window.seq_lengths.tolist() == row["seq_lengths"][:real]
        assert window.documents.tolist() == row["doc_index"][:real]
        assert window.offsets.tolist() == row["doc_offset"][:real]
        assert window.supervised is None
        assert window.padding == windows.window - sum(row["seq_lengths"][:real])
    assert [w.ids.tolist() for w in windows[1:3]] == [row["input_ids"] for row in expected[1:3]]
    assert windows[-1].ids.tolist() == expected[-1]["input_ids"]
    with pytest.raises(IndexError):
        windows[len(windows)]


def test_the_weights_of_a_set_can_be_made_from_its_lengths(folder):
    """What somebody does who has windows of his own."""
    windows = exactcpt.open_shards(folder)
    counts = exactcpt.histogram((w.seq_lengths for w in windows), window=windows.window)
    assert counts.tolist() == [row["targets"] for row in windows.buckets]
    tail = next(row for row in windows.buckets if row["in_tail"])
    table = exactcpt.weight_table(counts, window=windows.window, tau=tail["low"])
    for window in windows:
        made = exactcpt.weights(table=table, seq_lengths=window.seq_lengths)
        assert made.tolist() == window.weights.tolist()


def test_views_cannot_be_written_to(folder):
    window = exactcpt.open_shards(folder)[0]
    for name in ("ids", "codes", "seq_lengths", "documents", "offsets"):
        assert not getattr(window, name).flags.writeable, name
    assert not exactcpt.open_shards(folder).code_weights.flags.writeable


def test_a_copy_in_another_process_maps_again(folder):
    windows = exactcpt.open_shards(folder)
    assert windows[0].ids.size
    copied = pickle.loads(pickle.dumps(windows))
    assert copied[0].ids.tolist() == windows[0].ids.tolist()
    assert len(pickle.dumps(windows)) < 100_000


def test_a_damaged_window_is_told_when_it_is_read(folder):
    edit_shard(folder, SHARD, lambda columns: columns["input_ids"][1].__setitem__(7, 1 << 30))
    windows = exactcpt.open_shards(folder)
    assert windows[0].ids.size
    with pytest.raises(FormatError, match="the shard cannot be read: the window has the id 10737"):
        windows[1]


def test_what_is_no_set_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no such folder"):
        exactcpt.open_shards(tmp_path / "none")
    with pytest.raises(exactcpt.ExactcptError, match="there is no manifest"):
        exactcpt.open_shards("memory://bucket/shards")


def test_what_is_no_split_is_refused(folder):
    with pytest.raises(exactcpt.ExactcptError, match="there is no split 'test'") as caught:
        exactcpt.open_shards(folder, "test")
    assert caught.value.expected == "train or validation"


def test_windows_are_views_of_one_mapping(folder):
    windows = exactcpt.open_shards(folder)
    assert np.shares_memory(windows[0].ids, windows[0].ids)
    assert np.shares_memory(windows[0].codes, windows[0].codes)


def test_windows_in_which_only_answers_are_targets(tmp_path):
    packed = corpus()
    for _, documents in packed.parts:
        documents[:] = [
            replace(d, answers=((d.length // 2, d.length),)) for d in documents if d.length > 1
        ]
    windows = exactcpt.open_shards(set_of(tmp_path / "shards", packed))
    expected = rows(tmp_path / "shards", "train")
    for window, row in zip(windows, expected, strict=True):
        assert window.supervised is not None
        assert window.supervised.tolist() == [[s["start"], s["stop"]] for s in row["supervised"]]
