import pytest

from exactcpt.pipeline.sources.leftovers import is_hidden, is_leftover

LEFTOVERS = [
    *("_SUCCESS", "_metadata", "_temporary/0/task_1/part-00000.parquet", "a/_old/b.jsonl"),
    *("__MACOSX/a.jsonl", "__pycache__/a.json", "lost+found/a.jsonl", "beam-temp-x/a.jsonl"),
    *("a.jsonl.tmp", "a.jsonl.TMP", "a.jsonl.lock", "a.jsonl._COPYING_", "a.jsonl.incomplete"),
    *("part-0.inprogress", "part-0.inprogress.31c", "a.jsonl.partial", "a.jsonl.crdownload"),
    *("a.jsonl~", "#a.txt#", "a.jsonl.bak", "a.txt.swp", "a.jsonl.aria2", "a.jsonl.download"),
    *("part-00000.crc", "a.jsonl.sha256", "a.jsonl.asc"),
    *("cache-0123456789abcdef.arrow", "s/cache-0123_00000_of_00002.arrow", "tmp0a_z9kq1"),
]
DATA = [
    *("a.jsonl", "part-00000", "_year=2020/a.parquet", "x/_year=2020/_day=1/a.parquet"),
    *("a_.jsonl", "my_temporary/a.jsonl", "tmp.jsonl", "tmp/a.jsonl", "template.txt", "temp/a.txt"),
    *("cache-coherence.txt", "lock.txt", "locks/a.txt", "download/a.txt", "a.partial.jsonl"),
    *("lost+found.txt", "crc.jsonl", "data-00000-of-00001.arrow", "tmp0a_z9kq1.jsonl"),
]


@pytest.mark.parametrize("name", LEFTOVERS)
def test_leftovers(name: str) -> None:
    assert is_leftover(name, "")
    assert is_leftover(f"deep/below/{name}", "*")
    assert not is_hidden(name, "")


@pytest.mark.parametrize("name", DATA)
def test_data(name: str) -> None:
    assert not is_leftover(name, "")
    assert not is_leftover(f"deep/below/{name}", "*")


@pytest.mark.parametrize("name", [".a.jsonl", ".git/a.jsonl", "a/.ipynb_checkpoints/b.jsonl"])
def test_hidden(name: str) -> None:
    assert is_hidden(name, "")
    assert is_hidden(name, "**/*.jsonl")


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("_kept/a.jsonl", "_kept/*.jsonl"),
        ("a/_kept/b.jsonl", "*/_*/*.jsonl"),
        ("_a.jsonl", "_*.jsonl"),
        ("x.tmp", "*.tmp"),
        (".a.jsonl", ".*.jsonl"),
        (".kept/a.jsonl", ".k*/*"),
    ],
)
def test_what_a_pattern_spells_out_is_asked_for(name: str, pattern: str) -> None:
    assert not is_hidden(name, pattern)
    assert not is_leftover(name, pattern)
    assert is_hidden(f"{name}/.x", pattern)
    assert is_leftover(f"_x/{name}", pattern)
