"""What patterns match, and that nothing is passed over in silence."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from corpora import find, jsonl, paths, put, read_all
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from exactcpt.pipeline.sources import listing
from exactcpt.schemas.errors import ExactcptError, UsageError


@pytest.fixture(params=["local", "memory"])
def base(request: pytest.FixtureRequest, tmp_path: Path, memory: str) -> str:
    return str(tmp_path / "set") if request.param == "local" else memory


def fill(base: object, *names: str) -> None:
    for name in names:
        if "://" not in str(base):
            Path(f"{base}/{name}").parent.mkdir(parents=True, exist_ok=True)
        put(f"{base}/{name}", jsonl(name))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("/CC-*", ["CC-0/a.jsonl", "CC-1/deep/b.jsonl"]),
        ("/CC-*/", ["CC-0/a.jsonl", "CC-1/deep/b.jsonl"]),
        ("/*", ["CC-0/a.jsonl", "CC-1/deep/b.jsonl", "c.jsonl", "x/CC-2/d.jsonl"]),
        ("/CC-?/*", ["CC-0/a.jsonl", "CC-1/deep/b.jsonl"]),
        ("/CC-1/d*", ["deep/b.jsonl"]),
        ("/**", ["CC-0/a.jsonl", "CC-1/deep/b.jsonl", "c.jsonl", "x/CC-2/d.jsonl"]),
        ("/**/CC-*", ["CC-0/a.jsonl", "CC-1/deep/b.jsonl", "x/CC-2/d.jsonl"]),
        ("/**/*.jsonl", ["CC-0/a.jsonl", "CC-1/deep/b.jsonl", "c.jsonl", "x/CC-2/d.jsonl"]),
        ("/CC-*/**/*.jsonl", ["CC-0/a.jsonl", "CC-1/deep/b.jsonl"]),
        ("/C*/**/d*", ["CC-1/deep/b.jsonl"]),
        ("/*.jsonl", ["c.jsonl"]),
    ],
)
def test_a_folder_that_matches_is_read_whole(base: str, pattern: str, found: list[str]) -> None:
    fill(base, "CC-0/a.jsonl", "CC-1/deep/b.jsonl", "c.jsonl", "x/CC-2/d.jsonl")
    fill(base, "CC-1/.hidden/e.jsonl", ".CC-3/f.jsonl")
    assert paths(find(f"{base}{pattern}")) == found


def test_a_saved_data_set_that_a_glob_matches(base: str) -> None:
    fill(base, "one/data-0.arrow", "one/stray.arrow", "two/data-0.arrow")
    for name in ("one", "two"):
        put(f"{base}/{name}/state.json", b'{"_data_files": [{"filename": "data-0.arrow"}]}')
        put(f"{base}/{name}/dataset_info.json", b"{}")
    assert paths(find(f"{base}/*")) == ["one/data-0.arrow", "two/data-0.arrow"]


@pytest.mark.parametrize(
    "state", [b"", b"[]", b"{}", b'{"_data_files": [{"filename": "../../secret.arrow"}]}']
)
def test_a_saved_data_set_that_does_not_say_its_files(base: str, state: bytes) -> None:
    fill(base, "data-0.arrow")
    put(f"{base}/state.json", state)
    put(f"{base}/dataset_info.json", b"{}")
    with pytest.raises(ExactcptError, match="does not say which files it has"):
        find(base)
    assert paths(find(f"{base}/*.arrow")) == ["data-0.arrow"]


def test_a_saved_data_set_that_lacks_a_file(base: str) -> None:
    fill(base, "data-0.arrow")
    put(f"{base}/state.json", b'{"_data_files": [{"filename": "data-1.arrow"}]}')
    put(f"{base}/dataset_info.json", b"{}")
    with pytest.raises(ExactcptError) as caught:
        find(base)
    assert caught.value.found == "a file is missing that belongs here"
    assert caught.value.where is not None
    assert caught.value.where.endswith("/data-1.arrow")


def test_two_stars_stand_alone(base: str) -> None:
    fill(base, "a.jsonl")
    with pytest.raises(UsageError, match=r"\*\* is not alone between two slashes"):
        find(f"{base}/**.jsonl")


def test_links_in_a_circle(tmp_path: Path) -> None:
    fill(tmp_path, "a.jsonl", "sub/b.jsonl")
    (tmp_path / "sub" / "again").symlink_to("..")
    (tmp_path / "self.xls").symlink_to("self.xls")
    for pattern in ("", "/**", "/**/*.jsonl"):
        assert paths(find(f"{tmp_path}{pattern}")) == ["a.jsonl", "sub/b.jsonl"]
    (tmp_path / "self.jsonl").symlink_to("self.jsonl")
    for pattern in ("", "/*", "/self.jsonl"):
        with pytest.raises(ExactcptError, match=r"a link points to nothing|matches no file"):
            find(f"{tmp_path}{pattern}")


def test_a_link_of_git_annex(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").symlink_to(".git/annex/objects/x1/f3/SHA256E-s9--01.jsonl")
    with pytest.raises(ExactcptError, match="this is a git-annex pointer"):
        find(tmp_path)


@pytest.fixture
def locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that nobody may list, not even root."""
    fill(tmp_path, "a.jsonl", "CC-0/b.jsonl", "CC-0/locked/c.jsonl")
    scandir = os.scandir

    def refusing(path: Any = ".") -> Any:
        if str(path).rstrip("/").endswith("locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    return tmp_path


@pytest.mark.parametrize(
    "pattern", ["", "/*", "/CC-*", "/CC-0/*", "/**/*.jsonl", "/CC-*/**", "/CC-*/*/*.jsonl"]
)
def test_a_folder_that_cannot_be_listed(locked: Path, pattern: str) -> None:
    with pytest.raises(PermissionError) as caught:
        find(f"{locked}{pattern}")
    assert str(caught.value.filename).rstrip("/") == f"{locked}/CC-0/locked"


def test_a_file_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found before any work begins; root may read every file, so it is made up."""
    fill(tmp_path, "a.jsonl", "b.jsonl")

    def refusing(path: str) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "access", lambda path, _: not path.endswith("b.jsonl"))
    monkeypatch.setattr(listing, "open_input", refusing)
    with pytest.raises(PermissionError) as caught:
        find(tmp_path)
    assert caught.value.filename == str(tmp_path / "b.jsonl")


def test_a_folder_that_need_not_be_listed(locked: Path) -> None:
    assert paths(find(locked / "*.jsonl")) == ["a.jsonl"]
    assert paths(find(locked / "CC-0" / "*.jsonl")) == ["b.jsonl"]


@pytest.mark.parametrize("ignored", [".locked", "_locked", ".snapshots/locked", "_old/locked"])
def test_a_folder_in_which_nothing_is_read(locked: Path, ignored: str) -> None:
    """Such as `lost+found`, which only root may list, at the top of a disk."""
    (locked / "CC-0" / "locked" / "c.jsonl").unlink()
    (locked / "CC-0" / "locked").rmdir()
    fill(locked, f"CC-0/{ignored}/d.jsonl")
    for pattern in ("", "/*", "/CC-*", "/**/*.jsonl", "/CC-*/**"):
        assert "CC-0/b.jsonl" in paths(find(f"{locked}{pattern}"))
    assert paths(find(f"{locked}/CC-*/*.jsonl")) == ["CC-0/b.jsonl"]
    assert paths(find(f"{locked}/CC-0/**/*.jsonl")) == ["b.jsonl"]
    for spelled in (f"/CC-*/{ignored}/*.jsonl", f"/**/{ignored}/*.jsonl", f"/CC-0/{ignored}"):
        with pytest.raises(PermissionError):
            find(f"{locked}{spelled}")


class Flaky(MemoryFileSystem):
    """Fails to list some folders, and finds files as most drivers of fsspec do."""

    protocol = "flaky"
    store: dict[str, Any] = {}  # noqa: RUF012
    pseudo_dirs: list[str] = [""]  # noqa: RUF012
    find = AbstractFileSystem.find
    walk = AbstractFileSystem.walk

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return MemoryFileSystem._strip_protocol(str(path).replace("flaky://", "memory://"))

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        if path.rstrip("/").endswith("locked"):
            raise OSError(errno.EIO, "the server is busy", path)
        return super().ls(path, detail=detail, **kwargs)


@pytest.fixture
def flaky() -> Iterator[str]:
    fsspec.register_implementation("flaky", Flaky, clobber=True)
    fill("flaky://corpus", "a.jsonl", "CC-0/locked/b.jsonl")
    yield "flaky://corpus"
    Flaky.store.clear()


@pytest.mark.parametrize("pattern", ["", "/*", "/CC-*", "/**", "/**/*.jsonl"])
def test_a_remote_folder_that_cannot_be_listed(flaky: str, pattern: str) -> None:
    with pytest.raises(OSError, match="the server is busy"):
        find(f"{flaky}{pattern}")


LETTERS = st.sampled_from([*"aB.é \n\t\x07\u202e:%#&+,;=@~'\"\\$[]{}*?!", "::", "://", "%20"])
NAMES = st.lists(LETTERS, min_size=1, max_size=4).map("".join)
SAFE = NAMES.filter(lambda name: name[0] not in ". " and "/" not in name)


@settings(max_examples=40)
@given(names=st.sets(SAFE, min_size=1, max_size=4), below=SAFE)
def test_whatever_files_are_called(
    tmp_path_factory: pytest.TempPathFactory, names: set[str], below: str
) -> None:
    folder = tmp_path_factory.mktemp("called")
    (folder / f"in{below}").mkdir()
    for name in names:
        (folder / f"in{below}" / f"{name}.jsonl").write_bytes(jsonl(name))
    expected = sorted(name.encode() for name in names)
    for pattern in (folder, f"{folder}/*", f"{folder}/**/*.jsonl"):
        assert sorted(text for _, text in read_all(pattern)) == expected
