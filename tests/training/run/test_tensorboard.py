"""TensorBoard's files of real runs, read back by TensorBoard."""

import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import config, model_folder, shard_set

from exactcpt.training.run.checkpoint_files import complete_checkpoints
from exactcpt.training.run.log import read_log
from exactcpt.training.train import train

STEPS = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run whose last two steps were taken twice: its newest checkpoint was lost meanwhile."""
    made = tmp_path_factory.mktemp("tensorboard")
    shard_set(made / "shards")
    model_folder(made / "model")
    out = made / "run"
    chosen = config(made, out, steps=STEPS, save_every=2, eval_every=2, tensorboard=True)
    assert train(chosen, lambda _: None).finished
    shutil.rmtree(complete_checkpoints(out)[-1])
    shutil.copy(out / "log.jsonl", made / "before.jsonl")
    outcome = train(chosen, lambda _: None)
    assert (outcome.finished, outcome.step) == (True, STEPS)
    return out


@pytest.fixture(scope="module")
def board(run) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard")).Reload()


def shown(board: EventAccumulator, tag: str) -> dict[int, float]:
    events = board.Scalars(tag)
    assert len({event.step for event in events}) == len(events), "a step is shown twice"
    return {event.step: event.value for event in events}


@pytest.mark.slow
def test_every_step_is_shown_once(run, board):
    steps = {r["step"]: r for r in read_log(run) if r["kind"] == "step"}
    assert list(steps) == [1, 2, 3, 4]
    names = ("loss", "unweighted_loss", "targets", "sum_w", "gradient_norm", "learning_rate")
    for name in names:
        expected = {step: pytest.approx(record[name]) for step, record in steps.items()}
        assert shown(board, f"step/{name}") == expected
    assert len(list((run / "tensorboard").iterdir())) == 2


def test_the_loss_of_each_bucket(run, board):
    steps = [record for record in read_log(run) if record["kind"] == "step"]
    for bucket in range(len(steps[0]["bucket_loss"])):
        expected = {
            record["step"]: pytest.approx(record["bucket_loss"][bucket])
            for record in steps
            if record["bucket_loss"][bucket] is not None
        }
        assert shown(board, f"step/bucket_loss/{bucket}") == expected


def test_evaluations_by_the_name_of_their_set(run, board):
    evaluations = {r["step"]: r["loss"] for r in read_log(run) if r["kind"] == "eval"}
    assert list(evaluations) == [0, 2, 4]
    found = shown(board, "eval/validation/loss")
    assert found == {step: pytest.approx(loss) for step, loss in evaluations.items()}
