"""Runs commands in forks of a process that has imported everything, each in a fraction of a second.

`python -m campaign.server` is that process. It reads requests from stdin and answers on stdout, one
JSON object a line. A fork ends with what is registered for the exit of the program, but without the
teardown of an interpreter that has imported everything, which would take longer than the command.
"""

import atexit
import gc
import json
import logging
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
from forks import refuse_threads
from imports import PIPELINE, TRAINING
from remembered import (
    remember,
    remember_pictures,
    remember_rules,
    remember_what_is_installed,
)

from . import breaks, shim

__all__ = ["TEMPORARY", "Ended", "Half", "Request", "Server"]

SECONDS = 120.0
"""Time after which a command counts as hanging."""
ORPHAN_SECONDS = 15.0
TEMPORARY = "tmp"
"""The folder, below the watched one, that is the system's folder for temporary files."""
Half = str
"""What is imported: "pipeline" or "training"."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A command to run.

    Attributes:
        arguments: of the program.
        disk: the folder below which operations are watched; it has a folder TEMPORARY.
        log: the file that gets what the command prints.
        journal: the file that gets its operations.
        at, action, error: the disturbance; see `shim.disturb`.
        kill: seconds after which the program gets a signal, unless it has ended; None for never.
        signal: the signal.
        worker: whether one of its worker processes gets it instead, if there is one.
        names: seed of the names that the program draws (UUIDs), so that runs alike make the same
            files; None for names that are new.
    """

    arguments: Sequence[str]
    disk: str
    log: str
    journal: str = ""
    at: int = 0
    action: int = shim.Action.WATCH
    error: int = 0
    kill: float | None = None
    signal: int = signal.SIGKILL
    worker: bool = False
    names: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code, or minus the signal that ended it, or None if it hung.
        text: what it printed.
        killed: whether it was still running when the signal came.
        orphans: how many of its processes outlived it by more than ORPHAN_SECONDS.
    """

    code: int | None
    text: str
    killed: bool = False
    orphans: int = 0


class Server:
    """A process that runs commands; close it at the end.

    Args:
        library: the compiled shim; pictures that commands draw are kept beside it.
        half: what it imports.
        broken: what is broken in the program, by the names of `breaks.BREAKS`.
    """

    def __init__(self, library: Path, half: Half, broken: str = "") -> None:
        root = Path(__file__).parents[1]
        path = os.pathsep.join([str(root), str(root.parent / "helpers")])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "campaign.server", half, broken, str(library.parent)],
            cwd=root,
            env={**shim.environment(library), "OMP_NUM_THREADS": "1", "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, request: Request) -> Ended:
        """Runs a command to its end."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(request)) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        return Ended(text=Path(request.log).read_text(errors="replace"), **answer)

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()


def _serve() -> None:
    half, broken, pictures = sys.argv[1:]
    remember_what_is_installed()
    breaks.apply(broken)
    logging.disable(logging.WARNING)  # of what Beam does not find when it is imported
    for module in {"pipeline": PIPELINE, "training": TRAINING}[half]:
        import_module(module)
    if half == "pipeline":
        remember()
        remember_pictures(Path(pictures))
    else:
        remember_rules()
    logging.disable(logging.NOTSET)
    gc.freeze()
    refuse_threads()
    for line in sys.stdin:
        request = Request(**json.loads(line))
        child = os.fork()
        if not child:
            _run(request)
        print(json.dumps(_wait(child, request)), flush=True)  # noqa: T201  the answer


def _run(request: Request) -> None:
    """Is the program, in a fork."""
    log = os.open(request.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, standard in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, standard)
    os.setsid()
    os.environ["TMPDIR"] = tempfile.tempdir = str(Path(request.disk) / TEMPORARY)
    sys.argv = ["exactcpt", *request.arguments]
    if request.names is not None:
        draws = random.Random(request.names)
        uuid.uuid4 = lambda: uuid.UUID(int=draws.getrandbits(128), version=4)
    from exactcpt.pipeline.cli import main

    shim.disturb(
        Path(request.disk),
        journal=Path(request.journal) if request.journal else None,
        at=request.at,
        action=shim.Action(request.action),
        error=request.error,
    )
    code: Any = 1
    try:
        main()
    except SystemExit as ended:
        code = ended.code
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(child: int, request: Request) -> dict[str, Any]:
    """Waits for a fork, and sends it its signal; returns the fields of an `Ended`."""
    ended: list[int] = []
    waiting = threading.Thread(target=lambda: ended.append(os.waitpid(child, 0)[1]))
    waiting.start()
    waiting.join(request.kill or 0)
    others: list[psutil.Process] = []
    killed = request.kill is not None and not ended
    if killed:
        others = _others(child)
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            victim = random.choice(others).pid if others and request.worker else child
            os.kill(victim, request.signal)
    waiting.join(SECONDS)
    if not ended:
        os.killpg(child, signal.SIGKILL)
        waiting.join()
        return {"code": None}
    _, orphans = psutil.wait_procs(others, ORPHAN_SECONDS)
    for orphan in orphans:
        orphan.kill()
    return {
        "code": os.waitstatus_to_exitcode(ended[0]), "killed": killed, "orphans": len(orphans)
    }  # fmt: skip


def _others(process: int) -> list[psutil.Process]:
    try:
        return psutil.Process(process).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


if __name__ == "__main__":
    _serve()
