"""Worker processes of the embedded runner: when one dies, the job fails at once.

Beam itself waits forever for a worker that was killed, as happens when memory runs out.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from ...schemas.errors import ExactcptError
from .worker import PARENT

__all__ = ["WorkerProcesses"]


@dataclass
class _Worker:
    """A worker process, and the file with its stderr; None where that goes to the terminal."""

    process: subprocess.Popen[bytes]
    stderr: IO[bytes] | None
    is_stopped: bool = False

    def stop(self) -> None:
        """Ends the process. No file is left half written: a file is whole or absent."""
        self.is_stopped = True
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        if self.stderr is not None:
            self.stderr.close()

    def why_it_ended(self) -> str:
        """Describes how the process ended, if it was not stopped."""
        code = self.process.returncode
        if code < 0:
            name = signal.Signals(-code).name
            return f"{name}, as when memory runs out" if name == "SIGKILL" else name
        return f"exit status {code}: {self._last_line()}"

    def _last_line(self) -> str:
        if self.stderr is None:
            return "see above"
        self.stderr.seek(0)
        lines = self.stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it said nothing"


class WorkerProcesses:
    """The worker processes of one pipeline."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []

    def raise_if_one_died(self) -> None:
        """Checks that all workers run.

        Raises:
            ExactcptError: one has ended that was not stopped.
        """
        for worker in list(self._workers):
            if worker.process.poll() and not worker.is_stopped:
                raise ExactcptError(
                    f"a worker process ended with {worker.why_it_ended()}",
                    fix="run the same command again to continue where it stopped; fewer --workers "
                    "need less memory",
                )

    def stop(self) -> None:
        """Ends all workers that still run."""
        for worker in list(self._workers):
            worker.stop()

    def start(self, handler: Any) -> _Worker:
        """Starts a worker for one of Beam's handlers."""
        debug = logging.getLogger().isEnabledFor(logging.DEBUG)
        stderr = None if debug else tempfile.TemporaryFile()  # noqa: SIM115  closed by `stop`
        # A separate session, so that Ctrl-C reaches only the job; it ends its workers itself.
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "exactcpt.pipeline.beam.worker",
                *(["--debug"] if debug else []),
            ],
            env={**os.environ, **_environment(handler), PARENT: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        self._workers.append(_Worker(process, stderr))
        return self._workers[-1]

    def register(self) -> None:
        """Makes Beam's embedded runner start its worker processes with this object."""
        from apache_beam.portability import python_urns
        from apache_beam.runners.portability.fn_api_runner import worker_handlers

        workers = self
        stock_handler: Any = worker_handlers.SubprocessSdkWorkerHandler

        class WatchedWorkerHandler(stock_handler):
            """Beam's end of a worker process."""

            def start_worker(self) -> None:
                self._worker = workers.start(self)

            def stop_worker(self) -> None:
                self._worker.stop()

        register = worker_handlers.WorkerHandler.register_environment
        register(python_urns.SUBPROCESS_SDK, bytes)(WatchedWorkerHandler)


def _environment(handler: Any) -> dict[str, str]:
    """The environment variables that Beam's SDK worker reads."""
    from apache_beam.portability.api import endpoints_pb2
    from google.protobuf import json_format, text_format

    control = endpoints_pb2.ApiServiceDescriptor(url=handler.control_address)
    options = handler.provision_info.provision_info.pipeline_options
    return {
        "CONTROL_API_SERVICE_DESCRIPTOR": text_format.MessageToString(control),
        "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(
            handler.logging_api_service_descriptor()
        ),
        "PIPELINE_OPTIONS": json_format.MessageToJson(options),
        "WORKER_ID": handler.worker_id,
    }
