"""Running a Beam graph: embedded on this machine's cores, or on whatever runner Beam knows.

The embedded runner is Beam's FnApiRunner, named explicitly: the default DirectRunner would look for
a server binary to download. Workers are threads, which suit work that is done in Rust, numpy and
Arrow, or processes, which many cores need.
"""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any, Literal, get_args

from ..schemas.errors import ExactcptError, UsageError
from .storage import is_local_url
from .worker import PARENT

__all__ = ["EMBEDDED", "WORKER_TYPES", "RunSettings", "WorkerType", "run"]

EMBEDDED = "embedded"
LOCAL_RUNNERS = {"directrunner", "fnapirunner", "bundlebaseddirectrunner", "prismrunner"}
WRONG_RUNNERS = {"daskrunner": "it recomputes side inputs and merges tagged outputs"}

WorkerType = Literal["threads", "processes"]
WORKER_TYPES: tuple[WorkerType, ...] = get_args(WorkerType)

NO_PROXY_FOR_WORKERS = {"no_grpc_proxy": "localhost,127.0.0.1"}
"""Without it an http_proxy would be asked for the way to local workers."""

POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0

Build = Callable[[Any, int | None], None]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Where and how wide a graph runs; nothing of it changes what is written.

    Attributes:
        runner: "embedded" or a runner's name as Beam knows it.
        workers: how many, for the embedded runner.
        worker_type: threads or processes, for the embedded runner.
        beam_args: Beam's own options.
    """

    runner: str = EMBEDDED
    workers: int = 1
    worker_type: WorkerType = "threads"
    beam_args: tuple[str, ...] = ()

    @property
    def is_embedded(self) -> bool:
        """Whether the work is done by this machine's embedded runner."""
        return self.runner == EMBEDDED

    def refuse_unreachable(self, urls: Sequence[str]) -> None:
        """Checks that the runner is sound and that its workers can reach the given places.

        Raises:
            UsageError: a local path with a remote runner, or a runner known to give wrong results.
        """
        name = self.runner.lower().rpartition(".")[2]
        if name in WRONG_RUNNERS:
            raise UsageError(
                f"{self.runner} gives wrong results for these graphs: {WRONG_RUNNERS[name]}",
                fix="use --runner embedded, or another one",
            )
        here = "--environment_type=LOOPBACK" in self.beam_args
        if self.is_embedded or here or name in LOCAL_RUNNERS:
            return
        local = [url for url in urls if is_local_url(url) and not url.startswith("file://")]
        if local:
            raise UsageError(
                f"the workers of {self.runner} cannot read or write a path of this machine",
                where=", ".join(local),
                expected="URLs that every worker reaches, such as s3:// or gs://",
                fix="put the files there; for a network disk all workers have mounted write file:///path",
            )


def run(build: Build, settings: RunSettings, poll: Callable[[], None]) -> None:
    """Builds a graph, runs it, and waits for it.

    Args:
        build: adds the graph to a pipeline, given the number of lanes.
        settings: where it runs.
        poll: called several times a second meanwhile; an error it raises ends the job.

    Raises:
        ExactcptError: the graph failed.
    """
    execution = _Execution(build, settings)
    execution.start()
    try:
        while execution.is_alive():
            execution.join(POLL_SECONDS)
            poll()
    except BaseException:
        execution.stop()
        raise
    if execution.error is not None:
        poll()  # a unit's own report says more than the runner's
        raise _explain(execution.error) from execution.error


