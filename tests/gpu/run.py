"""Everything that only a GPU can tell, in eight minutes: `make gpu`.

    python tests/gpu/run.py [--out FOLDER] [--minutes 8]    one CUDA device, no network
    python tests/gpu/run.py --quick                         the same in small, on a CPU if need be

First the tests of this folder, then `tests/benchmarks/training.py`, case by case. Each part is a
process with a time limit of its own: one that crashes or hangs costs the others nothing. Parts for
which no time is left are skipped, and the table says so.

The folder (build/gpu) gets three files: `results.jsonl`, a line for each part as it ends, so that
nothing is lost if this is killed; `log.txt`, all that the parts printed; `gpu.json`, the whole. The
table comes last. The exit code is 1 if a part failed.

Where PyTorch, transformers, pytest, Hypothesis, pyarrow, jsonschema and xxhash are installed
already, no environment has to be made:

    pip install --no-deps --no-build-isolation -e . && python tests/gpu/run.py
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree

FOLDER = Path(__file__).parent
REPOSITORY = FOLDER.parents[1]
BENCHMARK = str(REPOSITORY / "tests" / "benchmarks" / "training.py")
PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
LEAST_SECONDS = 10
"""A part is not begun with less time than this."""

MACHINE = """
import json, torch
found = {"torch": torch.__version__, "cuda": torch.version.cuda}
if torch.cuda.is_available():
    found["gpu"] = torch.cuda.get_device_name()
    found["capability"] = torch.cuda.get_device_capability()
    found["gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
from exactcpt.training.models.machine import machine
found |= {"training": machine()}
print(json.dumps(found))
"""

Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A process.

    Attributes:
        name: what the table calls it.
        command: what follows the name of the interpreter; it prints JSON in its last line, unless
            it is a file of tests.
        seconds: its time limit.
    """

    name: str
    command: tuple[str, ...]
    seconds: int

    @property
    def is_tests(self) -> bool:
        return self.command[0] == "-m"


def tests(subject: str, seconds: int) -> Part:
    file = f"tests/gpu/test_{subject}_on_gpu.py"
    return Part(name=f"tests of {subject}", command=(*PYTEST, file), seconds=seconds)


def speed(size: str, window: int, arm: str, seconds: int) -> Part:
    command = (BENCHMARK, "--size", size, "--window", str(window), "--arm", arm)
    return Part(name=f"{size} {window} {arm}", command=command, seconds=seconds)


def parts() -> list[Part]:
    """What is worth most comes first."""
    return [
        Part(name="machine", command=("-c", MACHINE), seconds=60),
        tests("inputs", 60),
        tests("attention", 100),
        tests("loss", 60),
        tests("training", 150),
        speed("0.5B", 16384, "exactcpt", 90),
        speed("3B stack", 16384, "exactcpt", 90),
        speed("0.5B", 16384, "plain ours", 60),
        speed("0.5B", 4096, "exactcpt", 60),
        speed("0.5B", 8192, "exactcpt", 60),
        speed("0.5B", 16384, "plain HF", 60),
    ]


def quick_parts() -> list[Part]:
    """The same tests in one process, and a benchmark of a tiny model."""
    command = (BENCHMARK, "--quick", "--arm", "plain ours")
    return [
        Part(name="machine", command=("-c", MACHINE), seconds=600),
        Part(name="tests", command=(*PYTEST, "tests/gpu"), seconds=600),
        Part(name="tiny 512 plain ours", command=command, seconds=600),
    ]


def run(part: Part, seconds: float, log: Path, *, on_cpu: bool) -> Row:
    """Runs a part to its end, or for some seconds; what came of it."""
    began = time.monotonic()
    with TemporaryDirectory() as scratch:
        junit, printed = Path(scratch) / "junit.xml", Path(scratch) / "printed"
        more = (f"--junitxml={junit}",) if part.is_tests else ()
        environment = os.environ | {"PYTHONUNBUFFERED": "1"}
        if on_cpu:
            environment |= {"EXACTCPT_GPU_TESTS_ON_CPU": "1", "OMP_NUM_THREADS": "1"}
        with printed.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, *part.command, *more],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env=environment,
                start_new_session=True,  # so that all that it starts can be ended with it
            )
            try:
                status = "done" if process.wait(seconds) == 0 else "failed"
            except subprocess.TimeoutExpired:
                status = "out of time"
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
        text = printed.read_text(errors="replace")
        seconds = round(time.monotonic() - began, 1)
        row: Row = {"part": part.name, "status": status, "seconds": seconds}
        if part.is_tests:
            row |= outcomes(junit)
        elif status == "done":
            row |= last_line(text)
    with log.open("a") as file:
        file.write(f"===== {part.name}: {row['status']}\n{text}\n")
    return row


