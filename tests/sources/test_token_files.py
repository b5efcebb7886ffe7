"""Megatron-LM's, datatrove's and NumPy's files: the documents that were written, or an error."""

import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from corpora import find, listing, paths, put
from hypothesis import given
from hypothesis import strategies as st
from token_files import packed, write_datatrove, write_mds, write_megatron

from exactcpt.pipeline.core.choices import Format
from exactcpt.pipeline.sources import npy, rows
from exactcpt.pipeline.sources.listing import is_unchanged
from exactcpt.pipeline.sources.reading import BadFileError, read_member
from exactcpt.pipeline.sources.records import Fields, Rejected
from exactcpt.pipeline.sources.splits import Member, make_splits
from exactcpt.schemas.errors import ExactcptError

REAL = Path(__file__).parents[1] / "data" / "written_by_others"
END = 0
IDS = Fields(tokens="tokens", largest_id=1000, end_id=END)
Kind = Literal["megatron", "datatrove", "npy"]
Found = list[tuple[str, list[int]]]


def read(
    pattern: object, split_bytes: int = 1 << 30, fields: Fields = IDS, of: Format | None = None
) -> tuple[Found, list[Rejected]]:
    found: Found = []
    rejected: list[Rejected] = []
    for split in make_splits(find(pattern, of), split_bytes):
        for member in split.members:
            for batch in read_member(member, fields):
                ids = batch.ids.to_pylist()
                found += [(ids[i], batch.content[i].tolist()) for i in range(len(ids))]
                rejected += batch.rejected
                assert batch.content.data.dtype == np.int32
                assert batch.without_id == len(ids)
    return found, rejected


def documents(pattern: object, fields: Fields = IDS, of: Format | None = None) -> list[list[int]]:
    found, rejected = read(pattern, fields=fields, of=of)
    assert rejected == []
    return [ids for _, ids in found]


def refused(pattern: object, fields: Fields = IDS) -> ExactcptError:
    with pytest.raises(ExactcptError) as caught:
        read(pattern, fields=fields)
    assert caught.value.where
    assert caught.value.fix
    return caught.value


def bad(pattern: Path) -> BadFileError:
    """The error about a file that on_bad_file=skip leaves out: it names the file with the tokens,
    and dividing the file into ranges changes nothing."""
    with pytest.raises(BadFileError) as caught:
        read(pattern)
    assert caught.value.where == find(pattern)[0].url
    with pytest.raises(BadFileError) as divided:
        read(pattern, 1)
    assert str(divided.value) == str(caught.value)
    return caught.value


def write(folder: Path, kind: Kind, lists: list[list[int]], numbers: str = "u2") -> Path:
    match kind:
        case "megatron":
            write_megatron(folder / "a", [[ids] for ids in lists], numbers)
            return folder / "a.bin"
        case "datatrove":
            write_datatrove(folder / "a.ds", lists, numbers)
            return folder / "a.ds"
        case "npy":
            np.save(folder / "a.npy", np.array([i for ids in lists for i in ids], numbers))
            return folder / "a.npy"


lists_of_ids = st.lists(st.lists(st.integers(1, 127), max_size=6).map(lambda ids: [*ids, END]))


