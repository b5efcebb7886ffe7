"""Runs on one rank, from the settings to the log and the checkpoints."""

import json
import math
import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from handmade import edit_manifest, edit_shard
from safetensors.torch import load_file, save_file
from tiny import (
    STEPS,
    config,
    model_folder,
    shard_set,
    shards_and_model,
    steps_of,
    stop_after,
    weights_of,
)
from torch._dynamo.testing import CompileCounterWithBackend
from transformers.models.llama.modeling_llama import LlamaMLP

from exactcpt.schemas.errors import ExactcptError, FormatError, IncompleteError, UsageError
from exactcpt.schemas.shard_set import open_set
from exactcpt.schemas.weights import dump_table
from exactcpt.training import train as module
from exactcpt.training.models import attention
from exactcpt.training.models.model import TrainModel, build
from exactcpt.training.run import inputs, log
from exactcpt.training.run.checkpoint import CheckpointManager
from exactcpt.training.run.checkpoint_files import complete_checkpoints
from exactcpt.training.run.inputs import attention_for
from exactcpt.training.run.log import read_log, read_run
from exactcpt.training.train import train
from exactcpt.training.windows.batches import ShardDataset
from exactcpt.training.windows.expansion import Expander
from exactcpt.training.windows.order import windows_at
from exactcpt.training.windows.weighting import make_weighting

pytestmark = pytest.mark.slow

SHARD = "train/shard-00000-of-00002.arrow"


@pytest.fixture(autouse=True)
def every_line(monkeypatch):
    monkeypatch.setattr(log, "LINE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = shards_and_model(tmp_path_factory.mktemp("train"))
    shard_set(folder / "longer", window=128)
    return folder


def run(made: Path, out: Path, **settings: Any) -> list[dict[str, Any]]:
    """Trains, and returns the log's steps."""
    outcome = train(config(made, out, **settings), lambda _: None)
    assert outcome.finished
    return steps_of(out)


@pytest.fixture(scope="module")
def exact(made, tmp_path_factory) -> list[dict[str, Any]]:
    return run(made, tmp_path_factory.mktemp("exact") / "run")


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert sum(isinstance(v, torch.Tensor) for v in one.values()) > 60
    for name, value in one.items():
        same = torch.equal(value, other[name]) if torch.is_tensor(value) else value == other[name]
        assert same, name


def test_what_is_logged(made, tmp_path):
    told: list[str] = []
    train(config(made, tmp_path / "run", log_every=4, peak_tflops=1e-3), told.append)
    records = read_log(tmp_path / "run")
    assert [r["kind"] for r in records] == ["start", *["step"] * STEPS, "checkpoint", "end"]
    first = records[1]
    assert first.keys() == {
        "kind", "step", "loss", "unweighted_loss", "targets", "sum_w", "denominator",
        "tail_share", "gradient_norm", "scaled_to", "clipped", "skipped", "learning_rate",
        "tokens", "digest", "bucket_loss", "bucket_targets", "tokens_per_second", "mfu", "memory",
    }  # fmt: skip
    assert first["sum_w"] > first["targets"] == first["denominator"] == sum(first["bucket_targets"])
    assert first["loss"] > first["unweighted_loss"] > 5
    assert first["learning_rate"] == 5e-3
    assert 0 < first["tail_share"] < 1
    assert first["tokens"] <= 4 * 64
    assert 0 < first["mfu"] < 10
    assert first["memory"] is None
    assert records[-2].pop("seconds") > 0
    assert records[-2] == {"kind": "checkpoint", "step": STEPS, "windows": 4 * STEPS}
    assert records[-1]["status"] == "finished"
    assert told[0].startswith("step 1 of 6  loss ")
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())
    assert recorded["settings"]["log_every"] == 4
    assert recorded["identity"]["weighting"] == "exact"


