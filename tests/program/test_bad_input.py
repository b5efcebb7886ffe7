"""What bad input gets: an error that says what, where and what to do, or a counted record."""

import gzip
import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path
from typing import Any

import harness
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from harness import DATA, EOS, TOKENIZER, done, run, source

pytestmark = pytest.mark.slow

MANY = ["--max-rejected", 1]
GOOD = [{"id": f"g{i}", "text": f"a good line, number {i}"} for i in range(20)]


def tokenize(tmp_path: Path, *flags: object, path: object = None) -> harness.Outcome:
    """Tokenizes a.jsonl, or what `path` says, into `store`."""
    sources = source("docs", path or tmp_path / "a.jsonl")
    return run("tokenize", *sources, "--tokenizer", TOKENIZER, "--out", tmp_path / "store", *flags)


def prepare(tmp_path: Path, *flags: object, path: object = None) -> harness.Outcome:
    """The same, and packs it into `out`."""
    sources = source("docs", path or tmp_path / "a.jsonl")
    fixed = ["--tokenizer", TOKENIZER, "--window", 32, "--out", tmp_path / "out"]
    return run("prepare", *sources, *fixed, *flags)


def error_of(outcome: harness.Outcome, code: int = 1) -> str:
    """The error message; it is short, and no traceback."""
    assert outcome.code == code, outcome.err
    assert outcome.err.count("error: ") == 1, outcome.err
    message = outcome.err.partition("error: ")[2]
    assert len(message.splitlines()) <= 9
    assert "Traceback" not in message and "internal error" not in message
    return message


# Records

BAD_LINES = {
    b'{"text": "cut off': "malformed JSON",
    b'{"text": "a"} {"text": "b"}': "more than one JSON value on the line",
    b'{"text": "caf\xe9"}': "invalid UTF-8",
    b'{"other": "a"}': "no field 'text'",
    b'{"text": null}': "field 'text' is null",
    b'{"text": 17}': "field 'text' is not a string",
    b'{"text": ["a"]}': "field 'text' is not a string",
    b'["text"]': "not a JSON object",
    b'{"text": "a", "id": 1.5}': "field 'id' is neither a string nor an integer",
    b'{"text": "a", "x": NaN}': "NaN is not JSON",
    b'{"text": "\\ud800"}': None,
}


def test_bad_records_are_listed_with_file_line_and_reason(tmp_path):
    lines: list[Any] = [GOOD[0], b""]
    expected = {}
    for i, (line, reason) in enumerate(BAD_LINES.items()):
        expected[len(lines) + 1] = reason
        lines += [line, GOOD[i + 1]]
    harness.write_jsonl(tmp_path / "a.jsonl", lines)
    outcome = tokenize(tmp_path, *MANY)
    assert outcome.code == 0, outcome.err
    found = harness.rejected(tmp_path / "store")
    assert [(r["file"], r["unit"]) for r in found] == [("a.jsonl", "line")] * len(expected)
    assert [r["at"] for r in found] == list(expected)
    for record, reason in zip(found, expected.values(), strict=True):
        assert reason is None or record["reason"] == reason
    read = harness.read_source(tmp_path / "store")["read"]
    assert sum(read["rejected"].values()) == len(expected)
    assert read["rejected"]["malformed JSON"] == 1
    assert list(harness.stored(tmp_path / "store")) == [r["id"] for r in GOOD[: len(expected) + 1]]
    assert "rejected: malformed JSON" in outcome.err


@pytest.mark.parametrize("split_bytes", ["1k", "1M"])
def test_line_numbers_do_not_depend_on_splits(tmp_path, split_bytes):
    bad = {7, 40, 41, 99}
    lines = [
        b"" if i % 10 == 3 else b"{" if i in bad else b'{"text": "line %d"}' % i
        for i in range(1, 121)
    ]
    harness.write_jsonl(tmp_path / "a.jsonl", lines)
    assert tokenize(tmp_path, *MANY, "--split-bytes", split_bytes).code == 0
    assert {r["at"] for r in harness.rejected(tmp_path / "store")} == bad
    good = [i for i in range(1, 121) if i % 10 != 3 and i not in bad]
    assert list(harness.stored(tmp_path / "store")) == [f"a.jsonl:{i}" for i in good]


