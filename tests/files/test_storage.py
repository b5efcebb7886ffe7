import errno
import gzip
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
import xxhash
from fsspec.implementations.memory import MemoryFileSystem

from exactcpt.pipeline.files import storage
from exactcpt.pipeline.files.storage import Folder, checksum, is_local_url, open_input, resolve
from exactcpt.schemas.disk_errors import disk_error
from exactcpt.schemas.errors import ExactcptError
from exactcpt.schemas.remote_errors import RemoteError


class CachingFileSystem(MemoryFileSystem):
    """Believes what it has seen until told otherwise, as drivers of object stores do."""

    protocol = "caching"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def _seen(self) -> dict[str, Any]:
        return self.__dict__.setdefault("seen", dict(self.store))

    def invalidate_cache(self, path: str | None = None) -> None:
        self.__dict__.pop("seen", None)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("caching://", "memory://"))

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        seen = self._seen()
        path = self._strip_protocol(path)
        if path in seen:
            return {"name": path, "size": len(seen[path].getvalue()), "type": "file"}
        if any(name.startswith(f"{path}/") for name in seen):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def exists(self, path: str, **options: Any) -> bool:
        try:
            return bool(self.info(path))
        except FileNotFoundError:
            return False

    def find(self, path: str, **options: Any) -> list[str]:
        return [name for name in self._seen() if name.startswith(f"{path}/")]

    def cat_file(self, path: str, start: Any = None, end: Any = None, **options: Any) -> bytes:
        return self._seen()[self._strip_protocol(path)].getvalue()[start:end]


fsspec.register_implementation("caching", CachingFileSystem, clobber=True)