def test_the_gradient_norms_of_another_run(made, exact, tmp_path):
    """The same arm with its own norms is itself; another one has them step by step."""
    out = tmp_path / "exact"
    again = run(made, out)
    own = run(made, tmp_path / "own", grad_norm_from=str(out))
    assert [step["scaled_to"] for step in own] == [step["gradient_norm"] for step in again]
    for step in own:
        step["scaled_to"] = None
    assert own == again == exact
    assert_equal(weights_of(tmp_path / "own"), weights_of(out))
    control = run(made, tmp_path / "u", weighting="uniform", grad_norm_from=str(out), clip_norm=0)
    assert [step["scaled_to"] for step in control] == [step["gradient_norm"] for step in exact]
    plain = run(made, tmp_path / "plain", weighting="uniform", clip_norm=0)
    assert control[0]["gradient_norm"] == plain[0]["gradient_norm"] != exact[0]["gradient_norm"]
    assert control[-1]["loss"] != plain[-1]["loss"]


@pytest.mark.parametrize(
    ("other", "settings", "message"),
    [
        ({"seed": 1}, {}, "the run that has the gradient norms has seed 1"),
        ({"global_batch": 2}, {}, "the run that has the gradient norms has global_batch 2"),
        ({"steps": 1}, {}, "the run that has the gradient norms has 1 step"),
        ({"steps": 3}, {}, "the run that has the gradient norms has 3 steps"),
        ({}, {"grad_norm_from": "nowhere"}, "there is no such folder"),
    ],
)
def test_gradient_norms_of_other_steps(made, tmp_path, other, settings, message):
    out = tmp_path / "other"
    run(made, out, **({"steps": 2} | other))
    with pytest.raises(UsageError, match=message):
        run(made, tmp_path / "run", steps=2, **({"grad_norm_from": str(out)} | settings))


def test_gradient_norms_are_of_the_identity(made, tmp_path):
    for weighting in ("exact", "near"):
        run(made, tmp_path / weighting, steps=2, weighting=weighting)
    chosen = {"steps": 2, "weighting": "uniform"}
    run(made, tmp_path / "run", grad_norm_from=str(tmp_path / "exact"), **chosen)
    run(made, tmp_path / "run", grad_norm_from=str(tmp_path / "near/../exact"), **chosen)
    with pytest.raises(UsageError, match="grad_norm_from"):
        run(made, tmp_path / "run", grad_norm_from=str(tmp_path / "near"), **chosen)


def test_no_checkpoint_but_the_last(made, tmp_path):
    run(made, tmp_path / "run", save_every=0, keep=9)
    assert [path.name for path in complete_checkpoints(tmp_path / "run")] == [f"step-{STEPS:08d}"]


def test_exporting_is_not_training(made, tmp_path, monkeypatch):
    export = module.export_model

    def slowly(*arguments: Any, **named: Any) -> None:
        time.sleep(1)
        export(*arguments, **named)

    monkeypatch.setattr(module, "export_model", slowly)
    train(config(made, tmp_path / "run", steps=3, export_every=1), lambda _: None)
    steps = [r for r in read_log(tmp_path / "run") if r["kind"] == "step"]
    assert [step["tokens"] / step["tokens_per_second"] < 1 for step in steps] == [True] * 3


def test_the_log_is_on_the_disk_before_a_checkpoint(made, tmp_path, monkeypatch):
    """After a power cut, a run has the lines of all steps before the checkpoint."""
    log, fsync, save = tmp_path / "run" / "log.jsonl", os.fsync, CheckpointManager.save
    synced = [0]
    steps: list[int] = []

    def noted(descriptor):
        found = os.fstat(descriptor)
        if log.exists() and found.st_ino == log.stat().st_ino:
            synced.append(found.st_size)
        fsync(descriptor)

    def saved(self, step, *arguments, **options):
        lines = log.read_bytes()[: synced[-1]].splitlines()
        steps.append(json.loads(lines[-1])["step"])
        assert steps[-1] == step
        return save(self, step, *arguments, **options)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(CheckpointManager, "save", saved)
    train(config(made, tmp_path / "run", save_every=2, log_every=5), lambda _: None)
    assert steps == [2, 4, 6]
    assert synced[-1] == log.stat().st_size


def test_training_lowers_the_loss(exact):
    assert exact[-1]["unweighted_loss"] < exact[0]["unweighted_loss"] - 0.5


# Settings that reach the model


