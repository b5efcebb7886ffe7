"""What a source is called that is given no name, and when an equals sign is a part of a path."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.config import SourceConfig
from exactcpt.pipeline.core.choices import Format
from exactcpt.pipeline.sources.formats import COMPRESSIONS, SUFFIXES
from exactcpt.pipeline.sources.naming import name_of, split_name
from exactcpt.schemas.errors import UsageError


@pytest.mark.parametrize(
    ("pattern", "of", "name"),
    [
        ("books", None, "books"),
        ("./books/", None, "books"),
        ("a/books.jsonl", None, "books"),
        ("a/poems.v2.jsonl.zst", None, "poems.v2"),
        ("A/POEMS.JSONL.GZ", None, "POEMS"),
        ("web.ds.index", None, "web"),
        ("year=2020/a,b.txt", None, "a-b"),
        ("year=2020", None, "year-2020"),
        ("a/books/*.jsonl", None, "books"),
        ("a/books/**/*.jsonl", None, "books"),
        ("a/*/train.parquet", None, "train"),
        ("poems-*.jsonl", None, "poems"),
        ("*/poems-[0-9].txt", None, "poems"),
        ("s3://bucket/a/books/*.parquet", None, "books"),
        ("s3://bucket", None, "bucket"),
        ("../books.txt", None, "books"),
        (".jsonl", None, ".jsonl"),
        ("org/books@main:en:train", "hub", "books"),
        ("books", "hub", "books"),
    ],
)
def test_names(pattern: str, of: Format | None, name: str):
    assert name_of(pattern, of) == name


@given(
    stem=st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_-]*", fullmatch=True),
    suffix=st.sampled_from(sorted(SUFFIXES)),
    compression=st.sampled_from(["", *COMPRESSIONS]),
    folder=st.sampled_from(["", "./", "/data/", "k=v/", "s3://b/", "*/"]),
)
def test_a_file_is_named_without_its_suffixes(
    stem: str, suffix: str, compression: str, folder: str
):
    assert name_of(f"{folder}{stem}{suffix}{compression}", None) == stem


@given(st.text("ab=,./*?[]:@- ", max_size=12))
def test_what_is_derived_is_a_name(pattern: str):
    try:
        name = name_of(f"a{pattern}", None)
    except UsageError:
        assert "/" in pattern
    else:
        SourceConfig(name=name, pattern=pattern or "a")


@pytest.mark.parametrize("pattern", ["*", "**/*.jsonl", "..", "/", ""])
def test_nothing_that_can_be_a_name(pattern: str):
    with pytest.raises(UsageError, match="can name the source") as caught:
        name_of(pattern, None)
    assert caught.value.expected == f"NAME={pattern}"


def partitions(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True)
        (root / name / "a.parquet").touch()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lang=en/*.parquet", (None, "lang=en/*.parquet")),
        ("lang=en", (None, "lang=en")),
        ("lang=en/**/*.parquet", (None, "lang=en/**/*.parquet")),
        ("./lang=en/*.parquet", (None, "./lang=en/*.parquet")),
        ("english=lang=en/*.parquet", ("english", "lang=en/*.parquet")),
        ("lang=de/*.parquet", ("lang", "de/*.parquet")),
        ("lang=fr/*.parquet", ("lang", "fr/*.parquet")),
    ],
)
def test_folders_with_an_equals_sign(text, expected, tmp_path, monkeypatch):
    partitions(tmp_path, "lang=en", "de")
    monkeypatch.chdir(tmp_path)
    assert split_name(text) == expected


def test_a_wildcard_after_the_equals_sign(tmp_path, monkeypatch):
    partitions(tmp_path, "lang=en", "lang=de")
    monkeypatch.chdir(tmp_path)
    assert split_name("lang=*/a.parquet") == (None, "lang=*/a.parquet")
    partitions(tmp_path, "fr")
    with pytest.raises(UsageError, match="can be read in two ways"):
        split_name("lang=*/a.parquet")


def test_a_source_that_can_be_read_in_two_ways(tmp_path, monkeypatch):
    partitions(tmp_path, "lang=en", "en")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="can be read in two ways") as caught:
        split_name("lang=en/*.parquet")
    assert caught.value.fix is not None
    for text, pattern in (
        ("./lang=en/*.parquet", "./lang=en/*.parquet"),
        ("lang=./en/*.parquet", "./en/*.parquet"),
    ):
        assert text in caught.value.fix
        assert split_name(text)[1] == pattern
