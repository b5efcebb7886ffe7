"""The shim, from Python: built with the C compiler of the machine, loaded before all else."""

import ctypes
import os
import shutil
import subprocess
import sys
from enum import IntEnum
from pathlib import Path

__all__ = ["Action", "build", "disturb", "environment", "why_not"]

SOURCE = Path(__file__).with_name("shim.c")
LOADED = "EXACTCPT_FAULTS_SHIM"


class Action(IntEnum):
    """What happens at the chosen operation; the numbers are those of shim.c.

    WATCH nothing, KILL the process is killed before it, TEAR the process is killed in the middle of
    it, FAIL it fails, FULL it and all later ones that take space fail, after half of a write.
    """

    WATCH = 0
    KILL = 1
    TEAR = 2
    FAIL = 3
    FULL = 4


def why_not() -> str | None:
    """Why the campaign cannot run on this machine; None if it can."""
    if sys.platform != "linux":
        return "the shim is for Linux"
    return None if shutil.which("cc") else "no C compiler (cc)"


def build(folder: Path) -> Path:
    """Compiles the shim into a folder."""
    library = folder / "shim.so"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *flags, "-o", library, SOURCE, "-ldl", "-lpthread"], check=True)
    return library


def environment(library: Path) -> dict[str, str]:
    """The environment of a process that has the shim."""
    return {**os.environ, "LD_PRELOAD": str(library), LOADED: str(library)}


def disturb(
    root: Path, *, journal: Path | None = None, at: int = 0, action: Action = Action.WATCH,
    error: int = 0,
) -> None:  # fmt: skip
    """Watches the operations of this process from now on, and disturbs one of them.

    Args:
        root: the folder to watch, without symbolic links in its path.
        journal: where the operations are written down.
        at: the operation to disturb, counted from 1.
        action: what happens at it.
        error: the errno of an operation that fails.
    """
    begin = ctypes.CDLL(os.environ[LOADED]).faults_begin
    begin.argtypes = [
        ctypes.c_char_p, ctypes.c_char_p, ctypes.c_long, ctypes.c_int, ctypes.c_int,
    ]  # fmt: skip
    begin.restype = None
    begin(os.fsencode(root), os.fsencode(journal) if journal else b"", at, action, error)
