"""Engines on this machine: each is started, tried with the program, and ended again."""

import os
import socket
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which

import psutil
from harness import until

__all__ = ["ENGINES", "Engine", "MissingError", "prism_program"]

SPARK = ("pyspark==3.5.9", "beam-pyspark-runner==0.0.3", "py4j==0.10.9.9")
SPARK_RUNNER = "beam_pyspark_runner.pyspark_runner.PySparkRunner"
PACKAGES = "lang lang.invoke lang.reflect io net nio util util.concurrent util.concurrent.atomic"
OPENS = [f"java.base/java.{name}" for name in PACKAGES.split()]
OPENS += [f"java.base/sun.{name}" for name in ("nio.ch", "nio.cs", "security.action")]
OPENS += ["java.base/sun.util.calendar"]
JAVA = [
    *("java", "-Xmx400m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"),
    *(f"--add-opens={package}=ALL-UNNAMED" for package in OPENS),
]
"""Spark's own scripts open these packages; small machines want the rest."""


class MissingError(Exception):
    """A piece that an engine needs is not at hand."""


@dataclass
class Engine:
    """A running engine.

    Attributes:
        flags: the program's options that hand a job to it.
        after_death: what becomes of a job of which a worker dies: it "goes on", "ends", or "waits"
            forever.
        log: where its processes say what they do.
        processes: of the engine; workers are below them.
        machines: those of them that stand for a machine each, if a job has several.
        tasks: how many tasks each of these has had so far.
    """

    flags: list[str]
    after_death: str
    log: Path
    processes: list[psutil.Process]
    machines: list[psutil.Process] = field(default_factory=list)
    tasks: Callable[[], list[int]] = list

    def workers(self) -> list[psutil.Process]:
        """The processes that run work units now."""
        below = [child for one in self.processes for child in _below(one)]
        return [one for one in below if _runs_units(one)]

    def lose_a_machine(self) -> None:
        """Kills a machine with all that runs there."""
        machine = self.machines.pop()
        for process in [machine, *_below(machine)]:
            process.kill()


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _runs_units(process: psutil.Process) -> bool:
    """Beam's worker, or a child of Spark's `pyspark.daemon`."""
    try:
        words, parent = " ".join(process.cmdline()), process.parent()
        above = " ".join(parent.cmdline()) if parent else ""
    except psutil.Error:
        return False
    return "SdkHarness" in words or "pyspark.daemon" in above


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _answers(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


class _Processes:
    """Processes that end with a block, and their log."""

    def __init__(self, stack: ExitStack, log: Path) -> None:
        log.mkdir(parents=True, exist_ok=True)
        self.log, self._stack = log, stack
        self.all: list[psutil.Process] = []

    def start(self, name: str, command: list[str], **more: str) -> None:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # workers start `python`
        environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **more}
        output = self._stack.enter_context((self.log / f"{name}.log").open("wb"))
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL
        )
        self._stack.callback(_end, process)
        self.all.append(psutil.Process(process.pid))

    def wait_for(self, what: str, condition: Callable[[], object]) -> None:
        if not until(condition, 180):
            texts = [path.read_text(errors="replace")[-2000:] for path in self.log.glob("*.log")]
            raise AssertionError(f"no {what} within three minutes:\n" + "\n".join(texts))


def _end(process: "subprocess.Popen[bytes]") -> None:
    below = _below(psutil.Process(process.pid)) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for child in below:
        try:
            child.kill()
        except psutil.NoSuchProcess:
            continue


@contextmanager
def _portable(
    folder: Path, name: str, server: Callable[[int], list[str]], after_death: str = "ends"
) -> Iterator[Engine]:
    """A portable job server, and a pool of workers that are processes of its own."""
    with ExitStack() as stack:
        processes = _Processes(stack, folder / "log")
        job, pool = _free_port(), _free_port()
        processes.start(name, server(job))
        module = "apache_beam.runners.worker.worker_pool_main"
        processes.start("pool", [sys.executable, "-m", module, f"--service_port={pool}"])
        for port in (job, pool):
            processes.wait_for("job server or pool", lambda port=port: _answers(port))
        flags = [f"--job_endpoint=127.0.0.1:{job}", "--environment_type=EXTERNAL"]
        flags += [f"--environment_config=127.0.0.1:{pool}"]
        yield Engine(
            ["--runner", "PortableRunner", "--", *flags], after_death, processes.log, processes.all
        )


def job_service(folder: Path) -> Iterator[Engine]:
    """Beam's local job service: no engine, but the same protocol as one."""
    module = "apache_beam.runners.portability.local_job_service_main"
    command = [sys.executable, "-m", module]
    return _portable(folder, "service", lambda port: [*command, f"--job_port={port}"], "waits")


def prism(folder: Path) -> Iterator[Engine]:
    """Beam's own runner, a program in Go."""
    program = prism_program()
    return _portable(
        folder, "prism", lambda port: [str(program), f"-job_port={port}", "-serve_http=false"]
    )


def prism_program() -> Path:
    """The program.

    Raises:
        MissingError: no variable names it.
    """
    return _named_by("EXACTCPT_PRISM", "Beam's program prism")


