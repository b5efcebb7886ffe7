"""What benchmarks share: the machine, its cores, and processes with their time and memory."""

import json
import os
import platform
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

DATA = Path(__file__).resolve().parents[1] / "data"
SAMPLING_SECONDS = 0.02
OWN_MEMORY = ("RssAnon:", "RssShmem:")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A process that ended well.

    Attributes:
        seconds: of wall time, from its start to its end.
        peak_bytes: the most anonymous and shared memory of all its processes; 0 if unwatched.
        report: the JSON of the last line that it printed.
    """

    seconds: float
    peak_bytes: int
    report: dict[str, Any]


def run(command: Sequence[str | Path], *, watch: bool = False) -> Run:
    """Runs a command that prints JSON in its last line; `watch` samples its memory meanwhile."""
    os.sync()  # what others have written is not for this process to wait for
    with TemporaryFile() as out, TemporaryFile() as err:
        began = time.perf_counter()
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        try:
            peak = peak_memory(process) if watch else 0
            process.wait()
        finally:
            process.kill()
        seconds = time.perf_counter() - began
        if process.returncode != 0:
            err.seek(0)
            tail = err.read()[-2000:].decode(errors="replace")
            sys.exit(f"{' '.join(map(str, command))}\nended with {process.returncode}:\n{tail}")
        out.seek(0)
        return Run(seconds=seconds, peak_bytes=peak, report=json.loads(out.readlines()[-1]))


def peak_memory(process: subprocess.Popen[bytes]) -> int:
    """Bytes; returns when the process has ended."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, sum(map(own_memory, process_tree(process.pid))))
        time.sleep(SAMPLING_SECONDS)
    return peak


def own_memory(pid: int) -> int:
    """Anonymous and shared memory of a process in bytes, without its mapped files."""
    lines = read_or_empty(Path(f"/proc/{pid}/status")).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(OWN_MEMORY)) << 10


def start_peak(device: str) -> int:
    """Bytes in use; the high-water mark starts here."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return status("VmRSS")


def peak(device: str) -> int:
    """Bytes; the most in use since `start_peak`."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return status("VmHWM")


def status(name: str) -> int:
    """Bytes of a figure in this process' status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def process_tree(root: int) -> list[int]:
    """A process and all its descendants."""
    children = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # "PID (NAME) STATE PARENT ...", where NAME may hold anything
        after_name = read_or_empty(stat).rpartition(")")[2].split()
        if after_name:
            children[int(after_name[1])].append(int(stat.parent.name))
    tree = [root]
    for pid in tree:
        tree += children[pid]
    return tree


def read_or_empty(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return ""


def pin_to_two_cores() -> list[int]:
    """Keeps this process and all that it starts on two cores, none of them two halves of one."""
    first_of_core: dict[str, int] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        first_of_core.setdefault(read_or_empty(topology) or str(cpu), cpu)
    if len(first_of_core) < 2:
        sys.exit("this benchmark needs two cores")
    cores = list(first_of_core.values())[:2]
    os.sched_setaffinity(0, cores)
    return cores


def machine(packages: Iterable[str]) -> dict[str, Any]:
    """What figures depend on, the installed versions of packages included."""
    return {
        "cpu": f"{cpu_model()}, {platform.machine()}",
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()}",
        "load": round(os.getloadavg()[0], 2),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
    }


def cpu_model() -> str:
    lines = read_or_empty(Path("/proc/cpuinfo")).splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def bundled_texts() -> dict[str, Path]:
    """The bundled corpora of plain texts, by name; questions and answers are left out."""
    paths = {path.name.partition(".")[0]: path for path in sorted(DATA.glob("*.jsonl*"))}
    return {name: path for name, path in paths.items() if name != "questions"}
