import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest
from corpora import find, jsonl, listing, paths, put, read_all
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.sources import sifting
from exactcpt.pipeline.sources.sifting import Found, sift
from exactcpt.schemas.errors import ExactcptError, UsageError


def fill(base: object, *names: str) -> None:
    for name in names:
        if "://" not in str(base):
            Path(f"{base}/{name}").parent.mkdir(parents=True, exist_ok=True)
        put(f"{base}/{name}", jsonl(name))


@pytest.fixture(params=["local", "memory"])
def base(request: pytest.FixtureRequest, tmp_path: Path, memory: str) -> str:
    return str(tmp_path / "set") if request.param == "local" else memory


TEMPORARY = "_temporary/0/task_1/a.jsonl"


def test_what_other_programs_leave_behind(base: str) -> None:
    fill(base, "_SUCCESS", TEMPORARY, "a.jsonl", "b.jsonl.incomplete", ".c.jsonl")
    found = listing(base)
    assert paths(found.files) == ["a.jsonl"]
    assert found.warnings == (
        "source 'books': 3 files are left out, named like what other programs leave behind: "
        f"_SUCCESS, {TEMPORARY}, b.jsonl.incomplete",
    )
    assert listing(f"{base}/*") == listing(f"{base}/**") == found
    for named in (f"{base}/{TEMPORARY}", f"{base}/_temporary", f"{base}/_temp*/**/*.jsonl"):
        assert [text for _, text in read_all(named)] == [TEMPORARY.encode()]
        assert listing(named).warnings == ()


def test_nothing_else_is_there(base: str) -> None:
    fill(base, "_a.jsonl")
    with pytest.raises(ExactcptError) as caught:
        find(base)
    assert str(caught.value) == (
        "source 'books' matches no file\n"
        f"  where:    {base}\n"
        "  expected: a file, a folder with files of a known format, or a glob that matches some\n"
        f"  fix:      check the path; {base.replace('memory://', '/')} has: _a.jsonl; source "
        "'books': 1 file is left out, named like what other programs leave behind: _a.jsonl"
    )


def test_the_same_file_compressed(base: str) -> None:
    fill(base, "a.jsonl", "a.jsonl.gz", "b.jsonl.zst")
    found = listing(base)
    assert paths(found.files) == ["a.jsonl", "b.jsonl.zst"]
    assert found.warnings == (
        "source 'books': 1 file is left out, the same but for the compression: "
        "a.jsonl.gz (a.jsonl is read)",
    )


def test_training_data_is_read(base: str) -> None:
    fill(base, *(f"data/{split}-00000-of-00001.jsonl" for split in ("train", "test", "validation")))
    found = listing(base)
    assert paths(found.files) == ["data/train-00000-of-00001.jsonl"]
    assert found.warnings == (
        "source 'books': it has several splits. Read: the split train. Left out: 1 file of test "
        "(data/test-00000-of-00001.jsonl), 1 file of validation "
        "(data/validation-00000-of-00001.jsonl). To read another split add ,split=NAME; to read "
        "all files, ,split=all",
    )
    assert paths(find(f"{base}/data/t*")) == ["train-00000-of-00001.jsonl"]
    assert paths(find(base, split="test")) == ["data/test-00000-of-00001.jsonl"]
    everything = listing(base, split="all")
    assert len(everything.files) == 3
    assert everything.warnings == ()


def test_files_that_tell_no_split_are_read(base: str) -> None:
    fill(base, "moby-dick.jsonl", "emma.jsonl", "test-drive.jsonl")
    found = listing(base)
    assert paths(found.files) == ["emma.jsonl", "moby-dick.jsonl"]
    assert found.warnings == (
        "source 'books': it has several splits. Read: 2 files of no split. Left out: 1 file of "
        "test (test-drive.jsonl). To read another split add ,split=NAME; to read all files, "
        ",split=all",
    )
    fill(base, "training-manual.jsonl")
    assert paths(find(base)) == ["emma.jsonl", "moby-dick.jsonl", "training-manual.jsonl"]
    strict = listing(base, split="train")
    assert paths(strict.files) == ["training-manual.jsonl"]
    assert "2 files of no split (emma.jsonl, moby-dick.jsonl)" in strict.warnings[0]


def test_a_single_split_is_read(base: str) -> None:
    fill(base, "eval/a.jsonl", "eval/b.jsonl")
    found = listing(base)
    assert paths(found.files) == ["eval/a.jsonl", "eval/b.jsonl"]
    assert found.warnings == (
        "source 'books': all its files are of the split test, which is not for training",
    )
    assert listing(base, split="test").warnings == ()
    assert listing(f"{base}/eval").warnings == ()
    assert listing(f"{base}/eval/a.jsonl").warnings == ()


def test_several_splits_and_none_for_training(base: str) -> None:
    fill(base, "data/en-00000-of-00001.jsonl", "data/fr-00000-of-00001.jsonl")
    with pytest.raises(UsageError) as caught:
        find(base)
    assert str(caught.value) == (
        "source 'books' has several splits, and none is called train\n"
        f"  where:    {base}\n"
        "  expected: one of its splits: en, fr\n"
        "  fix:      choose one with ,split=NAME, or read all files with ,split=all"
    )
    assert paths(find(base, split="fr")) == ["data/fr-00000-of-00001.jsonl"]
    with pytest.raises(UsageError, match="source 'books' has no split 'dev'"):
        find(base, split="dev")


