"""`exactcpt.write_shards`: windows of a program, as a shard set."""

import numpy as np
import pytest
from harness import EOS, TOKENIZER

import exactcpt
from exactcpt.pipeline.verify import verify
from exactcpt.schemas.manifest import MANIFEST

WINDOW = 64


def packed(count, seed=1):
    """Windows of random tokens, and their segments; the last segment may leave room."""
    draws = np.random.default_rng(seed)
    for _ in range(count):
        lengths = draws.multinomial(WINDOW - 4, [0.2, 0.3, 0.5]) + 1
        ids = draws.integers(EOS + 1, 300, lengths.sum())
        ids[np.cumsum(lengths) - 1] = EOS
        yield ids, lengths


def test_windows_of_a_program_are_weighted_by_their_own_statistics(tmp_path):
    pairs = list(packed(9))
    weighting = {"tau": 8, "alpha": 0.5}
    flags = {"tokenizer": TOKENIZER, "window": WINDOW, **weighting}
    exactcpt.write_shards(tmp_path / "out", iter(pairs), validation=packed(2, seed=2), **flags)
    assert verify(str(tmp_path / "out")).ok
    histogram = exactcpt.histogram([lengths for _, lengths in pairs], window=WINDOW)
    table = exactcpt.weight_table(histogram, window=WINDOW, **weighting)
    windows = exactcpt.open_shards(tmp_path / "out")
    assert [row["weight"] for row in windows.buckets] == table.weights
    for window, (ids, lengths) in zip(windows, pairs, strict=True):
        assert window.ids[: len(ids)].tolist() == ids.tolist()
        assert window.seq_lengths.tolist() == lengths.tolist()
        assert window.padding == WINDOW - len(ids)
        expected = exactcpt.weights(table=table, seq_lengths=lengths, tokens=WINDOW)
        assert window.weights.tolist() == expected.tolist()
    assert len(exactcpt.open_shards(tmp_path / "out", split="validation")) == 2


def test_batches_are_divided(tmp_path, monkeypatch):
    monkeypatch.setattr("exactcpt.pipeline.weigh.memory.TOKENS_PER_BATCH", 100)
    pairs = list(packed(9))
    exactcpt.write_shards(tmp_path / "out", pairs, tokenizer=TOKENIZER, window=WINDOW)
    assert len(exactcpt.open_shards(tmp_path / "out")) == 9


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "there are no windows"),
        ([(np.arange(1.0, 9), [8])], "window 1: token ids of type float64"),
        ([(np.arange(1, 9), [8]), (np.ones((2, 4), int), [8])], "window 2: token ids of"),
        ([(np.arange(1, 9), [8]), (np.arange(1, 9), [9])], "windows.arrow:2"),
        ([(np.arange(1, 9), [8]), (np.arange(1, 8), [7])], "the rows have 7 to 8 tokens"),
        ([(np.arange(1, 9) << 40, [8])], "do not fit into int32"),
    ],
)
def test_windows_that_cannot_be_used(pairs, message, tmp_path):
    with pytest.raises(exactcpt.ExactcptError, match=message):
        exactcpt.write_shards(tmp_path / "out", pairs, tokenizer=TOKENIZER)
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_a_folder_that_is_taken(tmp_path):
    out = tmp_path / "out"
    exactcpt.write_shards(out, packed(2), tokenizer=TOKENIZER, window=WINDOW)
    before = (out / MANIFEST).stat().st_mtime_ns
    exactcpt.write_shards(out, packed(2), tokenizer=TOKENIZER, window=WINDOW)
    assert (out / MANIFEST).stat().st_mtime_ns == before
    with pytest.raises(exactcpt.ExactcptError, match="inputs have changed"):
        exactcpt.write_shards(out, packed(3), tokenizer=TOKENIZER, window=WINDOW)
    exactcpt.write_shards(out, packed(3), tokenizer=TOKENIZER, window=WINDOW, overwrite=True)
    assert len(exactcpt.open_shards(out)) == 3