def test_compiled_blocks(made, exact, tmp_path, monkeypatch):
    """Each of the two blocks, and it runs in graphs.

    Nothing in them has a size that is not known but the number of segments, though the eval set is
    measured first, and in batches of another shape.
    """
    graphs = CompileCounterWithBackend("eager")
    compiled: list[Any] = []
    real = torch.compile

    def count(function: Any, **settings: Any) -> Any:
        compiled.append(function.__self__)
        return real(function, backend=graphs, **settings)

    monkeypatch.setattr(torch, "compile", count)
    measured = {"eval_every": 1, "eval_windows": 1, "micro_batch": 2}
    found = run(made, tmp_path / "run", compile=True, steps=2, **measured)
    assert [type(block).__name__ for block in compiled] == ["FSDPLlamaDecoderLayer"] * 2
    assert graphs.frame_count == 2
    for graph in graphs.graphs:
        inputs_ = [node.meta["example_value"] for node in graph.graph.find_nodes(op="placeholder")]
        assert sum(isinstance(value, torch.SymInt) for value in inputs_) == 1
    for record, expected in zip(found, exact[:2], strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert record["gradient_norm"] == pytest.approx(expected["gradient_norm"], rel=1e-4)


@pytest.mark.parametrize(("recomputed", "times"), [(False, 1), (True, 2)])
def test_recomputed_blocks(made, exact, tmp_path, monkeypatch, recomputed, times):
    calls: list[int] = []
    forward = LlamaMLP.forward

    def count(*arguments: Any) -> torch.Tensor:
        calls.append(1)
        return forward(*arguments)

    monkeypatch.setattr(LlamaMLP, "forward", count)
    found = run(made, tmp_path / "run", checkpoint_activations=recomputed, steps=2)
    assert len(calls) == 2 * 2 * 2 * times  # steps, micro-batches, blocks
    assert found == exact[:2]


def test_the_attention_that_was_chosen(made, exact, tmp_path, monkeypatch):
    """A backend under the name of another one; it is told the longest segment of each batch."""
    calls: list[tuple[int, int]] = []
    backend = attention.FUNCTIONS["cpu"]

    def count(*tensors: Any, **more: Any) -> torch.Tensor:
        calls.append((len(more["max_seqlen"]), int(more["cu_seqlens"].diff().max())))
        return backend(*tensors, **more)

    monkeypatch.setitem(attention.FUNCTIONS, "exact", count)
    monkeypatch.setattr(attention, "LEAST_LENGTH", 1)
    settings = {"attention": "exact", "steps": 1, "eval_every": 1, "eval_windows": 1}
    assert run(made, tmp_path / "run", **settings) == exact[:1]
    assert len(calls) == 2 * (2 + 1 + 1)  # blocks, micro-batches, evaluations before and after
    assert [told for told, _ in calls] == [longest for _, longest in calls]


@pytest.mark.parametrize("once", [False, True])
def test_when_gradients_are_reduced(made, exact, tmp_path, monkeypatch, once):
    said: list[dict[str, bool]] = []
    before = module.reduce_at

    def reduce_at(model: Any, **when: bool) -> None:
        said.append(when)
        before(model, **when)

    monkeypatch.setattr(module, "reduce_at", reduce_at)
    assert run(made, tmp_path / "run", reduce_once=once, steps=2) == exact[:2]
    assert said == [{"last": last, "once": once} for last in (False, True)] * 2


@pytest.mark.parametrize(
    ("changed", "theta", "scaling"),
    [({"rope_theta": 20.0}, 20.0, None), ({"yarn_factor": 4.0}, 10000.0, "yarn")],
)
def test_other_positions(made, exact, tmp_path, changed, theta, scaling):
    found = run(made, tmp_path / "run", export_every=1, steps=1, **changed)
    assert found[0]["digest"] == exact[0]["digest"]
    assert found[0]["loss"] != pytest.approx(exact[0]["loss"], rel=1e-6)
    written = json.loads((tmp_path / "run/exports/step-00000001/config.json").read_text())
    assert written["rope_theta"] == theta
    assert (written.get("rope_scaling") or {}).get("rope_type") == scaling
    model = build(made / "model", window=64, backend="exact", **changed)
    windows = ShardDataset(made / "shards")
    expand = Expander(windows.weighting, torch.device("cpu"))
    total = 0.0
    with torch.no_grad():
        for number in windows_at(np.arange(4), len(windows), 0):
            total += model(*expand(windows.batch([int(number)])), torch.tensor(1.0))[0].item()
    assert found[0]["loss"] == pytest.approx(total / found[0]["denominator"], rel=1e-5)


# Weights of targets


def test_looking_less_often_changes_nothing(made, exact, tmp_path):
    assert run(made, tmp_path / "run", log_every=5) == exact


@pytest.mark.parametrize("weighting", ["uniform", "matched", "shuffled", "tail_flat", "document"])
def test_arms_see_the_same_windows(made, exact, tmp_path, weighting):
    arm = run(made, tmp_path / "run", weighting=weighting, steps=2)
    assert [record["digest"] for record in arm] == [record["digest"] for record in exact[:2]]
    assert arm[0]["unweighted_loss"] == exact[0]["unweighted_loss"]
    assert arm[0]["loss"] != exact[0]["loss"]


def test_shuffled_weights_are_of_the_runs_seed(made, tmp_path):
    """A step of all windows: the order, which is the seed's too, makes no difference."""
    windows = ShardDataset(made / "shards")
    sums = {}
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        settings = {"weighting": "shuffled", "global_batch": len(windows), "steps": 1}
        found = run(made, tmp_path / name, seed=seed, **settings)[0]
        weighting = make_weighting("shuffled", windows.shards, seed=seed)
        drawn = ShardDataset(windows.shards, weighting=weighting)
        expected = drawn.batch(range(len(windows))).sum_w
        assert found["sum_w"] == pytest.approx(expected, rel=1e-12)
        sums[name] = found["sum_w"]
    assert sums["one"] == sums["again"] != pytest.approx(sums["other"], rel=1e-6)


def test_without_extra_weight_exact_is_uniform_bit_for_bit(made, tmp_path):
    shard_set(tmp_path / "plain", alpha=0.0)
    for weighting in ("exact", "uniform"):
        run(made, tmp_path / weighting, weighting=weighting, shards=str(tmp_path / "plain"))
    assert steps_of(tmp_path / "exact") == steps_of(tmp_path / "uniform")
    assert_equal(weights_of(tmp_path / "exact"), weights_of(tmp_path / "uniform"))


def test_a_table_of_ones_own(made, tmp_path):
    (tmp_path / "table.json").write_bytes(dump_table(64, [2.0, 2.0, 2.0, 2.0], None))
    table = {"weighting": "table", "weight_table": str(tmp_path / "table.json")}
    doubled = run(made, tmp_path / "run", steps=1, **table)[0]
    assert doubled["sum_w"] == 2 * doubled["targets"]
    assert doubled["loss"] == pytest.approx(2 * doubled["unweighted_loss"], rel=1e-6)


def test_a_dose(made, tmp_path):
    """A table gives the weights, the weighting says what becomes of them: as by other shards."""
    settings = {"alpha": 1.5, "gamma": 0.3}
    shard_set(tmp_path / "other", **settings)
    weights = [row["weight"] for row in open_set(tmp_path / "other").buckets]
    (tmp_path / "table.json").write_bytes(dump_table(64, weights, None))
    table = {"weighting": "near", "weight_table": str(tmp_path / "table.json")}
    dose = run(made, tmp_path / "run", steps=2, **table)
    assert dose == run(made, tmp_path / "same", steps=2, weighting="near",
                       shards=str(tmp_path / "other"))  # fmt: skip
    assert dose != run(made, tmp_path / "plain", steps=2, weighting="near")
    recorded = read_run(tmp_path / "run")
    assert recorded["identity"]["weight_table"] == weights
    assert recorded["settings"]["weight_table"] == table["weight_table"]
    (tmp_path / "table.json").write_bytes(dump_table(64, [1.0, 1.0, 2.0, 2.0], None))
    with pytest.raises(UsageError, match="the run cannot continue with other inputs"):
        run(made, tmp_path / "run", steps=3, **table)


def test_divided_by_the_sum_of_weights(made, exact, tmp_path):
    first = run(made, tmp_path / "run", steps=1, denominator="sum_w")[0]
    assert first["denominator"] == first["sum_w"] == exact[0]["sum_w"]
    assert first["loss"] == pytest.approx(
        exact[0]["loss"] * exact[0]["targets"] / exact[0]["sum_w"], rel=1e-6
    )


def test_matched_weights_divided_by_their_sum_are_uniform(made, tmp_path):
    one, other = (
        run(made, tmp_path / name, steps=3, weighting=name, denominator="sum_w", precision="fp64")
        for name in ("matched", "uniform")
    )
    for matched, uniform in zip(one, other, strict=True):
        assert matched["loss"] == pytest.approx(uniform["loss"], rel=1e-6)
        assert matched["gradient_norm"] == pytest.approx(uniform["gradient_norm"], rel=1e-6)


def test_accumulation_changes_rounding_only(made, exact, tmp_path):
    whole = run(made, tmp_path / "run", micro_batch=4, precision="fp64")
    parts = run(made, tmp_path / "parts", micro_batch=1, precision="fp64")
    for one, other in zip(whole, parts, strict=True):
        assert one["digest"] == other["digest"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-10)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-10)


