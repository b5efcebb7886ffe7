"""The same runs on one, two and four ranks; each number of ranks is started once."""

import os
import shutil
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from collectives import Collectives
from ranks import on_ranks
from tiny import config, shard_set, shards_and_model, steps_of, stop_after, weights_of

from exactcpt.schemas.errors import ExactcptError
from exactcpt.training import train as module
from exactcpt.training.models.model import TrainModel
from exactcpt.training.run import folder, log, opening, questions
from exactcpt.training.run.log import read_log
from exactcpt.training.run.world import World
from exactcpt.training.train import train

pytestmark = pytest.mark.slow

EXACT = {"precision": "fp64", "micro_batch": 1, "steps": 4, "eval_every": 2}
SCALED = EXACT | {"weighting": "uniform"}
STOPPED = EXACT | {"steps": 3, "eval_every": 0}
NEVER, ALWAYS = 1e9, 0.0
SHARD = "train/shard-00001-of-00002.arrow"


def finish(made: Path, out: Path, settings: dict[str, Any]) -> int:
    """Trains to the end; the last step."""
    outcome = train(config(made, out, **settings), lambda _: None)
    assert outcome.finished
    return outcome.step


def finish_on_two_machines(made: Path, out: Path, settings: dict[str, Any]) -> tuple[int, list]:
    """Trains to the end on ranks that believe to be on two machines; the last step, the meshes."""
    meshes: list[tuple[int, ...]] = []
    before = World.mesh

    def mesh(self: World, over: Any) -> Any:
        found = before(self, over)
        meshes.append(tuple(found.shape))
        return found

    World.mesh = mesh  # type: ignore[method-assign]
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    try:
        return finish(made, out, settings), meshes
    finally:
        del os.environ["LOCAL_WORLD_SIZE"]
        World.mesh = before


def terminate_one(made: Path, out: Path, settings: dict[str, Any]) -> tuple[bool, int]:
    """The last rank gets SIGTERM at once; how the run ends."""
    log.LINE_SECONDS = 0.0
    if os.environ["RANK"] == "1":
        before = signal.signal
        # As soon as the run listens.
        signal.signal = lambda number, handler: (
            before(number, handler),
            number == signal.SIGTERM and callable(handler) and os.kill(os.getpid(), number),
        )[0]
        try:
            outcome = train(config(made, out, **settings), lambda _: None)
        finally:
            signal.signal = before
    else:
        outcome = train(config(made, out, **settings), lambda _: None)
    return outcome.finished, outcome.step


