import pickle
import shutil
from collections.abc import Sequence
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash
from handmade import Corpus, edit_manifest, edit_shard, pack, read_manifest, shard_columns
from hypothesis import given
from hypothesis import strategies as st
from ranks import processes
from tiny import corpus, shard_set

from exactcpt.schemas.errors import FormatError, UsageError
from exactcpt.training.models.labels import plain
from exactcpt.training.models.loss import IGNORE
from exactcpt.training.windows.batches import ShardDataset, collate
from exactcpt.training.windows.expansion import Expander, ModelInputs
from exactcpt.training.windows.loading import MicroBatches, MicroBatchOrder, loaded_batches
from exactcpt.training.windows.micro_batch import Batch
from exactcpt.training.windows.order import windows_at
from exactcpt.training.windows.weighting import make_weighting

SHARD = "train/shard-00000-of-00002.arrow"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return shard_set(tmp_path_factory.mktemp("data") / "shards")


@pytest.fixture(scope="module")
def dataset(folder) -> ShardDataset:
    return ShardDataset(folder)


def expanded(dataset: ShardDataset, numbers: Sequence[int]) -> ModelInputs:
    return Expander(dataset.weighting, torch.device("cpu"))(dataset.batch(numbers))


def slow_window(packed: Corpus, folder: Path, number: int, split: str) -> dict[str, list]:
    """A window, position by position."""
    columns = shard_columns(packed, [pack(packed, split)[number]])
    ids, codes = columns["input_ids"][0], columns["codes"][0]
    table = [row["weight"] for row in read_manifest(folder)["weights"]["table"]]
    position_ids = [i for length in columns["seq_lengths"][0] for i in range(length)]
    return {
        "input_ids": ids,
        "labels": [i if code else -100 for i, code in zip(ids, codes, strict=True)],
        "loss_weights": [
            float(np.float32(table[c - 1] if split == "train" else 1)) if c else 0.0 for c in codes
        ],
        "position_ids": position_ids,
        "seq_lengths": columns["seq_lengths"][0],
    }


@pytest.mark.parametrize("split", ["train", "validation"])
def test_windows(folder, split):
    windows = ShardDataset(folder, split=split)
    assert len(windows) == len(pack(corpus(), split))
    for number in range(len(windows)):
        found = {name: plain(values).tolist() for name, values in windows[number].items()}
        assert found == slow_window(corpus(), folder, number, split)


def test_types(dataset):
    assert {name: tensor.dtype for name, tensor in dataset[0].items()} == {
        "input_ids": torch.int32,
        "labels": torch.int64,
        "loss_weights": torch.float32,
        "position_ids": torch.int32,
        "seq_lengths": torch.int32,
    }


def test_the_first_position_is_never_a_target(dataset):
    for number in range(len(dataset)):
        assert dataset[number]["labels"][0] == IGNORE
        assert dataset[number]["loss_weights"][0] == 0


def test_several_record_batches(tmp_path, monkeypatch):
    """Windows of 2^20 tokens would be needed for that; a smaller batch does as well."""
    monkeypatch.setattr("exactcpt.schemas.shard.TOKENS_PER_BATCH", 128)
    folder = shard_set(tmp_path / "shards")
    windows = ShardDataset(folder)
    for number in range(len(windows)):
        expected = slow_window(corpus(), folder, number, "train")
        assert windows[number]["input_ids"].tolist() == expected["input_ids"]
        assert windows[number]["seq_lengths"].tolist() == expected["seq_lengths"]


def test_a_micro_batch(dataset):
    batch, inputs = dataset.batch([3, 0]), expanded(dataset, [3, 0])
    samples = [dataset[3], dataset[0]]
    for name in ("input_ids", "labels", "loss_weights", "position_ids"):
        assert torch.equal(getattr(inputs, name), torch.stack([s[name] for s in samples])), name
    lengths = torch.cat([s["seq_lengths"] for s in samples])
    assert batch.cu_seqlens.tolist() == [0, *lengths.cumsum(0).tolist()]
    assert batch.longest == lengths.max()
    assert batch.windows == (3, 0)
    assert batch.targets == int((inputs.labels != IGNORE).sum())
    assert batch.sum_w == inputs.loss_weights.double().sum().item()


