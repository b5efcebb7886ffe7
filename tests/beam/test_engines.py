"""Runners other than the embedded one: how a job is given to them, and what their errors say."""

import signal
import socket
import time
from typing import Any

import grpc
import pytest
from apache_beam.runners.portability.local_job_service import LocalJobServicer

from exactcpt.pipeline.beam.engine_errors import AGAIN, explain, explain_start, option
from exactcpt.pipeline.beam.runner import RunSettings, run
from exactcpt.pipeline.files.storage import Folder
from exactcpt.schemas.errors import ExactcptError, UsageError

JAVA = """
java.lang.RuntimeException: job failed
\tat org.apache.beam.Something.run(Something.java:840)
Caused by: java.io.IOException: the disk of worker 3 is full
\tat java.base/java.lang.Thread.run(Thread.java:840)
\t... 12 more
"""


PYTHON_IN_JAVA = """
An error occurred while calling z:org.apache.spark.api.python.PythonRDD.collectAndServe.
: org.apache.spark.SparkException: Job aborted due to stage failure
\tat org.apache.spark.Something.run(Something.scala:1)
Caused by: org.apache.spark.api.python.PythonException: Traceback (most recent call last):
  File "/python/worker.py", line 1247, in main
    process()
TypeError: no row

\tat org.apache.spark.api.python.PythonRunner.handle(PythonRunner.scala:572)
\t... 1 more
"""


class Answer(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__("<_MultiThreadedRendezvous of RPC that terminated with:\n\t...\n>")
        self._code, self._details = code, details

    def code(self) -> grpc.StatusCode:
        return self._code

    def details(self) -> str:
        return self._details


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--job_endpoint=a:1"], "a:1"),
        (["--job_endpoint", "a:1"], "a:1"),
        (["--job_endpoint=a:1", "--streaming", "--job_endpoint", "b:2"], "b:2"),
        (["--streaming", "--job_endpoints=c"], None),
        ([], None),
    ],
)
def test_an_option_of_beams(words, value):
    assert option(words, "job_endpoint") == value


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RuntimeError(JAVA), "java.io.IOException: the disk of worker 3 is full"),
        (RuntimeError(PYTHON_IN_JAVA), "TypeError: no row"),
        (RuntimeError("Traceback\n  File 'a.py'\nValueError: no row\n"), "ValueError: no row"),
        (RuntimeError("Java failed\n\tat java.base/java.lang.Thread.run(T:8)\n"), "Java failed"),
        (Answer(grpc.StatusCode.INTERNAL, "stage 3 failed"), "stage 3 failed"),
        (RuntimeError(), "RuntimeError"),
    ],
)  # fmt: skip
def test_the_cause_of_a_failure(error, cause):
    found = explain(error, "FlinkRunner", [])
    assert (found.found, found.fix) == (f"the pipeline failed: {cause}", AGAIN)
    found = explain_start(error, "FlinkRunner", [])
    assert found.found == f"FlinkRunner did not start the pipeline: {cause}"
    assert found.fix and "--job_endpoint=HOST:PORT" in found.fix


def test_a_worker_that_has_died():
    error = RuntimeError("bundle inst004 failed: SDK worker disconnected: worker[1], 2 active")
    found = explain(error, "PortableRunner", [])
    assert found.found.startswith("a worker of PortableRunner has died, or it cannot be reached: ")
    assert found.fix and "enough memory" in found.fix


@pytest.mark.parametrize("tell", [explain, explain_start])
@pytest.mark.parametrize(
    "error", [grpc.FutureTimeoutError(), Answer(grpc.StatusCode.UNAVAILABLE, "connection refused")]
)
def test_where_nobody_answers(error, tell):
    found = tell(error, "PortableRunner", ["--job_endpoint", "cluster:8099"])
    assert (found.found, found.where) == ("no job server answers", "cluster:8099")


def settings(runner: str, *words: str) -> RunSettings:
    return RunSettings(runner=runner, beam_args=words)


def test_a_runner_that_starts_a_server_of_its_own(tmp_path):
    """It handles SIGINT for the server, which a thread may not do. Afterwards we do again."""
    handler = signal.getsignal(signal.SIGINT)
    seen: list[str] = []

    def build(pipeline: Any, crew: Any) -> None:
        import apache_beam as beam

        seen.append(f"{crew.size} at the same time")
        numbers = pipeline | beam.Create([1, 2])
        numbers | beam.Map(lambda number: (tmp_path / str(number)).touch())
        seen.extend(memory_hints(pipeline))

    run(build, settings("own_server.OwnServer"), Folder(str(tmp_path)))
    assert seen == ["None at the same time", "2000000000"]
    assert {path.name for path in tmp_path.iterdir()} >= {"1", "2"}
    assert signal.getsignal(signal.SIGINT) == handler


