"""The token store beside a shard set is found if the set was packed from it."""

from pathlib import Path

import pytest
from harness import TOKENIZER, done, source, write_jsonl

from exactcpt.pipeline.files.storage import Folder
from exactcpt.pipeline.shard_set.beside import store_beside, store_place
from exactcpt.schemas.errors import FormatError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("beside")
    path = write_jsonl(at / "docs.jsonl", [{"text": f"some words {i}"} for i in range(9)])
    flags = [*source("docs", path), "--tokenizer", TOKENIZER, "--window", 16]
    done("prepare", *flags, "--out", at / "out")
    done("prepare", *flags, "--min-tokens", 2, "--out", at / "other")
    return at


@pytest.mark.parametrize("url", ["out", "out/", "memory://x/out", "memory://x/out/"])
def test_where_the_store_is_kept(url):
    assert store_place(Folder(url)).url == f"{url.rstrip('/')}.store"


@pytest.mark.slow
def test_the_store_that_the_set_was_packed_from(prepared):
    assert store_beside(Folder(f"{prepared}/out")) == Folder(f"{prepared}/out.store")


def shards_beside(tmp_path: Path, shards: bytes | None, store: bytes | None) -> Folder:
    for name, data in (("out", shards), ("out.store", store)):
        if data is not None:
            (tmp_path / name).mkdir()
            (tmp_path / name / "manifest.json").write_bytes(data)
    return Folder(f"{tmp_path}/out")


@pytest.mark.slow
def test_no_store_no_set_or_the_store_of_another_set(prepared, tmp_path):
    shards = (prepared / "out" / "manifest.json").read_bytes()
    other = (prepared / "other.store" / "manifest.json").read_bytes()
    for i, manifests in enumerate([(shards, None), (None, other), (shards, other), (None, None)]):
        (tmp_path / str(i)).mkdir()
        assert store_beside(shards_beside(tmp_path / str(i), *manifests)) is None


def test_a_damaged_manifest_is_not_passed_over(tmp_path):
    with pytest.raises(FormatError):
        store_beside(shards_beside(tmp_path, b"{", b"{}"))