def test_drawn_weights_are_of_a_window_wherever_it_is(dataset):
    weighting = make_weighting("shuffled", dataset.shards, seed=3)
    drawn = ShardDataset(dataset.shards, weighting=weighting)
    batch = drawn.batch([3, 0])
    for row, number in enumerate((3, 0)):
        assert torch.equal(batch.codes[row], drawn.batch([number]).codes[0])
        own = weighting.codes(dataset.batch([number]).codes[0].numpy(), number)
        assert batch.codes[row].tolist() == own.tolist()
    assert not torch.equal(batch.codes, dataset.batch([3, 0]).codes)


def test_five_bytes_of_a_token_are_sent(dataset):
    sent = {name: t for name, t in vars(dataset.batch([3, 0])).items() if torch.is_tensor(t)}
    assert {name: (tensor.dtype, tensor.ndim) for name, tensor in sent.items()} == {
        "input_ids": (torch.int32, 2),
        "codes": (torch.uint8, 2),
        "cu_seqlens": (torch.int32, 1),
    }


def test_what_a_micro_batch_says_of_its_tokens(folder, dataset):
    packed = pack(corpus(), "train")
    last = len(packed) - 1
    assert packed[last][-1][0] == -1  # padding
    batch = dataset.batch([0, last])
    real = [length for n in (0, last) for doc, _, length in packed[n] if doc != -1]
    assert batch.tokens == sum(real)
    assert batch.visible == sum(i + 1 for length in real for i in range(length))


def test_digests_are_of_number_and_tokens(dataset):
    batch = dataset.batch([4, 1])
    expected = [
        xxhash.xxh3_64_intdigest(np.array(dataset[n]["input_ids"].tolist(), "<i4"), seed=n)
        for n in (4, 1)
    ]
    assert batch.digests == tuple(expected)


def test_a_batch_without_targets(dataset):
    ignored = dataset.batch([1]).ignored()
    inputs = Expander(dataset.weighting, torch.device("cpu"))(ignored)
    assert (inputs.labels == IGNORE).all()
    assert (inputs.loss_weights == 0).all()
    assert (ignored.targets, ignored.sum_w) == (0, 0.0)
    assert torch.equal(inputs.input_ids, dataset.batch([1]).input_ids)
    assert torch.equal(inputs.position_ids, expanded(dataset, [1]).position_ids)


def test_collate(dataset):
    batch = collate([dataset[3], dataset[0]])
    own = expanded(dataset, [3, 0])
    assert batch.pop("max_seqlen") == 64
    for name, tensor in batch.items():
        assert torch.equal(tensor, getattr(own, name)), name
        assert tensor.dtype == getattr(own, name).dtype, name


def test_windows_are_named(dataset):
    assert dataset.where(0) == "train/shard-00000-of-00002.arrow, window 0"
    assert dataset.where(6) == "train/shard-00001-of-00002.arrow, window 1"


@pytest.mark.parametrize("index", [-1, 10_000])
def test_no_such_window(dataset, index):
    with pytest.raises(IndexError):
        dataset[index]


def test_a_copy_maps_its_own_files(dataset):
    assert len(dataset[0]["labels"]) == 64
    copy = pickle.loads(pickle.dumps(dataset))
    assert copy[7]["input_ids"].equal(dataset[7]["input_ids"])
    assert len(pickle.dumps(dataset)) < 50_000


def test_no_file_stays_open(folder):
    windows = ShardDataset(folder)
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept = [windows[i] for i in range(len(windows))]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert kept


def test_a_split_without_windows(tmp_path):
    folder = shard_set(tmp_path / "shards")
    windows = ShardDataset(folder, split="validation")
    windows.shards.manifest["shards"]["validation"] = []
    with pytest.raises(UsageError, match="the shard set has no validation windows"):
        ShardDataset(windows.shards, split="validation")


