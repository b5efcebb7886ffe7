"""Windows in the formats of other trainers: what another hand writes, byte for byte."""

import json
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pytest
from handmade import Corpus, Document, edit_manifest, edit_shard, write_shards, write_store
from harness import done, run
from hypothesis import given
from hypothesis import strategies as st
from token_files import write_mds as mds_by_hand
from token_files import write_megatron as megatron_by_hand

from exactcpt.pipeline.convert import checked, mds
from exactcpt.pipeline.convert.checked import Window, checked_windows
from exactcpt.pipeline.convert.megatron import write_megatron
from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.shard_set.recognize import open_shard_set
from exactcpt.schemas.errors import FormatError

COLUMNS = {
    "input_ids": "ndarray:int32",
    "loss_weight": "ndarray:float32",
    "seq_lengths": "ndarray:int32",
}
SPLITS = ("train", "validation")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set with several shards, padding, and weights above 1."""
    lengths = [40, 3, 1, 90, 64, 2, 17, 300, 5, 66]
    documents = [
        *(Document(n) for n in lengths),
        *(Document(n, split="validation") for n in (30, 70)),
    ]
    corpus = Corpus([("a", documents)], packing="best_fit", windows_per_shard=3)
    folder = tmp_path_factory.mktemp("convert")
    write_store(folder / "store", corpus)
    write_shards(folder / "shards", corpus, folder / "store")
    return folder / "shards"


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> Path:
    """One that a test may damage."""
    return shutil.copytree(made, tmp_path / "shards")


def convert(shards: Path, to: str, out: Path) -> harness.Outcome:
    return run("convert", shards, "--to", to, "--out", out)


def rows(shards: Path, split: str) -> list[dict[str, Any]]:
    return [
        {name: np.array(row[name], kind.partition(":")[2]) for name, kind in COLUMNS.items()}
        for row in harness.windows(shards, split)
    ]


def same(one: Path, two: Path) -> bool:
    return harness.files(one) == harness.files(two)


def test_mds_is_what_another_hand_writes(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done("convert", made, "--to", "mds", "--out", out)
    assert len(harness.manifest(made)["shards"]["train"]) > 1
    for split in SPLITS:
        mds_by_hand(tmp_path / "hand" / split, [rows(made, split)], COLUMNS, hashes=["sha1"])
    assert same(out, tmp_path / "hand")


def test_megatron_is_what_another_hand_writes(made: Path, tmp_path: Path) -> None:
    out, hand = tmp_path / "out", tmp_path / "hand"
    done("convert", made, "--to", "megatron", "--out", out)
    hand.mkdir()
    for split in SPLITS:
        for name, column, kind in (("", "input_ids", "u2"), ("_weights", "loss_weight", "f4")):
            windows = [
                np.split(row[column], np.cumsum(row["seq_lengths"])[:-1])
                for row in rows(made, split)
            ]
            megatron_by_hand(hand / f"{split}{name}", windows, kind)
    assert same(out, hand)


windows = st.lists(
    st.lists(st.integers(1, 5), min_size=1, max_size=4).map(
        lambda lengths: Window(
            ids=np.arange(sum(lengths), dtype=np.int32),
            weights=np.linspace(0, 2, sum(lengths), dtype=np.float32),
            lengths=np.array(lengths, np.int32),
        )
    ),
    max_size=12,
)


@given(windows=windows, shard_bytes=st.integers(300, 1000))
def test_mds_shards_are_no_larger_than_they_may_be(
    tmp_path_factory: pytest.TempPathFactory, windows: list[Window], shard_bytes: int
) -> None:
    folder = tmp_path_factory.mktemp("mds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mds, "SHARD_BYTES", shard_bytes)
        mds.write_mds(windows, folder / "out")
    index = json.loads((folder / "out" / "index.json").read_text())
    counts = [shard["samples"] for shard in index["shards"]]
    assert sum(counts) == len(windows)
    assert all(counts)
    for shard in index["shards"]:
        assert shard["samples"] == 1 or shard["raw_data"]["bytes"] <= shard_bytes
    values = [
        {"input_ids": w.ids, "loss_weight": w.weights, "seq_lengths": w.lengths} for w in windows
    ]
    ends = np.cumsum([0, *counts])
    parts = [values[a:b] for a, b in pairwise(ends.tolist())]
    mds_by_hand(folder / "hand", parts, COLUMNS, hashes=["sha1"])
    assert same(folder / "out", folder / "hand")


def test_an_mds_shard_may_have_just_the_size_that_it_may_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = np.arange(3, dtype=np.int32)
    window = Window(ids=ids, weights=np.ones(3, np.float32), lengths=np.array([3], np.int32))
    config = len(json.dumps({**mds.CONFIG}))
    sample = 3 * 4 + 3 * 2 + 3 * 4 + 3 * 4 + 4
    size = 4 + 4 * 3 + config + 2 * sample
    for limit, shards in ((size, 1), (size - 1, 2)):
        monkeypatch.setattr(mds, "SHARD_BYTES", limit)
        mds.write_mds([window, window], tmp_path / str(limit))
        index = json.loads((tmp_path / str(limit) / "index.json").read_text())
        assert len(index["shards"]) == shards


@pytest.mark.parametrize(("largest_id", "kind"), [(65_498, "u2"), (65_499, "i4")])
def test_megatron_ids_are_as_wide_as_the_vocabulary_needs(
    tmp_path: Path, largest_id: int, kind: str
) -> None:
    window = Window(
        ids=np.array([1, largest_id], np.int32),
        weights=np.array([0, 1], np.float32),
        lengths=np.array([2], np.int32),
    )
    write_megatron([window], tmp_path / "a", largest_id)
    megatron_by_hand(tmp_path / "b", [[[1, largest_id]]], kind)
    for suffix in (".bin", ".idx"):
        ours, other = (tmp_path / f"{name}{suffix}" for name in "ab")
        assert ours.read_bytes() == other.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("to", "options"), [("mds", ",tokens=input_ids"), ("megatron", "")])
def test_it_can_be_read_back(made: Path, tmp_path: Path, to: str, options: str) -> None:
    done("convert", made, "--to", to, "--out", tmp_path / "out")
    pattern = f"{tmp_path}/out/train" + {"mds": "", "megatron": ".bin"}[to]
    tokenizer = ["--tokenizer", harness.TOKENIZER]
    store = tmp_path / "store"
    done("tokenize", f"--source=again={pattern}{options}", *tokenizer, "--out", store)
    found = [*harness.stored(store).values()]
    expected = [row["input_ids"] for row in harness.windows(made)]
    assert [ids[: len(row)] for ids, row in zip(found, expected, strict=True)] == expected


@pytest.mark.parametrize("to", ["mds", "megatron", "parquet"])
class TestTheFolder:
    def test_stays_when_the_same_command_runs_again(
        self, made: Path, tmp_path: Path, to: str
    ) -> None:
        out = tmp_path / "out"
        assert convert(made, to, out).code == 0
        before = harness.files(out), out.stat().st_ino
        again = convert(made, to, out)
        assert again.code == 0
        assert again.err.endswith(f"{out} is complete\n")
        assert (harness.files(out), out.stat().st_ino) == before

    def test_that_holds_something_else_is_kept(self, made: Path, tmp_path: Path, to: str) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "mine").write_text("mine")
        found = convert(made, to, tmp_path / "out")
        assert found.code == 2
        assert "error: the folder to write exists, and its mine is not what would be" in found.err
        assert [*harness.files(tmp_path / "out")] == ["mine"]
        assert not (tmp_path / "out.partial").exists()

    def test_is_whole_or_not_there(
        self, made: Path, tmp_path: Path, to: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = 0

        def fail(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise OSError(28, "No space left on device")
            return original(*arguments)

        original = checked.check_batch
        monkeypatch.setattr(checked, "check_batch", fail)
        assert convert(made, to, tmp_path / "out").code == 1
        assert [*tmp_path.iterdir()] == []

    def test_left_by_a_killed_run_is_begun_anew(self, made: Path, tmp_path: Path, to: str) -> None:
        left = tmp_path / "out.partial" / "train"
        left.mkdir(parents=True)
        (left / "shard.00099.mds").write_bytes(b"half")
        assert convert(made, to, tmp_path / "out").code == 0
        assert not left.exists()
        assert convert(made, to, tmp_path / "other").code == 0
        assert same(tmp_path / "out", tmp_path / "other")

    def test_has_no_split_without_windows(self, tmp_path: Path, to: str) -> None:
        corpus = Corpus([("a", [Document(200)])])
        write_store(tmp_path / "store", corpus)
        write_shards(tmp_path / "shards", corpus, tmp_path / "store")
        assert convert(tmp_path / "shards", to, tmp_path / "out").code == 0
        assert not [*(tmp_path / "out").glob("validation*")]

    def test_is_local(self, made: Path, to: str) -> None:
        found = run("convert", made, "--to", to, "--out", "memory://out")
        assert found.code == 2
        assert "the folder to write is not on a local disk" in found.err

    def test_is_apart_from_the_set(self, shards: Path, to: str) -> None:
        assert convert(shards, to, shards / "out").code == 2
        assert not (shards / "out").exists()


class TestADamagedSet:
    def refused(self, shards: Path, found: str) -> None:
        out = shards.parent / "out"
        outcome = convert(shards, "mds", out)
        assert outcome.code == 1
        assert found in outcome.err
        assert not out.exists()
        assert not out.with_name("out.partial").exists()

    def shard(self, shards: Path) -> Path:
        return sorted((shards / "train").glob("*.arrow"))[-1]

    def test_a_flipped_bit(self, shards: Path) -> None:
        path = self.shard(shards)
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(bytes(data))
        self.refused(shards, "a file of the shard set is damaged")

    def test_truncated(self, shards: Path) -> None:
        path = self.shard(shards)
        path.write_bytes(path.read_bytes()[:-1])
        self.refused(shards, "a file of the shard set is damaged")

    def test_missing(self, shards: Path) -> None:
        self.shard(shards).unlink()
        self.refused(shards, "a file of the shard set is missing")

    def test_a_window_that_is_none(self, shards: Path) -> None:
        def edit(columns: dict[str, list[Any]]) -> None:
            columns["seq_lengths"][0][0] += 1

        edit_shard(shards, str(self.shard(shards).relative_to(shards)), edit)
        self.refused(shards, "window ")

    def test_an_id_outside_the_vocabulary(self, shards: Path) -> None:
        def edit(columns: dict[str, list[Any]]) -> None:
            columns["input_ids"][0][0] = 1 << 20

        edit_shard(shards, str(self.shard(shards).relative_to(shards)), edit)
        self.refused(shards, "has the id 1048576")

    def test_replaced_meanwhile(self, shards: Path) -> None:
        folder = Folder(str(shards))
        manifest = open_shard_set(folder)
        found = checked_windows(folder, manifest, "train", lambda entry: None)
        next(found)
        edit_manifest(shards, lambda m: m["warnings"].append("another one"))
        with pytest.raises(FormatError, match="the shard set was replaced while it was read"):
            list(found)
