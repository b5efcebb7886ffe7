"""Runs a Beam graph: embedded on this machine's cores, or on any other runner of Beam's.

The embedded runner is Beam's FnApiRunner, named explicitly because the default DirectRunner would
look for a server binary to download. Workers are threads, which suit work that is done in Rust,
numpy and Arrow, or processes, which many cores need.
"""

import io
import logging
import os
import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ...schemas.errors import ExactcptError, UsageError
from ...schemas.terminal import echo
from ..core.choices import WorkerType
from ..files.storage import Folder, is_local_url
from ..job.attempt import Attempt, attempt_at
from ..job.halt import HaltWatch, read_halt
from ..job.interruption import raise_if_interrupted
from .engine_errors import explain, explain_start, option
from .processes import WorkerProcesses

if TYPE_CHECKING:
    from .transforms import Crew

__all__ = ["EMBEDDED", "RunSettings", "run"]

EMBEDDED = "embedded"
LOCAL_RUNNERS = {"directrunner", "fnapirunner", "bundlebaseddirectrunner", "prismrunner"}
WRONG_RUNNERS = {"daskrunner": "it recomputes side inputs and merges tagged outputs"}
NO_PROXY_FOR_WORKERS = {"no_grpc_proxy": "localhost,127.0.0.1"}
"""Without it connections to local workers would go through an http_proxy."""
POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
DEFAULTS = (
    "--resource_hint=min_ram=2GB",
    "--resource_hint=cpu_count=1",
    "--job_server_timeout=60",
)
"""Beam's options for engines; the user's own count more.

An engine may go by the hints when it chooses machines: a worker that tokenizes, or writes a shard,
stays below that memory. They are said of the whole graph: stages whose hints differ run in workers
of their own, which would wait for each other and need the memory twice. A job server that has not
answered for a minute is not there; Beam would wait for five.
"""
YEAR = 365 * 24 * 3600
Build = Callable[[Any, "Crew"], None]


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Where a graph runs, and with how many workers; none of it changes what is written.

    Attributes:
        runner: "embedded", or a runner by Beam's name for it.
        workers: how many the embedded runner has.
        worker_type: threads or processes, for the embedded runner.
        beam_args: Beam's own options.
    """

    runner: str = EMBEDDED
    workers: int = 1
    worker_type: WorkerType = "threads"
    beam_args: tuple[str, ...] = ()

    @property
    def is_embedded(self) -> bool:
        """Whether the graph runs on the embedded runner, on this machine."""
        return self.runner == EMBEDDED

    @property
    def threads(self) -> int:
        """How many units this process does at the same time."""
        return self.workers if self.is_embedded and self.worker_type == "threads" else 1

    def refuse_unreachable(self, urls: Sequence[str]) -> None:
        """Checks that the runner works, and that its workers can reach the given URLs.

        Raises:
            UsageError: the runner is known to give wrong results, or it is remote and one of the
                URLs is a local path.
        """
        name = self.runner.lower().rpartition(".")[2]
        if name in WRONG_RUNNERS:
            raise UsageError(
                f"{self.runner} gives wrong results for these graphs: {WRONG_RUNNERS[name]}",
                fix="use --runner embedded, or another one",
            )
        here = option(self.beam_args, "environment_type") == "LOOPBACK"
        if self.is_embedded or here or name in LOCAL_RUNNERS:
            return
        local = [url for url in urls if is_local_url(url) and not url.startswith("file://")]
        if local:
            raise UsageError(
                f"the workers of {self.runner} cannot read or write a path on this machine",
                where=", ".join(local),
                expected="URLs that every worker reaches, such as s3:// or gs://",
                fix="put the files there, or write file:///path for a disk that all workers mount",
            )


def run(
    build: Build, settings: RunSettings, folder: Folder, poll: Callable[[], None] | None = None
) -> None:
    """Builds a graph, runs it, and waits for it.

    Args:
        build: adds the graph to a pipeline, given who works on it.
        settings: where it runs.
        folder: where the job writes; a work unit that ends the job leaves its error there.
        poll: called several times a second while the graph runs.

    Raises:
        ExactcptError: the graph failed, or a work unit has ended the job.
    """
    engine = None if settings.is_embedded else settings.runner
    with attempt_at(folder, engine=engine) as attempt:
        _run(_Execution(build, settings, attempt), attempt, poll)


def _run(execution: "_Execution", attempt: Attempt, poll: Callable[[], None] | None) -> None:
    look_for_halt = HaltWatch(attempt)
    execution.submit()
    execution.start()
    try:
        while execution.is_alive():
            execution.join(POLL_SECONDS)
            if poll is not None:
                poll()
            look_for_halt()
            raise_if_interrupted()
            execution.workers.raise_if_one_died()
    except BaseException:
        execution.stop()
        raise
    if execution.error is not None:
        read_halt(attempt, execution.error)  # a unit's own report says more than the runner's
        execution.raise_error()


class _Execution(threading.Thread):
    """Runs the pipeline in a thread, so that the main thread can watch it and be interrupted.

    A runner that starts a job server of its own, such as FlinkRunner, handles SIGINT for it, and
    only the main thread may do so. It returns as soon as the job is there: it is called first.
    """

    def __init__(self, build: Build, settings: RunSettings, attempt: Attempt) -> None:
        super().__init__(name="exactcpt-pipeline", daemon=True)
        self._build, self._settings, self._attempt = build, settings, attempt
        self._pipeline: Any = None
        self._result: Any = None
        self.workers = WorkerProcesses()
        self.error: BaseException | None = None

    def submit(self) -> None:
        """Starts the job, if it runs in other processes. To be called by the main thread.

        Raises:
            UsageError: Beam knows no such runner or refuses an option.
            ExactcptError: the job cannot be started.
        """
        if self._settings.is_embedded:
            return
        from apache_beam.runners.portability.portable_runner import PortableRunner

        self._pipeline = _pipeline(self._settings, self.workers)
        if not isinstance(self._pipeline.runner, PortableRunner):
            return
        handler = signal.getsignal(signal.SIGINT)
        try:
            _await_server(self._pipeline.options)
            _lift_limit(self._pipeline.options)
            self._add_graph()
            self._result = self._pipeline.run()
        except Exception as error:
            settings = self._settings
            raise explain_start(error, settings.runner, settings.beam_args) from error
        finally:
            signal.signal(signal.SIGINT, handler)  # ours cancels the job; the server ends at exit

    def run(self) -> None:
        try:
            if self._result is None:
                self._pipeline = self._pipeline or _pipeline(self._settings, self.workers)
                self._add_graph()
                self._result = self._pipeline.run()
            self._result.wait_until_finish()
        except BaseException as error:
            self.error = error
        finally:
            self.workers.stop()

    def _add_graph(self) -> None:
        self._build(self._pipeline, _crew(self._attempt, self._settings, self._pipeline.runner))

    def raise_error(self) -> NoReturn:
        """Raises the runner's error, in words."""
        assert self.error is not None
        if isinstance(self.error, ExactcptError):
            raise self.error
        raise explain(self.error, self._settings.runner, self._settings.beam_args) from self.error

    def stop(self) -> None:
        """Ends worker processes and remote jobs; threads get a moment to finish their units."""
        self.workers.stop()
        if self._result is not None and not self._settings.is_embedded:
            with suppress(Exception):
                self._result.cancel()
        if self._settings.worker_type == "threads":
            self.join(GRACE_SECONDS)