def test_weights_that_are_not_the_manifests(tmp_path):
    folder = shard_set(tmp_path / "shards")
    edit_shard(folder, SHARD, lambda columns: columns["dictionary"].__setitem__(2, 9.0))
    with pytest.raises(FormatError, match=r"it has the weights .* but the manifest says"):
        ShardDataset(folder)[0]


def test_record_batches_of_another_size(tmp_path):
    folder = shard_set(tmp_path / "shards")
    edit_shard(folder, SHARD, lambda columns: None, rows_per_batch=2)
    with pytest.raises(FormatError, match="its record batches have"):
        ShardDataset(folder)[0]


# Order over ranks


def taken(order: list[MicroBatchOrder]) -> list[int]:
    """The windows of some steps in global order, from what each rank takes."""
    ranks = [list(o) for o in order]
    per_step = order[0].global_batch // (order[0].world * order[0].micro_batch)
    found: list[int] = []
    for first in range(0, len(ranks[0]), per_step):
        for rank in ranks:
            found += [window for batch in rank[first : first + per_step] for window in batch]
    return found


@st.composite
def schedules(draw: st.DrawFn):
    """Stretches of a run: steps, world, micro-batch, global batch."""
    stretches = []
    for _ in range(draw(st.integers(1, 3))):
        world, micro = draw(st.sampled_from([1, 2, 4])), draw(st.integers(1, 3))
        size = world * micro * draw(st.integers(1, 3))
        stretches.append((draw(st.integers(0, 5)), world, micro, size))
    return stretches


@pytest.mark.slow
@given(n=st.integers(1, 40), seed=st.integers(0, 9), stretches=schedules())
def test_no_window_is_skipped_or_seen_twice(n, seed, stretches):
    """The stretches together are one order, whatever the ranks and batches of each."""
    found: list[int] = []
    for steps, world, micro, size in stretches:
        found += taken(
            [
                MicroBatchOrder(
                    n=n, seed=seed, consumed=len(found), steps=steps, global_batch=size,
                    micro_batch=micro, rank=rank, world=world,
                )
                for rank in range(world)
            ]
        )  # fmt: skip
    assert found == windows_at(np.arange(len(found)), n, seed).tolist()
    for epoch in range(len(found) // n):
        assert sorted(found[epoch * n : (epoch + 1) * n]) == list(range(n))


def test_more_steps_than_a_block():
    order = MicroBatchOrder(
        n=77, seed=1, consumed=5, steps=700, global_batch=4, micro_batch=2, rank=1, world=2
    )
    batches = list(order)
    assert len(batches) == len(order) == 700
    expected = windows_at(5 + np.arange(2800), 77, 1).reshape(700, 2, 2)[:, 1].tolist()
    assert batches == expected


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_loader_workers_change_nothing(dataset, workers):
    order = MicroBatchOrder(
        n=len(dataset), seed=2, consumed=3, steps=9, global_batch=2, micro_batch=2
    )
    loader = torch.utils.data.DataLoader(
        MicroBatches(dataset),
        batch_size=None,
        sampler=order,
        num_workers=workers,
        multiprocessing_context=processes() if workers else None,
    )
    for batch, indices in zip(loader, order, strict=True):
        expected = dataset.batch(indices)
        assert batch.windows == expected.windows
        assert batch.digests == expected.digests
        assert torch.equal(batch.codes, expected.codes)


@pytest.mark.parametrize("pin_memory", [True, False])
def test_batches_are_pinned_if_asked_for(dataset, monkeypatch, pin_memory):
    """Only the driver of a GPU can do it; here it is seen that it is asked to."""
    pinned: list[Batch] = []
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: pinned.append(batch) or batch)
    order = MicroBatchOrder(
        n=len(dataset), seed=0, consumed=0, steps=3, global_batch=2, micro_batch=2
    )
    with loaded_batches(dataset, order, workers=0, pin_memory=pin_memory) as batches:
        found = list(batches)
    assert [batch.windows for batch in found] == [tuple(indices) for indices in order]
    assert pinned == (found if pin_memory else [])


# A set that is replaced