def last_line(printed: str) -> Row:
    """What a program found: JSON in its last line."""
    try:
        return {"found": json.loads(printed.splitlines()[-1])}
    except (IndexError, ValueError):
        return {"status": "failed"}


def outcomes(junit: Path) -> Row:
    """How many tests passed, and the names of the others."""
    if not junit.exists():
        return {"passed": 0, "failed": [], "skipped": {}}
    found: Row = {"passed": 0, "failed": [], "skipped": {}}
    for case in ElementTree.parse(junit).iter("testcase"):
        name = case.get("name", "")
        skipped = case.find("skipped")
        if skipped is not None:
            found["skipped"][name] = skipped.get("message", "")
        elif case.find("failure") is not None or case.find("error") is not None:
            found["failed"].append(name)
        else:
            found["passed"] += 1
    return found


def described(row: Row) -> str:
    """What the table says of a part, beside its name and its time."""
    if row["status"] == "no time left":
        return row["status"]
    if row["status"] != "done":
        failed = ", ".join(row.get("failed", ())) or "see log.txt"
        passed = f"; {row['passed']} passed" if "passed" in row else ""
        return f"{row['status'].upper()}: {failed}{passed}"
    if "passed" in row:
        reasons = ", ".join(sorted(set(row["skipped"].values())))
        skipped = f", {len(row['skipped'])} skipped ({reasons})" if row["skipped"] else ""
        return f"{row['passed']} passed{skipped}"
    if "rows" in row["found"]:
        return "; ".join(map(speed_of, row["found"]["rows"].values()))
    return f"{row['found'].get('gpu', 'no GPU')}, torch {row['found']['torch']}"


def speed_of(found: Row) -> str:
    if "out_of_memory" in found:
        return "does not fit"
    said = [f"{found['tokens_per_second']:,.0f} tokens/s"]
    if found["mfu"] is not None:
        said.append(f"MFU {found['mfu']:.1%}")
    if found["peak_bytes"] is not None:
        said.append(f"{found['peak_bytes'] / 2**30:.1f} GiB")
    # The profile has shares: as times, they can be compared between rows.
    shares = found.get("profile", {}).items()
    said += [f"{what} {share * found['seconds'] * 1e3:,.0f} ms" for what, share in shares]
    return ", ".join(said)


def table(rows: Iterable[Row]) -> str:
    lines = [f"{row['part']:<24}{row['seconds']:>7.1f} s  {described(row)}" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small: shows that it works")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "build" / "gpu", metavar="FOLDER")
    parser.add_argument("--minutes", type=float, metavar="N", help="time for all parts  [8]")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    results, log = options.out / "results.jsonl", options.out / "log.txt"
    for old in (results, log):
        old.unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # On a CPU nothing is lent: a busy one may take its time.
    minutes = options.minutes or (30 if options.quick else 8)
    end = time.monotonic() + 60 * minutes
    rows: list[Row] = []
    try:
        for part in quick_parts() if options.quick else parts():
            left = end - time.monotonic()
            if left < LEAST_SECONDS:
                row: Row = {"part": part.name, "status": "no time left", "seconds": 0.0}
            else:
                row = run(part, min(left, part.seconds), log, on_cpu=options.quick)
            rows.append(row)
            with results.open("a") as file:
                file.write(json.dumps(row) + "\n")
            sys.stderr.write(f"{part.name}: {row['status']} after {row['seconds']:.0f} s\n")
    finally:
        (options.out / "gpu.json").write_text(json.dumps({"parts": rows}, indent=1) + "\n")
        sys.stdout.write(table(rows))
    if any(row["status"] in ("failed", "out of time") for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
