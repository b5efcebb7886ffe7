"""Commands in processes that have imported the slow libraries already.

The first process of a study imports PyTorch, transformers and what `train` and `evaluate` need, and
computes nothing; every command is a fork of it (multiprocessing's fork server). A command then
begins after a twentieth of a second instead of after the five that the imports take.
"""

import multiprocessing
import os
import signal
import sys
import threading
from importlib.metadata import EntryPoint, entry_points
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import filelock

from ...schemas.cores import usable_cores
from ...schemas.disk import make_folder
from ...schemas.terminal import echo
from .commands import Command, shown

__all__ = ["BUSY", "Worker", "environment_of", "prepare_workers", "reason_of"]

IMPORTED = (
    "torch",
    "transformers.models.llama.modeling_llama",
    "exactcpt.training.train",
    "exactcpt.training.evaluation.job",
    "exactcpt.training.evaluation.summary",
)
PATIENCE = 60.0
"""Seconds that a command waits for the end of the same one, which a killed study has left."""
BUSY = 69
"""Exit code if another process still ran the command then (EX_UNAVAILABLE). No command has it."""
THREADS = "OMP_NUM_THREADS"
ERROR = "error: "
LONGEST = 300
"""Characters of a reason."""


def environment_of(jobs: int) -> dict[str, str]:
    """What commands have in their environment besides that of the study.

    Args:
        jobs: how many run at a time. They share the processor, unless the user has divided it.
    """
    if jobs == 1 or THREADS in os.environ:
        return {}
    return {THREADS: str(max(1, usable_cores() // jobs))}


def prepare_workers(jobs: int) -> None:
    """Says what workers import, and divides the processor among them."""
    os.environ.update(environment_of(jobs))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_program().module, *IMPORTED])


class Worker:
    """A process that runs one command.

    Args:
        command: what a person would type after `exactcpt`.
        folder: where it is run.
        log: the file that what it prints is added to.

    Attributes:
        began: how many bytes the log had before.
    """

    def __init__(self, command: Command, folder: Path, log: Path) -> None:
        make_folder(log.parent)
        log.touch()
        self.log = log
        self.began = log.stat().st_size
        context = multiprocessing.get_context("forkserver")
        self._process: ForkServerProcess = context.Process(
            target=_perform, args=(command, str(folder.absolute()), str(log.absolute()))
        )
        self._process.start()

    @property
    def sentinel(self) -> int:
        """What `multiprocessing.connection.wait` waits for."""
        return self._process.sentinel

    def end(self) -> int:
        """Waits for the end; returns the exit code, or the number of a signal, negated."""
        self._process.join()
        return self._process.exitcode or 0

    def stop(self) -> None:
        """Asks the command to end: a training writes a checkpoint first."""
        self._process.terminate()


def _program() -> EntryPoint:
    """The program `exactcpt`."""
    (found,) = entry_points(group="console_scripts", name="exactcpt")
    return found


def _perform(command: Command, folder: str, log: str) -> None:
    """Runs a command in this process, as if it had been typed in a folder."""
    os.setsid()  # Ctrl-C is for the study, which lets its commands end in good order
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lock = filelock.FileLock(f"{log}.lock", timeout=PATIENCE)
    try:
        lock.acquire()
    except filelock.Timeout:
        sys.exit(BUSY)
    try:
        os.chdir(folder)
        _print_to(log)
        echo(f"$ {shown(command)}", err=True)
        sys.argv = ["exactcpt", *command]
        _program().load()()
    finally:
        Path(f"{log}.lock").unlink(missing_ok=True)
        lock.release()


def _end_with_parent() -> None:
    """Ends this process when the study has ended, however it did."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _print_to(log: str) -> None:
    """Lets all output go to the end of a file."""
    target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, source in ((0, nothing), (1, target), (2, target)):
        os.dup2(source, number)
    os.close(target)
    os.close(nothing)


def reason_of(code: int, log: Path, began: int) -> str:
    """Why a command failed: its last error, or else how it ended and its last line.

    Args:
        code: as `Worker.end` returns it.
        log: what it printed.
        began: how many bytes the log had before.
    """
    with log.open("rb") as file:
        file.seek(began)
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    errors = [line.removeprefix(ERROR) for line in lines if line.startswith(ERROR)]
    if errors:
        return errors[-1][:LONGEST]
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}: {lines[-1][:LONGEST]}" if lines else how
