"""Commands in processes of their own that begin at once: forks of one that has the imports done.

A fork has its own memory, signals and exit, and prints where a terminal would show it. What it
shares with the other forks is what its imports saw: environment, search path, extras. Tests of
these, and of the start and the end of an interpreter, run the installed program: `harness.start`.
"""

import atexit
import os
import signal
import sys
import tempfile
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from ranks import processes

__all__ = ["Forked", "fork"]


class Forked:
    """A command that was started; to the tests it is a `subprocess.Popen`."""

    def __init__(self, arguments: list[str]) -> None:
        self._printed = [tempfile.NamedTemporaryFile() for _ in range(2)]  # noqa: SIM115  read later
        self._process: ForkServerProcess = processes().Process(
            target=_perform,
            args=(arguments, str(Path.cwd()), *(file.name for file in self._printed)),
        )
        self._process.start()
        atexit.register(self.kill)  # else multiprocessing would wait for it
        self.pid: int = self._process.pid or 0

    @property
    def returncode(self) -> int | None:
        """As Popen has it: None while it runs, minus a signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends a signal, unless it has ended."""
        if self._process.is_alive():
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Sends SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Sends SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Waits for the end; what was printed to stdout and stderr.

        Raises:
            TimeoutError: it did not end, and was killed.
        """
        self._process.join(timeout)
        hangs = self.returncode is None
        if hangs:
            self.kill()
            self._process.join()
        out, err = (file.read().decode() for file in self._printed)
        if hangs:
            raise TimeoutError(err)
        return out, err


def fork(*arguments: object) -> Forked:
    """Starts a command in a session of its own."""
    return Forked([str(argument) for argument in arguments])


def _perform(arguments: list[str], folder: str, out: str, err: str) -> None:
    """Is the program, in a fork."""
    os.setsid()
    os.chdir(folder)
    for number, path in enumerate((os.devnull, out, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND if number else os.O_RDONLY)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.argv = ["exactcpt", *arguments]
    from exactcpt.pipeline.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()
