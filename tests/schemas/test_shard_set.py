import os
from pathlib import Path

import pytest
from handmade import edit_manifest
from tiny import shard_set

from exactcpt.schemas.errors import FormatError, IncompleteError, UsageError
from exactcpt.schemas.shard_set import open_set


@pytest.fixture
def folder(tmp_path) -> Path:
    return shard_set(tmp_path / "shards")


SHARD = "train/shard-00001-of-00002.arrow"


def test_an_unaltered_set(folder):
    opened = open_set(folder)
    opened.check_contents()
    assert opened.window == 64
    assert opened.fingerprint == open_set(str(folder)).fingerprint
    assert opened.dictionary("train")[0] == 0
    assert opened.dictionary("train").max() > 1
    assert opened.dictionary("validation").tolist() == [0.0, 1.0, 1.0, 1.0, 1.0]


def test_an_unfinished_set(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(IncompleteError) as caught:
        open_set(folder)
    assert str(caught.value) == (
        "there is no manifest, so the shards are not finished\n"
        f"  where:    {folder}\n"
        "  expected: a file manifest.json, which is written last\n"
        "  fix:      run the job that writes them again; it continues where it stopped"
    )


def test_a_newer_format(folder):
    edit_manifest(folder, lambda manifest: manifest.update(format_version=3))
    with pytest.raises(FormatError, match="the exactcpt shard set has format version 3"):
        open_set(folder)


@pytest.mark.parametrize("name", [SHARD, "tokenizer.json"])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(IncompleteError, match="is missing"):
        open_set(folder)


def test_a_shard_of_another_size(folder):
    os.truncate(folder / SHARD, 4096)
    with pytest.raises(FormatError) as caught:
        open_set(folder)
    assert str(caught.value).startswith(
        f"the file was altered: 4,096 bytes\n  where:    {folder / SHARD}\n  expected: "
    )


@pytest.mark.parametrize("name", [SHARD, "validation/shard-00000-of-00001.arrow"])
def test_one_changed_token(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    opened = open_set(folder)
    with pytest.raises(FormatError, match="the file was altered: xxh3-128"):
        opened.check_contents()


def test_ranks_share_the_work(folder):
    (folder / SHARD).write_bytes(bytes((folder / SHARD).stat().st_size))
    opened = open_set(folder)
    outcomes = []
    for rank in range(3):
        try:
            opened.check_contents(rank, 3)
            outcomes.append("ok")
        except FormatError as error:
            outcomes.append(Path(error.where or "").name)
    assert sorted(outcomes) == ["ok", "ok", Path(SHARD).name]


def test_another_tokenizer(folder):
    with (folder / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(FormatError, match="sha256"):
        open_set(folder).check_contents()


def test_no_folder(tmp_path):
    with pytest.raises(UsageError, match="there is no such folder"):
        open_set(tmp_path / "none")


def test_another_histogram(folder):
    """It agrees with all else in the manifest, and with no window."""

    def edit(manifest):
        source, split = manifest["sources"][0], manifest["splits"]["train"]
        for counts in (source["splits"]["train"]["histogram"], split["histogram"]):
            counts[0] -= 2
            counts[1] += 2
        for row, count in zip(manifest["weights"]["table"], split["histogram"], strict=True):
            row["targets"] = count

    open_set(folder).check_counts()
    edit_manifest(folder, edit)
    with pytest.raises(FormatError, match="the shards have the histogram"):
        open_set(folder).check_counts()


def test_a_manifest_that_contradicts_itself(folder):
    edit_manifest(folder, lambda m: m["shards"]["train"][0].update(windows=2**40))
    with pytest.raises(FormatError, match="the manifest has 10 windows in train"):
        open_set(folder)


def test_a_link_out_of_the_set(folder):
    (folder / SHARD).rename(folder.parent / "elsewhere")
    (folder / SHARD).symlink_to(folder.parent / "elsewhere")
    with pytest.raises(FormatError, match="a file leads out of its folder"):
        open_set(folder)