def at(endpoint: str) -> RunSettings:
    """A job server that has to answer within a second."""
    words = (f"--job_endpoint={endpoint}", "--environment_type=LOOPBACK", "--job_server_timeout=1")
    return settings("PortableRunner", *words)


def test_a_job_may_take_longer_than_an_answer(tmp_path):
    """Beam's local service tells how a job goes in a stream that has Beam's limit for answers."""

    def build(pipeline: Any, crew: Any) -> None:
        import apache_beam as beam

        _ = pipeline | beam.Create([2.5]) | beam.Map(time.sleep)

    service = LocalJobServicer(str(tmp_path / "staged"))
    try:
        run(build, at(f"localhost:{service.start_grpc_server(0)}"), Folder(str(tmp_path)))
    finally:
        service.stop()


def test_a_job_server_that_is_not_there(tmp_path):
    with pytest.raises(ExactcptError, match="no job server answers") as raised:
        run(nothing, at("localhost:1"), Folder(str(tmp_path)))
    assert raised.value.where == "localhost:1"


def test_a_job_server_that_is_silent(tmp_path):
    """It takes connections, and answers nothing."""
    with socket.create_server(("localhost", 0)) as silent:
        endpoint = f"localhost:{silent.getsockname()[1]}"
        with pytest.raises(ExactcptError, match="no job server answers") as raised:
            run(nothing, at(endpoint), Folder(str(tmp_path)))
        assert raised.value.where == endpoint


def memory_hints(pipeline: Any) -> set[str]:
    """What the stages of a graph say of the memory that they need."""
    environments = pipeline.to_runner_api().components.environments.values()
    found = [each.resource_hints.get("beam:resources:min_ram_bytes:v1") for each in environments]
    return {hint.decode() for hint in found if hint is not None}


def test_the_user_s_hints_count_more(tmp_path):
    seen: list[set[str]] = []

    def build(pipeline: Any, crew: Any) -> None:
        import apache_beam as beam

        pipeline | beam.Create([1])
        seen.append(memory_hints(pipeline))

    hint = "--resource_hint=min_ram=9GB"
    run(build, settings("own_server.OwnServer", hint), Folder(str(tmp_path)))
    assert seen == [{"9000000000"}]


def nothing(pipeline: Any, crew: Any) -> None:
    pass


def test_an_option_that_beam_does_not_know(tmp_path, capsys):
    """An engine may have options of its own, such as those of a job server; here nobody has."""
    words = ("--paralelism=4", "--parallelism=4")
    run(nothing, settings("own_server.OwnServer", *words), Folder(str(tmp_path)))
    run(nothing, settings("own_server.OwnServer", *words), Folder(str(tmp_path)))
    assert capsys.readouterr().err == (
        "warning: Beam knows no option --paralelism; it is of use only if own_server.OwnServer "
        "knows it\n"
    )
    embedded = RunSettings(beam_args=words)
    with pytest.raises(UsageError, match=r"^Beam knows no option --paralelism\n"):
        run(nothing, embedded, Folder(str(tmp_path)))


def test_a_runner_that_does_not_start(tmp_path):
    with pytest.raises(ExactcptError, match="PortableRunner did not start the pipeline: You must"):
        run(nothing, settings("PortableRunner"), Folder(str(tmp_path)))


@pytest.mark.parametrize(
    ("runner", "words", "found"),
    [
        ("Nonsense", [], "Beam has no runner 'Nonsense'"),
        ("no.such.Runner", [], "Beam has no runner 'no.such.Runner'"),
        ("PortableRunner", ["--no_auth=True"], "Beam refuses an option: argument --no_auth"),
    ],
)
def test_wrong_usage(tmp_path, capfd, runner, words, found):
    with pytest.raises(UsageError, match=found):
        run(nothing, settings(runner, *words), Folder(str(tmp_path)))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "words", [["--environment_type=LOOPBACK"], ["--environment_type", "LOOPBACK"]]
)
def test_workers_that_run_here_read_local_files(words):
    settings("PortableRunner", *words).refuse_unreachable(["shards"])
    with pytest.raises(UsageError, match="cannot read or write a path on this machine"):
        settings("PortableRunner").refuse_unreachable(["shards"])