def _await_server(options: Any) -> None:
    """Waits for the job server that Beam's options name, if they name one.

    Raises:
        grpc.RpcError: the server does not answer.
    """
    import grpc
    from apache_beam.options.pipeline_options import PortableOptions
    from apache_beam.portability.api import beam_job_api_pb2 as api
    from apache_beam.portability.api import beam_job_api_pb2_grpc as calls

    portable = options.view_as(PortableOptions)
    if portable.job_endpoint not in (None, "embed"):
        with grpc.insecure_channel(portable.job_endpoint) as channel:
            calls.JobServiceStub(channel).DescribePipelineOptions(
                api.DescribePipelineOptionsRequest(),
                timeout=portable.job_server_timeout,
                wait_for_ready=True,
            )


def _lift_limit(options: Any) -> None:
    """Lets a job take longer than the first answer of its server.

    Beam's limit for an answer is also that of the streams by which Prism and Beam's own service
    tell how a job goes: they would end when the job has taken that long.
    """
    from apache_beam.options.pipeline_options import PortableOptions

    options.view_as(PortableOptions).job_server_timeout = YEAR


def _crew(attempt: Attempt, settings: RunSettings, runner: Any) -> "Crew":
    from .transforms import Crew

    if not settings.is_embedded:
        return Crew(attempt, of_beam=_is_beam_s(runner))
    processes = settings.workers if settings.worker_type == "processes" else 1
    return Crew(attempt, processes=processes, threads=settings.threads)


