"""The order of a run as an endless stream: nothing is lost or seen twice, wherever it stops."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import shard_set
from torch.utils.data import DataLoader

from exactcpt.schemas.errors import UsageError
from exactcpt.training.adapters import WindowStream, flatten
from exactcpt.training.adapters import stream as module
from exactcpt.training.windows.batches import ShardDataset
from exactcpt.training.windows.order import windows_at


@pytest.fixture(scope="module")
def windows(tmp_path_factory) -> ShardDataset:
    return ShardDataset(shard_set(tmp_path_factory.mktemp("stream") / "shards"))


class Numbers:
    """In the place of a data set: a window is its number."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.split = "train"
        self.shards = type("Shards", (), {"fingerprint": f"set of {n}", "root": Path("shards")})()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        return index


def order(n: int, start: int, count: int, seed: int = 0) -> list[int]:
    return windows_at(range(start, start + count), n, seed).tolist()


def stream(n: int, **settings: Any) -> WindowStream:
    return WindowStream(Numbers(n), **{"rank": 0, "world": 1, **settings})  # type: ignore[arg-type]


def as_worker(patch: pytest.MonkeyPatch, worker: int, workers: int) -> None:
    info = SimpleNamespace(id=worker, num_workers=workers)
    patch.setattr(module, "get_worker_info", lambda: info if workers else None)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.integers(0, 3), st.integers(0, 100), st.integers(0, 90))
def test_one_process_has_the_order_of_a_run(n, seed, consumed, count):
    found = list(islice(stream(n, seed=seed, consumed=consumed), count))
    assert found == order(n, consumed, count, seed)


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_it_goes_on_at_any_sample_with_any_ranks(data):
    """Some legs, each with another number of ranks, one state handed on: nothing is lost."""
    n = data.draw(st.integers(1, 30))
    state, found = None, []
    for _ in range(data.draw(st.integers(1, 4))):
        world, count = data.draw(st.integers(1, 4)), data.draw(st.integers(0, 13))
        batch_size = data.draw(st.integers(1, 3))
        ranks = [stream(n, rank=r, world=world, batch_size=batch_size) for r in range(world)]
        for each in ranks:
            if state is not None:
                each.load_state_dict(state)
        taken = [list(islice(each, count)) for each in ranks]
        found += [window for together in zip(*taken, strict=True) for window in together]
        states = [each.state_dict() for each in ranks]
        state = json.loads(json.dumps(data.draw(st.sampled_from(states))))
    assert found == order(n, 0, len(found))


@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_workers_take_turns(data):
    """As a DataLoader asks them: one batch each. It stops and goes on after any batch."""
    n, world = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 3))
    workers, batch_size = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    batches, stop = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    found = []
    for rank in range(world):
        with pytest.MonkeyPatch.context() as patch:
            readers = []
            for worker in range(workers):
                as_worker(patch, worker, workers)
                readers.append(stream(n, rank=rank, world=world, batch_size=batch_size))
                readers[-1].iterator = iter(readers[-1])  # type: ignore[attr-defined]
            own: list[int] = []
            for number in range(batches + stop):
                worker = number % workers
                as_worker(patch, worker, workers)
                if number == stop:
                    readers = [again(patch, each, w, workers) for w, each in enumerate(readers)]
                    as_worker(patch, worker, workers)
                own += islice(readers[worker].iterator, batch_size)  # type: ignore[attr-defined]
            found.append(own)
    together = [window for turn in zip(*found, strict=True) for window in turn]
    assert together == order(n, 0, len(together))


def again(patch: pytest.MonkeyPatch, old: WindowStream, worker: int, workers: int) -> WindowStream:
    """The stream of a worker in a new process, with the state of the old one."""
    as_worker(patch, worker, workers)
    new = stream(len(old.windows), rank=old.rank, world=old.world, batch_size=old.batch_size)
    new.load_state_dict(old.state_dict())
    new.iterator = iter(new)  # type: ignore[attr-defined]
    return new


def ids(batches: Sequence[dict[str, Any]]) -> list[list[int]]:
    return [batch["input_ids"].tolist() for batch in batches]


def expected(windows: ShardDataset, start: int, batches: int, batch_size: int) -> list[list[int]]:
    numbers = order(len(windows), start, batches * batch_size)
    return ids(
        [
            flatten([windows[n] for n in numbers[first : first + batch_size]])
            for first in range(0, len(numbers), batch_size)
        ]
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_a_dataloader_yields_that_order(windows, workers):
    loader = DataLoader(
        WindowStream(windows, batch_size=3, consumed=5),
        batch_size=3,
        num_workers=workers,
        collate_fn=flatten,
    )
    assert ids(list(islice(loader, 5))) == expected(windows, 5, 5, 3)


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("stop", [0, 3])
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning")
def test_torchdatas_loader_goes_on(windows, workers, stop):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader

    def loader() -> Any:
        return stateful(
            WindowStream(windows, batch_size=2),
            batch_size=2,
            num_workers=workers,
            collate_fn=flatten,
        )

    first = loader()
    before = list(islice(first, stop))
    state = first.state_dict()
    second = loader()
    second.load_state_dict(state)
    after = list(islice(second, 4))
    assert ids(before + after) == expected(windows, 0, stop + 4, 2)


def test_a_second_iterator_goes_on():
    one = stream(20)
    assert [*islice(one, 3), *islice(one, 4)] == order(20, 0, 7)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (stream(8), "shards set of 8"),
        (stream(9, seed=1), "seed 1"),
    ],
)
def test_a_state_of_another_order_is_refused(other, said):
    with pytest.raises(UsageError, match=f"the state is of another order: {said}") as refused:
        stream(9).load_state_dict(other.state_dict())
    assert refused.value.where == "shards"


def test_a_state_of_another_split_is_refused(windows):
    validation = ShardDataset(windows.shards, split="validation")
    with pytest.raises(UsageError, match="split validation"):
        WindowStream(windows).load_state_dict(WindowStream(validation).state_dict())


def test_what_is_no_state_is_refused():
    with pytest.raises(UsageError, match="seed None"):
        stream(9).load_state_dict({})


def test_a_workers_state_is_for_that_worker(monkeypatch):
    as_worker(monkeypatch, 1, 2)
    one = stream(9)
    next(iter(one))
    as_worker(monkeypatch, 0, 0)
    other = stream(9)
    other.load_state_dict(one.state_dict())
    with pytest.raises(UsageError, match=r"of a DataLoader worker, .* worker=1, workers=2"):
        next(iter(other))


@pytest.mark.parametrize(
    "wrong",
    [{"seed": -1}, {"consumed": -1}, {"batch_size": 0}, {"rank": 2, "world": 2}, {"rank": None}],
)
def test_numbers_out_of_range(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        stream(9, **wrong)


def test_ranks_are_those_of_torchrun(monkeypatch):
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    found = list(islice(WindowStream(Numbers(9)), 3))  # type: ignore[arg-type]
    assert found == order(9, 0, 9)[2::3]


def test_ranks_are_those_of_the_process_group(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    found = list(islice(WindowStream(Numbers(9)), 3))  # type: ignore[arg-type]
    assert found == order(9, 0, 6)[1::2]
