import threading
from pathlib import Path

import pytest
from corpora import (
    EXPECTED,
    LFS,
    TEXTS,
    Records,
    find,
    jsonl,
    paths,
    read,
    read_all,
)

from exactcpt.pipeline.sources import hub
from exactcpt.pipeline.sources.reading import BadFileError
from exactcpt.pipeline.sources.splits import make_splits
from exactcpt.schemas.errors import ExactcptError, UsageError


@pytest.mark.filterwarnings("ignore")  # of datasets and what it imports
class TestDatasets:
    """Data sets of the library `datasets`, without a network."""

    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))

    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        import datasets

        rows = datasets.Dataset.from_dict({"text": TEXTS, "id": [i for i, _ in EXPECTED]})
        rows.save_to_disk(tmp_path / "saved", num_shards=3)
        (tmp_path / "saved" / "cache-0123.arrow").write_bytes(b"what map() leaves there")
        return tmp_path / "saved"

    def test_saved_to_disk(self, saved: Path) -> None:
        assert paths(find(saved)) == [f"data-0000{n}-of-00003.arrow" for n in range(3)]
        assert read_all(saved) == EXPECTED

    def test_a_dict_of_splits(self, tmp_path: Path) -> None:
        import datasets

        rows = datasets.Dataset.from_dict({"text": ["a"]})
        both = datasets.DatasetDict({"train": rows, "test": rows})
        both.save_to_disk(tmp_path / "both")
        with pytest.raises(ExactcptError) as caught:
            find(tmp_path / "both")
        assert str(caught.value) == (
            "this folder is a saved DatasetDict of several splits\n"
            f"  where:    {tmp_path / 'both'}\n"
            "  fix:      name one of its folders: test, train"
        )
        assert read_all(tmp_path / "both" / "train") == [("data-00000-of-00001.arrow:1", b"a")]

    @pytest.fixture
    def local(self, tmp_path: Path) -> Path:
        (tmp_path / "set").mkdir()
        for n in range(4):
            name = tmp_path / "set" / f"train-{n}.jsonl"
            name.write_bytes(b'{"text":"a%d"}\n{"text":"b%d"}\n' % (n, n))
        return tmp_path / "set"

    def test_by_name(self, local: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A folder stands in for a data set of the hub."""
        expected = [
            (f"set::train#{n}:{row}", b"%c%d" % (letter, n))
            for n in range(4)
            for row, letter in ((1, b"a"), (2, b"b"))
        ]
        assert read_all(local, file_format="hub") == expected
        monkeypatch.chdir(local.parent)
        [file] = find("set", "hub")
        assert (file.url, file.path, file.bytes) == (f"{local}::train", "set::train", None)
        assert [len(s.members) for s in make_splits([file], 1 << 20)] == [1] * 4

    def test_a_split(self, local: Path) -> None:
        for n in range(2):
            (local / f"test-{n}.jsonl").write_bytes(b'{"text":"t%d"}\n' % n)
        for pattern, split in (
            (local, "test"),
            (f"{local}::test", None),
            (f"{local}::test", "test"),
        ):
            [file] = find(pattern, "hub", split)
            assert (file.url, file.path) == (f"{local}::test", "set::test")
            assert [text for _, text in read(make_splits([file], 1))[0]] == [b"t0", b"t1"]
        assert find(local, "hub", "train") == find(local, "hub")
        with pytest.raises(UsageError) as caught:
            find(f"{local}::test", "hub", "train")
        assert caught.value.found == (
            "two splits are named: 'test' in the pattern, and split=train"
        )

    def test_both_ways_to_read_a_clone_agree(self, local: Path) -> None:
        (local / "test-0.jsonl").write_bytes(b'{"text":"held out"}\n')
        (local / "README.md").write_text(
            "---\nconfigs:\n- config_name: default\n  data_files:\n"
            "  - split: train\n    path: train-[12].jsonl\n"
            "  - split: test\n    path: [test-*]\n---\n"
        )
        for split in ("train", "test"):
            streamed, _ = read(make_splits(find(local, "hub", split), 1))
            direct, _ = read(make_splits(find(local, "jsonl", split), 1))
            assert [text for _, text in streamed] == [text for _, text in direct]

    def test_a_pointer_of_git_lfs(self, local: Path) -> None:
        (local / "train-2.jsonl").write_bytes(LFS)
        with pytest.raises(ExactcptError, match="this is a Git LFS pointer"):
            find(local, "hub")

    def test_a_changed_folder_has_another_stamp(self, local: Path) -> None:
        [before] = find(local, "hub")
        (local / "train-0.jsonl").write_bytes(jsonl("changed"))
        [after] = find(local, "hub")
        assert before.stamp != after.stamp

    def test_threads_read_shards_of_one_data_set(self, local: Path) -> None:
        [file] = find(local, "hub")
        found: dict[int, Records] = {}

        def work(shard: int) -> None:
            for _ in range(3):
                records: Records = []
                for table in hub.read_shard(file.url, shard):
                    records += [(str(shard), t.encode()) for t in table["text"].to_pylist()]
                found[shard] = records

        threads = [threading.Thread(target=work, args=(shard,)) for shard in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == {n: [(str(n), b"a%d" % n), (str(n), b"b%d" % n)] for n in range(4)}

    def test_a_name_nobody_knows(self, tmp_path: Path) -> None:
        with pytest.raises(ExactcptError) as caught:
            find("nobody/nothing", "hub")
        assert caught.value.found.startswith("cannot open the data set: ")
        assert caught.value.where == "nobody/nothing"

    def test_what_cannot_be_read(self, local: Path) -> None:
        (local / "train-3.jsonl").write_bytes(b"{")
        with pytest.raises(ExactcptError, match="cannot read the data set to its end") as caught:
            read_all(local, file_format="hub")
        assert not isinstance(caught.value, BadFileError)