def test_rejected_rows_of_parquet(tmp_path):
    texts = ["one" * 400, None, "three" * 200, None]
    table = pa.table({"text": texts})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=3, compression="none")
    outcome = tokenize(tmp_path, *MANY, "--split-bytes", 1000, path=tmp_path / "a.parquet")
    assert outcome.code == 0, outcome.err
    assert len(list((tmp_path / "store/parts").glob("*-0000.json"))) == 2
    found = [
        (r["file"], r["unit"], r["at"], r["reason"]) for r in harness.rejected(tmp_path / "store")
    ]
    assert found == [("a.parquet", "row", n, "field 'text' is null") for n in (2, 4)]
    assert list(harness.stored(tmp_path / "store")) == ["a.parquet:1", "a.parquet:3"]


@pytest.mark.parametrize("allowed", [None, 0.05])
def test_too_many_rejected_records_fail_the_job_and_name_the_first(tmp_path, allowed):
    bad = [b"{", b'{"text": 1}', b"[]", b"oops", b"{}"]
    harness.write_jsonl(tmp_path / "a.jsonl", [*GOOD, *bad])
    flags = [] if allowed is None else ["--max-rejected", allowed]
    message = error_of(tokenize(tmp_path, *flags))
    assert "too many records were rejected: 5 of 25\n" in message
    assert [f"    a.jsonl, line {n}: " in message for n in (21, 22, 23, 24)] == [
        True,
        True,
        True,
        False,
    ]
    assert "field 'text' is not a string" in message
    assert f"at most {allowed or 0.01:.2%}" in message
    assert str(tmp_path / "store" / "rejected") in message
    assert "--max-rejected" in message
    assert not (tmp_path / "store" / "manifest.json").exists()


def test_after_too_many_rejected_records_the_job_goes_on_where_more_are_allowed(tmp_path):
    harness.write_jsonl(tmp_path / "a.jsonl", [*GOOD, b"{"])
    assert tokenize(tmp_path).code == 1
    part = tmp_path / "store" / "parts" / "000000-0000.arrow"
    before = part.stat().st_mtime_ns
    assert tokenize(tmp_path, "--max-rejected", 0.05).code == 0
    assert part.stat().st_mtime_ns == before
    done(
        "tokenize",
        *source("docs", tmp_path / "a.jsonl"),
        "--tokenizer",
        TOKENIZER,
        "--max-rejected",
        0.2,
        "--out",
        tmp_path / "other",
    )
    assert harness.files(tmp_path / "store") == harness.files(tmp_path / "other")


def test_one_percent_may_be_rejected(tmp_path):
    lines = [b'{"text": "x %d"}' % i for i in range(99)]
    harness.write_jsonl(tmp_path / "a.jsonl", [*lines, b"{"])
    assert tokenize(tmp_path).code == 0
    harness.write_jsonl(tmp_path / "b.jsonl", [*lines[1:], b"{"])
    assert (
        run(
            "tokenize",
            *source("docs", tmp_path / "b.jsonl"),
            "--tokenizer",
            TOKENIZER,
            "--out",
            tmp_path / "other",
        ).code
        == 1
    )


def test_none_may_be_rejected(tmp_path):
    harness.write_jsonl(
        tmp_path / "a.jsonl", [*[b'{"text": "x %d"}' % i for i in range(999)], b"{"]
    )
    assert "1 of 1,000" in error_of(tokenize(tmp_path, "--max-rejected", 0))


def test_integer_ids_become_strings(tmp_path):
    lines = [{"id": i, "text": f"t{i}"} for i in (5, -7, 2**60)]
    harness.write_jsonl(tmp_path / "a.jsonl", lines)
    assert tokenize(tmp_path).code == 0
    assert list(harness.stored(tmp_path / "store")) == ["5", "-7", str(2**60)]


def test_windows_line_ends_and_a_byte_order_mark(tmp_path):
    lines = [json.dumps(r).encode() for r in GOOD]
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join([*lines, b"", b""]))
    assert tokenize(tmp_path, "--max-rejected", 0).code == 0
    assert list(harness.stored(tmp_path / "store")) == [r["id"] for r in GOOD]


def test_a_last_line_without_an_end(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"text": "one"}\n{"text": "two"}')
    assert tokenize(tmp_path).code == 0
    assert len(harness.stored(tmp_path / "store")) == 2