# Stopping and continuing


def test_stopped_and_gone_on_is_never_stopped(made, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    run(made, tmp_path / "whole")
    assert signal.getsignal(signal.SIGTERM) is before
    outcome = train(config(made, tmp_path / "parts"), stop_after(2))
    assert not outcome.finished
    assert (outcome.step, outcome.steps) == (2, STEPS)
    assert outcome.checkpoint is not None
    assert outcome.checkpoint.name == "step-00000002"
    assert read_log(tmp_path / "parts")[-1]["status"] == "stopped"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN  # the process is about to end
    told: list[str] = []
    train(config(made, tmp_path / "parts"), told.append)
    assert told[0] == f"continues after step 2, from {outcome.checkpoint}"
    assert steps_of(tmp_path / "parts") == steps_of(tmp_path / "whole")
    assert_equal(weights_of(tmp_path / "parts"), weights_of(tmp_path / "whole"))


@pytest.mark.parametrize(("micro_batch", "done"), [(2, 0), (6, 1)])
def test_stopped_in_the_middle_of_a_step(made, tmp_path, monkeypatch, micro_batch, done):
    """Four micro-batches per step: the second of the first step, and of the second."""
    run(made, tmp_path / "whole", micro_batch=1)
    calls: list[int] = []
    forward = TrainModel.forward

    def stop(self, *batch):
        calls.append(1)
        if len(calls) == micro_batch:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(self, *batch)

    monkeypatch.setattr(TrainModel, "forward", stop)
    outcome = train(config(made, tmp_path / "parts", micro_batch=1), lambda _: None)
    assert (outcome.finished, outcome.step) == (False, done)
    assert len(calls) == micro_batch
    monkeypatch.undo()
    run(made, tmp_path / "parts", micro_batch=1)
    assert steps_of(tmp_path / "parts") == steps_of(tmp_path / "whole")
    assert_equal(weights_of(tmp_path / "parts"), weights_of(tmp_path / "whole"))


def test_another_global_batch_goes_on_where_the_order_is(made, tmp_path):
    """Three steps of 4 windows, two of 2, and three of 4 again: 28 windows in one order."""
    settings = {"max_tokens": 64 * 28, "steps": None}
    train(config(made, tmp_path / "run", **settings), stop_after(3))
    later = config(made, tmp_path / "run", **settings, global_batch=2)
    outcome = train(later, stop_after(5))
    assert outcome.steps == 3 + (28 - 12) // 2
    found = run(made, tmp_path / "run", **settings)
    large = run(made, tmp_path / "large", **settings)
    small = run(made, tmp_path / "small", global_batch=2, steps=8)
    expected = [*large[:3], *small[6:8], *large[4:]]
    assert [r["digest"] for r in found] == [r["digest"] for r in expected]


def test_a_finished_run_stays_as_it_is(made, tmp_path):
    run(made, tmp_path / "run", steps=2)
    before = weights_of(tmp_path / "run")
    assert len(run(made, tmp_path / "run", steps=2)) == 2
    assert_equal(weights_of(tmp_path / "run"), before)


def test_checkpoints_that_stay(made, tmp_path):
    run(made, tmp_path / "run", save_every=2, keep=2, steps=5)
    names = [path.name for path in complete_checkpoints(tmp_path / "run")]
    assert names == ["step-00000004", "step-00000005"]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"seed": 5}, "seed: 0 before, 5 now"),
        ({"weighting": "uniform"}, "weighting: exact before, uniform now"),
        ({"denominator": "sum_w"}, "denominator: targets before, sum_w now"),
        ({"rope_theta": 5e5}, "rope_theta: None before, 500000.0 now"),
    ],
)
def test_a_run_does_not_go_on_as_another(made, tmp_path_factory, changed, line):
    out = tmp_path_factory.getbasetemp() / "changed"
    if not out.exists():
        run(made, out, steps=1)
    with pytest.raises(UsageError) as caught:
        run(made, out, **changed)
    assert caught.value.found == f"the run cannot continue with other inputs:\n    {line}"


