"""The few answers of the Hugging Face hub that an upload of small files needs, on this machine."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_right"


@dataclass
class FakeHub:
    """What was asked of it, and what it has.

    Attributes:
        created: the bodies of requests that make a repository.
        files: of the repository, by their paths.
        refuse: method and path -> the status that it answers with.
        who: the answer to who is logged in; bytes are sent as they are.
        asked: method and path of every request.
    """

    created: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    refuse: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    who: Any = field(default_factory=lambda: {"name": "ann", "type": "user"})
    url: str = ""

    def answer(self, method: str, path: str, token: str, body: bytes) -> tuple[int, Any]:
        asked = f"{method} {path.partition('?')[0]}"
        self.asked.append(asked)
        if status := next((self.refuse[a] for a in self.refuse if asked.startswith(a)), None):
            return status, {"error": "no, says the hub"}
        if token != f"Bearer {TOKEN}":
            return 401, {"error": "Invalid username or password."}
        match path.partition("?")[0].split("/")[2:]:
            case ["whoami-v2"]:
                return 200, self.who
            case ["validate-yaml"]:
                return 200, {"errors": [], "warnings": []}
            case ["repos", "create"]:
                wanted = json.loads(body)
                name = "{organization}/{name}".format(**wanted)
                told = {"url": f"{self.url}/datasets/{name}", "name": name}
                if wanted in self.created:
                    return 409, {**told, "error": "You already created this dataset repo"}
                self.created.append(wanted)
                return 200, told
            case ["datasets", _, _, "tree", _]:
                return 200, [
                    {"type": "file", "path": name, "size": len(content), "oid": "0"}
                    for name, content in self.files.items()
                ]
            case ["datasets", _, _, "preupload", _]:
                modes = [
                    {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for each in json.loads(body)["files"]
                ]
                return 200, {"files": modes}
            case ["datasets", owner, name, "commit", _]:
                for line in map(json.loads, body.splitlines()):
                    path = line["value"].get("path", "")
                    if line["key"] == "file":
                        self.files[path] = base64.b64decode(line["value"]["content"])
                    elif line["key"] == "deletedFile":
                        del self.files[path]
                at = f"{self.url}/datasets/{owner}/{name}/commit/1"
                return 200, {"commitUrl": at, "commitOid": "1", "success": True}
        return 404, {"error": f"the test knows no {asked}"}


@contextmanager
def serving() -> Iterator[FakeHub]:
    """A hub at an address of its own."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            token = self.headers.get("Authorization") or ""
            status, answer = hub.answer(self.command, self.path, token, body)
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_HEAD = do  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        hub.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
