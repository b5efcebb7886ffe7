from fnmatch import fnmatch
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.pipeline.core.choices import FORMATS, Format
from exactcpt.pipeline.sources.formats import Choice, choose, format_of

NAMES = (
    "a.jsonl",
    "b.json.gz",
    "c.parquet",
    "d.arrow",
    "e.txt",
    "f.TEXT.zst",
    "notes.md",
    "README.md",
    "sub/README.txt",
    "sub/LICENSE",
    "part-00000",
    "g.csv",
    "h.jsonl.bz2",
    "dataset_infos.json",
    "sub/tokenizer.json",
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jsonl", ("jsonl", None)),
        ("a/B.JSON.GZ", ("jsonl", "gzip")),
        ("a.txt.zstd", ("text", "zstd")),
        ("a.parquet", ("parquet", None)),
        ("a.parquet.gz", (None, "gzip")),
        ("part-00000", (None, None)),
        ("a.jsonl.bz2", ("jsonl", "bzip2")),
        ("a.md.XZ", ("text", "xz")),
        ("a.jsonl.lz4", (None, None)),
    ],
)
def test_the_format_by_the_name(name, expected):
    assert format_of(name) == expected


def is_companion(name: str) -> bool:
    base = PurePosixPath(name).name
    return any(
        fnmatch(base, pattern)
        for pattern in ("README*", "LICENSE*", "*.md", "dataset_infos.json", "tokenizer.json")
    )


def say(name: str, kind: Format) -> bool:
    return format_of(name)[0] == kind


def expected_formats(names: list[str], wanted: Format | None) -> dict[Format, list[str]]:
    """The rules one after the other, as the module tells them."""
    data = [name for name in names if not is_companion(name)]
    if wanted is None:
        for some in (data, names):
            found = {f: [n for n in some if say(n, f)] for f in FORMATS}
            found = {f: mine for f, mine in found.items() if mine}
            if found:
                break
    else:
        rules = (
            [n for n in data if say(n, wanted)],
            [n for n in names if format_of(n)[0] is None],
            [n for n in names if say(n, wanted)],
            names,
        )
        found: dict[Format, list[str]] = {wanted: next((mine for mine in rules if mine), [])}
    if "text" in found:
        texts = [n for n in names if is_companion(n) and say(n, "text")]
        found["text"] = sorted({*found["text"], *texts})
    return found


@given(
    names=st.lists(st.sampled_from(NAMES), unique=True).map(sorted),
    wanted=st.sampled_from([None, "jsonl", "parquet", "arrow", "text"]),
)
def test_the_rules(names, wanted):
    choice = choose(names, wanted)
    assert choice.formats == expected_formats(names, wanted)
    read = {name for some in choice.formats.values() for name in some}
    assert choice.left_out == [name for name in names if name not in read]


@pytest.mark.parametrize(
    ("names", "wanted", "read", "left_out"),
    [
        (["README.md", "a.jsonl", "b.xls"], None, ["a.jsonl"], ["README.md", "b.xls"]),
        (["LICENSE", "README.md", "a.txt"], None, ["README.md", "a.txt"], ["LICENSE"]),
        (["README.md", "notes.md"], None, ["README.md", "notes.md"], []),
        (["a.jsonl", "dataset_infos.json"], None, ["a.jsonl"], ["dataset_infos.json"]),
        (["tokenizer.json"], None, ["tokenizer.json"], []),
        (["README.md", "a.py", "b.py"], "text", ["README.md", "a.py", "b.py"], []),
        (["README.md", "part-0", "x.parquet"], "jsonl", ["part-0"], ["README.md", "x.parquet"]),
        (["a.txt", "b.txt"], "jsonl", ["a.txt", "b.txt"], []),
        (["a.jsonl", "b.txt"], "text", ["b.txt"], ["a.jsonl"]),
    ],
)
def test_folders_as_people_have_them(names, wanted, read, left_out):
    choice = choose(names, wanted)
    [(_, found)] = choice.formats.items()
    assert (found, choice.left_out) == (read, left_out)


def test_several_formats_are_all_named():
    assert choose(["README.md", "a.jsonl", "b.parquet", "c.txt"], None) == Choice(
        formats={"jsonl": ["a.jsonl"], "parquet": ["b.parquet"], "text": ["README.md", "c.txt"]},
        left_out=[],
    )