def test_a_run_does_not_go_on_with_other_shards_or_models(made, tmp_path):
    run(made, tmp_path / "run", steps=1)
    shard_set(tmp_path / "others", alpha=0.5)
    model_folder(tmp_path / "model", intermediate_size=64)
    with pytest.raises(UsageError) as caught:
        run(made, tmp_path / "run", shards=str(tmp_path / "others"), model=str(tmp_path / "model"))
    lines = caught.value.found.splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:]] == ["model", "shards"]


def test_a_folder_with_something_else(made, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="the folder has other files in it"):
        run(made, tmp_path)


def test_weights_of_an_earlier_run(made, exact, tmp_path):
    run(made, tmp_path / "first", steps=3)
    second = run(made, tmp_path / "second", steps=3, init_from=str(tmp_path / "first"), seed=1)
    assert second[0]["unweighted_loss"] < exact[0]["unweighted_loss"] - 0.3
    assert second[0]["learning_rate"] == 5e-3  # its schedule is fresh
    with pytest.raises(UsageError, match="the earlier run has no checkpoint to take weights from"):
        run(made, tmp_path / "third", init_from=str(tmp_path / "none"))


def test_the_positions_of_an_earlier_run_are_not_lost(made, tmp_path):
    first = str(tmp_path / "first")
    run(made, tmp_path / "first", steps=1, rope_theta=2e6)
    with pytest.raises(UsageError) as caught:
        run(made, tmp_path / "second", steps=1, init_from=first)
    assert caught.value.found == (
        "the earlier run was trained with --rope-theta 2e+06, this one has no --rope-theta"
    )
    run(made, tmp_path / "second", steps=1, init_from=first, rope_theta=4e6)


