"""The commands of the campaign: small ones, whose every operation can be disturbed."""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .disk import State

__all__ = ["COMMANDS", "Command"]

DATA = Path(__file__).parents[2] / "data"
TOKENIZER = str(DATA / "tokenizer.json")
SPEED = re.compile(rb'"(tokens_per_second|seconds)": [0-9.e+-]+')
Run = Callable[..., None]
"""Runs a command to its end, without a fault; takes its arguments."""


class Command(ABC):
    """A command, what it reads, and how to tell whether its results are right."""

    half = "pipeline"

    @abstractmethod
    def make_inputs(self, inputs: Path, run: Run) -> None:
        """Makes what the command reads."""

    @abstractmethod
    def arguments(self, inputs: Path, disk: Path) -> list[object]:
        """The command line; all that it writes is below `disk`."""

    def earlier(self, inputs: Path, disk: Path) -> list[object] | None:
        """The command whose results are in `disk` before this one runs, if there is one."""
        return None

    @abstractmethod
    def finished(self, state: State) -> set[str]:
        """The folders that a reader takes for finished."""

    def result(self, state: State) -> dict[str, Any]:
        """What has to be the same however often the command was disturbed."""
        return dict(state)

    def unmeasured(self, state: State) -> State:
        """A state without what its run has measured, which no later run goes by."""
        return state

    def refuses_to_run_again(self) -> bool:
        """Whether the command, once finished, ends with a wrong usage."""
        return False


class _Pipeline(Command):
    """Writes token stores and shard sets, each finished when it has a manifest."""

    def make_inputs(self, inputs: Path, run: Run) -> None:
        lines = (DATA / "poems.jsonl").read_bytes().splitlines(keepends=True)[:30]
        sources = inputs / "sources"
        sources.mkdir()
        (sources / "a.jsonl").write_bytes(b"".join(lines[:15]))
        (sources / "b.jsonl").write_bytes(b"".join([*lines[15:], b"no record\n"]))

    def finished(self, state: State) -> set[str]:
        found = {name.rpartition("/")[0] for name in state if name.endswith("/manifest.json")}
        return {folder for folder in found if _is_json(state[f"{folder}/manifest.json"])}

    def tokenize(self, inputs: Path) -> list[object]:
        """The flags of `tokenize`."""
        source = f"poems={inputs}/sources"
        return ["--source", source, "--tokenizer", TOKENIZER, "--split-bytes", "9k",
                "--max-rejected", "0.2", "--workers", 1]  # fmt: skip

    def pack(self) -> list[object]:
        """The flags of `pack`."""
        return ["--window", 128, "--shard-bytes", "20k", "--group-tokens", "6k",
                "--validation-fraction", "0.1", "--workers", 1]  # fmt: skip


class Prepare(_Pipeline):
    """`prepare`, from texts to shards."""

    def arguments(self, inputs: Path, disk: Path) -> list[object]:
        flags = [*self.tokenize(inputs), *self.pack()]
        return ["prepare", *flags, "--out", disk / "out"]


class Overwrite(Prepare):
    """`prepare --overwrite`, over a shard set and a store of other settings."""

    def earlier(self, inputs: Path, disk: Path) -> list[object] | None:
        return [*super().arguments(inputs, disk), "--min-tokens", 90, "--seed", 7]

    def arguments(self, inputs: Path, disk: Path) -> list[object]:
        return [*super().arguments(inputs, disk), "--overwrite"]


class Discard(Prepare):
    """`prepare --discard-store`, which removes the store at the end."""

    def arguments(self, inputs: Path, disk: Path) -> list[object]:
        return [*super().arguments(inputs, disk), "--discard-store"]


class Pack(_Pipeline):
    """`pack`, from a store to shards."""

    def make_inputs(self, inputs: Path, run: Run) -> None:
        super().make_inputs(inputs, run)
        run("tokenize", *self.tokenize(inputs), "--out", inputs / "store")

    def arguments(self, inputs: Path, disk: Path) -> list[object]:
        flags = [*self.pack(), "--dedup", "exact"]
        return ["pack", inputs / "store", *flags, "--out", disk / "out"]


class Reweigh(_Pipeline):
    """`reweigh`, from shards to shards."""

    def make_inputs(self, inputs: Path, run: Run) -> None:
        super().make_inputs(inputs, run)
        run("prepare", *self.tokenize(inputs), *self.pack(), "--out", inputs / "shards")

    def arguments(self, inputs: Path, disk: Path) -> list[object]:
        flags = ["--alpha", "0.4", "--workers", 1]
        return ["reweigh", inputs / "shards", *flags, "--out", disk / "out"]


