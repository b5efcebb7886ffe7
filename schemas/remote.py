"""Files on servers: the driver of an address, and requests that are tried again.

`resolve` gives the filesystem of an address, as fsspec has it. Each of its requests that fails in a
way that may pass, such as a busy server or a broken connection, is made TRIES times in all. Its
errors are RemoteErrors; what is not there stays a FileNotFoundError, as on a disk.
"""

import errno
import io
import os
import random
import time
from collections.abc import Callable
from functools import lru_cache
from importlib import import_module
from typing import Any, TypeVar

from .errors import ExactcptError
from .extras import install_line
from .remote_errors import TRIES, RemoteError, may_pass, protocol_of, remote_error, text_of

__all__ = [
    "CONNECTIONS",
    "COPY_BYTES",
    "RemoteFile",
    "RemoteFilesystem",
    "RemoteStream",
    "is_local_url",
    "publishes_whole",
    "resolve",
    "resolve_fresh",
]

T = TypeVar("T")

PAUSE_SECONDS = 1.0
"""Before the second try; the pause doubles each time, and up to half as much again is added, so
that workers which were refused together do not come back together."""
COPY_BYTES = 16 << 20
"""Bytes per request when a remote file is copied."""
CONNECTIONS = 64
"""Requests to a server that can be under way together. The driver of S3 by itself has ten."""
STORES = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""Protocol of an object store, whose driver publishes an upload in one step -> its extra."""
EXTRAS = STORES | {"http": "http", "https": "http"}


def is_local_url(url: str) -> bool:
    """Whether a path or URL is on this machine's disk."""
    return "://" not in url or url.startswith(("file://", "local://"))


def publishes_whole(url: str) -> bool:
    """Whether a file that is uploaded to an address appears there whole, or not at all."""
    return protocol_of(url) in STORES


def resolve(url: str) -> tuple[Any, str]:
    """The fsspec filesystem of a path or URL, and the path inside it.

    Raises:
        ExactcptError: no driver is installed for the URL's protocol.
        RemoteError: the driver cannot begin, such as without credentials.
    """
    # A relative path means another file once the working directory changes: it is not cached.
    return _resolve(url) if is_local_url(url) else _resolve_once(url)


def _resolve(url: str) -> tuple[Any, str]:
    fsspec: Any = import_module("fsspec")  # which has no types
    if "://" not in url:
        # A path may have `::` in it, which in a URL leads from one filesystem to the next.
        fs = fsspec.filesystem("file")
        return fs, fs._strip_protocol(url)
    try:
        fs, path = fsspec.core.url_to_fs(url, **_options(url))
    except ImportError as error:
        raise _no_driver(url, str(error)) from None
    except ValueError as error:
        raise ExactcptError(
            f"no filesystem for {url}: {error}",
            expected="a path, or a URL that begins with s3://, gs://, hf:// or https://",
        ) from None
    except Exception as error:
        raise remote_error(error, url) or error from error
    return (fs if is_local_url(url) else RemoteFilesystem(fs)), path


def _options(url: str) -> dict[str, Any]:
    """The driver's options for an address, those included that fsspec is configured with."""
    protocol = protocol_of(url)
    if STORES.get(protocol) != "s3":
        return {}
    conf: Any = import_module("fsspec.config").conf
    told = conf.get(protocol, {}).get("config_kwargs", {})
    return {"config_kwargs": {"max_pool_connections": CONNECTIONS, **told}}


_resolve_once = lru_cache(maxsize=1 << 12)(_resolve)


def resolve_fresh(url: str) -> tuple[Any, str]:
    """Like `resolve`, for reading what others write: drops the listings that the driver caches."""
    fs, path = resolve(url)
    fs.invalidate_cache()
    return fs, path


def _no_driver(url: str, why: str) -> ExactcptError:
    extra = EXTRAS.get(protocol_of(url))
    return ExactcptError(
        f"no filesystem for {url}: {why}",
        fix=install_line(extra) if extra else "install the fsspec driver that the message names",
    )