def test_an_earlier_run_of_a_larger_model(made, tmp_path):
    run(made, tmp_path / "first", steps=1)
    model_folder(tmp_path / "model", num_hidden_layers=1)
    with pytest.raises(FormatError) as caught:
        run(
            made,
            tmp_path / "second",
            model=str(tmp_path / "model"),
            init_from=str(tmp_path / "first"),
        )
    assert caught.value.found.startswith(
        "the checkpoint is of another model: it has 9 tensors that this model lacks, "
        "the first is causal_lm.model.layers.1."
    )


def test_an_earlier_run_that_goes_on(made, tmp_path):
    """A run keeps what it began with; one that begins later is another."""
    first = tmp_path / "first"
    run(made, first, steps=1)
    for out in ("second", "other"):
        run(made, tmp_path / out, steps=1, init_from=str(first))
        run(made, first, steps=2)
    run(made, tmp_path / "second", steps=2, init_from=f"{first}/../first")
    second, other = (
        json.loads((tmp_path / out / "run.json").read_text())["identity"]["init_from"]
        for out in ("second", "other")
    )
    assert (second["step"], other["step"]) == (1, 2)
    assert second["meta"] != other["meta"]
    with pytest.raises(UsageError, match=r"init_from: .*'step': 1.* before, None now"):
        run(made, tmp_path / "second", steps=3)


# Measuring


def test_evaluations(made, tmp_path):
    eval_sets = {"own": str(made / "shards"), "longer": str(made / "longer")}
    steps = run(made, tmp_path / "run", eval=eval_sets, eval_every=4)
    evals = [r for r in read_log(tmp_path / "run") if r["kind"] == "eval"]
    assert [(r["step"], r["name"]) for r in evals] == [
        (step, name) for step in (0, 4, 6) for name in eval_sets
    ]
    own, longer = evals[:2]
    assert (own["window"], longer["window"]) == (64, 128)
    assert len(longer["bucket_loss"]) == len(own["bucket_loss"]) + 1
    assert own["loss"] == pytest.approx(steps[0]["unweighted_loss"], rel=0.1)
    assert evals[-2]["loss"] < own["loss"]
    total = sum(x * n for x, n in zip(own["bucket_loss"], own["bucket_targets"], strict=True))
    assert own["loss"] == pytest.approx(total / own["targets"])