class TestDocuments:
    @given(
        lists=lists_of_ids,
        kind=st.sampled_from(["megatron", "datatrove", "npy"]),
        wide=st.booleans(),
        split_bytes=st.integers(1, 200),
        block_bytes=st.integers(4, 60),
        rows_at_once=st.integers(1, 9),
    )
    def test_are_what_was_written_wherever_the_file_is_divided(
        self,
        folder: Path,
        lists: list[list[int]],
        kind: Kind,
        wide: bool,
        split_bytes: int,
        block_bytes: int,
        rows_at_once: int,
    ) -> None:
        numbers = {"megatron": "i4", "datatrove": "u4", "npy": "i8"}[kind] if wide else "u2"
        path = write(folder, kind, lists, numbers)
        with pytest.MonkeyPatch.context() as patch:
            for module in (rows, npy):
                patch.setattr(module, "BLOCK_BYTES", block_bytes)
            for module in ("megatron", "datatrove"):
                name = f"exactcpt.pipeline.sources.{module}.ROWS_AT_ONCE"
                patch.setattr(name, rows_at_once)
            found, rejected = read(path, split_bytes)
        assert rejected == []
        assert found == [(f"{path.name}:{n}", ids) for n, ids in enumerate(lists, 1)]

    @given(
        sequences=st.lists(st.lists(st.lists(st.integers(0, 127), max_size=3), max_size=3)),
        split_bytes=st.integers(1, 30),
    )
    def test_of_megatron_have_several_sequences(
        self, folder: Path, sequences: list[list[list[int]]], split_bytes: int
    ) -> None:
        write_megatron(folder / "several", sequences)
        found, _ = read(folder / "several.bin", split_bytes)
        assert [ids for _, ids in found] == [
            [i for sequence in document for i in sequence] for document in sequences
        ]

    @pytest.mark.parametrize("numbers", ["u1", "i1", "u2", "i2", "i4", "u4", "i8", "u8"])
    @pytest.mark.parametrize("split_bytes", [1, 1 << 30])
    def test_are_rows_of_an_array(self, tmp_path: Path, numbers: str, split_bytes: int) -> None:
        array = np.arange(12, dtype=numbers).reshape(4, 3)
        np.save(tmp_path / "a.npy", array)
        found, _ = read(tmp_path / "a.npy", split_bytes)
        assert found == [(f"a.npy:{n}", row) for n, row in enumerate(array.tolist(), 1)]

    def test_are_cut_after_each_end_token(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.array([END, 1, 2, END, END, 3], "u2"))
        assert documents(tmp_path / "a.npy") == [[END], [1, 2, END], [END], [3]]

    @pytest.mark.parametrize(
        "kind", ["u1", "i1", "u2", "i2", "i4", "i8"], ids=lambda kind: f"megatron-{kind}"
    )
    def test_of_every_type_of_megatron(self, tmp_path: Path, kind: str) -> None:
        write_megatron(tmp_path / "a", [[[1, 127]], [[2]]], kind)
        assert documents(tmp_path / "a.bin") == [[1, 127], [2]]

    @pytest.mark.parametrize("numbers", ["u2", "u4"])
    @pytest.mark.parametrize("metadata", [None, "a/tokenizer|{}\n5\n5 T", "an older one\n5\n5 T"])
    def test_of_datatrove_with_metadata(
        self, tmp_path: Path, numbers: str, metadata: str | None
    ) -> None:
        told = metadata and metadata.format(numbers[1])
        write_datatrove(tmp_path / "a.ds", [[1, 2], [3]], numbers, metadata=told)
        assert documents(tmp_path / "a.ds") == [[1, 2], [3]]

    @pytest.mark.parametrize("kind", ["megatron", "datatrove", "npy"])
    def test_that_are_none(self, tmp_path: Path, kind: Kind) -> None:
        path = write(tmp_path, kind, [])
        assert read(path) == read(path, 1) == ([], [])

    @pytest.mark.parametrize("kind", ["megatron", "datatrove"])
    def test_of_no_tokens_are_documents_too(self, tmp_path: Path, kind: Kind) -> None:
        assert documents(write(tmp_path, kind, [[], [1], [], []])) == [[], [1], [], []]
        assert documents(write(tmp_path, kind, [[], []])) == [[], []]

    @pytest.mark.parametrize("kind", ["megatron", "datatrove", "npy"])
    @pytest.mark.parametrize("split_bytes", [1, 1 << 30])
    def test_with_an_id_outside_the_vocabulary_are_rejected(
        self, tmp_path: Path, kind: Kind, split_bytes: int
    ) -> None:
        path = write(tmp_path, kind, [[1, END], [1001, END], [1000, END]])
        reason = "field 'tokens' has an id outside 0..1000"
        assert read(path, split_bytes) == (
            [(f"{path.name}:1", [1, END]), (f"{path.name}:3", [1000, END])],
            [Rejected(path.name, "row", 2, reason)],
        )

    def test_with_a_negative_or_a_very_large_id_are_rejected(self, tmp_path: Path) -> None:
        np.save(tmp_path / "a.npy", np.array([[-1, 2], [3, 4]], "i8"))
        np.save(tmp_path / "b.npy", np.array([[(1 << 64) - 1, 2], [1 << 40, 4], [5, 6]], "u8"))
        found, rejected = read(tmp_path)
        assert [ids for _, ids in found] == [[3, 4], [5, 6]]
        assert [(r.file, r.at) for r in rejected] == [("a.npy", 1), ("b.npy", 1), ("b.npy", 2)]

    @pytest.mark.parametrize("kind", ["megatron", "datatrove"])
    def test_that_are_too_long(self, tmp_path: Path, kind: Kind) -> None:
        path = write(tmp_path, kind, [[1], [1] * 6])
        fields = Fields(tokens="tokens", max_bytes=24)
        assert len(documents(path, fields)) == 2
        error = refused(path, Fields(tokens="tokens", max_bytes=23))
        assert error.found == "a record has more than 23 bytes"
        assert error.where == f"{path}, row 2"

    def test_a_stream_without_the_end_token(self, tmp_path: Path) -> None:
        path = write(tmp_path, "npy", [[1, END], [1] * 6])
        assert documents(path, Fields(tokens="tokens", end_id=END, max_bytes=24))[1] == [1] * 6
        error = refused(path, Fields(tokens="tokens", end_id=END, max_bytes=23))
        assert str(error) == (
            "document 2 of a stream has more than 5 tokens\n"
            f"  where:    {path}\n"
            "  expected: token 0 after each document; a document may have --max-record-bytes, at "
            "four per token\n"
            "  fix:      see whether the ids are of this tokenizer, name the token that ends "
            "documents with --eos-token, or set a larger --max-record-bytes"
        )

    def test_of_other_programs(self) -> None:
        """Files that Megatron Core 0.16.1 and datatrove 0.10.1 have written."""
        expected = [[5, 6, 0], [7, 0], [300, 2, 9, 9, 0], [1, 0]]
        assert documents(REAL, of="megatron") == expected
        assert documents(REAL, of="datatrove") == expected

    @pytest.mark.parametrize("kind", ["megatron", "datatrove", "npy"])
    @pytest.mark.parametrize("split_bytes", [1, 1 << 30])
    def test_on_another_filesystem(
        self, tmp_path: Path, memory: str, kind: Kind, split_bytes: int
    ) -> None:
        path = write(tmp_path, kind, [[1, 2, END], [3, END]])
        for each in tmp_path.iterdir():
            put(f"{memory}/{each.name}", each.read_bytes())
        found, _ = read(memory, split_bytes)
        assert found == [(f"{path.name}:1", [1, 2, END]), (f"{path.name}:2", [3, END])]