class _Execution(threading.Thread):
    """Runs the pipeline, so that the main thread can watch it and be interrupted."""

    def __init__(self, build: Build, settings: RunSettings) -> None:
        super().__init__(name="exactcpt-pipeline", daemon=True)
        self._build, self._settings = build, settings
        self._processes: list[subprocess.Popen[bytes]] = []
        self._result: Any = None
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            pipeline = _pipeline(self._settings, self._processes)
            self._build(pipeline, self._settings.workers if self._settings.is_embedded else None)
            self._result = pipeline.run()
            self._result.wait_until_finish()
        except BaseException as error:
            self.error = error
        finally:
            self._end_processes()

    def stop(self) -> None:
        """Ends worker processes and remote jobs; threads get a moment to finish their units."""
        self._end_processes()
        if self._result is not None and not self._settings.is_embedded:
            with suppress(Exception):
                self._result.cancel()
        self.join(GRACE_SECONDS)

    def _end_processes(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                process.kill()
        for process in self._processes:
            process.wait()


def _pipeline(settings: RunSettings, processes: list[subprocess.Popen[bytes]]) -> Any:
    if not _debugs():
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    if not settings.is_embedded:
        options = PipelineOptions(list(settings.beam_args))
        return beam.Pipeline(runner=settings.runner, options=options)
    os.environ.update(NO_PROXY_FOR_WORKERS)
    mode = "multi_processing" if settings.worker_type == "processes" else "multi_threading"
    if settings.workers == 1 and settings.worker_type == "threads":
        mode = "in_memory"
    options = PipelineOptions(
        [
            *settings.beam_args,
            f"--direct_num_workers={settings.workers}",
            f"--direct_running_mode={mode}",
        ]
    )
    return beam.Pipeline(runner=_embedded_runner(processes), options=options)


def _debugs() -> bool:
    return logging.getLogger().isEnabledFor(logging.DEBUG)


def _embedded_runner(processes: list[subprocess.Popen[bytes]]) -> Any:
    from apache_beam.portability import python_urns
    from apache_beam.runners.portability.fn_api_runner import worker_handlers
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    stock_handler: Any = worker_handlers.SubprocessSdkWorkerHandler

    class WatchedWorkerHandler(stock_handler):
        """A worker process whose death is an error; stock Beam would wait for it for ever."""

        def start_worker(self) -> None:
            self._stopping = False
            self._complaints = None if _debugs() else _open_scratch()
            self._process = _start_worker_process(self, self._complaints)
            processes.append(self._process)
            threading.Thread(target=self._watch, daemon=True).start()

        def _watch(self) -> None:
            code = self._process.wait()
            if not self._stopping:
                last = _last_line(self._complaints)
                why = _signal_name(code) if code < 0 else f"exit status {code}: {last}"
                self.control_conn.abort(RuntimeError(f"a worker process ended with {why}"))
            if self._complaints is not None:
                self._complaints.close()

        def stop_worker(self) -> None:
            self._stopping = True
            self._process.kill()  # its units are done, and it holds nothing
            self._process.wait()

    worker_handlers.WorkerHandler.register_environment(python_urns.SUBPROCESS_SDK, bytes)(
        WatchedWorkerHandler
    )
    return FnApiRunner()


def _open_scratch() -> IO[bytes]:
    return tempfile.TemporaryFile()  # it lives as long as the process that writes it


def _last_line(file: IO[bytes] | None) -> str:
    if file is None:
        return "see above"
    file.seek(0)
    lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _signal_name(code: int) -> str:
    name = signal.Signals(-code).name
    return f"{name}, as when memory runs out" if name == "SIGKILL" else name


def _start_worker_process(handler: Any, stderr: IO[bytes] | None) -> subprocess.Popen[bytes]:
    from apache_beam.portability.api import endpoints_pb2
    from google.protobuf import json_format, text_format

    def descriptor(url: str) -> str:
        return text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url))

    options = json_format.MessageToJson(handler.provision_info.provision_info.pipeline_options)
    environment = {
        **os.environ,
        "CONTROL_API_SERVICE_DESCRIPTOR": descriptor(handler.control_address),
        "LOGGING_API_SERVICE_DESCRIPTOR": text_format.MessageToString(
            handler.logging_api_service_descriptor()
        ),
        "PIPELINE_OPTIONS": options,
        "WORKER_ID": handler.worker_id,
        PARENT: str(os.getpid()),
    }
    command = [sys.executable, "-m", "exactcpt.pipeline.worker"]
    command += ["--debug"] if _debugs() else []
    # A session of its own: Ctrl-C is for the job, which ends its workers itself.
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=stderr,
        start_new_session=True,
    )


def _explain(error: BaseException) -> ExactcptError:
    """The cause out of Beam's long traceback: its last line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ExactcptError(
        f"the pipeline failed: {lines[-1] if lines else type(error).__name__}",
        fix="run the same command again to go on where it stopped; --debug shows the traceback",
    )
