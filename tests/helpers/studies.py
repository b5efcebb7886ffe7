"""Files of studies, and workers that only pretend to run their commands."""

import os
import subprocess
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import tomli_w
from harness import SCRIPT, done
from ranks import processes
from recorded_runs import stage, write, write_probe

from exactcpt.training.evaluation.config import TASKS
from exactcpt.training.study.commands import Command
from exactcpt.training.study.config import Study
from exactcpt.training.study.graph import Step
from exactcpt.training.study.plan import RecordOf
from exactcpt.training.study.reading import read_study
from exactcpt.training.study.records import Record


def values(**changes: Any) -> dict[str, Any]:
    """The values of a small file; a section that is None is left out."""
    whole: dict[str, Any] = {
        "study": {"name": "small", "seeds": 2, "floor": "matched"},
        "prepare": [{"makes": "table.json", "run": "reweigh s --table-only --out table.json"}],
        "train": {"model": "m", "shards": "s"},
        "stage": [{"name": "one", "steps": 3}],
        "arm": [{"name": "uniform"}, {"name": "matched"}, {"name": "exact"}],
        "evaluate": {"lengths": [128], "items": 3},
        "primary": [
            {"endpoint": "probe.far", "arm": "exact", "against": ["uniform"], "claim": "greater"}
        ],
    }
    return {name: value for name, value in (whole | changes).items() if value is not None}


def run(folder: Path, out: Path, *more: str) -> tuple[str, str]:
    """Runs the file of a folder in this process; returns what it printed to stdout and stderr.

    The commands of the study are forks of the process that forks the tests' own ranks.
    """
    processes()
    outcome = done("study", folder / "study.toml", "--out", out, *more)
    return outcome.out, outcome.err


def start(folder: Path, out: Path, *more: str) -> "subprocess.Popen[str]":
    """Starts the program on the file of a folder, on a CPU."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [str(SCRIPT), "study", str(folder / "study.toml"), "--out", str(out), *more],
        env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """What it printed to stdout and stderr, when all has gone well."""
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    return out, err


BASE: dict[str, Any] = {
    "seeds": 3,
    "wanted": 1,
    "steps": 5,
    "gate": {"up_to": 64, "gain": 1.0, "extend": 2},
}


def written(folder: Path, **changes: Any) -> Path:
    """The file of a small study."""
    path = folder / "study.toml"
    path.write_text(tomli_w.dumps(values(**changes)))
    return path


def small(folder: Path, **changes: Any) -> Study:
    """A small study, read from a file."""
    return read_study(str(written(folder, **changes)))


def recorded(records: dict[str, Record]) -> RecordOf:
    """What finds these records."""

    def record_of(step: Step) -> Record | None:
        return records.get(step.name)

    return record_of


class Pretender:
    """Takes the place of `Worker`: a command ends at once, with a code that a function says.

    A training makes the folder of its run. What was run, and how many at a time, is noted.
    """

    def __init__(self, code_of: Callable[[Command], int] = lambda _: 0) -> None:
        self.code_of = code_of
        self.ran: list[Command] = []
        self.most = 0
        self._open = 0

    def __call__(self, command: Command, folder: Path, log: Path) -> "Pretended":
        self._open += 1
        self.most = max(self.most, self._open)
        self.ran.append(command)
        log.parent.mkdir(parents=True, exist_ok=True)
        code = self.code_of(command)
        log.write_text("ends\nerror: it went wrong\n  fix: none\n" if code else "ends\n")
        if code == 0 and "--out" in command:
            made = folder / command[command.index("--out") + 1]
            made.mkdir(parents=True, exist_ok=True)
        return Pretended(self, code, log)

    def ended(self) -> None:
        """Notes that a command has ended."""
        self._open -= 1


class Pretended:
    """A command that has ended already."""

    def __init__(self, by: Pretender, code: int, log: Path) -> None:
        self.log, self.began = log, 0
        self._by, self._code = by, code
        self.sentinel, write = os.pipe()
        os.close(write)  # ready at once

    def end(self) -> int:
        os.close(self.sentinel)
        self._by.ended()
        return self._code

    def stop(self) -> None:
        pass


class HandMadeRuns(Pretender):
    """Trainings and evaluations whose results are made up: gains grow with distance and weight.

    Args:
        gain_of: of the words of the training and the distance.
        code_of: exit code of a command.
    """

    def __init__(
        self,
        gain_of: Callable[[dict[str, str], int], float],
        code_of: Callable[[Command], int] = lambda _: 0,
    ) -> None:
        super().__init__(code_of)
        self.gain_of = gain_of
        self.flags: dict[str, dict[str, str]] = {}

    def __call__(self, command: Command, folder: Path, log: Path) -> "Pretended":
        ended = super().__call__(command, folder, log)
        if self.code_of(command) == 0:
            if command[0] == "train":
                self._train(command, folder)
            elif command[0] == "evaluate":
                self._evaluate(command[1], folder)
        return ended

    def _train(self, command: Command, folder: Path) -> None:
        flags = dict(pairwise(command))
        self.flags[flags["--out"]] = flags
        start = self.flags.get(flags.get("--init-from", ""))
        write(
            folder / flags["--out"],
            flags["--weighting"],
            seed=int(flags["--seed"]),
            arm=flags["--arm"],
            steps=int(flags["--steps"]),
            norms="n" if "--grad-norm-from" in flags else None,
            digests=flags.get("--global-batch", "d"),
            earlier=start and self._earlier(start),
        )

    def _earlier(self, flags: dict[str, str]) -> dict[str, Any]:
        """An earlier run, as one that comes from it records it."""
        start = self.flags.get(flags.get("--init-from", ""))
        steps = int(flags["--steps"])
        made = {"seed": int(flags["--seed"]), "arm": flags["--arm"], "step": steps, "steps": steps}
        return stage(flags["--weighting"], **made, earlier=start and self._earlier(start))

    def _evaluate(self, run: str, folder: Path) -> None:
        flags = self.flags[run]
        cells = [
            ("number", fact, context, distance, fact + self.gain_of(flags, distance))
            for context in ("fixed", "minimal")
            for fact in range(3)
            for distance in (32, 64, 128, 256)
        ]
        write_probe(str(folder / run), cells, tasks=[*TASKS["probe"]], step=int(flags["--steps"]))