class Weigh(_Pipeline):
    """`weigh`, from windows that somebody else has packed to shards."""

    def make_inputs(self, inputs: Path, run: Run) -> None:
        import numpy as np
        import pyarrow as pa
        import pyarrow.parquet as pq

        draws = np.random.default_rng(0)
        ids = draws.integers(5, 200, (40, 128)).tolist()
        lengths = [[48, 80] if i % 2 else [128] for i in range(len(ids))]
        rows = pa.table({"input_ids": ids, "seq_lengths": lengths})
        pq.write_table(rows, inputs / "a.parquet", row_group_size=16)
        pq.write_table(rows[:5], inputs / "held-out.parquet")

    def arguments(self, inputs: Path, disk: Path) -> list[object]:
        flags = ["--tokenizer", TOKENIZER, "--shard-bytes", "20k", "--workers", 1]
        held_out = ["--validation", inputs / "held-out.parquet"]
        return ["weigh", inputs / "a.parquet", *held_out, *flags, "--out", disk / "out"]


class Convert(Reweigh):
    """`convert`, from shards to a folder that has all its files or is not there."""

    def arguments(self, inputs: Path, disk: Path) -> list[object]:
        return ["convert", inputs / "shards", "--to", "mds", "--out", disk / "out"]

    def finished(self, state: State) -> set[str]:
        return {"out"} & set(state)


class Publish(Reweigh):
    """`publish`, from shards to a folder with a card."""

    def arguments(self, inputs: Path, disk: Path) -> list[object]:
        return ["publish", inputs / "shards", "--out", disk / "out"]


class Train(Command):
    """`train` with checkpoints, of which one is kept, evaluations and exports."""

    half = "training"

    def make_inputs(self, inputs: Path, run: Run) -> None:
        from tiny import shards_and_model

        shards_and_model(inputs)

    def arguments(self, inputs: Path, disk: Path) -> list[object]:
        return [
            "train", "--shards", inputs / "shards", "--model", inputs / "model",
            "--out", disk / "run", "--steps", 4, "--global-batch", 2, "--micro-batch", 2,
            "--learning-rate", "1e-2", "--warmup-steps", 1, "--precision", "fp32",
            "--device", "cpu", "--save-every", 2, "--eval-every", 2, "--keep", 1,
            "--export-every", 2, "--quiet",
        ]  # fmt: skip

    def finished(self, state: State) -> set[str]:
        pattern = re.compile(r".*/(checkpoints|exports)/step-\d{8}")
        return {name for name in state if pattern.fullmatch(name)}

    def result(self, state: State) -> dict[str, Any]:
        """Without what depends on time, and on how often a run was begun."""
        return {name: _lasting(name, content) for name, content in state.items()}

    def unmeasured(self, state: State) -> State:
        """Without how fast the steps were."""
        return {
            name: content and SPEED.sub(b"", content) if name.endswith("/log.jsonl") else content
            for name, content in state.items()
        }


class Export(Train):
    """`export`, from a run's checkpoint to a Hugging Face folder."""

    def make_inputs(self, inputs: Path, run: Run) -> None:
        super().make_inputs(inputs, run)
        run(*super().arguments(inputs, inputs))

    def arguments(self, inputs: Path, disk: Path) -> list[object]:
        return ["export", inputs / "run", "--out", disk / "exported"]

    def finished(self, state: State) -> set[str]:
        return {"exported"} & set(state)

    def refuses_to_run_again(self) -> bool:
        return True


def _is_json(content: bytes | None) -> bool:
    try:
        json.loads(content or b"")
    except ValueError:
        return False
    return True


def _lasting(name: str, content: bytes | None) -> Any:
    """What of a file of a run is the same for every run of its settings."""
    base = name.rpartition("/")[2]
    if base == ".metadata":  # it has an id that torch draws; without it, it is as long
        return len(content or b""), bool((content or b"").strip(b"\0"))
    if base not in ("log.jsonl", "meta.json") or content is None:
        return content
    try:
        records = [json.loads(line) for line in content.splitlines()] if base == "log.jsonl" else []
        meta = json.loads(content) if base == "meta.json" else {}
    except ValueError:
        return content
    if meta:
        own = ("files", "stretches", "record_xxh3_128")
        return {name: value for name, value in meta.items() if name not in own}
    timed = {"tokens_per_second", "mfu", "memory"}
    lasting = [record for record in records if record["kind"] in ("step", "eval")]
    return [{n: v for n, v in record.items() if n not in timed} for record in lasting]


COMMANDS: dict[str, Command] = {
    "prepare": Prepare(),
    "prepare --overwrite": Overwrite(),
    "prepare --discard-store": Discard(),
    "pack": Pack(),
    "reweigh": Reweigh(),
    "weigh": Weigh(),
    "convert": Convert(),
    "publish": Publish(),
    "train": Train(),
    "export": Export(),
}
