"""Requests to servers: which are made again, and what is told of those that fail."""

import errno
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from faulty import FaultyFileSystem, raised_by

from exactcpt.schemas import remote
from exactcpt.schemas.disk_errors import disk_error
from exactcpt.schemas.errors import ExactcptError
from exactcpt.schemas.extras import install_line
from exactcpt.schemas.remote import RemoteFile, publishes_whole, resolve
from exactcpt.schemas.remote_errors import TRIES, RemoteError, may_pass

URL = "faulty://bucket/a"


@pytest.fixture(autouse=True)
def server() -> Iterator[type[FaultyFileSystem]]:
    FaultyFileSystem.reset()
    FaultyFileSystem.store.clear()
    remote._resolve_once.cache_clear()  # as for a new process: no server has answered
    fs, path = resolve(URL)
    fs.pipe_file(path, b"some bytes")
    yield FaultyFileSystem
    FaultyFileSystem.reset()


def failing(error: Exception, times: int) -> list[int]:
    """Lets the server fail some times; the list has a member for each request."""
    asked: list[int] = []

    def fault(*_: str) -> None:
        asked.append(1)
        if len(asked) <= times:
            raise error

    FaultyFileSystem.fault = staticmethod(fault)
    return asked


def answered(status: int, library: str = "aiohttp") -> Exception:
    error: Any = raised_by(library, "ClientResponseError")
    error.status = status
    return error


def of_boto(status: int) -> OSError:
    """As s3fs raises it: without a number of its own, with the library's error as its cause."""
    error = OSError(errno.EIO, "the server's words")
    cause: Any = raised_by("botocore", "ClientError")
    cause.response = {"ResponseMetadata": {"HTTPStatusCode": status}}
    error.__cause__ = cause
    return error


PASSING = [
    OSError("503 Slow Down"),
    OSError(errno.EBUSY, "reduce your request rate"),
    OSError(errno.EREMOTEIO, "we encountered an internal error"),
    ConnectionResetError("gone"),
    TimeoutError(),
    answered(503),
    answered(429, "httpx"),
    of_boto(500),
    raised_by("botocore", "IncompleteReadError"),
    raised_by("aiohttp", "ServerDisconnectedError"),
    raised_by("botocore", "EndpointConnectionError"),
]
FINAL = [
    PermissionError("Access Denied"),
    OSError(errno.EINVAL, "the bucket's name is no name"),
    answered(403),
    answered(400),
    of_boto(400),
    raised_by("botocore", "NoCredentialsError"),
    raised_by("google", "DefaultCredentialsError"),
]


def named(error: Exception) -> str:
    return f"{type(error).__name__}-{error}"


@pytest.mark.parametrize("error", PASSING, ids=named)
def test_what_may_pass_is_asked_again(error: Exception) -> None:
    fs, path = resolve(URL)
    asked = failing(error, TRIES - 1)
    assert fs.cat_file(path) == b"some bytes"
    assert len(asked) == TRIES


@pytest.mark.parametrize("error", PASSING, ids=named)
def test_it_is_not_asked_for_ever(error: Exception) -> None:
    fs, path = resolve(URL)
    asked = failing(error, TRIES)
    with pytest.raises(RemoteError) as caught:
        fs.cat_file(path)
    assert len(asked) == TRIES
    assert caught.value.filename == "faulty:///bucket/a"
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("error", FINAL, ids=named)
def test_what_will_not_pass_is_asked_once(error: Exception) -> None:
    fs, path = resolve(URL)
    asked = failing(error, 1)
    with pytest.raises(RemoteError):
        fs.cat_file(path)
    assert len(asked) == 1


def test_a_server_that_never_answered_is_not_asked_again() -> None:
    """It is more likely to be a wrong address than a broken one."""
    remote._resolve_once.cache_clear()
    fs, path = resolve(URL)
    asked = failing(raised_by("botocore", "EndpointConnectionError"), TRIES)
    with pytest.raises(RemoteError, match="the server cannot be reached: as the library words it"):
        fs.cat_file(path)
    assert len(asked) == 1


def test_pauses_grow_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(remote, "PAUSE_SECONDS", 1.0)
    monkeypatch.setattr("time.sleep", pauses.append)
    fs, path = resolve(URL)
    failing(OSError("503"), TRIES)
    with pytest.raises(RemoteError):
        fs.cat_file(path)
    assert len(pauses) == TRIES - 1
    assert all(2**i <= pause <= 1.5 * 2**i for i, pause in enumerate(pauses))


def test_what_is_not_there_is_no_fault() -> None:
    fs, _ = resolve(URL)
    with pytest.raises(FileNotFoundError):
        fs.cat_file("/bucket/none")
    assert FaultyFileSystem.requests == [("get", "/bucket/none")]


