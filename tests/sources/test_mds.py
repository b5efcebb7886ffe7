"""Shards of MosaicML Streaming: their rows as columns, or an error."""

import bz2
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpora import find, listing, paths, put, zstd
from hypothesis import given
from hypothesis import strategies as st
from token_files import write_mds

from exactcpt.pipeline.sources import mds
from exactcpt.pipeline.sources.reading import BadFileError, read_member
from exactcpt.pipeline.sources.records import Fields, Rejected
from exactcpt.pipeline.sources.splits import make_splits
from exactcpt.schemas.errors import ExactcptError, FormatError

REAL = Path(__file__).parents[1] / "data" / "written_by_others" / "mds"
IDS = Fields(tokens="tokens", largest_id=1000)
DOCUMENTS = [[5, 6, 0], [7, 0], [300, 2, 9, 9, 0], [1, 0]]
Rows = Sequence[Mapping[str, Any]]


def read(pattern: object, fields: Fields = IDS) -> list[tuple[str, Any]]:
    found, rejected = read_with_rejected(pattern, fields)
    assert rejected == []
    return found


def read_with_rejected(
    pattern: object, fields: Fields = IDS
) -> tuple[list[tuple[str, Any]], list[Rejected]]:
    found: list[tuple[str, Any]] = []
    rejected: list[Rejected] = []
    for split in make_splits(find(pattern), 1):
        for member in split.members:
            for batch in read_member(member, fields):
                for i, name in enumerate(batch.ids.to_pylist()):
                    value = batch.content[i]
                    is_text = fields.tokens is None
                    found.append((name, value.tobytes().decode() if is_text else value.tolist()))
                rejected += batch.rejected
    return found, rejected


def refused(pattern: object, fields: Fields = IDS) -> ExactcptError:
    with pytest.raises(ExactcptError) as caught:
        read(pattern, fields)
    assert caught.value.where
    return caught.value


def bad(folder: Path) -> BadFileError:
    with pytest.raises(BadFileError) as caught:
        read(folder)
    assert caught.value.where == find(folder)[0].url
    return caught.value


def rows_of(documents: Sequence[Sequence[int]]) -> Rows:
    return [{"tokens": ids} for ids in documents]