def test_a_split_that_no_name_tells(base: str) -> None:
    fill(base, "a.jsonl")
    assert paths(find(base, split="train")) == paths(find(base, split="all")) == ["a.jsonl"]
    for pattern in (base, f"{base}/a.jsonl"):
        with pytest.raises(UsageError) as caught:
            find(pattern, split="test")
        assert caught.value.found == "source 'books' has no split 'test'"
        assert caught.value.expected is not None
        assert caught.value.expected.startswith("names of files or folders that tell a split")


CARD = b"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: full/*
- config_name: sample
  data_files: sample/*
---
"""


def test_the_default_configuration_is_read(base: str) -> None:
    """Other configurations are often samples of the same data."""
    fill(base, "full/test.jsonl", "sample/a.jsonl", "other.jsonl")
    put(f"{base}/README.md", CARD)
    found = listing(base)
    assert paths(found.files) == ["full/test.jsonl"]
    assert found.warnings == (
        "source 'books' is read as jsonl; 1 file is left out: README.md",
        "source 'books': 2 files are left out, not listed for 'default' in README.md: "
        "other.jsonl, sample/a.jsonl",
    )
    assert len(find(base, split="all")) == 3
    assert len(find(f"{base}/**/*.jsonl")) == 2
    put(f"{base}/README.md", CARD.replace(b"default", b"en"))
    assert listing(base).warnings[1] == (
        "source 'books': README.md declares several configurations, and none is the default; the "
        "files of all are read: en, sample"
    )
    put(f"{base}/README.md", CARD.replace(b"full", b"none"))
    assert listing(base).warnings[1] == (
        "source 'books': README.md lists other files for 'default' than are here"
    )
    put(f"{base}/README.md", CARD.replace(b"data_files:", b"data_files: }"))
    assert (
        listing(base)
        .warnings[1]
        .startswith("source 'books': the configurations in README.md cannot be read: ")
    )


def test_pipes_and_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    fill(tmp_path, "a.jsonl", "folder.jsonl/part-0.jsonl")
    os.mkfifo("pipe.jsonl")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jsonl")
        Path("linked.jsonl").symlink_to("pipe.jsonl")
        for pattern in (".", "*", "**"):
            found = listing(pattern)
            assert paths(found.files) == ["a.jsonl", "folder.jsonl/part-0.jsonl"]
            assert found.warnings == (
                "source 'books': 3 files are left out, as pipes, sockets or devices: "
                "linked.jsonl, pipe.jsonl, socket.jsonl",
            )
        for named in ("pipe.jsonl", "linked.jsonl", "socket.jsonl"):
            with pytest.raises(ExactcptError) as caught:
                find(named)
            assert str(caught.value) == (
                "source 'books' is no regular file, but a pipe, a device or a socket\n"
                f"  where:    {named}\n"
                "  expected: a file on a disk: it is read more than once, by several processes\n"
                "  fix:      write the data to a file first"
            )


def test_streams() -> None:
    reading, writing = os.pipe()
    for name in ("-", "/dev/stdin", "/dev/null", f"/dev/fd/{reading}"):
        with pytest.raises(ExactcptError, match="is no regular file, but a pipe"):
            find(name, "jsonl")
    os.close(reading)
    os.close(writing)


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no shared memory")
def test_files_in_shared_memory_are_ordinary_ones() -> None:
    with tempfile.NamedTemporaryFile(dir="/dev/shm", suffix=".jsonl") as file:
        assert [found.url for found in listing(file.name).files] == [file.name]


FOLDERS = st.sampled_from(
    ["a", "_b", ".c", "test", "train", "x=_1", "_y=1", "tests", "data", "A b", "n\nl", "ü:::ß"]
)
FILES = st.builds(
    "{}{}{}".format,
    st.sampled_from(
        ["a", "A", "dev", "train-0", "_SUCCESS", "en-00000-of-00001", "a\nb", "README"]
    ),
    st.sampled_from([".jsonl", ".JSONL", ".md", ".csv", "", ".crc"]),
    st.sampled_from(["", ".gz", ".zst", "~", ".tmp"]),
)
NAMES = st.sets(
    st.builds(
        lambda folders, file: "/".join([*folders, file]), st.lists(FOLDERS, max_size=3), FILES
    ),
    min_size=1,
    max_size=12,
)


@given(names=NAMES, types=st.data(), split=st.sampled_from([None, "train", "test", "all"]))
def test_nothing_disappears(names: set[str], types: Any, split: str | None) -> None:
    """Every file is read, hidden, or counted and named in a warning."""
    kinds = st.sampled_from(["file", "file", "file", "other"])
    files = {name: {"type": types.draw(kinds), "size": 9} for name in sorted(names)}
    found = Found(source="s", where="x", wild="", files=files, read=lambda _: b"")
    told: list[str] = []

    def record(names: list[str], most: int = 0) -> str:
        told.extend(name.partition(" (")[0] for name in names)
        return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sifting, "first_names", record)
        try:
            sifted = sift(found, None, split)
        except ExactcptError as error:
            assert "several formats" in error.found or "split" in error.found
            return
    if not sifted.names:
        return  # an error then shows the folder
    hidden = {name for name in names if any(part.startswith(".") for part in name.split("/"))}
    assert sorted([*sifted.names, *told, *hidden]) == sorted(names)
    assert all(files[name]["type"] == "file" for name in sifted.names)