def replaced(folder: Path, other: Path) -> None:
    """As a job does it: the manifest goes first and comes last."""
    (folder / "manifest.json").unlink()
    for path in sorted(other.glob("*/*")):
        shutil.copy(path, folder / path.relative_to(other))
    shutil.copy(other / "manifest.json", folder)


def test_a_set_that_is_replaced_under_a_run(tmp_path):
    folder = shard_set(tmp_path / "shards")
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    edit_manifest(other, lambda m: m["settings"].update(seed=5))
    windows = ShardDataset(folder)
    windows.shards.check_contents()
    first = windows.batch([0]).digests
    replaced(folder, other)
    assert windows.batch([0]).digests == first  # it stays mapped
    with pytest.raises(FormatError, match="the shard set was replaced while it was read"):
        windows.batch([len(windows) - 1])


def test_a_set_that_is_removed_under_a_run(tmp_path):
    windows = ShardDataset(shard_set(tmp_path / "shards"))
    shutil.rmtree(tmp_path / "shards")
    with pytest.raises(FormatError, match="the shard set was replaced while it was read"):
        windows.batch([0])


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_is_the_same_from_another_process(tmp_path, workers):
    folder = shard_set(tmp_path / "shards")
    windows = ShardDataset(folder)
    (folder / "manifest.json").unlink()
    order = MicroBatchOrder(
        n=len(windows), seed=0, consumed=0, steps=2, global_batch=2, micro_batch=2
    )
    before = {*active_children()}
    with (
        pytest.raises(FormatError) as caught,
        loaded_batches(windows, order, workers=workers, pin_memory=False) as batches,
    ):
        next(batches)
    # A worker that still runs would never end: it ignores SIGTERM.
    assert {*active_children()} <= before
    assert str(caught.value) == (
        "the shard set was replaced while it was read\n"
        f"  where:    {folder / 'manifest.json'}\n"
        "  expected: the file that was there when the run started\n"
        "  fix:      bring it back, or start another run with the new set"
    )


@pytest.mark.parametrize("name", ["manifest.json", SHARD])
def test_a_file_that_is_emptied_under_a_run(tmp_path, name):
    folder = shard_set(tmp_path / "shards")
    windows = ShardDataset(folder)
    (folder / name).write_bytes(b"")
    with pytest.raises(FormatError, match="the shard set was replaced while it was read"):
        windows.batch([0])


def test_a_shard_that_is_replaced_after_it_was_checked(tmp_path):
    """By another one of the same size, while the manifest stays."""
    folder = shard_set(tmp_path / "shards")
    windows = ShardDataset(folder)
    windows.shards.check_contents()
    data = bytearray((folder / SHARD).read_bytes())
    data[-400:-300] = bytes(100)
    (folder / "new").write_bytes(data)
    (folder / "new").rename(folder / SHARD)
    with pytest.raises(FormatError, match="the shard set was replaced while it was read"):
        windows.batch([0])


def test_a_set_that_is_copied_again_under_a_run(tmp_path):
    folder = shard_set(tmp_path / "shards")
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    windows = ShardDataset(folder)
    replaced(folder, other)
    assert windows.batch(range(len(windows))).targets


# Windows that are wrong


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda c: c["input_ids"][2].__setitem__(7, 5000), "the window has the id 5000 at pos"),
        (lambda c: c["input_ids"][2].__setitem__(7, -1), "the window has the id -1 at position 7"),
        (lambda c: c["codes"][2].__setitem__(7, 4), "the window has the code 4 at position 7"),
        (lambda c: c["codes"][2].__setitem__(7, 250), "the window has the code 250 at position 7"),
        (lambda c: c["seq_lengths"].__setitem__(2, [64]), "different numbers of entries"),
    ],
)
def test_a_window_that_is_wrong(tmp_path, edit, says):
    folder = shard_set(tmp_path / "shards")
    edit_shard(folder, SHARD, edit)
    windows = ShardDataset(folder)
    with pytest.raises(FormatError, match=says) as caught:
        windows.batch([2])
    assert str(folder / SHARD) in (caught.value.where or "")
