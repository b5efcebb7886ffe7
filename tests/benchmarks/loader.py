"""How fast one process makes micro-batches for training, from shards in the page cache.

    python tests/benchmarks/loader.py [--shards DIR] [--window L] [--tokens N]

Everything that a step needs is made: input_ids, labels, weights, position_ids, boundaries, digests,
in the order of a run, 16,384 tokens a micro-batch. The limit beside it writes arrays of the same
sizes and types, copied from memory: what the machine allows. Without `--shards`, the corpora of
`tests/data` are prepared, repeated up to N tokens. Medians of three interleaved runs, in seconds of
the process' own time: nothing waits for a disk, so on a quiet machine that is the time that
passes. The table, then JSON in the last line.
"""

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import torch
from common import machine

from exactcpt.schemas.shard_set import ShardSet, open_set
from exactcpt.training.windows.batches import ShardDataset
from exactcpt.training.windows.loading import MicroBatches, MicroBatchOrder
from exactcpt.training.windows.weighting import make_weighting

DATA = Path(__file__).resolve().parents[1] / "data"
EXACTCPT = Path(sysconfig.get_path("scripts")) / "exactcpt"
TOKENS_A_BATCH = 1 << 14
LIMITS = {"exact": 40.0, "document": 40.0, "shuffled": 20.0}  # million tokens per second
OUTPUTS = (np.int32, np.int64, np.float32, np.int32)
RUNS = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--shards", type=Path)
    parser.add_argument("--window", type=int, default=8192)
    parser.add_argument("--tokens", type=int, default=60_000_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory(prefix="exactcpt-loader-") as folder:
        path = options.shards or prepared(Path(folder), options.window, options.tokens)
        shards = open_set(path)
        shards.check_contents()  # reads all of it into the page cache
        measure(shards)


def prepared(folder: Path, window: int, tokens: int) -> Path:
    """The bundled corpora as shards, each document as often as it takes."""
    epochs = max(1, tokens // 1_500_000)
    sources = {path.name.partition(".")[0]: path for path in sorted(DATA.glob("*.jsonl*"))}
    flags = [f"--source={name}={path},epochs={epochs}" for name, path in sources.items()]
    named = ["--tokenizer", DATA / "tokenizer.json", "--out", folder / "shards", "--quiet"]
    subprocess.run([EXACTCPT, "prepare", *flags, "--window", str(window), *named], check=True)
    return folder / "shards"


def measure(shards: ShardSet) -> None:
    size = max(1, TOKENS_A_BATCH // shards.window)
    sets = {
        name: ShardDataset(shards, weighting=make_weighting(name, shards, seed=1))
        for name in LIMITS
    }
    windows = len(sets["exact"]) // size * size
    cases: dict[str, Callable[[], None]] = {
        name: lambda windows_=windows, dataset=dataset: load(dataset, windows_, size)
        for name, dataset in sets.items()
    }
    cases["copies of memory"] = lambda: copy(windows, size * shards.window, size)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(RUNS):
        for name, case in cases.items():
            began = process_time()
            case()
            seconds[name].append(process_time() - began)
    tokens = windows * shards.window
    speed = {name: tokens / statistics.median(s) / 1e6 for name, s in seconds.items()}
    report(shards, tokens, speed)


def load(dataset: ShardDataset, windows: int, size: int) -> None:
    order = MicroBatchOrder(
        n=len(dataset), seed=0, consumed=0, steps=windows // size, global_batch=size,
        micro_batch=size,
    )  # fmt: skip
    loader = torch.utils.data.DataLoader(MicroBatches(dataset), batch_size=None, sampler=order)
    assert sum(batch.input_ids.numel() for batch in loader) == windows * dataset.window


def copy(windows: int, tokens: int, size: int) -> None:
    sources = [np.ones(tokens, kind) for kind in OUTPUTS]
    for _ in range(windows // size):
        for source in sources:
            np.empty_like(source)[:] = source


def report(shards: ShardSet, tokens: int, speed: dict[str, float]) -> None:
    limit = speed["copies of memory"]
    rows = [
        {
            "what": name,
            "million_tokens_per_s": round(found, 1),
            "at_least": LIMITS.get(name),
            "of_memory": round(found / limit, 3),
        }
        for name, found in speed.items()
    ]
    sys.stdout.write(f"{'':<18}{'M tokens/s':>11}{'at least':>10}{'of memory':>11}\n")
    for row in rows:
        least = "" if row["at_least"] is None else f"{row['at_least']:.0f}"
        sys.stdout.write(
            f"{row['what']:<18}{row['million_tokens_per_s']:>11.1f}{least:>10}"
            f"{row['of_memory']:>10.0%}\n"
        )
    found = {
        "window": shards.window,
        "tokens": tokens,
        "segments": shards.manifest["splits"]["train"]["segments"],
        "machine": machine(("exactcpt", "torch", "numpy", "pyarrow")),
        "rows": rows,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