def _pipeline(settings: RunSettings, workers: WorkerProcesses) -> Any:
    import apache_beam as beam

    if not settings.is_embedded:
        options = _options([*DEFAULTS, *settings.beam_args])
        _warn_of_unknown(tuple(_unknown(options)), settings.runner)
        try:
            return _without_folder(beam.Pipeline(runner=settings.runner, options=options))
        except (AttributeError, ImportError, ValueError) as error:
            raise UsageError(
                f"Beam has no runner {settings.runner!r}: {error}",
                fix="correct --runner, or install what it needs",
            ) from error
    os.environ.update(NO_PROXY_FOR_WORKERS)
    many = settings.worker_type == "processes"
    options = _options(
        [
            *settings.beam_args,
            f"--direct_num_workers={settings.workers if many else 1}",
            f"--direct_running_mode={'multi_processing' if many else 'in_memory'}",
        ]
    )
    if unknown := _unknown(options):
        raise UsageError(
            f"Beam knows no option {unknown[0]}",
            where=" ".join(settings.beam_args),
            fix="correct what stands after -- on the command line",
        )
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    workers.register()
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        _silence_beam()
    return _without_folder(beam.Pipeline(runner=FnApiRunner(), options=options))


def _is_beam_s(runner: Any) -> bool:
    """Whether a runner is one of Beam's own, or gives its graph to one."""
    return any(
        kind.__module__.startswith("apache_beam.runners.") and kind.__name__ != "PipelineRunner"
        for kind in type(runner).__mro__
    )


def _options(words: Sequence[str]) -> Any:
    """Beam's options; its parser would print a page of them and exit."""
    from .options import KeptOptions

    told = io.StringIO()
    try:
        with redirect_stderr(told):
            options = KeptOptions(list(words))
            options.get_all_options()
    except SystemExit:
        reason = told.getvalue().strip().rpartition("error: ")[2]
        raise UsageError(
            f"Beam refuses an option: {reason}",
            where=" ".join(words),
            fix="correct what stands after -- on the command line",
        ) from None
    return options


def _unknown(options: Any) -> list[str]:
    """The options that Beam passes over, as words of the command line."""
    known = options.get_all_options()
    return sorted(
        f"--{name}"
        for name in options.get_all_options(retain_unknown_options=True)
        if name not in known
    )


@cache
def _warn_of_unknown(names: tuple[str, ...], runner: str) -> None:
    """Tells once of options that Beam does not know; a job server has some of its own."""
    for name in names:
        told = f"warning: Beam knows no option {name}; it is of use only if {runner} knows it"
        echo(told, err=True, fg="yellow")


def _without_folder(pipeline: Any) -> Any:
    """The pipeline without its folder in TMPDIR, which would stay there if the job is killed.

    Beam fills it for transforms in other languages alone.
    """
    with suppress(OSError):
        Path(pipeline.local_tempdir).rmdir()
    return pipeline


def _silence_beam() -> None:
    """Stops Beam from printing the traceback of every failed unit; `explain` has the cause."""
    from apache_beam.runners.worker import sdk_worker

    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
    sdk_worker.__dict__["print"] = lambda *_, **__: None