class TestWhatBelongsToAFile:
    def write_all(self, folder: Path) -> None:
        for name in ("b", "a"):
            write_megatron(folder / name, [[[1]]])
        write_datatrove(folder / "c.ds", [[1]], metadata="x|2")
        write_mds(folder / "sub", [[{"tokens": [1]}], [{"tokens": [2]}]], {"tokens": "ndarray"})

    @pytest.mark.parametrize(
        ("of", "expected"),
        [
            ("megatron", {"a.bin": ["a.idx"], "b.bin": ["b.idx"]}),
            ("datatrove", {"c.ds": ["c.ds.index", "c.ds.metadata"]}),
            ("mds", {f"sub/shard.0000{n}.mds": ["sub/index.json"] for n in range(2)}),
        ],
    )
    def test_is_no_file_of_its_own(
        self, tmp_path: Path, of: Format, expected: dict[str, list[str]]
    ) -> None:
        self.write_all(tmp_path)
        found = listing(tmp_path, of)
        assert {file.path: paths([*file.beside]) for file in found.files} == expected
        others = {"megatron": 3, "datatrove": 4, "mds": 3}[of]
        [warning] = found.warnings
        assert warning.startswith(f"source 'books' is read as {of}; {others} files are left out: ")

    @pytest.mark.parametrize("pattern", ["", "*", "*.bin", "*.idx", "a.bin", "a.idx"])
    def test_is_found_whichever_of_the_two_is_named(self, tmp_path: Path, pattern: str) -> None:
        write_megatron(tmp_path / "a", [[[1]]])
        [file] = find(tmp_path / pattern)
        assert (file.path, file.format, file.bytes) == ("a.bin", "megatron", 2)
        [index] = file.beside
        assert (index.path, index.url) == ("a.idx", str(tmp_path / "a.idx"))
        assert index.bytes == (tmp_path / "a.idx").stat().st_size

    @pytest.mark.parametrize("pattern", ["", "a.ds", "*.ds", "*.index", "a.ds.index"])
    def test_of_datatrove(self, tmp_path: Path, pattern: str) -> None:
        write_datatrove(tmp_path / "a.ds", [[1]])
        found = listing(tmp_path / pattern)
        assert paths(found.files) == ["a.ds"]
        assert found.warnings == ()

    @pytest.mark.parametrize("kind", ["megatron", "datatrove"])
    def test_that_is_missing(self, tmp_path: Path, kind: Kind) -> None:
        path = write(tmp_path, kind, [[1]])
        [index] = find(path)[0].beside
        Path(index.url).unlink()
        error = refused(path)
        assert error.found == "source 'books': a file has no index beside it"
        assert error.where == str(path)
        assert (error.expected or "").startswith(f"{index.path}, which ")

    @pytest.mark.parametrize("kind", ["megatron", "datatrove"])
    def test_without_the_tokens(self, tmp_path: Path, kind: Kind) -> None:
        path = write(tmp_path, kind, [[1]])
        path.unlink()
        for pattern in (tmp_path, tmp_path / "*", *tmp_path.iterdir()):
            error = refused(pattern)
            assert error.found == "source 'books': a file has no tokens beside it"
            assert error.expected == f"{path.name} in the same folder"

    def test_one_of_several_without_an_index(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            write_megatron(tmp_path / name, [[[1]]])
        (tmp_path / "b.idx").unlink()
        assert "no index" in refused(tmp_path).found

    def test_other_files_named_bin_are_no_corpus(self, tmp_path: Path) -> None:
        (tmp_path / "model.bin").write_bytes(b"weights")
        (tmp_path / "a.jsonl").write_bytes(b'{"text":"a"}')
        found = listing(tmp_path)
        assert paths(found.files) == ["a.jsonl"]
        assert found.warnings == ("source 'books' is read as jsonl; 1 file is left out: model.bin",)

    def test_a_loss_mask_is_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path, "datatrove", [[1]])
        (tmp_path / "a.ds.loss").write_bytes(b"\1")
        for pattern in (tmp_path, path, tmp_path / "*.ds", tmp_path / "a.ds.loss"):
            error = refused(pattern)
            assert error.found == (
                "source 'books': a loss mask says which tokens are no targets, and would be ignored"
            )
            assert error.where == str(tmp_path / "a.ds.loss")

    @pytest.mark.parametrize("kind", ["megatron", "datatrove"])
    def test_is_noticed_when_it_changes(self, tmp_path: Path, kind: Kind) -> None:
        path = write(tmp_path, kind, [[1]])
        [file] = find(path)
        assert is_unchanged(file)
        os.utime(file.beside[0].url, (1, 1))
        assert not is_unchanged(file)
        with pytest.raises(ExactcptError, match="an input file changed while it was read"):
            list(read_member(Member(file=file), IDS))


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def patch(path: Path, at: int, data: bytes) -> None:
    whole = bytearray(path.read_bytes())
    whole[at : at + len(data)] = data
    path.write_bytes(bytes(whole))


