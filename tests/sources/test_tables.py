from pathlib import Path

import pytest
from corpora import find, jsonl, listing, paths, put

from exactcpt.schemas.errors import ExactcptError

LOGS = {
    "Delta": "_delta_log/00000000000000000000.json",
    "Iceberg": "metadata/00000-ba2e.metadata.json",
    "Hudi": ".hoodie/hoodie.properties",
}


@pytest.mark.parametrize("kind", LOGS)
@pytest.mark.parametrize("place", ["local", "memory"])
def test_a_table_keeps_older_versions(tmp_path: Path, memory: str, place: str, kind: str) -> None:
    base = memory if place == "memory" else str(tmp_path)
    for folder in ("table", f"table/{LOGS[kind]}".rpartition("/")[0]):
        (tmp_path / folder).mkdir(exist_ok=True)
    put(f"{base}/table/a.jsonl", jsonl("a"))
    put(f"{base}/table/{LOGS[kind]}", b"{}")
    for pattern, where in (("/table", ""), ("", "table in "), ("/*", "table in ")):
        with pytest.raises(ExactcptError) as caught:
            find(f"{base}{pattern}", "jsonl")
        assert str(caught.value) == (
            f"source 'books' has a {kind} table: its files also hold the rows of older versions\n"
            f"  where:    {where}{base}{pattern}\n"
            "  expected: files of which every row is read once\n"
            "  fix:      write the current version of the table to Parquet files of its own, and "
            "name these"
        )
    assert paths(find(f"{base}/table/a.jsonl")) == ["a.jsonl"]


@pytest.mark.parametrize("kind", LOGS)
@pytest.mark.parametrize("place", ["local", "memory"])
def test_files_of_a_table(tmp_path: Path, memory: str, place: str, kind: str) -> None:
    base = memory if place == "memory" else str(tmp_path)
    for name in ("table/year=2020/a.jsonl", f"table/{LOGS[kind]}", "metadata/a.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        put(f"{base}/{name}", jsonl("a"))
    patterns = ["/table/y*", "/table/**/*.jsonl", "/table/y*/*.jsonl"]
    for pattern in [*patterns, *(["/table/year=2020"] if place == "local" else [])]:
        found = listing(f"{base}{pattern}")
        assert paths(found.files)[0].endswith("a.jsonl")
        assert found.warnings == (
            f"source 'books': its files are part of a {kind} table; they may hold rows of older "
            "versions",
        )


def test_a_folder_called_metadata_makes_no_table(memory: str) -> None:
    for name in ("a/b.jsonl", "metadata/about.jsonl"):
        put(f"{memory}/{name}", jsonl("a"))
    assert paths(find(memory)) == ["a/b.jsonl", "metadata/about.jsonl"]
    assert listing(f"{memory}/a").warnings == ()
