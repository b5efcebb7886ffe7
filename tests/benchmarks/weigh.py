"""How fast `weigh` makes shards of packed windows, beside `pack` of the same windows.

    python tests/benchmarks/weigh.py [--window L] [--tokens N]

The corpora of `tests/data`, repeated up to N tokens, are packed once; the windows are written as
an Arrow file and as Parquet, cut by `seq_lengths`, and by end tokens alone. Each command runs as a
process with one worker, three times, interleaved; what is compared is its CPU time, start and all,
which a busy machine changes little. `weigh` has to be as fast as `pack` from the Arrow file; both
read what lies in the page cache. The table, then JSON in the last line.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
from common import DATA, bundled_texts, machine

import exactcpt
from exactcpt.schemas.shard import rows_per_batch

TOKENIZER = DATA / "tokenizer.json"
EXACTCPT = Path(sysconfig.get_path("scripts")) / "exactcpt"
RUNS = 3
CASES = {
    "pack": [],
    "weigh, Arrow, seq_lengths": ["packed.arrow"],
    "weigh, Arrow, end tokens": ["packed.arrow", "--boundaries", "end_token"],
    "weigh, Parquet, seq_lengths": ["packed.parquet"],
    "weigh, Parquet, end tokens": ["packed.parquet", "--boundaries", "end_token"],
}
LIMITS = {"weigh, Arrow, seq_lengths": 1.0}
"""At least so many times the speed of `pack`."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--window", type=int, default=8192)
    parser.add_argument("--tokens", type=int, default=100_000_000)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="exactcpt-weigh-") as folder:
        work = Path(folder)
        tokens = make_inputs(work, options.window, options.tokens)
        seconds: dict[str, list[float]] = {name: [] for name in CASES}
        for turn in range(RUNS):
            for name, words in CASES.items():
                command = command_of(words, work, options.window)
                seconds[name].append(cpu_seconds([*command, "--out", work / f"{name}-{turn}"]))
    report(tokens, seconds)


def make_inputs(work: Path, window: int, tokens: int) -> int:
    """A token store, and its windows as others write them; returns their tokens."""
    epochs = max(1, tokens // 380_000)
    sources = bundled_texts()
    flags = [f"--source={name}={path},epochs={epochs}" for name, path in sources.items()]
    flags += ["--tokenizer", str(TOKENIZER), "--window", str(window), "--validation-fraction", "0"]
    where = ["--store", work / "store", "--out", work / "shards", "--quiet"]
    subprocess.run([EXACTCPT, "prepare", *flags, *where], check=True)
    windows = exactcpt.open_shards(work / "shards")
    schema = pa.schema([("input_ids", pa.list_(pa.int32())), ("seq_lengths", pa.list_(pa.int32()))])
    with (
        pa.ipc.new_file(str(work / "packed.arrow"), schema) as arrow,
        pq.ParquetWriter(work / "packed.parquet", schema) as parquet,
    ):
        for batch in batches(windows, rows_per_batch(window), schema):
            arrow.write_batch(batch)
            parquet.write_batch(batch)
    return len(windows) * window


def batches(windows: exactcpt.Windows, size: int, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for start in range(0, len(windows), size):
        some = windows[start : start + size]
        columns = [[w.ids for w in some], [w.seq_lengths for w in some]]
        yield pa.record_batch([pa.array(c, pa.list_(pa.int32())) for c in columns], schema=schema)


def command_of(words: list[str], work: Path, window: int) -> list[str | Path]:
    common = ["--workers", "1", "--quiet", "--json"]
    if not words:
        epochs = json.loads((work / "shards" / "manifest.json").read_text())["settings"]["mixing"]
        flags = [f"--epochs={name}={asked['epochs']}" for name, asked in epochs.items()]
        flags += ["--window", str(window), "--validation-fraction", "0"]
        return [EXACTCPT, "pack", work / "store", *flags, *common]
    return [EXACTCPT, "weigh", work / words[0], *words[1:], "--tokenizer", TOKENIZER, *common]


def cpu_seconds(command: list[str | Path]) -> float:
    before = os.times()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    return sum(after[2:4]) - sum(before[2:4])


def report(tokens: int, seconds: dict[str, list[float]]) -> None:
    speed = {name: tokens / statistics.median(some) / 1e6 for name, some in seconds.items()}
    rows = [
        {
            "what": name,
            "million_tokens_per_cpu_s": round(found, 1),
            "of_pack": round(found / speed["pack"], 2),
            "at_least": LIMITS.get(name),
        }
        for name, found in speed.items()
    ]
    sys.stdout.write(f"{'':<30}{'M tokens/CPU s':>15}{'of pack':>9}{'at least':>10}\n")
    for row in rows:
        least = "" if row["at_least"] is None else f"{row['at_least']:.1f}"
        sys.stdout.write(
            f"{row['what']:<30}{row['million_tokens_per_cpu_s']:>15.1f}{row['of_pack']:>9.2f}"
            f"{least:>10}\n"
        )
    found = {
        "tokens": tokens,
        "machine": machine(("exactcpt", "numpy", "pyarrow", "apache-beam")),
        "rows": rows,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
