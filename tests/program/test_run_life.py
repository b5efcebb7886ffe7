"""A run that is stopped, killed, changed, continued: what is done, left, and logged."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from ranks import in_a_process
from tiny import (
    STEPS,
    config,
    shard_set,
    shards_and_model,
    steps_of,
    stop_after,
    weights_of,
)

from exactcpt.schemas.errors import ExactcptError, FormatError, UsageError
from exactcpt.training import train as module
from exactcpt.training.comparison.runs import compare
from exactcpt.training.models.model import TrainModel
from exactcpt.training.run import log
from exactcpt.training.run.checkpoint_files import complete_checkpoints
from exactcpt.training.run.log import read_log
from exactcpt.training.train import Outcome, train
from exactcpt.training.windows.batches import ShardDataset

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def every_line(monkeypatch):
    monkeypatch.setattr(log, "LINE_SECONDS", 0.0)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    return shards_and_model(tmp_path_factory.mktemp("life"))


def go(made: Path, out: Path, say: Callable[[str], None] | None = None, **settings: Any) -> Outcome:
    return train(config(made, out, **settings), say or (lambda _: None))


def records(out: Path, kind: str) -> list[dict[str, Any]]:
    return [record for record in read_log(out) if record["kind"] == kind]


def evals(out: Path) -> list[tuple[int, str]]:
    return [(record["step"], record["name"]) for record in records(out, "eval")]


def end_this_process() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def stop_in_forward(monkeypatch, number: int) -> list[int]:
    """SIGTERM comes in a forward pass, counted from 1; those that there were."""
    calls: list[int] = []
    forward = TrainModel.forward

    def stop(self, *batch):
        calls.append(1)
        if len(calls) == number:
            end_this_process()
        return forward(self, *batch)

    monkeypatch.setattr(TrainModel, "forward", stop)
    return calls


# SIGTERM while something long is done

MEASURED: dict[str, Any] = {"eval_every": 2, "eval_windows": 2, "micro_batch": 1, "steps": 3}
"""A step has four forward passes, an eval set two: 2, 4, 4, 2, 4, 2 of them."""


@pytest.mark.parametrize(
    ("number", "step", "left", "checkpoints"),
    [
        (1, 0, [], []),
        (11, 2, [(0, "validation")], [2]),
        (17, 3, [(0, "validation"), (2, "validation")], [3]),
    ],
)
def test_an_evaluation_is_given_up_and_done_later(
    made, tmp_path, monkeypatch, number, step, left, checkpoints
):
    go(made, tmp_path / "whole", **MEASURED)
    calls = stop_in_forward(monkeypatch, number)
    out = tmp_path / "parts"
    outcome = go(made, out, **MEASURED)
    monkeypatch.undo()
    assert (outcome.finished, outcome.step, len(calls)) == (False, step, number)
    assert evals(out) == left
    assert [r["step"] for r in records(out, "checkpoint")] == checkpoints
    assert len(complete_checkpoints(out)) == len(checkpoints)
    assert records(out, "end")[-1] == {"kind": "end", "step": step, "status": "stopped"}
    assert go(made, out, **MEASURED).finished
    assert records(out, "eval") == records(tmp_path / "whole", "eval")
    assert steps_of(out) == steps_of(tmp_path / "whole")
    assert go(made, out, **MEASURED).finished
    assert evals(out) == [(0, "validation"), (2, "validation"), (3, "validation")]


def test_one_of_several_eval_sets_is_left(made, tmp_path, monkeypatch):
    sets: dict[str, Any] = {"eval": {"one": str(made / "shards"), "two": str(made / "shards")}}
    stop_in_forward(monkeypatch, 2 + 2 + 8 + 2)  # the last of the first set, after two steps
    go(made, tmp_path / "run", **MEASURED | sets)
    monkeypatch.undo()
    assert evals(tmp_path / "run") == [(0, "one"), (0, "two"), (2, "one")]
    go(made, tmp_path / "run", **MEASURED | sets)
    assert evals(tmp_path / "run") == [(n, name) for n in (0, 2, 3) for name in ("one", "two")]


def test_reading_is_given_up(made, tmp_path, monkeypatch):
    """Four micro-batches per step: SIGTERM comes while the second of the second step is read."""
    read: list[int] = []
    batch = ShardDataset.batch

    def slow(self, indices):
        read.append(1)
        if len(read) == 6:
            end_this_process()
        return batch(self, indices)

    monkeypatch.setattr(ShardDataset, "batch", slow)
    outcome = go(made, tmp_path / "run", micro_batch=1)
    assert (outcome.finished, outcome.step, len(read)) == (False, 1, 6)
    monkeypatch.undo()
    go(made, tmp_path / "run", micro_batch=1)
    go(made, tmp_path / "whole", micro_batch=1)
    assert steps_of(tmp_path / "run") == steps_of(tmp_path / "whole")


def test_an_export_follows_its_checkpoint(made, tmp_path, monkeypatch):
    """However long it takes: the step is safe meanwhile."""
    out = tmp_path / "run"
    begun: list[str] = []

    def long(*_, **__):
        begun.extend(path.name for path in complete_checkpoints(out))
        end_this_process()

    monkeypatch.setattr(module, "export_model", long)
    outcome = go(made, out, export_every=2)
    assert (outcome.finished, outcome.step) == (False, 2)
    assert begun == ["step-00000002"]
    monkeypatch.undo()
    go(made, out, export_every=2)
    assert sorted(path.name for path in (out / "exports").iterdir()) == [
        f"step-{step:08d}" for step in (2, 4, 6)
    ]


def test_an_export_is_not_begun_and_done_later(made, tmp_path, monkeypatch):
    exported: list[str] = []
    monkeypatch.setattr(module, "export_model", lambda *a, **_: exported.append(a[-1].name))
    out = tmp_path / "run"
    outcome = go(made, out, stop_after(2), export_every=2)
    assert (outcome.finished, outcome.step, exported) == (False, 2, [])
    go(made, out, export_every=2)
    assert exported == ["step-00000002", "step-00000004", "step-00000006"]
    (out / "exports" / "step-00000006").mkdir(parents=True)
    go(made, out, export_every=2)
    assert len(exported) == 3


# What becomes of checkpoints


def late(path: Path, *to: Any) -> Path:
    time.sleep(0.5)
    return path.replace(*to)


def test_a_checkpoint_that_is_being_written_outlives_an_interruption(made, tmp_path, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setattr(Path, "rename", late)
    forward = TrainModel.forward

    def interrupt(self, *batch):
        if (out / "checkpoints").exists():
            raise KeyboardInterrupt
        return forward(self, *batch)

    monkeypatch.setattr(TrainModel, "forward", interrupt)
    with pytest.raises(KeyboardInterrupt):
        go(made, out, save_every=2)
    assert [path.name for path in complete_checkpoints(out)] == ["step-00000002"]


def test_a_disk_that_is_full_for_a_while(made, tmp_path, monkeypatch):
    out, told = tmp_path / "run", []
    rename = Path.rename

    def once(path, to):
        if path.name == "step-00000002.partial":
            raise OSError(28, "No space left on device")
        return rename(path, to)

    monkeypatch.setattr(Path, "rename", once)
    assert go(made, out, told.append, save_every=2, keep=3).finished
    assert [path.name for path in complete_checkpoints(out)] == ["step-00000004", "step-00000006"]
    [failure] = records(out, "failure")
    assert failure["step"] == 4
    assert "No space left on device" in failure["error"]
    assert f"warning: {failure['error']}; tried again after step 4" in told


def test_a_checkpoint_is_logged_once_complete(made, tmp_path, monkeypatch):
    """The one of step 1 is complete after step 3."""
    taken = threading.Event()
    rename = Path.rename

    def late(path, target):
        if path.name == "step-00000001.partial":
            assert taken.wait(60)
        return rename(path, target)

    def tell(line: str) -> None:
        if line.startswith("step 3 of"):
            taken.set()
            deadline = time.monotonic() + 60
            while not complete_checkpoints(tmp_path / "run") and time.monotonic() < deadline:
                time.sleep(0.01)

    monkeypatch.setattr(Path, "rename", late)
    # Saving again would wait for it.
    saves = module.is_due
    monkeypatch.setattr(
        module, "is_due", lambda n, every: n == 1 if every == 77 else saves(n, every)
    )
    go(made, tmp_path / "run", tell, save_every=77)
    found = [(r["kind"], r["step"]) for r in read_log(tmp_path / "run") if r["kind"] != "start"]
    assert found == [
        ("step", 1), ("step", 2), ("step", 3), ("checkpoint", 1), ("step", 4), ("step", 5),
        ("step", 6), ("checkpoint", 6), ("end", 6),
    ]  # fmt: skip


# Other settings


def test_settings_that_change_on_the_way(made, tmp_path):
    out = tmp_path / "run"
    told: list[str] = []
    go(made, out, stop_after(2))
    faster: dict[str, Any] = {"learning_rate": 2e-2, "global_batch": 2, "micro_batch": 1}
    go(made, out, told.append, **faster)
    assert told[0] == (
        "continues after step 2, with global_batch 2 (was 4), learning_rate 0.02 (was 0.01), "
        f"micro_batch 1 (was 2), from {out / 'checkpoints' / 'step-00000002'}"
    )
    starts = records(out, "start")
    assert [(r["step"], r["settings"]["learning_rate"]) for r in starts] == [(0, 1e-2), (2, 2e-2)]
    assert starts[1]["settings"]["attention"] == "cpu"
    assert starts[1]["settings"]["device"] == "cpu"
    go(made, tmp_path / "same", weighting="uniform", steps=STEPS)
    found = compare([str(out), str(tmp_path / "same")])
    assert found.unwanted == ["global_batch", "learning_rate"]
    assert str(found.settings["learning_rate"][str(out)]) == "0.01, from step 3 on 0.02"
    assert "micro_batch" in found.settings


def test_settings_before_the_log_was_lost(made, tmp_path):
    out = tmp_path / "run"
    go(made, out, stop_after(2))
    (out / "log.jsonl").unlink()
    go(made, out, stop_after(4), learning_rate=2e-2)
    (out / "log.jsonl").unlink()
    go(made, out, learning_rate=3e-2)
    meta = json.loads((complete_checkpoints(out)[-1] / "meta.json").read_text())
    for held in (meta["stretches"], log.stretches(read_log(out))):
        assert [(each["after"], each["settings"]["learning_rate"]) for each in held] == [
            (0, 1e-2), (2, 2e-2), (4, 3e-2)
        ]  # fmt: skip


def test_a_finished_run_measures_what_it_has_not(made, tmp_path):
    """A set of one name may be another, or have more windows."""
    out, other = tmp_path / "run", shard_set(tmp_path / "other", times=2)
    windows = [1, 2, 2, 2]
    shards = [made / "shards"] * 3 + [other]
    for count, path in zip(windows, shards, strict=True):
        go(made, out, steps=1, eval_every=5, eval_windows=count, eval={"v": str(path)})
    found = [(r["step"], r["windows"], r["shards"]) for r in records(out, "eval")]
    assert [(step, count) for step, count, _ in found] == [(0, 1), (1, 1), (1, 2), (1, 2)]
    assert found[-1][2] != found[-2][2]


def test_a_finished_run_that_is_started_with_other_settings(made, tmp_path):
    """It takes no step with them."""
    for weighting in ("exact", "uniform"):
        go(made, tmp_path / weighting, weighting=weighting, steps=2)
    go(made, tmp_path / "exact", steps=2, learning_rate=1.0)
    assert compare([str(tmp_path / "exact"), str(tmp_path / "uniform")]).is_paired


def train_until_killed(
    connection: Connection, made: Path, out: Path, step: int, learning_rate: float
) -> None:
    log.LINE_SECONDS = 0.0

    def say(line: str) -> None:
        if line.startswith(f"step {step} of"):
            os.kill(os.getpid(), signal.SIGKILL)

    go(made, out, say, learning_rate=learning_rate)


def kill_after(made: Path, out: Path, step: int, *, learning_rate: float = 1e-2) -> None:
    """A process of its own trains and is killed when a step is reported."""
    process, _ = in_a_process(train_until_killed, made, out, step, learning_rate)
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_killed_stopped_and_killed_again(made, tmp_path):
    """Before its first checkpoint, and between two; once with settings that came to nothing."""
    out = tmp_path / "exact"
    kill_after(made, out, 2)
    assert complete_checkpoints(out) == []
    told: list[str] = []
    train(config(made, out), lambda line: (told.append(line), stop_after(3)(line))[0])
    assert told[0] == ("starts again from the beginning: the run in this folder has no checkpoint")
    kill_after(made, out, 5, learning_rate=0.5)
    told.clear()
    go(made, out, told.append)
    assert told[0] == f"continues after step 3, from {out / 'checkpoints' / 'step-00000003'}"
    assert [(r["kind"], r["step"]) for r in read_log(out)] == [
        ("start", 0), ("step", 1), ("step", 2), ("step", 3), ("checkpoint", 3), ("end", 3),
        ("start", 3), ("start", 3), ("step", 4), ("step", 5), ("step", 6), ("checkpoint", 6),
        ("end", 6),
    ]  # fmt: skip
    go(made, tmp_path / "uniform", weighting="uniform")
    found = compare([str(out), str(tmp_path / "uniform")])
    assert found.is_paired
    assert found.pairs[0].steps == STEPS
    go(made, tmp_path / "whole")
    assert steps_of(out) == steps_of(tmp_path / "whole")
    one, other = weights_of(out), weights_of(tmp_path / "whole")
    assert all(t.equal(other[n]) for n, t in one.items() if torch.is_tensor(t))


# Whose folder it is


def test_a_folder_without_checkpoint_is_of_its_run(made, tmp_path):
    out = tmp_path / "run"
    go(made, out, steps=1)
    shutil.rmtree(out / "checkpoints")
    before = (out / "log.jsonl").read_bytes()
    with pytest.raises(UsageError) as caught:
        go(made, out, steps=1, seed=3, weighting="uniform")
    assert caught.value.found == (
        "the run cannot continue with other inputs:\n    seed: 0 before, 3 now\n"
        "    weighting: exact before, uniform now"
    )
    assert caught.value.fix == "give the inputs it was started with, or another --out"
    assert (out / "log.jsonl").read_bytes() == before
    assert go(made, out, steps=1).finished


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"format": "exactcpt run"', "this folder is not a run"),
        ('{"format": "exactcpt run"}', "run.json is damaged: it has no settings"),
    ],
)
def test_a_damaged_run_without_checkpoint(made, tmp_path, text, found):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(FormatError) as caught:
        go(made, tmp_path)
    assert caught.value.found == found
    assert caught.value.fix == ("remove the folder, which has no checkpoint, or name another --out")


def test_one_run_at_a_time(made, tmp_path):
    found: list[subprocess.CompletedProcess[str]] = []

    def another(line: str) -> None:
        if line.startswith("step 1 of"):
            code = (
                "import sys; from pathlib import Path\n"
                "from exactcpt.schemas.errors import ExactcptError\n"
                "from exactcpt.training.run.folder import acquire\n"
                "try: acquire(Path(sys.argv[1]))\n"
                "except ExactcptError as error: print(error); sys.exit(error.exit_code)"
            )
            found.append(
                subprocess.run(
                    [sys.executable, "-c", code, str(tmp_path / "run")],
                    capture_output=True, text=True, check=False,
                )
            )  # fmt: skip

    go(made, tmp_path / "run", another, steps=1)
    (other,) = found
    assert other.stdout == (
        f"another run is at work in this folder\n  where:    {tmp_path / 'run'}\n"
        "  fix:      wait for it to end, or name another --out\n"
    )
    assert other.returncode == 1
    assert go(made, tmp_path / "run", steps=2).finished


def test_a_run_that_was_killed_before_it_had_begun_begins(made, tmp_path):
    """What it had not finished writing is removed, and does not count as another's files."""
    (tmp_path / ".lock").touch()
    (tmp_path / f".run.json.{'0' * 32}.tmp").touch()
    (tmp_path / f".log.jsonl.{'1' * 32}.tmp").touch()
    assert go(made, tmp_path, steps=1).finished
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / f".model.bin.{'0' * 32}.tmp").touch()
    with pytest.raises(UsageError, match="the folder has other files in it"):
        go(made, tmp_path / "other", steps=1)


