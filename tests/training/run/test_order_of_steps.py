"""The windows of a step, found from the settings of its run, are those that training takes."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.training.run.log import LOG, RunLog, write_run
from exactcpt.training.run.order import RunOrder, read_order
from exactcpt.training.windows.loading import MicroBatchOrder


@given(
    n=st.integers(1, 50),
    seed=st.integers(0, 3),
    stretches=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=4),
    ranks=st.sampled_from((1, 2, 4)),
)
def test_they_are_those_of_the_loader(n, seed, stretches, ranks):
    """Stretches of (steps, size): each goes on where the one before it stopped, on some ranks."""
    batches, expected, consumed = [], [], 0
    for steps, size in stretches:
        batches.append((len(expected), 4 * size))
        of_ranks = [
            list(
                MicroBatchOrder(
                    n=n,
                    seed=seed,
                    consumed=consumed,
                    steps=steps,
                    global_batch=4 * size,
                    micro_batch=1,
                    rank=rank,
                    world=ranks,
                )
            )
            for rank in range(ranks)
        ]
        each = 4 * size // ranks
        for step in range(steps):
            mine = [rank[step * each : (step + 1) * each] for rank in of_ranks]
            expected.append([w for micro_batches in mine for batch in micro_batches for w in batch])
        consumed += steps * 4 * size
    order = RunOrder(
        shards="s", fingerprint="f", seed=seed, batches=batches, steps=len(expected), taken=0
    )
    assert [order.windows_of(i, n) for i in range(1, len(expected) + 1)] == expected
    for step in (0, len(expected) + 1):
        with pytest.raises(UsageError, match=f"the run has no step {step}"):
            order.windows_of(step, n)


RECORD = {
    "settings": {"shards": "s"},
    "identity": {"shards": "f", "seed": 3},
    "earlier": None,
    "model_folder": "m",
    "longest_window": 8,
    "buckets": [],
}


def begun(folder, *starts: tuple[int, int]) -> None:
    write_run(folder, RECORD)
    log = RunLog(folder, step=0)
    for step, size in starts:
        log.write("start", {"step": step, "steps": 9, "settings": {"global_batch": size}})
    log.write("step", {"step": 4})
    log.close()


def test_a_start_that_went_back_counts(tmp_path):
    begun(tmp_path, (0, 8), (5, 4), (3, 2))
    assert read_order(tmp_path) == RunOrder(
        shards="s", fingerprint="f", seed=3, batches=[(0, 8), (3, 2)], steps=9, taken=4
    )


def test_a_start_that_was_written_again(tmp_path):
    """It lacks what the run does not need."""
    begun(tmp_path, (0, 8), (2, 4))
    first, *others = (tmp_path / LOG).read_text().splitlines()
    lost = {name: value for name, value in json.loads(first).items() if name != "steps"}
    (tmp_path / LOG).write_text("\n".join([json.dumps(lost), *others]) + "\n")
    assert read_order(tmp_path).steps == 9


def test_a_run_that_has_not_begun(tmp_path):
    begun(tmp_path)
    with pytest.raises(UsageError, match="has not begun"):
        read_order(tmp_path)


@pytest.mark.parametrize("lacks", ["steps", "settings", "global_batch"])
def test_a_damaged_start(tmp_path, lacks):
    begun(tmp_path, (0, 8))
    start, *others = (tmp_path / LOG).read_text().splitlines()
    damaged = json.loads(start)
    (damaged["settings"] if lacks == "global_batch" else damaged).pop(lacks)
    (tmp_path / LOG).write_text("\n".join([json.dumps(damaged), *others]) + "\n")
    with pytest.raises(FormatError, match=f"a start in the log is damaged: it has no {lacks}"):
        read_order(tmp_path)


@pytest.mark.parametrize("part", ["settings", "identity"])
def test_a_damaged_record(tmp_path, part):
    begun(tmp_path, (0, 8))
    write_run(tmp_path, RECORD | {part: {}})
    with pytest.raises(FormatError, match=r"run\.json is damaged: it has no shards"):
        read_order(tmp_path)