def test_empty_and_short_documents_are_dropped_outside_of_max_rejected(tmp_path):
    words = "word " * 8
    texts = ["", "", "", "a", "two words", words, words + "."]
    path = harness.write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    outcome = prepare(tmp_path, "--min-tokens", 8, "--max-rejected", 0, path=path)
    assert outcome.code == 0, outcome.err
    read = harness.read_source(tmp_path / "out")["read"]
    assert read["dropped"] == {"empty": 3, "short": 2}
    assert read["rejected"] == {} and read["documents"] == 2
    assert "dropped: empty" in outcome.err and "dropped: short" in outcome.err
    done("verify", tmp_path / "out")


def test_a_hundred_thousand_empty_documents(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": ""}\n' * 100_000 + b'{"text": "the only one"}\n')
    assert prepare(tmp_path, "--max-rejected", 0).code == 0
    read = harness.read_source(tmp_path / "out")["read"]
    assert read["dropped"] == {"empty": 100_000} and read["documents"] == 1
    assert list(harness.stored(tmp_path / "out.store")) == ["a.jsonl:100001"]


def test_nothing_but_empty_documents(tmp_path):
    harness.write_jsonl(tmp_path / "a.jsonl", [{"text": ""}] * 3)
    message = error_of(prepare(tmp_path))
    assert "the token store has no documents" in message


def test_an_empty_file(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"")
    harness.write_jsonl(tmp_path / "b.jsonl", GOOD)
    assert tokenize(tmp_path, path=f"{tmp_path}/?.jsonl").code == 0
    assert len(harness.stored(tmp_path / "store")) == len(GOOD)
    assert "has no documents" in error_of(prepare(tmp_path))


def test_token_ids_outside_the_vocabulary(tmp_path):
    records = [{"ids": [1, 2, 4095]}] * 3 + [{"ids": [1, 4096]}, {"ids": [-1]}, {"ids": ["a"]}]
    path = harness.write_jsonl(tmp_path / "a.jsonl", records)
    assert tokenize(tmp_path, *MANY, path=f"{path},tokens=ids").code == 0
    found = {r["at"]: r["reason"] for r in harness.rejected(tmp_path / "store")}
    assert found == {
        4: "field 'ids' has an id outside 0..4095",
        5: "field 'ids' has an id outside 0..4095",
        6: "field 'ids' is not a list of integers",
    }


def test_the_largest_real_id_decides(tmp_path):
    """An added token past vocab_size - 1, and a hole before it."""

    def add(tokenizer: dict[str, Any]) -> None:
        tokenizer["model"]["vocab"]["<far>"] = 9000
        far = {**tokenizer["added_tokens"][0], "id": 9000, "content": "<far>"}
        tokenizer["added_tokens"].append(far)

    folder = harness.changed_tokenizer(tmp_path / "t", add)
    path = harness.write_jsonl(tmp_path / "a.jsonl", [{"ids": [9000]}, {"ids": [9001]}])
    flags = [*source("docs", path, tokens="ids"), "--tokenizer", folder, *MANY]
    done("tokenize", *flags, "--out", tmp_path / "store")
    assert list(harness.stored(tmp_path / "store").values()) == [[9000, EOS]]
    assert harness.manifest(tmp_path / "store")["tokenizer"]["largest_id"] == 9000


# Files


def compressed(path: Path, data: bytes) -> bytes:
    return gzip.compress(data) if path.suffix == ".gz" else zstandard.compress(data)


def lines_of(count: int) -> bytes:
    return b"".join(
        json.dumps({"id": f"x{i}", "text": f"{i * 7919 % 10007} some words {i}" * 9}).encode()
        + b"\n"
        for i in range(count)
    )


def write_good(path: Path, records: list[harness.Record]) -> None:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(records), path)
    else:
        harness.write_jsonl(path, records)


def write_bad(path: Path, how: str) -> Path:
    """A file that breaks: cut off, or with damaged bytes, in its second half."""
    if path.name.endswith(".parquet"):
        rows = [json.loads(line) for line in lines_of(3000).splitlines()]
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=250, compression="zstd")
        data = bytearray(path.read_bytes())
        footer = int.from_bytes(data[-8:-4], "little") + 8
        middle = (len(data) - footer) * 3 // 4
    else:
        data = bytearray(compressed(path, lines_of(3000)))
        middle = len(data) * 3 // 4
    if how == "truncated":
        data = data[:middle]
    else:
        data[middle : middle + 300] = bytes(b ^ 0xA5 for b in data[middle : middle + 300])
    path.write_bytes(data)
    return path


