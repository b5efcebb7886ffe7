"""An S3 server on this machine: moto's, with a log of its requests and faults on demand."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import pytest

__all__ = ["Server", "serving"]

BUCKET = "corpora"
FAULT = b"<Error><Code>InternalError</Code><Message>an internal error</Message></Error>"


@dataclass
class Server:
    """The server, with one bucket.

    Attributes:
        endpoint: its address.
        requests: method, path and what it copies, of each request.
        every: every so many requests one fails; 0 for none.
        failed: how many have.
        delay: seconds that an answer takes.
        together: the most requests that were under way at once.
    """

    endpoint: str
    requests: list[str] = field(default_factory=list)
    every: int = 0
    failed: int = 0
    delay: float = 0.0
    together: int = 0
    _now: int = 0
    _lock: Any = field(default_factory=Lock)

    @property
    def driver(self) -> Any:
        """The filesystem of s3fs, as the settings of the environment make it."""
        import s3fs

        fs = s3fs.S3FileSystem()
        fs.invalidate_cache()
        return fs

    def upload(self, folder: Path, name: str) -> str:
        """Uploads a folder; returns its URL."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                target = f"{BUCKET}/{name}/{path.relative_to(folder)}"
                self.driver.pipe_file(target, path.read_bytes())
        return self.url(name)

    def download(self, name: str, folder: Path) -> Path:
        """Downloads all that is below a name; returns the folder."""
        for each in self.names(name):
            target = folder / each.removeprefix(f"{name}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self.driver.cat_file(f"{BUCKET}/{each}"))
        return folder

    def names(self, below: str = "") -> list[str]:
        """The names of all objects below a name."""
        found = self.driver.find(f"{BUCKET}/{below}")
        return [str(path).removeprefix(f"{BUCKET}/") for path in found]

    def url(self, name: str) -> str:
        """Address of an object."""
        return f"s3://{BUCKET}/{name}"

    def watched(self, application: Any) -> Any:
        """An application that notes its requests, and fails some."""

        def call(environ: dict[str, Any], start: Any) -> Any:
            copied = environ.get("HTTP_X_AMZ_COPY_SOURCE", "")
            line = f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {copied}".rstrip()
            self.requests.append(line)
            if self.every and len(self.requests) % self.every == 0:
                self.failed += 1
                start("500 Internal Server Error", [("Content-Type", "application/xml")])
                return [FAULT]
            with self._lock:
                self._now += 1
                self.together = max(self.together, self._now)
            try:
                time.sleep(self.delay)
                return application(environ, start)
            finally:
                with self._lock:
                    self._now -= 1

        return call


@contextmanager
def serving(patch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A running server; drivers of this process and of those it starts find it."""
    import threading

    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = Server("")
    application = server.watched(DomainDispatcherApplication(create_backend_app))
    listening = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    server.endpoint = f"http://127.0.0.1:{listening.server_port}"
    use(patch, server.endpoint)
    server.driver.mkdir(BUCKET)
    try:
        yield server
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def use(patch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Sets the environment for a server."""

    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",  # botocore's own tries take seconds
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }
    for name, value in settings.items():
        patch.setenv(name, value)
    forget()


def forget() -> None:
    """Makes drivers look at the environment again."""
    import s3fs

    from exactcpt.schemas import remote

    s3fs.S3FileSystem.clear_instance_cache()
    remote._resolve_once.cache_clear()