def test_a_refused_run_leaves_nothing(made, tmp_path):
    with pytest.raises(UsageError):
        go(made, tmp_path / "new" / "run", steps=None, max_tokens=64)
    assert not (tmp_path / "new" / "run").exists()


def test_a_folder_that_is_a_file(made, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(ExactcptError, match="reading or writing failed: File exists"):
        go(made, tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda run: run.pop("identity"), "run.json is damaged: it has no identity"),
        (lambda run: run.update(longest_window="x"), 'run.json is damaged: longest_window is "x"'),
        (lambda run: run.update(format_version=2), "the run has format version 2"),
        (lambda run: run.update(format="other"), "this folder is not a run"),
    ],
)
def test_a_damaged_run(tmp_path, change, found):
    log.write_run(
        tmp_path,
        {
            "settings": {}, "identity": {}, "earlier": None, "model_folder": "/m",
            "longest_window": 64, "buckets": [],
        },
    )  # fmt: skip
    run = log.read_run(tmp_path)
    change(run)
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(FormatError) as caught:
        log.read_run(tmp_path)
    assert caught.value.found == found
    assert caught.value.expected or caught.value.fix


# What is said at the start


def told_by(made: Path, out: Path, **settings: Any) -> list[str]:
    told: list[str] = []
    go(made, out, told.append, **settings)
    return [line for line in told if not line.startswith("step ")]


