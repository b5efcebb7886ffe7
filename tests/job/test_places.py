import os
from pathlib import Path

import pytest

from exactcpt.pipeline.config import SourceConfig
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job.places import (
    file_to_write,
    refuse_inside_sources,
    refuse_one_inside_another,
)
from exactcpt.schemas.errors import UsageError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "corpus" / "below").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "corpus")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("store", "out"),
    [
        ("a", "a"),
        ("a", "a/b"),
        ("a/b/c", "a"),
        ("a", "./x/../a/b"),
        ("corpus/a", "link/a"),
        ("memory://a", "memory://a/b"),
    ],
)
def test_one_folder_inside_the_other(here, store, out):
    with pytest.raises(UsageError, match="the folders store and out are the same, or"):
        refuse_one_inside_another(store=Folder(store), out=Folder(out))
    with pytest.raises(UsageError):
        refuse_one_inside_another(out=Folder(out), store=Folder(store))


@pytest.mark.parametrize(
    ("store", "out"),
    [("a.store", "a"), ("a/b", "a/c"), ("a", "ab/c"), ("memory://a/b", "a"), ("/a", "memory://a")],
)
def test_folders_beside_each_other(here, store, out):
    refuse_one_inside_another(store=Folder(store), out=Folder(out))
    refuse_one_inside_another(out=Folder(out), store=Folder(store))


def check(pattern: object, output: object, **options: str) -> None:
    source = SourceConfig(name="docs", pattern=str(pattern), **options)
    refuse_inside_sources([source], [Folder("elsewhere"), Folder(str(output))])


@pytest.mark.parametrize(
    ("pattern", "output"),
    [
        ("corpus", "corpus"),
        ("corpus", "corpus/out"),
        ("corpus/", "corpus/below/out"),
        ("corpus", "link/out"),
        ("link", "corpus/out"),
        ("corpus/**/*.jsonl", "corpus/a/b"),
        ("**/*.jsonl", "out"),
        (".", "out"),
        ("corpus/*", "corpus"),
        ("corpus/*", "corpus/out"),
        ("corpus/b*", "corpus/below/deep/out"),
        ("link/b*", "corpus/below"),
        ("corp*", "corpus/out"),
        ("memory://corpus/*", "memory://corpus/out"),
        ("memory://corpus", "memory://corpus/out"),
    ],
)
def test_an_output_among_what_a_source_reads_whole(here, pattern, output):
    with pytest.raises(UsageError, match="inside source 'docs'") as caught:
        check(pattern, output)
    assert output in str(caught.value)


@pytest.mark.parametrize(
    ("pattern", "output"),
    [
        ("corpus", "corpus.out"),
        ("corpus", "out"),
        ("corpus/*.jsonl", "corpus/out"),
        ("corpus/a.jsonl", "corpus/out"),
        ("corpus/b*", "corpus"),
        ("corpus/b*", "corpus/out"),
        ("corpus/*.jsonl", "corpus/below/out"),
        ("memory://corpus", "corpus/out"),
        ("s3corpus", "out"),
    ],
)
def test_an_output_that_no_source_reads(here, pattern, output):
    check(pattern, output)


def test_the_name_of_a_hub_data_set_is_no_folder(here):
    check("corpus", "corpus/out", format="hub")


def test_an_absolute_path_is_found_below_a_relative_one(here):
    with pytest.raises(UsageError):
        check("corpus", os.fspath(here / "corpus" / "out"))


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("corpus", "--html is a folder"),
        ("new/", "--html is a folder"),
        ("/dev/null", "--html is not a regular file"),
        ("corpus/report.html", "--html is inside corpus"),
        ("link/below/report.html", "--html is inside corpus"),
    ],
)
def test_a_file_that_must_not_be_written(here, path, says):
    with pytest.raises(UsageError, match=says):
        file_to_write("--html", path, apart_from=[Folder("corpus")])


@pytest.mark.parametrize("path", ["report.html", "new/report.html", "corpus.html"])
def test_a_file_to_write(here, path):
    (here / "corpus.html").touch()
    folder, name = file_to_write("--html", path, apart_from=[Folder("corpus")])
    folder.write(name, b"page")
    assert (here / path).read_bytes() == b"page"