def count(made: Path, out: Path, seconds: float, stop_at: int = 0) -> dict[str, Any]:
    """Takes three steps of two micro-batches on two ranks.

    Args:
        made, out: as for `finish`.
        seconds: between two questions whether SIGTERM has come.
        stop_at: number of the forward pass of rank 1 in which it comes; 0 for none.

    Returns:
        For each step, how many sums over the ranks the program asks for (`sums`), and how many a
        DTensor does (`norms`, of the gradient); how many forward passes there were, and steps.
    """
    log.LINE_SECONDS = 0.0
    told: list[Counter[str]] = []
    forwards = 0
    take, forward = module._Loop._step, TrainModel.forward

    def step(*arguments: Any) -> Any:
        with Collectives() as found:
            told.append(found.counts)
            return take(*arguments)

    def counted(*arguments: Any) -> Any:
        nonlocal forwards
        forwards += 1
        if os.environ["RANK"] == "1" and forwards == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return forward(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(questions, "SECONDS", seconds)
        patch.setattr(module._Loop, "_step", step)
        patch.setattr(TrainModel, "forward", counted)
        outcome = train(config(made, out, **STOPPED), lambda _: None)
    return {
        "sums": [counts["c10d.allreduce_"] for counts in told],
        "norms": [counts["_c10d_functional.all_reduce"] for counts in told],
        "forwards": forwards,
        "step": outcome.step,
    }


def refuse(made: Path, out: Path, settings: dict[str, Any]) -> str | int:
    """The error that a rank raises, or the code with which it ends."""
    try:
        train(config(made, out, **settings), lambda _: None)
    except ExactcptError as error:
        return error.found
    except SystemExit as end:
        return int(end.code or 0)
    return "nothing"


def differ(made: Path, out: Path, settings: dict[str, Any], second: dict[str, Any]) -> str | int:
    """What a rank ends with if the second one has other settings."""
    folder.PATIENCE = 1.0
    own = settings | (second if os.environ["RANK"] == "1" else {})
    # As on two machines: each has the number 0 there.
    os.environ["LOCAL_RANK"] = "0"
    return refuse(made, Path(own.pop("out", out)), own)


def fail_alone(made: Path, out: Path, settings: dict[str, Any]) -> str | int:
    """What a rank ends with if the second one meets an error that nobody foresaw."""
    before = opening.open_inputs
    if os.environ["RANK"] == "1":
        opening.open_inputs = lambda *_: 1 // 0
    try:
        return refuse(made, out, settings)
    except ZeroDivisionError:
        return "its own error"
    finally:
        opening.open_inputs = before  # the process goes on with the next call


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Shards, a model, and runs that were stopped on one rank after two of four steps."""
    made = shards_and_model(tmp_path_factory.mktemp("ranks"))
    altered = shard_set(made / "altered")
    data = bytearray((altered / SHARD).read_bytes())
    data[len(data) // 2] ^= 1
    (altered / SHARD).write_bytes(data)
    finish(made, made / "one", EXACT)
    finish(made, made / "scaled", SCALED | {"grad_norm_from": str(made / "one")})
    shard_set(made / "others", times=2)
    shutil.copytree(made / "model", made / "other-model")
    config_json = made / "other-model" / "config.json"
    config_json.write_text(config_json.read_text() + "\n")
    before, log.LINE_SECONDS = log.LINE_SECONDS, 0.0
    train(config(made, made / "stopped-2", **EXACT), stop_after(2))
    log.LINE_SECONDS = before
    shutil.copytree(made / "stopped-2", made / "stopped-4")
    shutil.copytree(made / "stopped-2", made / "stopped-2x2")
    return made


@pytest.fixture(scope="module")
def two(made) -> list[list[Any]]:
    altered = EXACT | {"shards": str(made / "altered")}
    return on_ranks(
        2,
        [
            (finish, (made, made / "whole-2", EXACT)),
            (finish, (made, made / "stopped-2", EXACT)),
            (terminate_one, (made, made / "terminated", EXACT | {"steps": 500, "eval_every": 0})),
            (refuse, (made, made / "refused", altered)),
            (refuse, (made, made / "refused", EXACT | {"global_batch": 3})),
            (terminate_one, (made, made / "cut", EXACT)),
            (differ, (made, made / "here", EXACT, {"out": str(made / "there")})),
            (differ, (made, made / "new", EXACT, {"learning_rate": 0.5})),
            (differ, (made, made / "new", EXACT, {"shards": str(made / "others")})),
            (differ, (made, made / "new", EXACT, {"model": str(made / "other-model")})),
            (fail_alone, (made, made / "new", EXACT)),
            (finish, (made, made / "scaled-2", SCALED | {"grad_norm_from": str(made / "one")})),
            (differ, (made, made / "new", EXACT, {"rope_theta": 5e5})),
            (differ, (made, made / "new", EXACT, {"steps": None})),
            (count, (made, made / "seldom", NEVER)),
            (count, (made, made / "often", ALWAYS)),
            (count, (made, made / "late", NEVER, 3)),
            (count, (made, made / "soon", ALWAYS, 3)),
            (finish, (made, made / "late", STOPPED)),
            (finish, (made, made / "soon", STOPPED)),
        ],
    )


@pytest.fixture(scope="module")
def four(made) -> list[list[Any]]:
    return on_ranks(
        4,
        [
            (finish, (made, made / "whole-4", EXACT)),
            (finish, (made, made / "stopped-4", EXACT)),
            (finish_on_two_machines, (made, made / "whole-2x2", EXACT | {"reduce_once": True})),
            (finish_on_two_machines, (made, made / "stopped-2x2", EXACT)),
            (finish_on_two_machines, (made, made / "whole-all", EXACT | {"shard_over": "all"})),
        ],
    )


def assert_close(made: Path, name: str, to: str = "one") -> None:
    """Equal to the run on one rank, but for the order of additions."""
    one, other = steps_of(made / to), steps_of(made / name)
    assert [r["digest"] for r in other] == [r["digest"] for r in one]
    for record, expected in zip(other, one, strict=True):
        for figure in ("loss", "unweighted_loss", "gradient_norm"):
            assert record[figure] == pytest.approx(expected[figure], rel=1e-10), figure
        assert record["bucket_targets"] == expected["bucket_targets"]
        assert record["tokens"] == expected["tokens"]
    evals, expected_evals = (
        [r for r in read_log(made / run) if r["kind"] == "eval"] for run in (name, to)
    )
    assert [r["targets"] for r in evals] == [r["targets"] for r in expected_evals]
    for record, expected in zip(evals, expected_evals, strict=True):
        assert record["loss"] == pytest.approx(expected["loss"], rel=1e-10)
    weights, expected_weights = weights_of(made / name), weights_of(made / to)
    assert weights.keys() == expected_weights.keys()
    for key, tensor in expected_weights.items():
        if torch.is_tensor(tensor):
            assert torch.allclose(weights[key], tensor, rtol=1e-10, atol=1e-12), key


def test_two_ranks(made, two):
    assert two[0] == [4, 4]
    assert_close(made, "whole-2")


def test_four_ranks(made, four):
    assert four[0] == [4] * 4
    assert_close(made, "whole-4")


def test_gone_on_with_more_ranks(made, two, four):
    assert (two[1], four[1]) == ([4, 4], [4] * 4)
    assert_close(made, "stopped-2")
    assert_close(made, "stopped-4")


@pytest.mark.parametrize(
    ("call", "name", "mesh"),
    [(2, "whole-2x2", (2, 2)), (3, "stopped-2x2", (2, 2)), (4, "whole-all", (4,))],
)
def test_two_machines(made, four, call, name, mesh):
    """Each has all weights, sharded over its ranks, unless they are sharded over all ranks."""
    assert four[call] == [(4, [mesh])] * 4
    assert_close(made, name)


def test_two_ranks_scale_their_gradients_together(made, two):
    assert two[11] == [4, 4]
    assert_close(made, "scaled-2", to="scaled")
    norms = [record["gradient_norm"] for record in steps_of(made / "one")]
    assert [record["scaled_to"] for record in steps_of(made / "scaled-2")] == norms


def test_the_ranks_agree_to_stop(made, two):
    """One of them alone got the signal."""
    (finished, step), other = two[2]
    assert (finished, step) == other
    assert not finished
    assert read_log(made / "terminated")[-1] == {"kind": "end", "step": step, "status": "stopped"}


def test_what_ranks_tell_each_other_in_a_step(two):
    """Beside gradients and weights: one sum, and the norm. In the first step they ask once more."""
    seldom = {"sums": [2, 1, 1], "norms": [1, 1, 1], "forwards": 6, "step": 3}
    assert two[14] == [seldom] * 2
    assert two[15] == [seldom | {"sums": [2, 2, 2]}] * 2


def test_sigterm_in_the_middle_of_a_step(made, two):
    """It comes to one rank, in the second of three steps: which is ended, or else given up."""
    ended = {"sums": [2, 1, 1], "norms": [1, 1, 0], "forwards": 4, "step": 2}
    assert two[16] == [ended] * 2
    given_up = {"sums": [2, 2], "norms": [1, 0], "forwards": 3, "step": 1}
    assert two[17] == [given_up] * 2
    assert (two[18], two[19]) == ([3, 3], [3, 3])
    for name in ("late", "soon"):
        assert_close(made, name, to="seldom")


def test_the_ranks_agree_to_give_an_evaluation_up(made, two):
    assert two[5] == [(False, 0), (False, 0)]
    assert [r["kind"] for r in read_log(made / "cut")] == ["start", "end"]


def test_what_one_rank_finds_ends_all(two):
    first, second = two[3]
    assert first.startswith("the file was altered: xxh3-128")
    assert second == 1


def test_a_global_batch_that_ranks_cannot_share(two):
    assert two[4] == ["global_batch is 3, with micro_batch 1 on 2 ranks", 2]


def test_machines_that_do_not_share_the_folder(made, two):
    first, second = two[6]
    assert first.startswith("rank 1 does not see the run's folder of rank 0: its machine, ")
    assert second == 2
    assert not (made / "here").exists()


@pytest.mark.parametrize(
    ("call", "name"),
    [(7, "learning_rate"), (8, "the shards"), (9, "the model"), (12, "rope_theta"), (13, "steps")],
)
def test_ranks_that_differ(made, two, call, name):
    first, second = two[call]
    assert first.startswith(f"the ranks differ in {name}: ")
    assert " on rank 0, " in first
    assert first.endswith(" on rank 1")
    assert second == 2
    assert not (made / "new").exists()


def test_a_rank_that_fails_alone_ends_all(two):
    assert two[10] == [
        "rank 1 failed: ZeroDivisionError: integer division or modulo by zero", "its own error"
    ]  # fmt: skip