def hidden(cause: Exception) -> FileNotFoundError:
    """As drivers tell a file that they could not look for."""
    error = FileNotFoundError(URL)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("cause", "found"),
    [
        (raised_by("aiohttp", "ClientConnectorError"), "the server cannot be reached"),
        (answered(401, "huggingface_hub"), "the server denies access"),
        (answered(503), "a request to the server failed"),
    ],
)
def test_a_file_that_could_not_be_looked_for_is_not_missing(cause: Exception, found: str) -> None:
    fs, path = resolve(URL)
    failing(hidden(cause), TRIES)
    with pytest.raises(RemoteError, match=found):
        fs.cat_file(path)


def test_a_file_that_was_looked_for_is_missing() -> None:
    fs, path = resolve(URL)
    asked = failing(hidden(answered(404)), 1)
    with pytest.raises(FileNotFoundError):
        fs.cat_file(path)
    assert len(asked) == 1


def test_an_error_names_the_file_without_asking_the_driver(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The driver of hf:// asks its server for the address."""
    fs, path = resolve(URL)
    monkeypatch.setattr(FaultyFileSystem, "unstrip_protocol", lambda *_: 1 // 0)
    failing(PermissionError("no"), 1)
    with pytest.raises(RemoteError) as caught:
        fs.cat_file(path)
    assert caught.value.filename == "faulty:///bucket/a"


@pytest.mark.parametrize("error", [TypeError("a mistake in the program"), KeyError("a")])
def test_other_errors_are_let_through(error: Exception) -> None:
    fs, path = resolve(URL)
    asked = failing(error, 1)
    with pytest.raises(type(error)):
        fs.cat_file(path)
    assert len(asked) == 1


def test_a_stream_goes_on_where_it_was() -> None:
    fs, path = resolve(URL)
    with fs.open(path) as stream:
        assert stream.read(5) == b"some "
        failing(OSError("503"), TRIES - 1)
        assert stream.read(3) == b"byt"
        assert stream.read() == b"es"


def test_any_error_of_a_stream_is_the_servers() -> None:
    fs, path = resolve(URL)
    with fs.open(path) as stream:
        failing(EOFError("gone"), 1)
        with pytest.raises(RemoteError, match="a request to the server failed: EOFError: gone"):
            stream.read()


def test_a_range_that_fails_leaves_the_position() -> None:
    file = RemoteFile(URL)
    failing(PermissionError("no"), 1)
    with pytest.raises(RemoteError):
        file.read(4)
    assert file.read(4) == b"some"


def test_errors_pass_between_processes() -> None:
    error = RemoteError(errno.EIO, "it failed", URL, "mend it")
    again = pickle.loads(pickle.dumps(error))
    assert (again.errno, again.strerror, again.filename, again.fix) == (
        errno.EIO, "it failed", URL, "mend it"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "found", "fix"),
    [
        (
            raised_by("botocore", "NoCredentialsError"),
            "there are no credentials for faulty://: as the library words it",
            "give the driver of that protocol its credentials",
        ),
        (
            PermissionError("Access Denied"),
            "the server denies access: Access Denied",
            "check the address, and whether these credentials may read and write there; for "
            "others, give the driver of that protocol its credentials",
        ),
        (
            raised_by("aiohttp", "ClientConnectorError"),
            "the server cannot be reached: as the library words it",
            "check the server's address and the network; then run the same command again; a job "
            "continues where it stopped",
        ),
        (
            answered(405),
            "the server takes no files: as the library words it",
            "name a folder of this machine, or one at s3:// or gs://",
        ),
        (
            OSError("503 Slow Down\n<html>"),
            "a request to the server failed: 503 Slow Down <html>",
            "run the same command again; a job continues where it stopped",
        ),
    ],
)
def test_words(error: Exception, found: str, fix: str) -> None:
    fs, path = resolve(URL)
    failing(error, TRIES)
    with pytest.raises(RemoteError) as caught:
        fs.cat_file(path)
    assert str(disk_error(caught.value)) == (
        f"{found}\n  where:    faulty:///bucket/a\n  fix:      {fix}"
    )


@pytest.mark.parametrize(
    ("url", "fix"),
    [
        ("s3://bucket/a", install_line("s3")),
        ("gs://bucket/a", install_line("gcs")),
        ("https://host/a", install_line("http")),
        ("sftp://host/a", "install the fsspec driver that the message names"),
    ],
)
def test_a_driver_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, url: str, fix: str
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ImportError("Please install it")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(ExactcptError) as caught:
        resolve(url)
    assert caught.value.found == f"no filesystem for {url}: Please install it"
    assert caught.value.fix == fix


def test_which_uploads_appear_whole() -> None:
    assert all(map(publishes_whole, ("s3://a/b", "s3a://a/b", "gs://a/b", "gcs://a/b")))
    assert not any(map(publishes_whole, ("memory://a", "sftp://a/b", "a", "file:///a")))


def test_whatever_is_raised_is_judged() -> None:
    assert not may_pass(ValueError("x"))
    assert not may_pass(FileNotFoundError(errno.ENOENT, "x"))
