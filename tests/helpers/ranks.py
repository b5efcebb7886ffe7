"""Functions run on several ranks, in processes forked from one that has imported torch already."""

import importlib
import inspect
import multiprocessing
import os
import pickle
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import pytest

TIMEOUT = 300

Call = tuple[Callable[..., Any], tuple[Any, ...]]


def processes() -> ForkServerContext:
    """Starts processes by forking one that has the imports of `imported_once` done.

    An import of torch and transformers takes seconds, and every rank would have its own.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["imported_once"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        # Inductor would start a pool of compilers, and threads to watch it, before the forks.
        patch.setenv("TORCHINDUCTOR_COMPILE_THREADS", "1")
        forkserver.ensure_running()
    return context


def held_port() -> socket.socket:
    """A socket that keeps a free port from everyone but a server that reuses addresses.

    PyTorch's store is such a server. A world that is made minutes later still has its port.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held


def on_ranks(world: int, calls: list[Call]) -> list[list]:
    """What each call returns on each rank: found[call][rank]. Each may make a world of its own.

    Functions must be importable: of a module, not of another function.
    """
    named = [(*_place(function), args) for function, args in calls]
    with ExitStack() as stack:
        held = [stack.enter_context(held_port()) for _ in calls]
        ports = [each.getsockname()[1] for each in held]
        started = [_started(_rank, (rank, world, named, ports)) for rank in range(world)]
        try:
            found = [_outcomes(ours, rank) for rank, (_, ours) in enumerate(started)]
        finally:
            for process, _ in started:
                process.kill()
                process.join()
    return [[found[rank][call] for rank in range(world)] for call in range(len(calls))]


def in_a_process(function: Callable[..., Any], *args: Any) -> tuple[ForkServerProcess, Connection]:
    """Calls a function of a module with a connection to us, and args."""
    return _started(_call, (*_place(function), args))


def _started(
    target: Callable[..., None], args: tuple[Any, ...]
) -> tuple[ForkServerProcess, Connection]:
    context = processes()
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(theirs, *args))
    process.start()
    theirs.close()
    return process, ours


def _place(function: Callable[..., Any]) -> tuple[str, str]:
    """Its file and name: under pytest a module has another name than in a process of its own."""
    return inspect.getfile(function), function.__name__


def _found(file: str, name: str) -> Callable[..., Any]:
    path = Path(file)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    return getattr(importlib.import_module(path.stem), name)


def _call(connection: Connection, file: str, name: str, args: tuple[Any, ...]) -> None:
    _found(file, name)(connection, *args)


def _outcomes(connection: Connection, rank: int) -> list[Any]:
    assert connection.poll(TIMEOUT), f"rank {rank} does not answer"
    with suppress(EOFError):
        outcomes, error = pickle.loads(connection.recv_bytes())
        assert error is None, f"rank {rank}: {error}"
        return outcomes
    raise AssertionError(f"rank {rank} ended without an answer")


def _rank(
    connection: Connection,
    rank: int,
    world: int,
    calls: list[tuple[str, str, tuple[Any, ...]]],
    ports: list[int],
) -> None:
    warnings.simplefilter("error", UserWarning)
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor")
    outcomes: list[Any] = []
    error = None
    for (file, name, args), port in zip(calls, ports, strict=True):
        os.environ |= {
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        }  # fmt: skip
        try:
            outcomes.append(_found(file, name)(*args))
        except Exception:
            error = traceback.format_exc()
            break
    # As bytes: torch would send tensors as shared memory, which ends with this process.
    connection.send_bytes(pickle.dumps((outcomes, error)))
    connection.close()