def words(error: BadFileError) -> tuple[str, str | None]:
    return error.found, error.expected


class TestDamagedMegatron:
    """a.idx: 34 bytes of header, lengths at 34, pointers at 46, documents at 70, 102 in all."""

    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        write_megatron(tmp_path / "a", [[[1, 2], [3]], [], [[4, 5, 6]]])
        assert (tmp_path / "a.idx").stat().st_size == 102
        return tmp_path / "a.bin"

    @pytest.mark.parametrize(
        ("at", "data", "found"),
        [
            (0, b"MMIDIDY", "begins with b'MMIDIDY\\x00\\x00'"),
            (9, b"\2", "is of version 2"),
            (17, b"\7", "says that the .bin file holds float32"),
            (17, b"\6", "says that the .bin file holds float64"),
            (17, b"\x09", "says that the .bin file holds numbers of an unknown type, 9"),
            (17, b"\4", "does not fit the .bin file, which has 12 bytes: sequence 0 does not"),
            (18, b"\2", "has 102 bytes"),
            (18, b"\xff" * 8, "has 102 bytes"),
            (26, b"\0", "has no list of documents"),
            (34, struct.pack("<i", -2), "says that sequence 0 has -2 ids"),
            (
                34,
                struct.pack("<i", 3),
                "does not fit the .bin file, which has 12 bytes: sequence 0",
            ),
            (
                42,
                struct.pack("<i", 2),
                "does not fit the .bin file, which has 12 bytes: sequence 2",
            ),
            (46, struct.pack("<q", -4), "does not fit the .bin file, which has 12 bytes: sequence"),
            (54, struct.pack("<q", 1 << 60), "does not fit the .bin file"),
            (70, struct.pack("<q", 1), "has documents of the sequences 1 to 3"),
            (94, struct.pack("<q", 2), "has documents of the sequences 0 to 2"),
            (94, struct.pack("<q", 4), "has documents that end before they begin"),
            (86, struct.pack("<q", -1), "has documents that end before they begin"),
            (78, struct.pack("<q", 3), "has documents that end before they begin"),
        ],
    )
    def test_index(self, path: Path, at: int, data: bytes, found: str) -> None:
        patch(path.with_suffix(".idx"), at, data)
        with pytest.raises(BadFileError) as caught:
            read(path)
        assert caught.value.found.startswith(f"a.idx {found}")
        assert caught.value.where == str(path)
        with pytest.raises(BadFileError):
            read(path, 1)

    @pytest.mark.parametrize("size", [0, 8, 9, 33, 34, 60, 101])
    def test_truncated_index(self, path: Path, size: int) -> None:
        cut(path.with_suffix(".idx"), size)
        assert bad(path).found.startswith("a.idx ")

    def test_more_in_the_index(self, path: Path) -> None:
        with path.with_suffix(".idx").open("ab") as file:
            file.write(b"\0")
        assert words(bad(path)) == (
            "a.idx has 103 bytes",
            "102 bytes for 3 sequences and 3 documents",
        )

    @pytest.mark.parametrize("size", [0, 5, 11])
    def test_truncated_tokens(self, path: Path, size: int) -> None:
        cut(path, size)
        with pytest.raises(BadFileError, match="does not fit the"):
            read(path)
        with pytest.raises(BadFileError, match="does not fit the"):
            read(path, 1)

    def test_more_tokens(self, path: Path) -> None:
        with path.open("ab") as file:
            file.write(b"\0\0")
        assert words(bad(path)) == (
            "a.idx does not fit the .bin file, which has 14 bytes: sequence 2 does not end where "
            "the next one begins, or the file ends",
            "sequences that follow each other and fill the .bin file",
        )

    def test_tokens_without_sequences(self, tmp_path: Path) -> None:
        write_megatron(tmp_path / "a", [])
        (tmp_path / "a.bin").write_bytes(b"\0\0")
        assert "does not fit the .bin file" in bad(tmp_path / "a.bin").found

    def test_multimodal(self, tmp_path: Path) -> None:
        write_megatron(tmp_path / "a", [[[1, 2]], [[3]]], modes=True)
        assert words(bad(tmp_path / "a.bin")) == (
            "a.idx is of a multimodal data set: its sequences have modes",
            "sequences of token ids alone",
        )


