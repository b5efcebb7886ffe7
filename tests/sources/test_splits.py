import gzip
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import (
    TEXTS,
    find,
    jsonl,
    read,
)

from exactcpt.pipeline.sources import splits
from exactcpt.pipeline.sources.splits import make_splits
from exactcpt.schemas.errors import UsageError


class TestSplits:
    def test_ranges_cover_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(jsonl(*TEXTS))
        size = (tmp_path / "a.jsonl").stat().st_size
        for split_bytes in (1, 7, size - 1, size, size + 1):
            splits = make_splits(find(tmp_path), split_bytes)
            ranges = [(m.start, m.stop) for s in splits for m in s.members]
            if size <= split_bytes:
                assert ranges == [(0, None)]
                continue
            assert [split.ordinal for split in splits] == list(range(len(splits)))
            assert ranges[0][0] == 0
            assert ranges[-1][1] == size
            assert all(a[1] == b[0] for a, b in pairwise(ranges))
            assert all(split.work <= split_bytes for split in splits)

    def test_small_files_share_one(self, tmp_path: Path) -> None:
        for n in range(10):
            (tmp_path / f"{n}.jsonl").write_bytes(b'{"text":"0123456789"}\n' * 2)
        splits = make_splits(find(tmp_path), 100)
        assert [[m.file.path for m in s.members] for s in splits] == [
            [f"{n}.jsonl", f"{n + 1}.jsonl"] for n in range(0, 10, 2)
        ]

    def test_there_are_no_more_than_their_names_can_say(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(splits, "MAX_SPLITS", 5)
        (tmp_path / "a.jsonl").write_bytes(b"\n" * 60)
        assert len(make_splits(find(tmp_path), 12)) == 5
        with pytest.raises(UsageError) as caught:
            make_splits(find(tmp_path), 11)
        assert str(caught.value) == (
            "the input would be divided into 6 splits\n"
            "  expected: at most 5\n"
            "  fix:      set a larger --split-bytes"
        )

    def test_a_range_shares_with_no_file(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b"\n" * 150)
        (tmp_path / "b.jsonl").write_bytes(b"\n" * 20)
        splits = make_splits(find(tmp_path), 100)
        assert [[(m.start, m.stop) for m in s.members] for s in splits] == [
            [(0, 100)],
            [(100, 150)],
            [(0, None)],
        ]

    def test_sources_share_none(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(jsonl("a"))
        [file] = find(tmp_path)
        other = replace(file, source="other")
        assert [s.source for s in make_splits([file, other], 1 << 20)] == ["books", "other"]

    def test_a_compressed_file_is_one(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(jsonl(*TEXTS)))
        (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(jsonl(*TEXTS)))
        splits = make_splits(find(tmp_path), 10)
        assert [[(m.start, m.stop) for m in s.members] for s in splits] == [[(0, None)]] * 2

    @pytest.mark.parametrize("split_bytes", [1, 100, 700, 1 << 20])
    def test_row_groups(self, tmp_path: Path, split_bytes: int) -> None:
        table = pa.table({"text": TEXTS, "other": range(60)})
        pq.write_table(table, tmp_path / "a.parquet", row_group_size=7)
        splits = make_splits(find(tmp_path), split_bytes)
        assert len(splits) == {1: 9, 1 << 20: 1}.get(split_bytes, len(splits))
        expected = [(f"a.parquet:{n}", text.encode()) for n, text in enumerate(TEXTS, 1)]
        assert read(splits) == (expected, [])

    def test_of_a_parquet_file_without_footer(self, tmp_path: Path) -> None:
        (tmp_path / "a.parquet").write_bytes(b"PAR1" + b"x" * 1000)
        [split] = make_splits(find(tmp_path), 10)
        assert [(m.start, m.stop) for m in split.members] == [(0, None)]