@pytest.fixture(params=["local", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    yield Folder(
        {"local": "", "file": "file://"}.get(request.param, "memory:/") + f"{tmp_path}/out"
    )
    if request.param == "memory":
        fsspec.filesystem("memory").rm("/", recursive=True)


def all_files(folder: Folder) -> list[str]:
    """Every file there is, temporary ones too."""
    fs, path = resolve(folder.url)
    return sorted(file.removeprefix(f"{path}/") for file in fs.find(path))


class TestFolder:
    def test_a_file_and_what_is_known_of_it(self, folder: Folder) -> None:
        written = folder.write("sub/deep/a.txt", b"some bytes")
        digest = xxhash.xxh3_128_hexdigest(b"some bytes")
        assert written == {"path": "sub/deep/a.txt", "bytes": 10, "xxh3_128": digest}
        assert folder.exists("sub/deep/a.txt")
        assert folder.read("sub/deep/a.txt") == b"some bytes"
        assert folder.size("sub/deep/a.txt") == 10
        with folder.local_copies(["sub/deep/a.txt"]) as local:
            assert folder.describe("sub/deep/a.txt", local["sub/deep/a.txt"]) == written
        with open_input(folder.url_of("sub/deep/a.txt")) as file:
            assert file.read() == b"some bytes"

    def test_a_file_is_replaced(self, folder: Folder) -> None:
        folder.write("a", b"the first, longer one")
        folder.write("a", b"second")
        assert folder.read("a") == b"second"
        assert all_files(folder) == ["a"]

    def test_what_is_not_there(self, folder: Folder) -> None:
        assert not folder.exists("a")
        assert folder.size("a") is None
        assert folder.names() == folder.names("sub") == []
        folder.remove("a")
        folder.remove_tree("sub")
        folder.remove_tree()
        with pytest.raises(FileNotFoundError):
            folder.read("a")

    def test_names(self, folder: Folder) -> None:
        for name in ("b", "a/2", "a/10", "a/.hidden", "ab/1"):
            folder.write(name, b"x")
        assert folder.names() == ["a/.hidden", "a/10", "a/2", "ab/1", "b"]
        assert folder.names("a") == folder.names("a/") == ["a/.hidden", "a/10", "a/2"]
        assert Folder(folder.url + "/").names("ab") == ["ab/1"]

    def test_removing(self, folder: Folder) -> None:
        for name in ("a", "b/1", "b/2", "c/1"):
            folder.write(name, b"x")
        folder.remove("a")
        folder.remove_tree("b")
        assert folder.names() == ["c/1"]
        folder.remove_tree()
        assert folder.names() == []

    def test_several_local_copies(self, folder: Folder) -> None:
        folder.write("x/a", b"1")
        folder.write("y/a", b"2")
        with folder.local_copies(["x/a", "y/a"]) as local:
            assert {name: path.read_bytes() for name, path in local.items()} == {
                "x/a": b"1",
                "y/a": b"2",
            }
        assert folder.read("x/a") == b"1"
        assert all(path.exists() == folder.is_local for path in local.values())

    def test_ranges(self, folder: Folder) -> None:
        folder.write("a", bytes(range(100)))
        with folder.open_ranges("a") as file:
            assert file.seek(-10, os.SEEK_END) == 90
            assert file.read(4) == bytes(range(90, 94))
            assert file.seek(2, os.SEEK_CUR) == file.tell() == 96
            assert file.read(100) == bytes(range(96, 100))
            assert file.read(1) == b""
            assert file.seek(5) == 5
            assert file.read() == bytes(range(5, 100))

    def test_a_relative_path_follows_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            monkeypatch.chdir(tmp_path / name)
            Folder("out").write("a", name.encode())
            assert (tmp_path / name / "out" / "a").read_text() == name
            assert Folder("out").names() == ["a"]

    def test_free_space_is_that_of_the_disk_it_will_be_on(self, tmp_path: Path) -> None:
        known = Folder(str(tmp_path)).disk()
        assert known is not None
        for url in (f"{tmp_path}/not/there/yet", f"file://{tmp_path}/not"):
            disk = Folder(url).disk()
            assert disk is not None
            assert disk[0] == known[0]
            assert abs(disk[1] - known[1]) < known[1] / 2
        assert Folder("memory://out").disk() is None

    def test_a_file_system_that_does_not_know_its_size(self, tmp_path: Path, monkeypatch) -> None:
        nothing = shutil.disk_usage(tmp_path)._replace(total=0, used=0, free=0)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: nothing)
        assert Folder(str(tmp_path)).disk() is None


def test_stamps_are_of_files_and_change_with_them(folder: Folder) -> None:
    folder.write("sub/a", b"one")
    folder.write("sub/deep/b", b"two")
    folder.write("other", b"three")
    before = folder.stamps("sub")
    assert [*before] == ["sub/a", "sub/deep/b"]
    assert folder.stamps("sub") == before
    folder.write("sub/a", b"four")
    after = folder.stamps("sub")
    assert [name for name in after if after[name] != before[name]] == ["sub/a"]
    assert folder.stamps("nowhere") == {}


class TestCreate:
    def test_nothing_is_there_before_the_end(self, folder: Folder) -> None:
        with folder.create("sub/a") as scratch:
            scratch.write_bytes(b"half")
            assert not folder.exists("sub/a")
            assert folder.names() == []
        assert folder.read("sub/a") == b"half"
        assert all_files(folder) == ["sub/a"]
        assert not scratch.exists()

    @pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
    def test_an_error_leaves_what_was_there(
        self, folder: Folder, error: type[BaseException]
    ) -> None:
        folder.write("sub/a", b"before")
        with pytest.raises(error), folder.create("sub/a") as scratch:
            scratch.write_bytes(b"half")
            raise error
        assert folder.read("sub/a") == b"before"
        assert all_files(folder) == ["sub/a"]
        assert not scratch.exists()

    def test_a_full_disk(self, folder: Folder) -> None:
        with pytest.raises(OSError, match="No space left"), folder.create("a") as scratch:
            scratch.write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(scratch))
        assert all_files(folder) == []

    def test_a_disk_that_is_full_only_when_synced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            Folder(str(tmp_path)).write("a", b"x")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("step", ["put_file", "mv"])
    def test_an_upload_that_fails(self, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
        folder = Folder("memory://out")

        def failing(fs: MemoryFileSystem, source: str, target: str, **_: object) -> None:
            fs.pipe_file(target if step == "put_file" else source, b"hal")
            raise OSError("connection lost")

        with monkeypatch.context() as patch:
            patch.setattr(MemoryFileSystem, step, failing)
            with pytest.raises(OSError, match="connection lost"):
                folder.write("a", b"half")
        assert all_files(folder) == []

    def test_data_then_name_then_folder_are_made_durable(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps: list[str] = []
        fsync, replace = os.fsync, Path.replace

        def recording_fsync(descriptor: int) -> None:
            fsync(descriptor)
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            content = "folder" if path.is_dir() else path.read_text()
            steps.append(f"sync {content}")

        def recording_replace(source: Path, target: Path) -> Path:
            steps.append(f"rename to {target.name}")
            return replace(source, target)

        monkeypatch.setattr(os, "fsync", recording_fsync)
        monkeypatch.setattr(Path, "replace", recording_replace)
        Folder(str(tmp_path / "out")).write("a", b"content")
        # The new folder's own name, in the folder above, comes first.
        assert steps == ["sync folder", "sync content", "rename to a", "sync folder"]

    def test_temporaries_of_killed_writers(self, folder: Folder) -> None:
        fs, path = resolve(folder.url)
        folder.write("sub/a", b"x")
        folder.write(".job/lock", b"x")
        for left in (".manifest.json.0123.tmp", "sub/.a.4567.tmp", ".job/.state.89.tmp"):
            fs.pipe_file(f"{path}/{left}", b"half")
        assert folder.names() == [".job/lock", "sub/a"]
        folder.remove_temporaries()
        assert all_files(folder) == [".job/lock", "sub/a"]

    def test_its_temporaries_are_recognised(self, tmp_path: Path) -> None:
        folder = Folder(str(tmp_path))
        with pytest.raises(FileNotFoundError), folder.create("a") as scratch:
            scratch.write_bytes(b"half")
            folder.remove_temporaries()
        assert list(tmp_path.iterdir()) == []


class TestStaleListings:
    """What another process writes is seen, whatever the driver remembers."""

    @pytest.fixture
    def folder(self) -> Iterator[Folder]:
        CachingFileSystem.store.clear()
        folder = Folder("caching://out")
        folder.write("old", b"old")
        folder.names()
        yield folder
        CachingFileSystem.store.clear()

    def elsewhere(self, name: str, data: bytes) -> None:
        from fsspec.implementations.memory import MemoryFile

        other = CachingFileSystem(skip_instance_cache=True)
        CachingFileSystem.store[f"/out/{name}"] = MemoryFile(other, f"/out/{name}", data)

    def test_a_new_file(self, folder: Folder) -> None:
        assert not folder.exists("new")
        self.elsewhere("new", b"new")
        assert folder.exists("new")
        self.elsewhere("newer", b"newer")
        assert folder.size("newer") == 5
        self.elsewhere("newest", b"newest")
        assert folder.read("newest") == b"newest"
        self.elsewhere("last", b"")
        assert folder.names() == ["last", "new", "newer", "newest", "old"]

    def test_a_changed_and_a_removed_file(self, folder: Folder) -> None:
        self.elsewhere("old", b"changed")
        assert folder.read("old") == b"changed"
        self.elsewhere("old", b"changed again")
        assert folder.size("old") == 13
        del CachingFileSystem.store["/out/old"]
        assert not folder.exists("old")


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000])
def test_checksum(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "a").write_bytes(data[:size])
    assert checksum(tmp_path / "a") == xxhash.xxh3_128_hexdigest(data[:size])


