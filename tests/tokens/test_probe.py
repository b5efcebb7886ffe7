import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import archive, page
from corpora import LFS, put

from exactcpt.pipeline.sources.listing import Source, find_files
from exactcpt.pipeline.sources.reading import BadFileError
from exactcpt.pipeline.sources.records import Fields
from exactcpt.pipeline.tokens.probe import Probe, look_at
from exactcpt.schemas.errors import ExactcptError

TEXT = Fields()


def look(pattern: object, fields: Fields = TEXT, *, skip_bad_files: bool = False) -> Probe:
    files = find_files(Source(name="books", pattern=str(pattern), fields=fields)).files
    return look_at("books", files, fields, skip_bad_files=skip_bad_files)


def texts(seen: Probe) -> list[bytes]:
    return [seen.documents[i].tobytes() for i in range(len(seen.documents))]


def records(*texts: str) -> bytes:
    return b"".join(json.dumps({"text": text}).encode() + b"\n" for text in texts)


class TestLookAt:
    def test_documents_of_the_first_file_that_has_some(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b"\n \n")
        (tmp_path / "b.jsonl").write_bytes(records("one", "two"))
        (tmp_path / "c.jsonl").write_bytes(records("three"))
        assert sorted(texts(look(tmp_path))) == [b"one", b"two"]

    def test_a_remote_pointer_of_git_lfs(self) -> None:
        put("memory://probed/a.jsonl", LFS)
        with pytest.raises(ExactcptError, match="this is a Git LFS pointer"):
            look("memory://probed/a.jsonl", skip_bad_files=True)

    def test_no_more_than_64_kib(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(records(*["word " * 5000] * 50))
        seen = look(tmp_path)
        assert len(seen.documents) > 1
        assert len(seen.documents.data) <= 1 << 16

    def test_a_source_without_documents(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b"")
        assert texts(look(tmp_path)) == []

    @pytest.mark.parametrize("suffix", ["", ".gz"])
    def test_a_field_that_is_nowhere(self, tmp_path: Path, suffix: str) -> None:
        lines = b'{"title":1,"body":"a"}\nmalformed\n[]\n{"body":"b","lang":"en"}\n'
        data = gzip.compress(lines) if suffix else lines
        for name in ("a", "b"):
            (tmp_path / f"{name}.jsonl{suffix}").write_bytes(data)
        with pytest.raises(ExactcptError) as caught:
            look(tmp_path)
        assert str(caught.value) == (
            "source 'books': no record has a field 'text'\n"
            f"  where:    {tmp_path}/a.jsonl{suffix}\n"
            "  expected: one of its fields: title, body, lang\n"
            "  fix:      name the field with ,text=FIELD (or ,tokens=FIELD) in the source"
        )

    @pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.xz", "a.parquet", "a.arrow"])
    def test_an_id_that_is_nowhere(self, tmp_path: Path, name: str) -> None:
        rows = [{"text": "a", "uid": 1}, {"text": "b", "uid": 2}]
        lines = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
        if name == "a.parquet":
            pq.write_table(pa.Table.from_pylist(rows), tmp_path / name)
        elif name == "a.arrow":
            table = pa.Table.from_pylist(rows)
            with pa.ipc.new_file(str(tmp_path / name), table.schema) as writer:
                writer.write_table(table)
        else:
            (tmp_path / name).write_bytes(lzma.compress(lines) if name.endswith("xz") else lines)
        assert len(look(tmp_path).documents) == 2, "no id is asked for"
        assert len(look(tmp_path, Fields(id="uid")).documents) == 2
        with pytest.raises(ExactcptError) as caught:
            look(tmp_path, Fields(id="docid"))
        assert str(caught.value) == (
            "source 'books': none of the first 2 documents has a field 'docid'\n"
            f"  where:    {tmp_path}/{name}\n"
            "  expected: one of its fields: text, uid\n"
            "  fix:      name the field with ,id=FIELD in the source; without it, a document's id "
            "is its file with the line or row"
        )

    def test_an_id_that_some_records_lack(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b'{"text":"a","docid":1}\n{"text":"b"}\n')
        assert len(look(tmp_path, Fields(id="docid")).documents) == 2

    def test_records_inside_one_object(self, tmp_path: Path) -> None:
        record = {"version": 1, "the data": [{"text": "a"}, {"text": "b"}]}
        (tmp_path / "a.json").write_text(json.dumps(record))
        with pytest.raises(ExactcptError, match="no record has a field 'text'") as caught:
            look(tmp_path)
        assert caught.value.fix == (
            "if the records are in 'the data', write each on its line: "
            """jq -c '.["the data"][]' a.json > NEW.jsonl"""
        )

    def test_a_field_that_only_another_file_has(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").write_bytes(b'{"about":"the set"}\n')
        (tmp_path / "b.jsonl").write_bytes(records("one"))
        assert texts(look(tmp_path)) == [b"one"]

    def test_a_column_that_is_not_there(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"body": ["a"], "lang": ["en"]}), tmp_path / "a.parquet")
        with pytest.raises(ExactcptError, match="no column 'text'") as caught:
            look(tmp_path)
        assert caught.value.expected == "one of its columns: body, lang"

    def test_a_first_file_that_is_bad(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip")
        (tmp_path / "b.jsonl").write_bytes(records("one"))
        assert texts(look(tmp_path)) == [b"one"]

    def test_only_bad_files(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl.gz").write_bytes(b"no gzip")
        (tmp_path / "b.jsonl.zst").write_bytes(b"no zstd")
        (tmp_path / "c.jsonl").write_bytes(b"")
        with pytest.raises(BadFileError) as caught:
            look(tmp_path)
        assert caught.value.where == f"{tmp_path}/a.jsonl.gz"
        assert texts(look(tmp_path, skip_bad_files=True)) == []

    def test_an_archive_without_documents(self, tmp_path: Path) -> None:
        (tmp_path / "a.tar").write_bytes(archive([("a.jpg", b"x"), ("b.txt", b"x")]))
        assert texts(look(tmp_path / "a.tar")) == [b"x"]
        with pytest.raises(ExactcptError, match=r"a document: no \.json and no \.cap"):
            look(tmp_path / "a.tar", Fields(text="cap"))

    @pytest.mark.parametrize(
        ("name", "data", "fields"),
        [
            ("a.csv", b"text,note\na,b\n", "text, note"),
            ("a.wet", page("one", b"a"), "WARC-Record-ID, WARC-Target-URI"),
        ],
    )
    def test_an_id_that_is_nowhere_in_other_formats(
        self, tmp_path: Path, name: str, data: bytes, fields: str
    ) -> None:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ExactcptError, match="has a field 'key'") as caught:
            look(tmp_path / name, Fields(id="key"))
        assert caught.value.expected == f"one of its fields: {fields}"
