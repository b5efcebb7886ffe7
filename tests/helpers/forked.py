"""Runs functions in a child process with limits: what they say, or how the child died."""

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["forked"]


def forked(
    works: Mapping[str, Callable[[], Any]], *, seconds: float = 20, memory: int = 1 << 29
) -> dict[str, Any]:
    """What each function returns, as JSON has it; the functions run one after the other.

    Args:
        works: the functions by name.
        seconds: for all of them; then the child is killed.
        memory: bytes of address space that the child may add.

    Returns:
        The values by name. A function that raised, and the one in which the child died or was
        killed, have a string instead that begins with DIED, HANGS or RAISED; those after it are
        left out.
    """
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.close(reads)
        _child(works, writes, memory)
    os.close(writes)
    lines, hangs = _lines(reads, child, time.monotonic() + seconds)
    _, status = os.waitpid(child, 0)
    found = {name: value for line in lines for name, value in json.loads(line).items()}
    missing = [name for name in works if name not in found]
    if missing:
        code = os.waitstatus_to_exitcode(status)
        found[missing[0]] = "HANGS" if hangs else f"DIED with {code}"
    return found


def _child(works: Mapping[str, Callable[[], Any]], writes: int, memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        for name, work in works.items():
            try:
                value = work()
            except BaseException as error:
                value = f"RAISED {type(error).__name__}: {error}"
            os.write(writes, json.dumps({name: value}).encode() + b"\n")
    finally:
        sys.stdout.flush()
        os._exit(0)


def _lines(reads: int, child: int, end: float) -> tuple[list[bytes], bool]:
    """The lines that the child writes, and whether it had to be killed."""
    data, hangs = b"", False
    os.set_blocking(reads, False)
    while True:
        try:
            some = os.read(reads, 1 << 16)
        except BlockingIOError:
            if time.monotonic() > end and not hangs:
                hangs = True
                os.kill(child, signal.SIGKILL)
            time.sleep(0.002)
            continue
        if not some:
            os.close(reads)
            return data.splitlines(), hangs
        data += some