def test_nothing_to_evaluate(made, tmp_path, monkeypatch):
    monkeypatch.setattr(tiny, "VALIDATES", ())
    shards = shard_set(tmp_path / "shards")
    said = ["nothing is evaluated: the shards have no validation windows and no --eval is given"]
    assert told_by(made, tmp_path / "a", shards=str(shards), steps=3, eval_every=5) == said
    assert told_by(made, tmp_path / "b", shards=str(shards), steps=3, eval_every=0) == []
    assert told_by(made, tmp_path / "c", steps=3, eval_every=5) == []


def test_a_warmup_that_does_not_end(made, tmp_path):
    assert told_by(made, tmp_path / "run", steps=3, warmup_steps=100) == [
        "the warm-up takes 100 steps and the run has 3: the learning rate rises to 0.0003 and does "
        "not fall"
    ]


# Stages


def test_arms_in_stages(made, tmp_path):
    for weighting in ("exact", "uniform"):
        go(made, tmp_path / f"{weighting}-1", steps=2, weighting=weighting)
        first = str(tmp_path / f"{weighting}-1")
        train(
            config(made, tmp_path / weighting, steps=2, weighting=weighting, init_from=first),
            stop_after(1),
        )
        go(made, Path(first), steps=3, weighting=weighting)  # it goes on meanwhile
        go(made, tmp_path / weighting, steps=2, weighting=weighting, init_from=first)
    second = [str(tmp_path / weighting) for weighting in ("exact", "uniform")]
    found = compare(second)
    assert found.is_paired
    assert set(found.settings) == {"weighting", "init_from.weighting"}
    other = str(tmp_path / "uniform-1")
    go(made, tmp_path / "longer", steps=2, weighting="uniform", init_from=other)
    assert compare([second[0], str(tmp_path / "longer")]).unwanted == [
        "init_from.step", "init_from.steps"
    ]  # fmt: skip
