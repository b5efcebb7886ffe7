"""What a run reads through at its first start, and what again when it continues."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny import config, shard_set, shards_and_model

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.schemas.shard_set import ShardSet
from exactcpt.training.run import checked
from exactcpt.training.run.log import read_run
from exactcpt.training.train import train

pytestmark = pytest.mark.slow

SHARD = "train/shard-00000-of-00002.arrow"


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """Names of the folders that are read through."""
    found: list[str] = []
    contents, counts, hashed = (
        ShardSet.check_contents,
        ShardSet.check_counts,
        checked.model_fingerprint,
    )

    def check_contents(self: ShardSet, *ranks: int) -> None:
        found.append(self.root.name)
        contents(self, *ranks)

    def check_counts(self: ShardSet) -> None:
        found.append(f"counts of {self.root.name}")
        counts(self)

    def fingerprint(model: Path) -> str:
        found.append(model.name)
        return hashed(model)

    monkeypatch.setattr(ShardSet, "check_contents", check_contents)
    monkeypatch.setattr(ShardSet, "check_counts", check_counts)
    monkeypatch.setattr(checked, "model_fingerprint", fingerprint)
    return found


@pytest.fixture
def made(tmp_path) -> Path:
    return shards_and_model(tmp_path)


EVERYTHING = ["shards", "counts of shards", "model"]


def start(made: Path, read: list[str], **settings: Any) -> list[str]:
    """Starts the run, new or not; what was read through."""
    read.clear()
    train(config(made, made / "run", save_every=0, **({"steps": 1} | settings)), lambda _: None)
    return [*read]


def test_once(made, read):
    assert start(made, read) == EVERYTHING
    assert start(made, read, steps=2) == []
    assert start(made, read, steps=2, check_shards="checksums") == EVERYTHING
    assert start(made, read, steps=2) == []


def test_shards_that_were_not_read_through_yet(made, read):
    assert start(made, read, check_shards="sizes") == ["model"]
    assert read_run(made / "run")["checked"] == []
    assert start(made, read) == ["shards", "counts of shards"]
    other = shard_set(made / "other", times=2)
    settings = {"eval": {"other": str(other)}, "steps": 2, "eval_every": 9}
    assert start(made, read, **settings) == ["other"]
    assert start(made, read, **settings) == []


def test_a_record_of_an_older_version(made, read, monkeypatch):
    from exactcpt.training.run import start as module

    with monkeypatch.context() as patch:
        patch.setattr(module, "record_of_checks", lambda *_: {})
        start(made, read)
    assert "checked" not in read_run(made / "run")
    assert start(made, read) == EVERYTHING


def test_an_altered_shard_is_found(made, read):
    start(made, read)
    data = bytearray((made / "shards" / SHARD).read_bytes())
    data[len(data) // 2] ^= 1
    (made / "shards" / SHARD).write_bytes(data)
    with pytest.raises(FormatError, match="the file was altered"):
        start(made, read)


def test_a_copy_is_read_through(made, read):
    start(made, read)
    shutil.copytree(made / "shards", made / "copy")
    assert start(made, read, shards=str(made / "copy")) == ["copy", "counts of copy"]
    assert start(made, read, shards=str(made / "copy")) == []


def test_a_model_whose_files_have_changed(made, read):
    start(made, read)
    weights = made / "model" / "model.safetensors"
    os.utime(weights)
    assert start(made, read) == ["model"]
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(UsageError, match="the run cannot continue with other inputs:\n    model: "):
        start(made, read)