class TestRows:
    @given(
        lists=st.lists(st.lists(st.lists(st.integers(0, 127), min_size=1, max_size=6), min_size=1)),
        encoding=st.sampled_from(["ndarray", "ndarray:uint8", "ndarray:int64", "ndarray:uint64"]),
        block_bytes=st.integers(1, 100),
        is_compressed=st.booleans(),
    )
    def test_are_what_was_written(
        self,
        folder: Path,
        lists: list[list[list[int]]],
        encoding: str,
        block_bytes: int,
        is_compressed: bool,
    ) -> None:
        for old in folder.iterdir():
            old.unlink()
        shards = [rows_of(documents) for documents in lists]
        compress = zstd if is_compressed else None
        write_mds(folder, shards, {"tokens": encoding}, compress=compress, hashes=["sha1"])
        if not lists:
            return
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mds, "BLOCK_BYTES", block_bytes)
            found = read(folder)
        suffix = ".zstd" if is_compressed else ""
        assert found == [
            (f"shard.{shard:05}.mds{suffix}:{row}", ids)
            for shard, documents in enumerate(lists)
            for row, ids in enumerate(documents, 1)
        ]

    @pytest.mark.parametrize(
        ("encoding", "value", "tokens"),
        [
            ("ndarray:int32:3", np.array([1, 2, 3], "i4"), "tokens"),
            ("ndarray:uint16", np.array([1, 2, 3], "u2"), "tokens"),
            ("ndarray", np.array([1, 2, 3], "i8"), "tokens"),
            ("bytes", np.array([1, 2, 3], "i8").tobytes(), "tokens:int64"),
            ("bytes", np.array([1, 2, 3], "u2").tobytes(), "tokens:uint16"),
        ],
    )
    def test_of_every_encoding_of_ids(
        self, tmp_path: Path, encoding: str, value: Any, tokens: str
    ) -> None:
        write_mds(tmp_path, [[{"tokens": value, "z": "x"}]], {"tokens": encoding, "z": "str"})
        assert read(tmp_path, Fields(tokens=tokens)) == [("shard.00000.mds:1", [1, 2, 3])]

    def test_of_different_types(self, tmp_path: Path) -> None:
        rows = [{"tokens": np.array([1], kind)} for kind in ("u1", "i8", "u8")]
        write_mds(tmp_path, [rows], {"tokens": "ndarray"})
        assert [ids for _, ids in read(tmp_path)] == [[1]] * 3

    def test_of_lengths_that_need_more_bytes(self, tmp_path: Path) -> None:
        documents = [[1] * 255, [1] * 256, [2] * 65536]
        write_mds(tmp_path, [rows_of(documents)], {"tokens": "ndarray:uint8"})
        assert [ids for _, ids in read(tmp_path)] == documents

    def test_of_text_with_ids(self, tmp_path: Path) -> None:
        rows = [{"text": "one", "id": "a"}, {"text": "zwölf", "id": "b"}]
        write_mds(tmp_path, [rows], {"text": "str", "id": "str"})
        assert read(tmp_path, Fields()) == [("a", "one"), ("b", "zwölf")]

    @pytest.mark.parametrize("kind", ["int", "int8", "uint16", "int64", "uint64"])
    def test_ids_that_are_numbers(self, tmp_path: Path, kind: str) -> None:
        rows = [{"tokens": [1], "n": 7}, {"tokens": [2], "n": 8}]
        write_mds(tmp_path, [rows], {"tokens": "ndarray:int32", "n": kind})
        fields = Fields(tokens="tokens", id="n")
        assert read(tmp_path, fields) == [("7", [1]), ("8", [2])]

    def test_with_an_id_outside_the_vocabulary_are_rejected(self, tmp_path: Path) -> None:
        columns = {"tokens": "ndarray:int64"}
        write_mds(tmp_path, [rows_of([[1], [1001], [-1], [1000]])], columns)
        found, rejected = read_with_rejected(tmp_path)
        assert [ids for _, ids in found] == [[1], [1000]]
        assert [r.at for r in rejected] == [2, 3]

    def test_text_that_is_not_utf8_is_rejected(self, tmp_path: Path) -> None:
        write_mds(tmp_path, [[{"text": b"a"}, {"text": b"\xff"}]], {"text": "bytes"})
        config = (tmp_path / "shard.00000.mds").read_bytes()
        (tmp_path / "shard.00000.mds").write_bytes(config.replace(b'"bytes"', b'"str"  '))
        index = (tmp_path / "index.json").read_text()
        (tmp_path / "index.json").write_text(index.replace('["bytes"]', '["str"]'))
        found, rejected = read_with_rejected(tmp_path, Fields())
        assert found == [("shard.00000.mds:1", "a")]
        assert rejected == [Rejected("shard.00000.mds", "row", 2, "invalid UTF-8")]

    def test_of_the_library(self) -> None:
        """A data set that mosaicml-streaming 0.13.0 has written, compressed and with hashes."""
        ids = [f"d{n}" for n in range(4)]
        assert read(REAL) == list(zip(ids, DOCUMENTS, strict=True))
        assert read(REAL, Fields(tokens="any")) == list(zip(ids, DOCUMENTS, strict=True))
        assert read(REAL, Fields(tokens="raw:int64", id="n")) == [
            (str(n), document) for n, document in enumerate(DOCUMENTS)
        ]
        assert read(REAL, Fields()) == [(name, f"téxt {name[1]}") for name in ids]

    @pytest.mark.parametrize("is_wild", [False, True])
    def test_on_another_filesystem(self, memory: str, is_wild: bool) -> None:
        for each in REAL.iterdir():
            put(f"{memory}/{each.name}", each.read_bytes())
        assert [ids for _, ids in read(f"{memory}/*.mds*" if is_wild else memory)] == DOCUMENTS

    @pytest.mark.parametrize(
        ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".zst", zstd)]
    )
    def test_compressed(
        self, tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
    ) -> None:
        columns = {"tokens": "ndarray:int32"}
        shards = [rows_of(DOCUMENTS)]
        write_mds(tmp_path, shards, columns, compress=compress, suffix=suffix, hashes=["xxh3_64"])
        assert [ids for _, ids in read(tmp_path)] == DOCUMENTS

    def test_of_a_shard_that_was_kept_beside_its_compressed_form(self, tmp_path: Path) -> None:
        columns = {"tokens": "ndarray:int32"}
        write_mds(tmp_path, [rows_of(DOCUMENTS)], columns)
        write_mds(tmp_path, [rows_of(DOCUMENTS)], columns, compress=zstd)
        found = listing(tmp_path)
        assert paths(found.files) == ["shard.00000.mds"]
        assert "the same but for the compression" in found.warnings[0]


