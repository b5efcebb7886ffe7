"""The complete plan and histogram of ten million documents, on one core.

    python tests/benchmarks/core.py [--documents N] [--window L]

Lengths are lognormal (median 500 tokens, mean about 1,030), from 16 tokens to two million. They are
planned twice: in groups of 256 M tokens, as the program does, and as one single group, where the
arrays no longer fit into any cache. Planning is: shuffle the documents, pack, shuffle the windows,
count the histogram. Medians of three interleaved runs; the table, then JSON in the last line.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

import numpy as np
from common import cpu_model
from numpy.typing import NDArray

from exactcpt.pipeline.core.buckets import histogram
from exactcpt.pipeline.core.choices import PACKINGS, PackingName
from exactcpt.pipeline.core.packing import pack, reorder_windows
from exactcpt.pipeline.core.shuffle import Purpose, permutation

GROUP_TOKENS = 256_000_000
LIMITS = {"concat": 5.0, "best_fit": 10.0}  # seconds for ten million documents
STEPS = ("documents", "pack", "windows", "histogram")
RUNS = 3

Lengths = NDArray[np.int32]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=10_000_000)
    parser.add_argument("--window", type=int, default=8192)
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    lengths = realistic_lengths(options.documents)
    groupings = {"groups": split_into_groups(lengths), "one group": [lengths]}
    cases = [(packing, grouping) for packing in PACKINGS for grouping in groupings]
    runs = {case: [] for case in cases}
    for _ in range(RUNS):
        for packing, grouping in cases:
            runs[packing, grouping].append(plan(groupings[grouping], options.window, packing))
    rows = [row(*case, len(groupings[case[1]]), runs[case]) for case in cases]
    sys.stdout.write(table(rows))
    report = {
        "documents": options.documents,
        "tokens": int(lengths.sum(dtype=np.int64)),
        "window": options.window,
        "machine": f"{platform.machine()}, {cpu_model()}",
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10,
        "rows": rows,
    }
    sys.stdout.write(json.dumps(report) + "\n")


def realistic_lengths(documents: int) -> Lengths:
    drawn = np.random.default_rng(0).lognormal(np.log(500), 1.2, documents)
    return drawn.clip(16, 2_000_000).astype(np.int32)


def split_into_groups(lengths: Lengths) -> list[Lengths]:
    group = np.cumsum(lengths, dtype=np.int64) // GROUP_TOKENS
    return np.split(lengths, np.flatnonzero(np.diff(group)) + 1)


def plan(groups: list[Lengths], window: int, packing: PackingName) -> dict[str, float]:
    """Seconds of each step, over all groups, and the fraction of padding."""
    seconds = dict.fromkeys(STEPS, 0.0)
    counts = histogram(np.array([], np.int32), window)
    windows = padding = 0
    for group, lengths in enumerate(groups):
        with timed(seconds, "documents"):
            order = permutation(len(lengths), 0, Purpose.DOCUMENTS, group)
        with timed(seconds, "pack"):
            packed = pack(lengths[order], window, packing)
        with timed(seconds, "windows"):
            order = permutation(packed.windows, 0, Purpose.WINDOWS, group)
            packed = reorder_windows(packed, order)
        with timed(seconds, "histogram"):
            counts += histogram(packed.length, window)
        windows += packed.windows
        padding += packed.padding
    return {**seconds, "padding": padding / (windows * window)}


@contextmanager
def timed(seconds: dict[str, float], step: str) -> Iterator[None]:
    start = perf_counter()
    yield
    seconds[step] += perf_counter() - start


def row(packing: str, grouping: str, n_groups: int, runs: list[dict[str, float]]) -> dict:
    medians = {step: statistics.median(run[step] for run in runs) for step in STEPS}
    return {
        "packing": packing,
        "grouping": grouping,
        "groups": n_groups,
        **{f"{step}_s": round(seconds, 3) for step, seconds in medians.items()},
        "total_s": round(statistics.median(sum(run[s] for s in STEPS) for run in runs), 3),
        "limit_s": LIMITS[packing],
        "padding": runs[0]["padding"],
    }


def table(rows: list[dict]) -> str:
    seconds = "".join(f"{step:>11}" for step in STEPS)
    lines = [f"{'packing':<10}{'grouping':<11}{'groups':>6}{seconds}{'total s':>9}{'limit':>7}"]
    for r in rows:
        steps = "".join(f"{r[f'{step}_s']:>11.2f}" for step in STEPS)
        lines.append(
            f"{r['packing']:<10}{r['grouping']:<11}{r['groups']:>6}{steps}"
            f"{r['total_s']:>9.2f}{r['limit_s']:>7.0f}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
