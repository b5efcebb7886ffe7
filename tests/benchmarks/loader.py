"""How fast one process makes micro-batches for training, from shards in the page cache.

    python tests/benchmarks/loader.py [--shards DIR] [--window L] [--tokens N]

What crosses to the device is made: ids, codes, boundaries, with digests and sums, in the order of a
run, 16,384 tokens a micro-batch. "expanded" makes the labels, weights and positions too, as a run
does on its device; here they are made on the same CPU. The limit beside them writes arrays of the
sizes and types that cross, copied from memory: what the machine allows. Without `--shards`, the
corpora of `tests/data` are prepared, repeated up to N tokens. Medians of three interleaved runs, in
seconds of the process' own time: nothing waits for a disk, so on a quiet machine that is the time
that passes. The table, then JSON in the last line.
"""

import argparse
import json
import statistics
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time

import numpy as np
import torch
from common import DATA, bundled_texts, machine

from exactcpt.schemas.shard_set import ShardSet, open_set
from exactcpt.training.windows.batches import ShardDataset
from exactcpt.training.windows.expansion import Expander
from exactcpt.training.windows.loading import MicroBatchOrder, loaded_batches
from exactcpt.training.windows.micro_batch import Batch
from exactcpt.training.windows.weighting import make_weighting

EXACTCPT = Path(sysconfig.get_path("scripts")) / "exactcpt"
TOKENS_A_BATCH = 1 << 14
LIMITS = {"exact": 100.0, "document": 100.0, "shuffled": 30.0}  # million tokens per second
OUTPUTS = (np.int32, np.uint8)
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
    sources = bundled_texts()
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
    cases["exact, expanded"] = lambda: expand(sets["exact"], windows, size)
    cases["copies of memory"] = lambda: copy(windows, size * shards.window, size)
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(RUNS):
        for name, case in cases.items():
            began = process_time()
            case()
            seconds[name].append(process_time() - began)
    tokens = windows * shards.window
    speed = {name: tokens / statistics.median(s) / 1e6 for name, s in seconds.items()}
    report(shards, tokens, speed, bytes_a_token(sets["exact"], size))


def batches(
    dataset: ShardDataset, windows: int, size: int
) -> AbstractContextManager[Iterator[Batch]]:
    order = MicroBatchOrder(
        n=len(dataset), seed=0, consumed=0, steps=windows // size, global_batch=size,
        micro_batch=size,
    )  # fmt: skip
    return loaded_batches(dataset, order, workers=0, pin_memory=False)


def load(dataset: ShardDataset, windows: int, size: int) -> None:
    with batches(dataset, windows, size) as read:
        found = sum(batch.input_ids.numel() for batch in read)
    assert found == windows * dataset.window


def expand(dataset: ShardDataset, windows: int, size: int) -> None:
    expander = Expander(dataset.weighting, torch.device("cpu"))
    with batches(dataset, windows, size) as read:
        found = sum(expander(batch).labels.numel() for batch in read)
    assert found == windows * dataset.window


def bytes_a_token(dataset: ShardDataset, size: int) -> float:
    """Bytes of the tensors of a micro-batch, which a device gets."""
    sent = [each for each in vars(dataset.batch(range(size))).values() if torch.is_tensor(each)]
    return sum(each.nbytes for each in sent) / (size * dataset.window)


def copy(windows: int, tokens: int, size: int) -> None:
    sources = [np.ones(tokens, kind) for kind in OUTPUTS]
    for _ in range(windows // size):
        for source in sources:
            np.empty_like(source)[:] = source


def report(shards: ShardSet, tokens: int, speed: dict[str, float], sent: float) -> None:
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
    sys.stdout.write(f"{sent:.2f} bytes a token cross to the device\n")
    found = {
        "window": shards.window,
        "tokens": tokens,
        "bytes_a_token": round(sent, 3),
        "segments": shards.manifest["splits"]["train"]["segments"],
        "machine": machine(("exactcpt", "torch", "numpy", "pyarrow")),
        "rows": rows,
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