bad_files = pytest.mark.parametrize("name", ["b.jsonl.gz", "b.jsonl.zst", "b.parquet"])
both_ways = pytest.mark.parametrize("how", ["truncated", "damaged"])


@bad_files
@both_ways
def test_a_broken_file_ends_the_job_and_is_named(tmp_path, name, how):
    path = write_bad(tmp_path / name, how)
    message = error_of(tokenize(tmp_path, "--split-bytes", "20k", path=path))
    assert str(path) in message
    assert "cannot be read" in message
    assert "--on-bad-file skip" in message
    assert not (tmp_path / "store" / "manifest.json").exists()


@bad_files
@pytest.mark.parametrize(("how", "first"), [("truncated", "skip"), ("damaged", "fail")])
def test_a_broken_file_is_left_out_whole_and_recorded(tmp_path, name, how, first):
    """Also where parts of it had been written, and where the job had failed before."""
    (tmp_path / "in").mkdir()
    suffix = Path(name).suffix if name.endswith("parquet") else ".jsonl"
    write_good(tmp_path / "in" / f"a{suffix}", GOOD[:10])
    write_bad(tmp_path / "in" / name, how)
    write_good(tmp_path / "in" / f"c{suffix}", GOOD[10:])
    flags = ["--split-bytes", "20k"]
    if first == "fail":
        error_of(prepare(tmp_path, *flags, path=tmp_path / "in"))
    outcome = prepare(tmp_path, *flags, "--on-bad-file", "skip", path=tmp_path / "in")
    assert outcome.code == 0, outcome.err
    assert list(harness.stored(tmp_path / "out.store")) == [r["id"] for r in GOOD]
    assert "left out" in outcome.err and name in outcome.err
    for folder in (tmp_path / "out", tmp_path / "out.store"):
        inputs = {i["path"]: i["skipped"] for i in harness.manifest(folder)["inputs"]}
        assert inputs[f"a{suffix}"] is None and inputs[f"c{suffix}"] is None
        assert "cannot be read" in inputs[name]
        assert str(tmp_path) not in json.dumps(harness.manifest(folder))
    assert harness.read_source(tmp_path / "out")["read"]["documents"] == len(GOOD)
    done("verify", tmp_path / "out")


