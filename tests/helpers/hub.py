"""A small Hugging Face hub on this machine: repositories of models, served over HTTP."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

Files = Mapping[str, bytes]

GATED, NO_REPOSITORY, NO_REVISION = "GatedRepo", "RepoNotFound", "RevisionNotFound"
NO_FILE = "EntryNotFound"


@dataclass
class FakeHub:
    """What the server has, and what it was asked for.

    Attributes:
        url: of the server.
        commits: repository -> commit -> its files.
        branches: repository -> branch -> commit.
        gated: repositories whose conditions nobody has accepted.
        asked: the files that were fetched, as OWNER/NAME/FILE.
    """

    url: str = ""
    commits: dict[str, dict[str, Files]] = field(default_factory=dict)
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def commit(self, repository: str, files: Files, branch: str = "main") -> str:
        """Puts files onto a branch; returns the hash of the commit."""
        told = json.dumps([repository, {n: d.hex() for n, d in sorted(files.items())}])
        commit = hashlib.sha1(told.encode()).hexdigest()
        self.commits.setdefault(repository, {})[commit] = files
        self.branches.setdefault(repository, {})[branch] = commit
        return commit

    def add_folder(self, repository: str, folder: Path) -> str:
        """Puts the files of a folder onto `main`."""
        return self.commit(repository, {p.name: p.read_bytes() for p in folder.iterdir()})


@contextmanager
def served(hub: FakeHub) -> Iterator[FakeHub]:
    """Serves a hub while the block runs."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            if parts[:2] == ["api", "models"]:
                self._api("/".join(parts[2:4]), parts[4], "/".join(parts[5:]))
            elif parts[2:3] == ["resolve"]:
                self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
            else:  # such as what the client asks about agents
                self._refuse(404, "")

        def _files(self, repository: str, revision: str) -> tuple[str, Files] | None:
            if repository not in hub.commits:
                return self._refuse(404, NO_REPOSITORY)
            commit = hub.branches[repository].get(revision, revision)
            if commit not in hub.commits[repository]:
                return self._refuse(404, NO_REVISION)
            return commit, hub.commits[repository][commit]

        def _api(self, repository: str, kind: str, revision: str) -> None:
            found = self._files(repository, revision)
            if found is None:
                return
            commit, files = found
            if kind == "revision":
                self._json({"id": repository, "sha": commit, "siblings": []})
            else:
                self._json(
                    [
                        {"type": "file", "path": n, "size": len(d), "oid": _etag(d)}
                        for n, d in files.items()
                    ]
                )

        def _file(self, repository: str, revision: str, name: str) -> None:
            found = self._files(repository, revision)
            if found is None:
                return
            if repository in hub.gated:
                self._refuse(403, GATED)
                return
            commit, files = found
            if name not in files:
                self._refuse(404, NO_FILE)
                return
            if self.command == "GET":
                hub.asked.append(f"{repository}/{name}")
            self._send(files[name], {"ETag": f'"{_etag(files[name])}"', "X-Repo-Commit": commit})

        def _json(self, value: Any) -> None:
            self._send(json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send(self, data: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(data))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def client_of(url: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sends the hub's client in this process to a server, with a cache of its own."""
    for name, value in {
        "ENDPOINT": url,
        "HUGGINGFACE_CO_URL_TEMPLATE": url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_OFFLINE": False,
    }.items():
        monkeypatch.setattr(constants, name, value)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