def flink(folder: Path) -> Iterator[Engine]:
    """Flink in one process, which Beam's job server starts: `--flink-master=[local]`."""
    _require_java()
    jar = _named_by("EXACTCPT_FLINK_JAR", "the jar of Beam's job server for Flink")
    return _portable(
        folder,
        "flink",
        lambda port: [
            *(*JAVA, "-jar", str(jar), "--flink-master=[local]", "--job-host=127.0.0.1"),
            *(f"--job-port={port}", "--artifact-port=0", "--expansion-port=0"),
            f"--artifacts-dir={folder / 'artifacts'}",
        ],
    )


@contextmanager
def spark(folder: Path) -> Iterator[Engine]:
    """A standalone cluster of Spark: a master and two workers of two cores each."""
    _require_java()
    home = _spark_home()
    with ExitStack() as stack:
        processes = _Processes(stack, folder / "log")
        master, page = _free_port(), _free_port()
        here = {"SPARK_HOME": str(home / "deps"), "SPARK_LOCAL_IP": "127.0.0.1"}
        here |= {"SPARK_SCALA_VERSION": "2.12", "PYTHONPATH": str(home)}
        here |= {"PYSPARK_PYTHON": sys.executable}
        java = [*JAVA, "-cp", f"{home}/deps/jars/*"]
        at = ["--host", "127.0.0.1"]
        main = "org.apache.spark.deploy.master.Master"
        ports = ["--port", str(master), "--webui-port", str(page)]
        processes.start("master", [*java, main, *at, *ports], **here)
        processes.wait_for("master", lambda: _answers(master))
        main = "org.apache.spark.deploy.worker.Worker"
        homes = [folder / f"worker{i}" for i in range(2)]
        for i, at_work in enumerate(homes):
            has = ["--cores", "2", "--memory", "600m", "--work-dir", str(at_work)]
            url = f"spark://127.0.0.1:{master}"
            processes.start(
                f"worker{i}", [*java, main, *at, *has, "--webui-port", "0", url], **here
            )
        processes.wait_for("workers", lambda: '"aliveworkers" : 2' in _read(page))
        settings = {"executor.cores": 2, "ui.enabled": "false", "driver.host": "127.0.0.1"}
        settings |= {"default.parallelism": 8}
        settings |= {"log.level": "ERROR"}  # warnings have the traceback of every failed task
        words = [f"--conf spark.{name}={value}" for name, value in settings.items()]
        words += ["--driver-memory 512m --executor-memory 512m pyspark-shell"]
        stack.enter_context(
            _environment(
                **here, PYSPARK_SUBMIT_ARGS=f"--master spark://127.0.0.1:{master} {' '.join(words)}"
            )
        )
        yield Engine(
            ["--runner", SPARK_RUNNER],
            "goes on",
            processes.log,
            processes.all,
            machines=processes.all[1:],
            tasks=lambda: [_tasks_below(at_work) for at_work in homes],
        )


def _tasks_below(folder: Path) -> int:
    """How many tasks the executors of a Spark worker have begun, by their logs."""
    logs = (path.read_text(errors="replace") for path in folder.rglob("stderr"))
    return sum(log.count("Running task ") for log in logs)


def _read(port: int) -> str:
    """The page of Spark's master; nothing while it does not answer."""
    if not _answers(port):
        return ""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/json/") as page:
        return page.read().decode()


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    kept = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in kept.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _spark_home() -> Path:
    """Spark's jars and Python, and the runner; the package's own archive has both.

    EXACTCPT_SPARK names the folder that keeps them, 400 MB, from one time to the next.
    """
    folder = Path(os.environ.get("EXACTCPT_SPARK", "build/cluster/spark")).absolute()
    if not (folder / "whole").exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
        if subprocess.run([*command, *SPARK], check=False).returncode:
            raise MissingError(f"pip cannot download {', '.join(SPARK)}")
        (archive,) = folder.glob("pyspark-*.tar.gz")
        with tarfile.open(archive) as packed:
            top = archive.name.removesuffix(".tar.gz")
            wanted = tuple(f"{top}/{name}" for name in ("deps/jars", "deps/bin", "pyspark"))
            for member in packed:
                if member.name.startswith(wanted):
                    member.name = member.name.removeprefix(f"{top}/")
                    packed.extract(member, folder, filter="data")
        archive.unlink()
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "-t", str(folder)]
        subprocess.run([*command, *folder.glob("*.whl")], check=True)
        (folder / "whole").touch()
    return folder


def _require_java() -> None:
    if which("java") is None:
        raise MissingError("there is no Java: install a JRE of version 11 or 17")


def _named_by(variable: str, what: str) -> Path:
    path = os.environ.get(variable)
    if path is None:
        raise MissingError(f"{variable} does not name {what}")
    if not Path(path).is_file():
        raise MissingError(f"{variable} is no file: {path}")
    return Path(path)


ENGINES: dict[str, Callable[[Path], Iterator[Engine]]] = {
    "job service": job_service,
    "prism": prism,
    "spark": spark,
    "flink": flink,
}