@pytest.mark.parametrize(
    ("url", "is_local"),
    [
        ("a/b", True),
        ("/a/b", True),
        ("file:///a", True),
        ("local:///a", True),
        ("memory://a", False),
        ("s3://bucket/a", False),
        ("simplecache::file:///a", False),
    ],
)
def test_is_local_url(url: str, is_local: bool) -> None:
    assert is_local_url(url) == is_local


def test_input_by_any_local_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"as it is"))
    monkeypatch.chdir(tmp_path)
    for url in ("a.gz", f"{tmp_path}/a.gz", f"file://{tmp_path}/a.gz", f"local://{tmp_path}/a.gz"):
        with open_input(url) as file:
            assert gzip.decompress(file.read()) == b"as it is"


def test_a_protocol_nobody_knows() -> None:
    with pytest.raises(ExactcptError) as caught:
        resolve("nosuch://bucket/a")
    assert caught.value.found.startswith("no filesystem for nosuch://bucket/a: ")
    assert caught.value.expected == (
        "a path, or a URL that begins with s3://, gs://, hf:// or https://"
    )


class TestRemoteReading:
    """A filesystem in memory stands for object stores."""

    data = bytes(range(256)) * 40

    @pytest.fixture
    def remote(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Folder]:
        monkeypatch.setattr(storage, "COPY_BYTES", 1000)
        folder = Folder("memory://remote")
        folder.write("a", self.data)
        yield folder
        fsspec.filesystem("memory").rm("/remote", recursive=True)

    def break_off(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        """The third request is answered in part that many times."""
        cat_file, asked = MemoryFileSystem.cat_file, []

        def fail(fs: Any, path: str, start: int, end: int) -> bytes:
            asked.append(start)
            short = asked.count(start) <= times and start == 2000
            return cat_file(fs, path, start, end - short * 3)

        monkeypatch.setattr(MemoryFileSystem, "cat_file", fail)

    @pytest.mark.parametrize("times", [0, 1, 2])
    def test_what_breaks_off_is_asked_for_again(
        self, remote: Folder, monkeypatch: pytest.MonkeyPatch, times: int
    ) -> None:
        self.break_off(monkeypatch, times)
        with remote.local_copies(["a"]) as local:
            assert local["a"].read_bytes() == self.data

    def test_what_stays_short_is_an_error(
        self, remote: Folder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.break_off(monkeypatch, 4)
        with pytest.raises(RemoteError) as caught, remote.local_copies(["a"]):
            pass
        assert str(disk_error(caught.value)) == (
            "a remote file was read only in part: 997 of 1,000 bytes from byte 2,000 of 10,240\n"
            "  where:    memory://remote/a\n"
            "  fix:      run the same command again; a job continues where it stopped"
        )

    def test_threads_read_one_file(self, remote: Folder) -> None:
        def read(n: int) -> bytes:
            if n % 2:
                with remote.local_copies(["a"]) as local:
                    return local["a"].read_bytes()
            with open_input(remote.url_of("a")) as file:
                return b"".join(iter(lambda: file.read(100), b""))

        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(read, range(200))) == {self.data}
