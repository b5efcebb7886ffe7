"""`prepare` and `pack` against gigatoken, datatrove and a limit of memory, on two cores.

    python tests/benchmarks/prepare.py [--quick] [--peer-venv DIR] [--work DIR]
                                       [--corpora DIR] [--tokenizer FILE]

README.md beside this file says what is measured, and how.
"""

import argparse
import json
import subprocess
import sys
import sysconfig
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from common import Run, machine, pin_to_two_cores, run
from corpus import Corpus
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
SHARED = REPOSITORY.parent / "shared"
BUNDLED = REPOSITORY / "tests" / "data"
EXACTCPT = Path(sysconfig.get_path("scripts")) / "exactcpt"
PACKAGES = ("exactcpt", "gigatoken", "tokenizers", "apache-beam", "pyarrow", "numpy")

WINDOW, OTHER_WINDOW = 8192, 4096
MB, MIB = 10**6, 2**20


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Bytes of input for each measurement, and how often it is made."""

    speed: int
    small: int
    large: int
    peer: int
    rounds: int


FULL = Sizes(speed=1400 * MB, small=1000 * MB, large=3000 * MB, peer=40 * MB, rounds=3)
QUICK = Sizes(speed=60 * MB, small=30 * MB, large=120 * MB, peer=8 * MB, rounds=1)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """JSON lines: three files, and a folder with one for each of datatrove's tasks."""

    speed: Path
    small: Path
    large: Path
    peer: Path

    def bytes(self) -> dict[str, int]:
        """The size of each."""
        files = {"speed": [self.speed], "small": [self.small], "large": [self.large]}
        files["peer"] = list(self.peer.iterdir())
        return {name: sum(file.stat().st_size for file in of) for name, of in files.items()}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A figure and its limit.

    Attributes:
        what: it is.
        out_of: what it was made from, or why there is none.
        measured: None if it was not.
        limit, at_most: the worst that is allowed, and on which side of it the good values are.
        target: what it should be, where that is more than the limit asks.
    """

    what: str
    out_of: str
    measured: float | None
    limit: float
    at_most: bool
    target: float | None = None
    unit: str = ""

    @property
    def verdict(self) -> str:
        if self.measured is None:
            return "not measured"
        if self._is_beyond(self.measured, self.limit):
            return "MISSED"
        if self.target is not None and self._is_beyond(self.measured, self.target):
            return "limit met"
        return "met"

    def _is_beyond(self, measured: float, bound: float) -> bool:
        return measured > bound if self.at_most else measured < bound

    def cells(self) -> tuple[str, ...]:
        limit = f"{'at most' if self.at_most else 'at least'} {self.limit:g}{self.unit}"
        return (
            self.what,
            self.out_of,
            "-" if self.measured is None else f"{self.measured:,.2f}{self.unit}",
            limit if self.target is None else f"{limit}, target {self.target:g}{self.unit}",
            self.verdict,
        )


def main() -> None:
    options = parse_options()
    sizes = QUICK if options.quick else FULL
    cores = pin_to_two_cores()
    described: dict[str, Any] = {**machine(PACKAGES), "pinned_to": cores}
    peer, no_peer = peer_python(options.peer_venv)
    runs: dict[str, list[Run]] = defaultdict(list)
    with nullcontext(options.work) if options.work else TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        inputs = make_inputs(Corpus(options.corpora, sizes.large), sizes, work)
        input_bytes = inputs.bytes()
        for number in range(1, sizes.rounds + 1):
            for name, done in one_round(inputs, options.tokenizer, peer, work):
                say(f"round {number} of {sizes.rounds}: {name}, {done.seconds:.1f} s")
                runs[name].append(done)
    check_equal_work(runs["encode_files"][0].report, runs["prepare"][0].report)
    for done in runs["datatrove"][:1]:
        described["versions"]["datatrove"] = done.report["version"]
    rows = [*speed_rows(runs, input_bytes, no_peer), *memory_rows(runs, input_bytes)]
    show(rows, described, input_bytes, quick=options.quick)
    report = {
        "quick": options.quick,
        "machine": described,
        "corpora": str(options.corpora),
        "tokenizer": str(options.tokenizer),
        "backend": runs["prepare"][0].report["tokenizer"]["backend"]["used"],
        "input_bytes": input_bytes,
        "rows": [{**asdict(row), "verdict": row.verdict} for row in rows],
        "seconds": {name: [round(one.seconds, 3) for one in of] for name, of in runs.items()},
        "call_seconds": {
            name: [round(one.report["seconds"], 3) for one in of]
            for name, of in runs.items()
            if name in ("encode_files", "datatrove")
        },
        "peak_bytes": {name: peaks(of) for name, of in runs.items() if name.startswith("memory")},
    }
    sys.stdout.write(json.dumps(report) + "\n")


def parse_options() -> argparse.Namespace:
    corpora, tokenizer = SHARED / "corpora", SHARED / "tokenizers" / "qwen2_5" / "tokenizer.json"
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--corpora",
        type=Path,
        metavar="DIR",
        default=corpora if corpora.is_dir() else BUNDLED,
        help="JSON lines with a field `text`, plain, .gz or .zst",
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="FILE",
        default=tokenizer if tokenizer.is_file() else BUNDLED / "tokenizer.json",
        help="a tokenizer.json",
    )
    parser.add_argument("--work", type=Path, metavar="DIR", help="keeps the inputs for next time")
    parser.add_argument(
        "--peer-venv", type=Path, metavar="DIR", help="datatrove is installed and run there"
    )
    parser.add_argument("--quick", action="store_true", help="little input, only to see it work")
    return parser.parse_args()


def peer_python(venv: Path | None) -> tuple[Path | None, str]:
    """The Python of an environment made for datatrove, or None and why there is none."""
    if venv is None:
        return None, "no --peer-venv"
    python = venv.resolve() / "bin" / "python"
    # The same tokenizers as ours: what is compared is the work around it.
    packages = ("datatrove", "orjson", f"tokenizers=={version('tokenizers')}")
    install = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages)
    try:
        if not python.exists():
            say(f"making an environment for datatrove in {venv}")
            subprocess.run([sys.executable, "-m", "venv", venv], check=True, capture_output=True)
        subprocess.run(install, check=True, capture_output=True)
    except subprocess.CalledProcessError as error:
        say((error.stderr or error.stdout).decode(errors="replace"))
        return None, "datatrove cannot be installed"
    return python, ""


def make_inputs(corpus: Corpus, sizes: Sizes, work: Path) -> Inputs:
    folder = work / f"inputs-{corpus.name}"
    inputs = Inputs(
        speed=folder / f"{sizes.speed // MB}MB.jsonl",
        small=folder / f"{sizes.small // MB}MB.jsonl",
        large=folder / f"{sizes.large // MB}MB.jsonl",
        peer=folder / f"peer-{sizes.peer // MB}MB",
    )
    say(f"inputs are in {folder}; what is not there is made")
    inputs.peer.mkdir(parents=True, exist_ok=True)
    corpus.write(sizes.speed, [inputs.speed])
    corpus.write(sizes.small, [inputs.small])
    corpus.write(sizes.large, [inputs.large])
    corpus.write(sizes.peer, [inputs.peer / "0.jsonl", inputs.peer / "1.jsonl"])
    return inputs


def one_round(
    inputs: Inputs, tokenizer: Path, peer: Path | None, work: Path
) -> Iterator[tuple[str, Run]]:
    """Each process once, by name; what it writes is removed."""
    with TemporaryDirectory(dir=work) as folder:
        shards = Path(folder) / "shards"
        read_through(inputs.speed)
        alone = [sys.executable, HERE / "encode_files.py", tokenizer, inputs.speed]
        yield "encode_files", run(alone)
        prepared = run(prepare(inputs.speed, tokenizer, shards))
        yield "prepare", prepared
        yield "pack", run(pack(f"{shards}.store", Path(folder) / "again"))
        if peer is not None:
            eos = prepared.report["tokenizer"]["eos_token"]
            script = [peer, HERE / "datatrove_tokens.py"]
            yield "datatrove", run([*script, tokenizer, eos, inputs.peer, f"{folder}/datatrove"])
    for name, source in (("memory_small", inputs.small), ("memory_large", inputs.large)):
        with TemporaryDirectory(dir=work) as folder:
            yield name, run(prepare(source, tokenizer, Path(folder) / "shards"), watch=True)


def prepare(source: Path, tokenizer: Path, out: Path) -> list[str | Path]:
    return [
        *(EXACTCPT, "prepare", "--quiet", "--json", "--source", f"all={source}"),
        *("--tokenizer", tokenizer, "--window", str(WINDOW), "--out", out),
    ]


def pack(store: str, out: Path) -> list[str | Path]:
    return [
        *(EXACTCPT, "pack", "--quiet", "--json", store),
        *("--window", str(OTHER_WINDOW), "--out", out),
    ]


def read_through(path: Path) -> None:
    """Reads a file once, so that nobody waits for the disk afterwards."""
    with path.open("rb", buffering=0) as file:
        while file.read(MIB):
            pass


def check_equal_work(alone: dict[str, Any], prepared: dict[str, Any]) -> None:
    """A comparison with a process that did something else would say nothing."""
    read = prepared["sources"][0]["read"]
    added = 1 if prepared["tokenizer"]["bos_id"] is None else 2
    tokens = read["tokens"] - added * read["documents"]
    if alone["documents"] != read["documents"] or abs(alone["tokens"] / tokens - 1) > 0.001:
        sys.exit(
            f"encode_files made {alone['tokens']:,} tokens of {alone['documents']:,} documents, "
            f"prepare {tokens:,} of {read['documents']:,}"
        )


def speed_rows(
    runs: dict[str, list[Run]], input_bytes: dict[str, int], no_peer: str
) -> Iterator[Row]:
    seconds = {name: median(one.seconds for one in of) for name, of in runs.items() if of}
    ours = seconds["prepare"]
    call = median(one.report["seconds"] for one in runs["encode_files"])
    theirs = {"whole process": (seconds["encode_files"], 2.2, 1.6), "the call": (call, 2.4, 1.8)}
    for what, (alone, limit, target) in theirs.items():
        yield Row(
            what=f"prepare / encode_files, {what}",
            out_of=f"{ours:.2f} s, {alone:.2f} s",
            measured=ours / alone,
            limit=limit,
            at_most=True,
            target=target,
        )
    rate = input_bytes["speed"] / ours
    peer = input_bytes["peer"] / seconds["datatrove"] if "datatrove" in seconds else None
    yield Row(
        what="prepare / datatrove, bytes per second",
        out_of=no_peer if peer is None else f"{rate / MB:.1f} MB/s, {peer / MB:.2f} MB/s",
        measured=None if peer is None else rate / peer,
        limit=40,
        at_most=False,
    )
    yield Row(
        what="prepare / pack of another window",
        out_of=f"{ours:.2f} s, {seconds['pack']:.2f} s",
        measured=ours / seconds["pack"],
        limit=3,
        at_most=False,
    )


def memory_rows(runs: dict[str, list[Run]], input_bytes: dict[str, int]) -> Iterator[Row]:
    peak = {name: max(peaks(runs[f"memory_{name}"])) / MIB for name in ("small", "large")}
    for name in peak:
        yield Row(
            what=f"peak memory of prepare, {name} input",
            out_of=f"{input_bytes[name] / MB:,.0f} MB",
            measured=peak[name],
            limit=1536,
            at_most=True,
            unit=" MiB",
        )
    yield Row(
        what="peak memory, large / small input",
        out_of=f"{peak['large']:,.0f} MiB, {peak['small']:,.0f} MiB",
        measured=peak["large"] / peak["small"],
        limit=1.25,
        at_most=True,
    )


def peaks(runs: Sequence[Run]) -> list[int]:
    return [one.peak_bytes for one in runs]


def show(
    rows: Sequence[Row], described: dict[str, Any], input_bytes: dict[str, int], *, quick: bool
) -> None:
    table = Table("", "out of", "measured", "limit", "verdict", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    table.columns[2].justify = "right"
    for row in rows:
        table.add_row(*row.cells())
    versions = ", ".join(f"{name} {found}" for name, found in described["versions"].items())
    lines = [
        f"{described['cpu']}, cores {described['pinned_to']} of {described['cores']}, "
        f"{described['memory_gib']} GiB, {described['kernel']}, load before {described['load']}",
        versions,
        "input for each: "
        + ", ".join(f"{name} {size / MB:.0f} MB" for name, size in input_bytes.items()),
    ]
    if quick:
        lines.append("a quick run: mostly start-up, so the verdicts say nothing")
    console = Console(width=120, highlight=False)
    console.print(table)
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    main()
