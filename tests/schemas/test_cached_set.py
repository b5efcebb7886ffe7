"""A shard set on a server is copied once, whole and checked."""

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from faulty import FaultyFileSystem
from handmade import edit_manifest
from harness import files
from tiny import shard_set

from exactcpt.schemas.cached_set import CACHE, cache_folder, cached_set
from exactcpt.schemas.errors import ExactcptError, FormatError, IncompleteError
from exactcpt.schemas.remote import resolve
from exactcpt.schemas.remote_errors import RemoteError
from exactcpt.schemas.shard_set import open_set

URL = "faulty://bucket/shards"
SHARD = "train/shard-00001-of-00002.arrow"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shard_set(tmp_path_factory.mktemp("made") / "shards")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def server(made: Path) -> Iterator[None]:
    FaultyFileSystem.reset()
    upload(made)
    yield
    FaultyFileSystem.reset()


def upload(folder: Path) -> None:
    fs, _ = resolve(URL)
    for path in folder.rglob("*"):
        if path.is_file():
            fs.pipe_file(f"/bucket/shards/{path.relative_to(folder)}", path.read_bytes())
    FaultyFileSystem.requests.clear()


def downloads() -> list[str]:
    """What was asked for, without the manifest."""
    names = [path.removeprefix("/bucket/shards/") for _, path in FaultyFileSystem.requests]
    return sorted(name for name in names if name != "manifest.json")


def trained_from(folder: Path) -> dict[str, str]:
    """The files that training reads."""
    return {name: each for name, each in files(folder).items() if "documents" not in name}


def test_a_set_is_copied_once(made: Path, cache: Path) -> None:
    said: list[str] = []
    opened = open_set(URL, said.append)
    opened.check_contents()
    assert opened.root.parent.parent == cache
    assert opened.fingerprint == open_set(made).fingerprint == opened.root.name
    assert files(opened.root) == trained_from(made)
    assert downloads() == sorted({*trained_from(made)} - {"manifest.json"})
    (line,) = said
    assert line.startswith("copying 4 files, ")
    assert line.endswith(f" from {URL} to {opened.root}")
    assert open_set(f"{URL}/", said.append).root == opened.root
    assert len(downloads()) == 4
    assert len(said) == 1


def test_many_share_a_copy(made: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        (folder,) = {*pool.map(cached_set, [URL] * 8)}
    assert files(folder) == trained_from(made)
    assert len(downloads()) == 4


def test_a_copy_that_was_cut_off_goes_on(made: Path, cache: Path) -> None:
    def fault(what: str, path: str) -> None:
        if path.endswith(SHARD):
            raise PermissionError("no")

    FaultyFileSystem.fault = staticmethod(fault)
    with pytest.raises(RemoteError, match="denies access"):
        cached_set(URL)
    (partial,) = (each for each in (cache / "shard-sets").iterdir() if each.is_dir())
    assert not (partial / "manifest.json").exists()
    assert not (partial / SHARD).exists()
    left = partial / "train" / ".shard-00001-of-00002.arrow.0123.tmp"
    left.write_bytes(b"of a process that was killed")
    FaultyFileSystem.fault = staticmethod(lambda *_: None)
    FaultyFileSystem.requests.clear()
    assert files(cached_set(URL)) == trained_from(made)
    assert SHARD in downloads()
    assert len(downloads()) < 4
    assert not left.exists()


def test_a_file_that_is_gone_from_the_copy_is_copied_again(made: Path) -> None:
    (cached_set(URL) / SHARD).unlink()
    FaultyFileSystem.requests.clear()
    assert files(cached_set(URL)) == trained_from(made)
    assert downloads() == [SHARD]


@pytest.mark.parametrize("name", [SHARD, "tokenizer.json"])
def test_an_altered_file_is_no_copy(name: str) -> None:
    fs, _ = resolve(URL)
    data = bytearray(fs.cat_file(f"/bucket/shards/{name}"))
    data[len(data) // 2] ^= 1
    fs.pipe_file(f"/bucket/shards/{name}", bytes(data))
    with pytest.raises(FormatError, match="the file was altered") as caught:
        cached_set(URL)
    assert caught.value.where == f"{URL}/{name}"
    assert not [*cache_folder().rglob(Path(name).name), *cache_folder().rglob("*.tmp")]
    assert not [*cache_folder().rglob("manifest.json")]


@pytest.mark.parametrize("name", [SHARD, "tokenizer.json"])
def test_a_missing_file(name: str) -> None:
    resolve(URL)[0].rm_file(f"/bucket/shards/{name}")
    with pytest.raises(IncompleteError, match="is missing") as caught:
        cached_set(URL)
    assert caught.value.where == f"{URL}/{name}"


def test_no_set() -> None:
    with pytest.raises(IncompleteError, match="there is no manifest") as caught:
        cached_set("faulty://bucket/none")
    assert caught.value.where == "faulty://bucket/none"


def test_another_set_is_another_copy(made: Path, tmp_path: Path) -> None:
    before = cached_set(URL)
    other = shutil.copytree(made, tmp_path / "other")
    edit_manifest(other, lambda manifest: manifest["warnings"].append("another"))
    upload(other)
    after = cached_set(URL)
    assert after != before
    assert files(before) == trained_from(made)
    assert files(after) == trained_from(other)


def test_no_room(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    usage: Any = shutil.disk_usage(cache.parent)._replace(free=1_500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ExactcptError, match=r"too little room for a copy of the shards: 1\.5 MB"):
        cached_set(URL)
    assert downloads() == []


def test_where_copies_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(CACHE, "~/here")
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv(CACHE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    assert cache_folder() == tmp_path / "caches" / "exactcpt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "exactcpt"


def test_a_url_of_this_disk_is_no_copy(made: Path) -> None:
    assert open_set(f"file://{made}").root == made