def test_leaving_out_gives_the_same_bytes_for_any_workers(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(3):
        harness.write_jsonl(tmp_path / "in" / f"a{i}.jsonl", GOOD[i * 5 : i * 5 + 5])
    write_bad(tmp_path / "in" / "b.jsonl.gz", "truncated")
    write_bad(tmp_path / "in" / "a1.jsonl.zst", "damaged")
    flags = [*source("docs", tmp_path / "in"), "--tokenizer", TOKENIZER, "--window", 32]
    flags += ["--on-bad-file", "skip", "--split-bytes", "5k"]
    done("prepare", *flags, "--workers", 1, "--out", tmp_path / "one")
    done(
        "prepare",
        *flags,
        "--workers",
        2,
        "--out",
        tmp_path / "other",
        "--",
        "--direct_runner_bundle_repeat=1",
    )
    assert harness.content(tmp_path / "one") == harness.content(tmp_path / "other")


def test_every_file_is_broken(tmp_path):
    path = write_bad(tmp_path / "b.jsonl.gz", "truncated")
    path.write_bytes(path.read_bytes()[:40])
    message = error_of(prepare(tmp_path, "--on-bad-file", "skip", path=path))
    assert "b.jsonl.gz" in message or "no documents" in message


def test_a_file_that_is_not_what_its_name_says(tmp_path):
    for name in ("a.parquet", "a.arrow", "a.jsonl.gz", "a.jsonl.zst"):
        (tmp_path / name).write_bytes(b"this is plain text\n" * 20)
        message = error_of(tokenize(tmp_path, path=tmp_path / name))
        said = "first bytes are not such data" if ".jsonl" in name else "cannot be read"
        assert name in message and said in message
        shutil.rmtree(tmp_path / "store", ignore_errors=True)


def test_invalid_utf8_in_a_text_file_is_a_rejected_record(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_bytes(b"fine\n")
    (tmp_path / "in" / "b.txt").write_bytes(b"fine\nnot \xff fine\n")
    outcome = tokenize(tmp_path, *MANY, path=tmp_path / "in")
    assert outcome.code == 0, outcome.err
    assert list(harness.stored(tmp_path / "store")) == ["a.txt"]
    (record,) = harness.rejected(tmp_path / "store")
    assert (record["file"], record["at"], record["reason"]) == ("b.txt", 2, "invalid UTF-8")


def test_a_file_name_that_is_not_utf8(tmp_path):
    (tmp_path / "in").mkdir()
    name = os.fsdecode(b"caf\xe9.jsonl")
    (tmp_path / "in" / name).write_bytes(b'{"text": "some words"}\n')
    message = error_of(prepare(tmp_path, path=tmp_path / "in"))
    assert "the name of a file is not UTF-8" in message and "rename the file" in message


# Sources


def test_no_file_matches(tmp_path):
    harness.write_jsonl(tmp_path / "books.jsonl", GOOD)
    message = error_of(tokenize(tmp_path, path=f"{tmp_path}/boks*.jsonl"))
    assert "source 'docs' matches no file" in message
    assert "boks*.jsonl" in message
    assert "books.jsonl" in message
    missing = error_of(tokenize(tmp_path, path=f"{tmp_path}/nowhere/a.jsonl"))
    assert "nowhere does not exist" in missing


def test_a_folder_without_files_of_a_known_format(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.docx").write_bytes(b"x")
    message = error_of(tokenize(tmp_path, path=tmp_path / "in"))
    assert "matches no file" in message and "a.docx" in message


def test_a_file_of_an_unknown_format(tmp_path):
    (tmp_path / "a.data").write_bytes(b'{"text": "some words"}\n')
    message = error_of(tokenize(tmp_path, path=tmp_path / "a.data"))
    assert "a.data" in message and "format=" in message and ".parquet" in message
    assert tokenize(tmp_path, path=f"{tmp_path}/a.data,format=jsonl").code == 0


def test_one_file_in_two_sources(tmp_path, monkeypatch):
    path = harness.write_jsonl(tmp_path / "in/a.jsonl", GOOD)
    monkeypatch.chdir(path.parent)
    for other in ("./a.jsonl", "*.jsonl", f"file://{path}", "."):
        flags = [*source("one", path), *source("two", other)]
        message = error_of(run("tokenize", *flags, "--tokenizer", TOKENIZER, "--out", "../store"))
        assert "the same file is in two sources: 'one' and 'two'" in message
        assert str(path) in message and "epochs" in message


def test_one_file_under_two_names(tmp_path):
    path = harness.write_jsonl(tmp_path / "in/a.jsonl", GOOD)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    (tmp_path / "soft.jsonl").symlink_to(path)
    (tmp_path / "hard.jsonl").hardlink_to(path)
    rest = ["--tokenizer", TOKENIZER, "--out", tmp_path / "store"]
    for other in ("in/../in/a.jsonl", "link/a.jsonl", "soft.jsonl", "hard.jsonl", "link"):
        flags = [*source("one", path), *source("two", f"{tmp_path}/{other}")]
        message = error_of(run("tokenize", *flags, *rest))
        assert "the same file is in two sources: 'one' and 'two'" in message
    message = error_of(run("tokenize", *source("one", f"{tmp_path}/*.jsonl"), *rest))
    assert "the same file is listed twice in source 'one'" in message
    assert f"{tmp_path}/hard.jsonl and {tmp_path}/soft.jsonl" in " ".join(message.split())


def test_files_of_equal_content_are_warned_of(tmp_path):
    for name in ("a/x.jsonl", "b/y.jsonl", "b/z.jsonl"):
        harness.write_jsonl(tmp_path / name, [*GOOD, {"text": name}] if "z" in name else GOOD)
    for empty in ("a/empty.jsonl", "b/empty.jsonl"):
        (tmp_path / empty).touch()
    flags = [*source("one", tmp_path / "a"), *source("two", tmp_path / "b")]
    outcome = done("tokenize", *flags, "--tokenizer", TOKENIZER, "--out", tmp_path / "store")
    warning = "input files with the same content: one: x.jsonl = two: y.jsonl"
    assert harness.manifest(tmp_path / "store")["warnings"] == [warning]
    assert warning in " ".join(outcome.err.split())


def test_what_a_folder_has_besides_is_told(tmp_path):
    harness.write_jsonl(tmp_path / "in/a.jsonl", GOOD)
    for name in ("README.md", "b.xls", ".gitattributes"):
        (tmp_path / "in" / name).write_text("something else")
    outcome = tokenize(tmp_path, path=tmp_path / "in")
    warning = "source 'docs' is read as jsonl; 2 files are left out: README.md, b.xls"
    assert warning in " ".join(outcome.err.split())
    assert harness.manifest(tmp_path / "store")["warnings"] == [warning]
    assert [i["path"] for i in harness.manifest(tmp_path / "store")["inputs"]] == ["a.jsonl"]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "parquet", "arrow"])
def test_the_text_field_is_nowhere(tmp_path, suffix):
    records = [{"title": "t", "body": "b"}] * 10
    path = tmp_path / f"a.{suffix}"
    table = pa.Table.from_pylist(records)
    if suffix == "parquet":
        pq.write_table(table, path)
    elif suffix == "arrow":
        with pa.ipc.new_file(str(path), table.schema) as writer:
            writer.write_table(table)
    else:
        harness.write_jsonl(path, records)
    message = error_of(tokenize(tmp_path, *MANY, path=path))
    assert "'text'" in message and "title, body" in message and "text=FIELD" in message
    assert not (tmp_path / "store" / "parts").exists()


def test_an_id_that_is_nowhere_and_one_that_some_records_lack(tmp_path):
    lines = [{"text": "some words", "uid": 7}, {"text": "more words"}, {"text": "others"}]
    path = harness.write_jsonl(tmp_path / "a.jsonl", lines)
    message = error_of(tokenize(tmp_path, path=f"{path},id=docid"))
    assert "'docid'" in message and "text, uid" in message and "id=FIELD" in message
    outcome = tokenize(tmp_path, path=f"{path},id=uid")
    assert outcome.code == 0, outcome.err
    warning = (
        "source 'docs': 2 of 3 documents have no field 'uid'; their ids are the file with the line "
        "or row"
    )
    assert harness.manifest(tmp_path / "store")["warnings"] == [warning]
    assert warning in " ".join(outcome.err.split())
    assert list(harness.stored(tmp_path / "store")) == ["7", "a.jsonl:2", "a.jsonl:3"]


@pytest.mark.parametrize("option", ["id=uid", "text=body", "tokens=ids"])
def test_fields_of_a_source_of_text(tmp_path, option):
    (tmp_path / "a.txt").write_text("some words")
    message = error_of(tokenize(tmp_path, path=f"{tmp_path}/a.txt,{option}"), 2)
    assert f"{option.partition('=')[0]}=FIELD, but is read as text" in message


def test_two_columns_of_one_name(tmp_path):
    table = pa.table([pa.array(["some words"])] * 2, names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    message = error_of(tokenize(tmp_path, path=tmp_path / "a.parquet"))
    assert "source 'docs': 2 columns have the name 'text'" in message and "a.parquet" in message


def test_a_record_that_is_too_long(tmp_path):
    """One line of 300 MB, in 30 KB: it ends the job at the limit, in memory for the limit."""
    compressor = zstandard.ZstdCompressor().compressobj()
    data = compressor.compress(b'{"text": "')
    for _ in range(300):
        data += compressor.compress(b"a" * 1_000_000)
    (tmp_path / "a.jsonl.zst").write_bytes(data + compressor.compress(b'"}\n') + compressor.flush())
    flags = [*source("docs", tmp_path / "a.jsonl.zst"), "--tokenizer", TOKENIZER]
    limit = 50_000_000
    process = harness.start(
        "tokenize", *flags, "--max-record-bytes", limit, "--out", tmp_path / "store"
    )
    peak = watch_memory(process.pid)
    message = error_of(harness.finish(process, 120))
    assert "a record has more than 50,000,000 bytes" in message and "line 1" in message
    assert peak() < BASE_BYTES + 1.5 * limit


def test_a_column_that_cannot_be_text(tmp_path):
    pq.write_table(pa.table({"text": [1, 2], "body": ["a", "b"]}), tmp_path / "a.parquet")
    message = error_of(tokenize(tmp_path, path=tmp_path / "a.parquet"))
    assert "column 'text' holds int64" in message and "strings" in message


# The tokenizer


def test_no_tokenizer_there(tmp_path):
    flags = harness.small(tmp_path, ["some words"])[:2]
    for path in (tmp_path / "none.json", tmp_path):
        message = error_of(run("tokenize", *flags, "--tokenizer", path, "--out", tmp_path / "s"))
        assert "there is no such tokenizer" in message and str(path) in message


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"model": {"type": "BPE"}}', b"\xff\xfe"])
def test_not_a_tokenizer(tmp_path, data):
    (tmp_path / "t.json").write_bytes(data)
    flags = [*harness.small(tmp_path, ["some words"])[:2], "--tokenizer", tmp_path / "t.json"]
    message = error_of(run("tokenize", *flags, "--out", tmp_path / "store"))
    assert "this is not a tokenizer" in message and "t.json" in message


def test_a_tokenizer_config_that_is_not_json(tmp_path):
    folder = harness.changed_tokenizer(tmp_path / "t", harness.rename_eos)
    (folder / "tokenizer_config.json").write_text("{")
    flags = [*harness.small(tmp_path, ["some words"])[:2], "--tokenizer", folder]
    message = error_of(run("tokenize", *flags, "--out", tmp_path / "store"))
    assert "tokenizer_config.json" in message


def test_no_eos(tmp_path):
    folder = harness.changed_tokenizer(tmp_path / "t", harness.rename_eos)
    flags = [*harness.small(tmp_path, ["some words"])[:2], "--tokenizer", folder]
    message = error_of(run("tokenize", *flags, "--out", tmp_path / "store"), 2)
    assert "nothing says which token ends a document" in message
    assert "<|im_end|>" in message and "--eos-token" in message
    done("tokenize", *flags, "--eos-token", "<|im_end|>", "--out", tmp_path / "store")


def test_an_eos_that_is_no_token(tmp_path):
    flags = [*harness.small(tmp_path, ["some words"]), "--eos-token", "</s>"]
    message = error_of(run("tokenize", *flags, "--out", tmp_path / "store"), 2)
    assert "no token '</s>'" in message and "<|endoftext|>" in message


def test_a_bos_that_nothing_names(tmp_path):
    flags = [*harness.small(tmp_path, ["some words"]), "--bos"]
    message = error_of(run("tokenize", *flags, "--out", tmp_path / "store"), 2)
    assert "--bos" in message and "bos_token" in message


# Sizes


def test_a_corpus_smaller_than_a_window(tmp_path):
    harness.write_jsonl(tmp_path / "a.jsonl", [{"id": "only", "text": "one short document"}])
    outcome = prepare(tmp_path, "--window", 4096, "--validation-fraction", 0)
    assert outcome.code == 0, outcome.err
    (row,) = harness.windows(tmp_path / "out")
    tokens = [*harness.encode("one short document"), EOS]
    assert row["input_ids"] == tokens + [EOS] * (4096 - len(tokens))
    assert row["seq_lengths"] == [len(tokens), 4096 - len(tokens)]
    assert row["doc_index"] == [0, -1] and row["doc_offset"] == [0, 0]
    assert [w > 0 for w in row["loss_weight"]].count(True) == len(tokens) - 1
    assert "the tail is empty" in outcome.err
    assert any("tail is empty" in w for w in harness.manifest(tmp_path / "out")["warnings"])
    done("verify", tmp_path / "out")


def test_a_document_of_one_token(tmp_path):
    harness.write_jsonl(tmp_path / "a.jsonl", [{"text": "a"}])
    outcome = prepare(tmp_path, "--window", 2, "--validation-fraction", 0)
    assert outcome.code == 0, outcome.err
    (row,) = harness.windows(tmp_path / "out")
    assert row["seq_lengths"] == [2] and row["loss_weight"][0] == 0 and row["loss_weight"][1] > 0
    done("verify", tmp_path / "out")


def test_sources_of_one_document_each(tmp_path):
    flags = [*source("novels", DATA / "novels.jsonl.zst"), "--tokenizer", TOKENIZER]
    path = harness.write_jsonl(tmp_path / "b.jsonl", [{"text": "b"}])
    flags += [*source("b", path), "--window", 8192, "--out", tmp_path / "out"]
    done("prepare", *flags, "--validation-fraction", 0)
    done("verify", tmp_path / "out")


def test_an_empty_tail_has_plain_weights_and_a_warning(tmp_path):
    harness.write_jsonl(tmp_path / "a.jsonl", GOOD)
    outcome = prepare(tmp_path, "--window", 1024, "--tau", 512)
    assert outcome.code == 0, outcome.err
    weights = harness.manifest(tmp_path / "out")["weights"]
    assert {row["weight"] for row in weights["table"]} == {1.0}
    assert weights["budget"] == 0
    assert "warning: the tail is empty" in outcome.err
    assert "(tau)" in outcome.err
    done("verify", tmp_path / "out")


def test_an_empty_validation_set(tmp_path):
    harness.write_jsonl(tmp_path / "a.jsonl", [{"text": "lonely"}])
    for fraction in (0.0001, 0.999):
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
        outcome = prepare(tmp_path, "--validation-fraction", fraction)
        assert outcome.code == 0, outcome.err
        empty = "validation set is empty" if fraction < 0.5 else "there are no training windows"
        assert empty in outcome.err
        manifest = harness.manifest(tmp_path / "out")
        assert any(empty in warning for warning in manifest["warnings"])
        without = "validation" if fraction < 0.5 else "train"
        assert manifest["shards"][without] == []
        assert not (tmp_path / "out" / without).exists()
        done("verify", tmp_path / "out")


def test_no_validation_set_was_asked_for(tmp_path):
    harness.write_jsonl(tmp_path / "a.jsonl", GOOD)
    outcome = prepare(tmp_path, "--validation-fraction", 0, "--window", 16)
    assert outcome.code == 0, outcome.err
    assert "validation set is empty" not in outcome.err
    assert harness.manifest(tmp_path / "out")["shards"]["validation"] == []
    done("verify", tmp_path / "out")


def test_a_heavy_weight_is_warned_of(tmp_path):
    texts = ["word " * 20] * 5000 + ["word " * 40]
    harness.write_jsonl(tmp_path / "a.jsonl", [{"text": t} for t in texts])
    flags = ["--validation-fraction", 0, "--tau", 8, "--gamma", 1, "--alpha", 0.5]
    outcome = prepare(tmp_path, "--window", 128, *flags)
    assert "has weight" in outcome.err and "max_weight" in outcome.err


HUGE_MEGABYTES = 60
PEAK_FOR_ONE_BYTE = 9
"""Anonymous memory for one huge document, in bytes a byte of its text, beyond BASE_BYTES."""

BASE_BYTES = 250 << 20


def test_a_huge_document_is_one_document_in_bounded_memory(tmp_path):
    words = b" ".join(b"w%d" % (i * 7919 % 100_003) for i in range(200_000))
    text = (words + b" ") * (HUGE_MEGABYTES * 1_000_000 // len(words) + 1)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "huge", "text": "%s"}\n{"id": "b", "text": "small"}\n' % text)
    size = path.stat().st_size
    assert size > HUGE_MEGABYTES * 1_000_000
    del text
    flags = [*source("docs", path), "--tokenizer", TOKENIZER, "--window", 8192, "--workers", 2]
    process = harness.start(
        "prepare", *flags, "--validation-fraction", 0, "--out", tmp_path / "out"
    )
    peak = watch_memory(process.pid)
    outcome = harness.finish(process, 120)
    assert outcome.code == 0, outcome.err
    rows = {row["id"]: row for row in harness.documents(tmp_path / "out")}
    assert rows["huge"]["n_tokens"] > size / 10
    assert (
        sum(row["n_tokens"] for row in rows.values())
        == harness.manifest(tmp_path / "out")["splits"]["train"]["tokens"]
    )
    assert peak() < BASE_BYTES + PEAK_FOR_ONE_BYTE * size, f"{peak() / 1e6:.0f} MB"


def watch_memory(pid: int) -> Any:
    """Samples a process' anonymous memory until it ends; call the result for the peak in bytes."""
    if not sys.platform.startswith("linux"):
        pytest.skip("RssAnon is Linux's")
    highest = [0]
    status = Path(f"/proc/{pid}/status")

    def watch() -> None:
        while psutil.pid_exists(pid):
            try:
                fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
            except (OSError, ValueError):
                return
            if "RssAnon" not in fields:
                return
            highest[0] = max(highest[0], int(fields["RssAnon"].split()[0]) << 10)
            time.sleep(0.02)

    thread = threading.Thread(target=watch)
    thread.start()

    def peak() -> int:
        thread.join()
        return highest[0]

    return peak
