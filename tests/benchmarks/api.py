"""How fast `import exactcpt` gives contexts and weights, and reads shards, in one process.

    python tests/benchmarks/api.py [--shards DIR] [--window L] [--tokens N]

The windows are those of a shard set in the page cache, as for `loader.py`. One row is a limit, what
the memory allows: copies of the weights. Medians of three interleaved runs, in seconds of the
process' own time. The table, then JSON in the last line.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

from common import machine
from loader import prepared

import exactcpt

LEAST = {"weights of seq_lengths": 300.0, "open_shards": 250.0}  # million tokens per second
RUNS = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--window", type=int, default=8192)
    parser.add_argument("--tokens", type=int, default=60_000_000)
    options = parser.parse_args()
    with TemporaryDirectory(prefix="exactcpt-api-") as folder:
        path = options.shards or prepared(Path(folder), options.window, options.tokens)
        measure(path)


def measure(shards: Path) -> None:
    windows = exactcpt.open_shards(shards)
    lengths = [window.seq_lengths.copy() for window in windows]
    positions = [exactcpt.effective_context(seq_lengths=each) for each in lengths]
    counts = exactcpt.histogram(lengths, window=windows.window)
    table = exactcpt.weight_table(counts, window=windows.window, tau=windows.window // 4)
    made = [exactcpt.weights(table=table, seq_lengths=each) for each in lengths]
    cases: dict[str, Callable[[], object]] = {
        "histogram": lambda: exactcpt.histogram(lengths, window=windows.window),
        "weights of seq_lengths": lambda: [
            exactcpt.weights(table=table, seq_lengths=each) for each in lengths
        ],
        "weights of position_ids": lambda: [
            exactcpt.weights(table=table, position_ids=each) for each in positions
        ],
        "copies of weights": lambda: [weights.copy() for weights in made],
        "open_shards": lambda: [*exactcpt.open_shards(shards)],
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(RUNS):
        for name, case in cases.items():
            began = process_time()
            case()
            seconds[name].append(process_time() - began)
    tokens = len(windows) * windows.window
    report(tokens, {name: tokens / statistics.median(s) / 1e6 for name, s in seconds.items()})


def report(tokens: int, speed: dict[str, float]) -> None:
    sys.stdout.write(f"{'':<26}{'M tokens/s':>11}{'at least':>10}\n")
    for name, found in speed.items():
        least = f"{LEAST[name]:.0f}" if name in LEAST else ""
        sys.stdout.write(f"{name:<26}{found:>11.0f}{least:>10}\n")
    found = {
        "tokens": tokens,
        "machine": machine(("exactcpt", "numpy", "pyarrow")),
        "million_tokens_per_s": {name: round(each, 1) for name, each in speed.items()},
        "at_least": LEAST,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
