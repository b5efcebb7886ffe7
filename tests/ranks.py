"""Functions run on several ranks: one start of processes for many of them."""

import os
import pickle
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

TIMEOUT = 300


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def on_ranks(world: int, folder: Path, calls: list[tuple[Callable[..., Any], tuple]]) -> list[list]:
    """What each call returns on each rank: found[call][rank]. Each may make a world of its own.

    Functions must be importable: of a module in this folder.
    """
    task = folder / f"ranks-{world}.pickle"
    ports = [free_port() for _ in calls]
    task.write_bytes(
        pickle.dumps([(f.__module__.rpartition(".")[2], f.__name__, args) for f, args in calls])
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error::UserWarning", __file__, str(task), str(rank),
             str(world), *map(str, ports)],
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)},
        )
        for rank in range(world)
    ]  # fmt: skip
    try:
        codes = [process.wait(TIMEOUT) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert codes == [0] * world
    found = [pickle.loads(task.with_suffix(f".{rank}").read_bytes()) for rank in range(world)]
    for rank, outcomes in enumerate(found):
        for outcome in outcomes:
            assert not isinstance(outcome, str), f"rank {rank}: {outcome}"
    return [[found[rank][call][0] for rank in range(world)] for call in range(len(calls))]


def main() -> None:
    import importlib

    task, rank, world, *ports = sys.argv[1:]
    outcomes: list[Any] = []
    for (module, name, args), port in zip(
        pickle.loads(Path(task).read_bytes()), ports, strict=True
    ):
        os.environ |= {
            "RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world,
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
        }  # fmt: skip
        try:
            outcomes.append((getattr(importlib.import_module(module), name)(*args),))
        except Exception:
            outcomes.append(traceback.format_exc())
            break
    Path(task).with_suffix(f".{rank}").write_bytes(pickle.dumps(outcomes))


if __name__ == "__main__":
    main()