class RemoteFilesystem:
    """A filesystem of fsspec whose requests are tried again, and whose errors are RemoteErrors.

    Attributes:
        driver: the class of the filesystem.
    """

    def __init__(self, fs: Any) -> None:
        self._fs = fs
        self._answered = False
        self.driver: type = type(fs)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._fs, name)
        if not callable(found):
            return found

        def request(*args: Any, **options: Any) -> Any:
            return self.tried(lambda: found(*args, **options), self._url(args))

        return request

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Opens a file; what is read from it is tried again as well."""
        url = self._url((path,))
        file = self.tried(lambda: self._fs.open(path, mode, **options), url)
        return RemoteStream(file, url, self) if mode == "rb" else file

    def tried(self, request: Callable[[], T], url: str) -> T:
        """The answer to a request, which is made again if it fails in a way that may pass.

        Raises:
            RemoteError: it failed.
            OSError: there is no such file, or another thing that is no fault of the request.
        """
        pause = PAUSE_SECONDS
        for left in reversed(range(TRIES)):
            try:
                found = request()
                self._answered = True
                return found
            except Exception as error:
                told = remote_error(error, url)
                if told is None:
                    self._answered = self._answered or isinstance(error, OSError)
                    raise
                if not (left and may_pass(error, answered=self._answered)):
                    raise told from error
            time.sleep(pause * random.uniform(1, 1.5))
            pause *= 2
        raise AssertionError("the last try returns or raises")

    def _url(self, args: tuple[Any, ...]) -> str:
        path = next((each for each in args if isinstance(each, str)), "")
        if "://" in path:
            return path
        # Not `unstrip_protocol`: the driver of hf:// asks its server there.
        protocol = self._fs.protocol
        return f"{protocol if isinstance(protocol, str) else protocol[0]}://{path}"


class RemoteStream:
    """A file opened by a driver for reading, whose errors are RemoteErrors.

    Drivers raise errors of many kinds when a server is busy, among them plain OSErrors, which Arrow
    raises for damaged files. This way the two can be told apart.
    """

    def __init__(self, file: Any, url: str, filesystem: RemoteFilesystem) -> None:
        self._file, self._url, self._filesystem = file, url, filesystem

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> "RemoteStream":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def read(self, *size: int) -> bytes:
        """As of any file."""
        if not self._file.seekable():
            return self._told(lambda: self._file.read(*size))
        at = self._file.tell()

        def read() -> bytes:
            if self._file.tell() != at:  # an attempt that failed may have moved it
                self._file.seek(at)
            return self._file.read(*size)

        return self._filesystem.tried(lambda: self._told(read), self._url)

    def _told(self, read: Callable[[], bytes]) -> bytes:
        """Makes any error one of the request's: the driver has nothing else to do here."""
        try:
            return read()
        except Exception as error:
            if remote_error(error, self._url) is not None:
                raise
            found = f"a request to the server failed: {type(error).__name__}: {text_of(error)}"
            raise RemoteError(errno.EINVAL, found, self._url) from error


class RemoteFile(io.RawIOBase):
    """A remote file of which exactly the ranges that are read are requested.

    A driver that does not notice a broken connection returns too few bytes. Such a range is
    requested again.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._fs, self._path = resolve_fresh(url)
        self._size = int(self._fs.info(self._path)["size"])
        self._position = 0

    def readable(self) -> bool:
        """Whether it can be read."""
        return True

    def seekable(self) -> bool:
        """Whether its position can be set."""
        return True

    def tell(self) -> int:
        """The position."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Sets the position, and returns it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = origin + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        """The next bytes; fewer than `size` at the end of the file.

        Raises:
            RemoteError: they did not come, or not all.
        """
        start = min(self._position, self._size)
        stop = self._size if size < 0 else min(start + size, self._size)
        data = self._range(start, stop) if stop > start else b""
        self._position = stop
        return data

    def _range(self, start: int, stop: int) -> bytes:
        found = 0
        for _ in range(TRIES):
            data: bytes = self._fs.cat_file(self._path, start=start, end=stop)
            if len(data) == stop - start:
                return data
            found = len(data)
        raise RemoteError(
            errno.EIO,
            f"a remote file was read only in part: {found:,} of {stop - start:,} bytes from byte "
            f"{start:,} of {self._size:,}",
            self._url,
        )