class TestDamagedDatatrove:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        write_datatrove(tmp_path / "a.ds", [[1, 2], [3], [4, 5, 6]])
        return tmp_path / "a.ds"

    @pytest.mark.parametrize(
        ("damage", "found"),
        [
            (lambda ds, index: cut(index, 23), "a.ds.index has 23 bytes"),
            (
                lambda ds, index: cut(index, 16),
                "a.ds.index says that there are 3 tokens, and the .ds file has 12 bytes",
            ),
            (
                lambda ds, index: cut(index, 0),
                "a.ds.index says that there are 0 tokens, and the .ds file has 12 bytes",
            ),
            (
                lambda ds, index: cut(ds, 11),
                "a.ds.index says that there are 6 tokens, and the .ds file has 11 bytes",
            ),
            (
                lambda ds, index: cut(ds, 0),
                "a.ds.index says that there are 6 tokens, and the .ds file has 0 bytes",
            ),
            (
                lambda ds, index: patch(index, 8, struct.pack("<Q", 1)),
                "a.ds.index has documents that end before they begin, or after the end of the "
                "tokens",
            ),
            (
                lambda ds, index: patch(index, 0, b"\xff" * 8),
                "a.ds.index has documents that end before they begin, or after the end of the "
                "tokens",
            ),
        ],
    )
    def test_files(self, path: Path, damage: Callable[[Path, Path], None], found: str) -> None:
        if found.endswith("12 bytes") and "3 tokens" in found:
            write_datatrove(path, [[1, 2], [3], [4, 5]])  # or else 4 bytes for each of 3 tokens
            found = found.replace("12", "10")
        damage(path, path.with_name("a.ds.index"))
        assert bad(path).found == found

    def test_metadata_of_another_file(self, path: Path) -> None:
        path.with_name("a.ds.metadata").write_text("x|4\n6\n6.0 T")
        assert bad(path).found == (
            "a token has 2 bytes by the sizes of the file and its index, and 4 by the metadata "
            "beside them"
        )

    def test_half_a_file_of_four_bytes_is_told_by_its_metadata(self, tmp_path: Path) -> None:
        write_datatrove(tmp_path / "a.ds", [[1, 2], [3]], "u4", metadata="x|4\n3\n3.0 T")
        cut(tmp_path / "a.ds", 6)
        assert "a token has 2 bytes" in bad(tmp_path / "a.ds").found