class TestColumnsThatCannotBeRead:
    @pytest.mark.parametrize(
        ("columns", "fields", "found"),
        [
            ({"a": "ndarray:int32", "b": "str"}, IDS, "no column 'tokens'"),
            ({"tokens": "ndarray:float32"}, IDS, "column 'tokens' holds ndarray:float32"),
            ({"tokens": "ndarray:int32:1,1"}, IDS, "column 'tokens' holds ndarray:int32:1,1"),
            ({"tokens": "str"}, IDS, "column 'tokens' holds str"),
            ({"tokens": "int"}, IDS, "column 'tokens' holds int"),
            ({"text": "bytes"}, Fields(), "column 'text' holds bytes"),
            (
                {"tokens": "bytes"},
                IDS,
                "column 'tokens' holds bytes, which do not say how long a number is",
            ),
            ({"tokens": "bytes"}, Fields(tokens="tokens:float32"), "no column 'tokens:float32'"),
            (
                {"tokens": "ndarray:int32"},
                Fields(tokens="tokens:int64"),
                "column 'tokens' holds ndarray:int32",
            ),
            ({"tokens": "ndarray:int32", "id": "bytes"}, IDS, "column 'id' holds bytes"),
        ],
    )
    def test_are_named(
        self, tmp_path: Path, columns: dict[str, str], fields: Fields, found: str
    ) -> None:
        values = {"str": "a", "bytes": b"12345678", "int": 1, "ndarray:int32:1,1": [[1]]}
        write_mds(tmp_path, [[{n: values.get(kind, [1]) for n, kind in columns.items()}]], columns)
        error = refused(tmp_path, fields)
        assert error.found == f"source 'books': {found}"
        assert error.expected
        assert error.fix

    def test_bytes_of_unknown_numbers(self, tmp_path: Path) -> None:
        write_mds(tmp_path, [[{"tokens": b"12345678"}]], {"tokens": "bytes"})
        assert refused(tmp_path).fix == (
            "name it: ,tokens=tokens:int64 is what LLM Foundry writes by default; others are "
            "uint8, int8, uint16, int16, uint32, int32, uint64, int64"
        )

    @pytest.mark.parametrize(
        ("encoding", "value", "found"),
        [
            ("ndarray", np.array([1.5], "f4"), "its array holds float32, not ids"),
            ("ndarray", np.array([[1, 2]], "i4"), "its array has 2 axes, not one"),
            ("ndarray:int32", np.array([[1, 2]], "i4"), "its array has 2 axes, not one"),
        ],
    )
    def test_arrays_that_are_no_lists_of_ids(
        self, tmp_path: Path, encoding: str, value: Any, found: str
    ) -> None:
        rows = [{"tokens": np.array([1], "i4")}, {"tokens": value}]
        write_mds(tmp_path, [rows], {"tokens": encoding})
        assert bad(tmp_path).found == f"row 2 is damaged: {found}"

    @pytest.mark.parametrize(
        ("value", "found"),
        [
            (b"", "its array holds numbers of an unknown type, not ids"),
            (b"\x21", "its array ends before its shape"),
            (b"\x21\x05", "its array has 1 axes, not one"),
            (b"\x21\x04\x02\0\0\0\0", "its array has 1 numbers, and says 2"),
            (b"\x21\x04\x02\0\0\0", "3 bytes are no whole count of int32"),
            (b"\x63\x04\x01\0", "its array holds numbers of an unknown type, not ids"),
        ],
    )
    def test_damaged_arrays(self, tmp_path: Path, value: bytes, found: str) -> None:
        write_mds(tmp_path, [[{"tokens": value}]], {"tokens": "bytes"})
        shard, index = tmp_path / "shard.00000.mds", tmp_path / "index.json"
        # As long as "ndarray" in the shard, whose index says the rest.
        shard.write_bytes(shard.read_bytes().replace(b'"bytes"', b'"ndarray"'))
        told = json.loads(index.read_text())
        told["shards"][0]["column_encodings"] = ["ndarray"]
        told["shards"][0]["raw_data"]["bytes"] += 2
        data = bytearray(shard.read_bytes())
        starts = np.frombuffer(bytes(data[4:12]), "<u4") + np.uint32(2)
        data[4:12] = starts.tobytes()
        shard.write_bytes(bytes(data))
        index.write_text(json.dumps(told))
        assert bad(tmp_path).found == f"row 1 is damaged: {found}"