def test_measuring_changes_nothing(made, exact, tmp_path):
    assert run(made, tmp_path / "run", eval_every=1) == exact


# What is refused


def test_ids_that_the_model_lacks(made, tmp_path):
    model_folder(tmp_path / "model", vocab_size=90)
    with pytest.raises(
        UsageError, match="the shards have token ids up to 99, but the model embeds only 90 tokens"
    ):
        run(made, tmp_path / "run", model=str(tmp_path / "model"))


def test_an_altered_set(made, tmp_path):
    folder = shard_set(tmp_path / "shards")
    data = bytearray((folder / SHARD).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / SHARD).write_bytes(data)
    with pytest.raises(FormatError, match="the file was altered"):
        run(made, tmp_path / "run", shards=str(folder))
    assert run(made, tmp_path / "run", shards=str(folder), check_shards="sizes", steps=1)


def test_an_unfinished_set(made, tmp_path):
    folder = shard_set(tmp_path / "shards")
    (folder / "manifest.json").unlink()
    with pytest.raises(IncompleteError):
        run(made, tmp_path / "run", shards=str(folder))


def test_a_run_shorter_than_a_step(made, tmp_path):
    with pytest.raises(UsageError, match="the run has 2 windows, and a step takes 4"):
        run(made, tmp_path / "run", steps=None, max_tokens=128)


def test_one_epoch_is_the_default(made, tmp_path):
    assert len(run(made, tmp_path / "run", steps=None)) == 10 // 4


def poisoned(folder: Path, token: int) -> Path:
    """A model that gives no number after one token."""
    model_folder(folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][token] = math.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


def test_a_loss_that_is_not_finite(made, tmp_path):
    folder = shard_set(tmp_path / "shards")
    edit_shard(folder, SHARD, lambda columns: columns["input_ids"][2].__setitem__(7, 200))
    edit_manifest(folder, lambda manifest: manifest["tokenizer"].update(largest_id=200))
    model = poisoned(tmp_path / "model", 200)
    out = tmp_path / "run"
    settings = {"shards": str(folder), "model": str(model), "save_every": 1, "micro_batch": 1}
    settings |= {"log_every": 100, "max_bad_steps": 0}  # what is saved is looked at first
    with pytest.raises(ExactcptError) as caught:
        run(made, out, **settings)
    assert caught.value.exit_code == 1
    step = len(steps_of(out)) + 1
    assert caught.value.found == f"step {step}: the loss is not finite"
    assert caught.value.where == f"rank 0, {SHARD}, window 2 (window 2 of the run's windows)"
    assert [path.name for path in complete_checkpoints(out)] == [
        f"step-{n:08d}" for n in range(1, step)[-2:]
    ]
    assert (caught.value.fix or "").startswith(
        f"the last good checkpoint is {complete_checkpoints(out)[-1]}; "
    )


def test_a_table_that_is_not_there(made, tmp_path):
    table = {"weighting": "table", "weight_table": str(tmp_path / "none.json")}
    with pytest.raises(UsageError, match="cannot read the weight table: No such file"):
        run(made, tmp_path / "run", **table)


@pytest.mark.parametrize(
    ("device", "precision", "chosen"),
    [
        ("cpu", "bf16", "cpu"),
        ("cuda", "bf16", "varlen"),
        ("cuda", "fp32", "flex"),
        ("cuda", "fp64", "exact"),
    ],
)
def test_the_fastest_attention_that_can_train(made, tmp_path, device, precision, chosen):
    assert attention_for(config(made, tmp_path, precision=precision), device) == chosen


def test_heads_are_looked_at_before_the_weights(made, tmp_path, monkeypatch):
    """Here the kernel that would refuse them is only said to be there."""
    shutil.copytree(made / "model", tmp_path / "model")
    config_json = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(config_json | {"head_dim": 20}))
    (tmp_path / "model" / "model.safetensors").write_bytes(b"nothing that can be read")
    monkeypatch.setattr(inputs, "attention_for", lambda *_: "varlen")
    with pytest.raises(UsageError, match="the model has attention heads of size 20"):
        run(made, tmp_path / "run", model=str(tmp_path / "model"))