class TestDamagedArrays:
    def save(self, folder: Path, array: Any, **options: Any) -> Path:
        np.save(folder / "a.npy", array, **options)
        return folder / "a.npy"

    @pytest.mark.parametrize("size", [0, 5, 8, 40, 130, 139])
    def test_truncated(self, tmp_path: Path, size: int) -> None:
        path = self.save(tmp_path, np.array([[1, 2, 3], [4, 5, 6]], "u2"))
        assert path.stat().st_size == 140
        cut(path, size)
        bad(path)

    def test_longer_than_it_says(self, tmp_path: Path) -> None:
        path = self.save(tmp_path, np.array([[1, 2, 3]], "u2"))
        with path.open("ab") as file:
            file.write(b"\0")
        assert words(bad(path)) == (
            "the file has 135 bytes",
            "134 bytes, for an array of shape (1, 3) and uint16",
        )

    @pytest.mark.parametrize(
        ("array", "found"),
        [
            (np.zeros((2, 2), "f4"), "the array holds float32"),
            (np.zeros((2, 2), "c8"), "the array holds complex64"),
            (np.zeros((2, 2), "?"), "the array holds bool"),
            (np.array([["a"]]), "the array holds <U1"),
            (np.zeros(2, [("a", "i4")]), "the array holds [('a', '<i4')]"),
            (np.zeros((2, 2), ">i4"), "the array is big-endian (>i4)"),
            (
                np.zeros((2, 3), "i4", order="F"),
                "the array is in Fortran order: column after column",
            ),
            (np.zeros((2, 2, 2), "i4"), "the array's shape is (2, 2, 2)"),
            (np.zeros((2, 0), "i4"), "the array's shape is (2, 0)"),
            (np.int32(5), "the array's shape is ()"),
        ],
        ids=str,
    )
    def test_of_something_else(self, tmp_path: Path, array: Any, found: str) -> None:
        error = bad(self.save(tmp_path, array))
        assert error.found == found
        assert error.expected

    def test_a_pickle_is_never_loaded(self, tmp_path: Path) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path(tmp_path / "boom").touch, ())

        path = self.save(tmp_path, np.array([Bomb()], object), allow_pickle=True)
        assert bad(path).found == (
            "the array holds Python objects, as a pickle: loading it could run any program"
        )
        assert not (tmp_path / "boom").exists()

    @pytest.mark.parametrize(
        ("data", "found"),
        [
            (b"\x93NUMPX\1\0", "the magic string is not correct"),
            (b"\x93NUMPY\x04\0", "its version is 4.0"),
            (b"\x93NUMPY\1\0\x10\0{'shape': (-1,), }", "EOF in multi-line statement"),
            (b'{"text": "a"}', "the magic string is not correct"),
        ],
    )
    def test_header(self, tmp_path: Path, data: bytes, found: str) -> None:
        (tmp_path / "a.npy").write_bytes(data + b" " * 200)
        assert found in bad(tmp_path / "a.npy").found

    def test_a_negative_shape(self, tmp_path: Path) -> None:
        header = b"{'descr': '<i4', 'fortran_order': False, 'shape': (-1, -1), }\n"
        data = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + packed([1], "i4")
        (tmp_path / "a.npy").write_bytes(data)
        assert bad(tmp_path / "a.npy").found == "the array's shape is (-1, -1)"

    def test_version_2(self, tmp_path: Path) -> None:
        array = np.array([[1, 2]], "i4")
        with (tmp_path / "a.npy").open("wb") as file:
            np.lib.format.write_array(file, array, version=(2, 0))
        assert documents(tmp_path / "a.npy") == [[1, 2]]


def test_splits_are_of_equally_many_rows(tmp_path: Path) -> None:
    write_megatron(tmp_path / "a", [[[n] * 5] for n in range(10)])
    members = [m for split in make_splits(find(tmp_path), 25) for m in split.members]
    assert [(m.start, m.stop, m.work) for m in members] == [
        (0, 2, 20), (2, 5, 30), (5, 7, 20), (7, 10, 30)
    ]  # fmt: skip
    assert len(make_splits(find(tmp_path), 100)) == 1
    np.save(tmp_path / "stream.npy", np.ones(1000, "u2"))
    [split] = make_splits(find(tmp_path / "stream.npy"), 100)
    assert [(m.start, m.stop) for m in split.members] == [(0, None)]


def test_memory_is_that_of_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "BLOCK_BYTES", 100)
    write_datatrove(tmp_path / "a.ds", [[1] * 20] * 30)
    [file] = find(tmp_path)
    sizes = [len(batch.content.data) for batch in read_member(Member(file=file), IDS)]
    assert set(sizes) == {40}
