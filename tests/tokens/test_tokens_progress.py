"""How far tokenization is: an estimate that what is known mends, until it is exact."""

import pytest
from stores import splits_of, summaries, task_of, write_jsonl

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.job.progress import Count
from exactcpt.pipeline.tokens.progress import TokensDone
from exactcpt.pipeline.tokens.units import scan_files, scan_tasks, tokenize_split


@pytest.fixture
def stages(tmp_path):
    """A store of a few splits, each of several parts: yields after each split."""
    write_jsonl(tmp_path / "in" / "a.jsonl", [f"one two {i} " * (i % 40) for i in range(400)])
    splits = splits_of({"a": tmp_path / "in"}, 30_000)
    task = task_of(tmp_path / "store", split_bytes=10_000)
    newlines = {}
    for scan in scan_tasks(splits):
        newlines |= scan_files(scan, task.store)
    assert len(splits) > 3

    def tokenized():
        for split in splits:
            yield split
            tokenize_split(split, task, newlines)

    return splits, tmp_path / "store", tokenized


@pytest.mark.parametrize("wrong", [0.2, 1, 5])
def test_the_total_is_mended(stages, wrong):
    """However wrong the estimate, the end is right."""
    splits, store, tokenized = stages
    sure = TokensDone(Folder(str(store)), splits, None)
    for _ in tokenized():
        pass
    tokens = sure().done
    assert tokens == sum(summary["tokens"] for summary in summaries(store))
    expected = int(tokens * wrong)
    counts = TokensDone(Folder(str(store)), splits, expected)
    assert counts() == Count(tokens, tokens, about=True)


def test_parts_count_as_they_come(stages):
    splits, store, tokenized = stages
    found = TokensDone(Folder(str(store)), splits, 100_000)
    counts = [found() for _ in tokenized()] + [found()]
    assert counts[0] == Count(0, 100_000, about=True)
    assert [count.done for count in counts] == sorted({count.done for count in counts})
    assert all(count.done < count.total for count in counts[:-1])
    assert counts[-1].done == counts[-1].total
    guessed = [count.total - count.done for count in counts]
    assert guessed == sorted(guessed, reverse=True)


def test_what_is_begun_is_a_part_of_the_estimate(stages):
    splits, store, tokenized = stages
    for _ in tokenized():
        pass
    lost = max(store.glob("parts/000001-*.json"))
    lost.unlink()
    found = TokensDone(Folder(str(store)), splits, 100_000)()
    of_split = sum(s["tokens"] for s in summaries(store) if s["part"].startswith("000001-"))
    work = splits[1].work / sum(split.work for split in splits)
    assert of_split > 0
    assert found.total == found.done + int(100_000 * work) - of_split


def test_nobody_knows(stages):
    splits, store, _ = stages
    assert TokensDone(Folder(str(store)), splits, None)() == Count(0, None, about=True)


def test_a_summary_is_read_once(stages, monkeypatch):
    """On a server each reading is a request, and there are many summaries."""
    splits, store, tokenized = stages
    for _ in tokenized():
        pass
    asked: list[str] = []
    read = Folder.read

    def noted(self: Folder, name: str) -> bytes:
        asked.append(name)
        return read(self, name)

    monkeypatch.setattr(Folder, "read", noted)
    found = TokensDone(Folder(str(store)), splits, None)
    assert found() == found()
    assert sorted(asked) == sorted({*asked})
    assert len(asked) > 5