def with_index(folder: Path, change: Callable[[dict[str, Any]], object], **options: Any) -> None:
    columns = {"tokens": "ndarray:int32"}
    write_mds(folder, [rows_of(DOCUMENTS), rows_of(DOCUMENTS)], columns, change=change, **options)


class TestIndex:
    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (lambda i: i.update(version=3), "it is of version 3"),
            (lambda i: i.pop("version"), "it lacks 'version'"),
            (lambda i: i.pop("shards"), "it lacks 'shards'"),
            (lambda i: i["shards"][0].pop("raw_data"), "it lacks 'raw_data'"),
            (lambda i: i["shards"][0].update(format="json"), "a shard is json, version 2"),
            (lambda i: i["shards"][0].update(samples=-1), "-1 is no count"),
            (lambda i: i["shards"][0].update(samples=True), "True is no count"),
            (
                lambda i: i["shards"][0].update(column_names=["a", "b"]),
                "a shard has not as many names of columns as encodings and sizes",
            ),
            (
                lambda i: i["shards"][0].update(column_names=[1]),
                "the name or the encoding of a column is no text",
            ),
            (
                lambda i: i["shards"][1]["raw_data"].update(basename="../shard.00000.mds"),
                "it names a file outside its folder, '../shard.00000.mds'",
            ),
            (
                lambda i: i["shards"][1]["raw_data"].update(basename="/etc/passwd"),
                "it names a file outside its folder, '/etc/passwd'",
            ),
            (
                lambda i: i["shards"][1]["raw_data"].update(hashes={"nonsense": "x"}),
                "it has a hash of an unknown kind, 'nonsense'",
            ),
        ],
    )
    def test_that_cannot_be_used(
        self, tmp_path: Path, change: Callable[[dict[str, Any]], object], found: str
    ) -> None:
        with_index(tmp_path, change)
        for pattern in (tmp_path, tmp_path / "*.mds"):
            error = refused(pattern)
            assert isinstance(error, FormatError)
            assert error.found == f"the index of an MDS data set cannot be used: {found}"
            assert error.where == str(tmp_path / "index.json")

    @pytest.mark.parametrize("data", [b"", b"[]", b'{"version":2,"version":2}', b'{"version":NaN}'])
    def test_that_is_no_json(self, tmp_path: Path, data: bytes) -> None:
        with_index(tmp_path, lambda index: None)
        (tmp_path / "index.json").write_bytes(data)
        assert isinstance(refused(tmp_path), FormatError)

    def test_that_is_missing(self, tmp_path: Path) -> None:
        with_index(tmp_path, lambda index: None)
        (tmp_path / "index.json").unlink()
        error = refused(tmp_path)
        assert error.found == "source 'books': a file has no index beside it"
        assert error.expected == "index.json, which MosaicML Streaming writes with it"

    def test_that_lists_a_missing_shard(self, tmp_path: Path) -> None:
        with_index(tmp_path, lambda index: None)
        (tmp_path / "shard.00001.mds").unlink()
        assert refused(tmp_path).found == (
            "source 'books': index.json lists a shard that is not there, or is compressed in a way "
            "that cannot be read: shard.00001.mds"
        )
        assert len(read(tmp_path / "*.mds")) == len(DOCUMENTS)

    def test_that_does_not_list_a_shard(self, tmp_path: Path) -> None:
        with_index(tmp_path, lambda index: index["shards"].pop(0))
        assert bad(tmp_path).found == "index.json does not list this shard"

    def test_of_several_folders(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            with_index(tmp_path / name, lambda index: None)
        assert len(read(tmp_path)) == 4 * len(DOCUMENTS)
        (tmp_path / "b" / "shard.00000.mds").unlink()
        assert refused(tmp_path).where == str(tmp_path / "b" / "index.json")


class TestDamagedShards:
    @pytest.mark.parametrize("size", [0, 3, 30, 200, -1])
    def test_truncated(self, tmp_path: Path, size: int) -> None:
        with_index(tmp_path, lambda index: None)
        shard = tmp_path / "shard.00000.mds"
        shard.write_bytes(shard.read_bytes()[:size])
        error = bad(tmp_path)
        assert error.found == f"the shard has {shard.stat().st_size} bytes"
        [first, _] = json.loads((tmp_path / "index.json").read_text())["shards"]
        assert error.expected == f"{first['raw_data']['bytes']}, as index.json says"

    @pytest.mark.parametrize(
        ("change", "found"),
        [
            (lambda s: s.update(samples=3), "the shard has 4 rows"),
            (
                lambda s: s.update(column_encodings=["ndarray:int16"]),
                "the shard has other columns than its index says, or does not tell them",
            ),
            (
                lambda s: s["raw_data"].update(hashes={"sha1": "0" * 40}),
                "the shard has another sha1 than the index says",
            ),
        ],
    )
    def test_that_differ_from_the_index(
        self, tmp_path: Path, change: Callable[[dict[str, Any]], object], found: str
    ) -> None:
        with_index(tmp_path, lambda index: change(index["shards"][0]))
        assert bad(tmp_path).found.startswith(found)

    @pytest.mark.parametrize("kind", ["md5", "sha256", "xxh64", "xxh3_128"])
    @pytest.mark.parametrize("compress", [None, zstd])
    def test_hashes_are_compared(
        self, tmp_path: Path, kind: str, compress: Callable[[bytes], bytes] | None
    ) -> None:
        with_index(tmp_path, lambda index: None, hashes=[kind])
        shard = tmp_path / "shard.00000.mds"
        raw = shard.read_bytes()
        assert len(read(tmp_path)) == 2 * len(DOCUMENTS)
        at = raw.index(np.array(DOCUMENTS[0], "<i4").tobytes())
        other = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        if compress is None:
            shard.write_bytes(other)
        else:
            zipped = compress(other)
            told = {"basename": f"{shard.name}.zstd", "bytes": len(zipped), "hashes": {}}
            shard.unlink()
            shard.with_name(f"{shard.name}.zstd").write_bytes(zipped)
            index = json.loads((tmp_path / "index.json").read_text())
            index["shards"][0]["zip_data"] = told
            (tmp_path / "index.json").write_text(json.dumps(index))
        assert bad(tmp_path).found.startswith(f"the shard has another {kind} than the index says: ")

    @pytest.mark.parametrize(
        ("at", "data"),
        [(4, b"\0\0\0\0"), (8, b"\xff\xff\xff\xff"), (20, b"\xff\xff\0\0")],
    )
    def test_places_of_rows(self, tmp_path: Path, at: int, data: bytes) -> None:
        with_index(tmp_path, lambda index: None)
        shard = tmp_path / "shard.00000.mds"
        whole = bytearray(shard.read_bytes())
        whole[at : at + len(data)] = data
        shard.write_bytes(bytes(whole))
        assert bad(tmp_path).found == "the places of the rows in the shard are damaged"

    def test_sizes_of_values(self, tmp_path: Path) -> None:
        with_index(tmp_path, lambda index: None)
        shard = tmp_path / "shard.00000.mds"
        whole = bytearray(shard.read_bytes())
        first = int(np.frombuffer(bytes(whole[4:8]), "<u4")[0])
        whole[first : first + 4] = b"\xff\xff\xff\xff"
        shard.write_bytes(bytes(whole))
        assert bad(tmp_path).found == (
            "row 1 is damaged: its values have 4,294,967,299 bytes, and it has 18"
        )

    def test_compressed_with_another_size(self, tmp_path: Path) -> None:
        with_index(tmp_path, lambda index: None, compress=zstd)
        shard = tmp_path / "shard.00000.mds.zstd"
        with shard.open("ab") as file:
            file.write(b"\0")
        assert bad(tmp_path).found == f"the shard has {shard.stat().st_size} bytes"

    def test_compressed_to_more_than_it_says(self, tmp_path: Path) -> None:
        with_index(tmp_path, lambda index: None)
        raw = (tmp_path / "shard.00000.mds").read_bytes()
        zipped = zstd(raw + b"more")
        told = {"basename": "shard.00000.mds.zstd", "bytes": len(zipped), "hashes": {}}
        with_index(tmp_path, lambda index: index["shards"][0].update(zip_data=told))
        (tmp_path / "shard.00000.mds").unlink()
        (tmp_path / "shard.00000.mds.zstd").write_bytes(zipped)
        assert bad(tmp_path).found == "there are bytes after the last row"
