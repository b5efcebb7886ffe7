"""A checkpoint is whole or absent, whenever the process ends."""

import errno
import json
import os
import resource
import shutil
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from checkpoints import meta_of, model_and_optimizer, same, take_step
from ranks import in_a_process

from exactcpt.schemas.errors import ExactcptError, FormatError
from exactcpt.training.run import checkpoint
from exactcpt.training.run.checkpoint import CheckpointManager, load_weights
from exactcpt.training.run.checkpoint_files import (
    complete_checkpoints,
    newest_checkpoint,
    read_meta,
)
from exactcpt.training.run.checkpoint_writer import CheckpointWriter


@pytest.fixture
def group(tmp_path):
    meeting = f"file://{tmp_path / 'meeting'}"
    dist.init_process_group("gloo", init_method=meeting, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def names(run: Path):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def test_what_is_saved_is_the_moment_of_the_call(tmp_path, group):
    """Training continues while the files are written."""
    model, optimizer = model_and_optimizer()
    take_step(model, optimizer)
    checkpoints = CheckpointManager(tmp_path, keep=1)
    then, _ = model_and_optimizer()
    then.load_state_dict(model.state_dict())
    checkpoints.save(1, model, optimizer, meta_of(1))
    take_step(model, optimizer)
    assert not same(model, then)
    checkpoints.wait()
    path = checkpoints.latest()
    assert path == tmp_path / "checkpoints" / "step-00000001"
    assert read_meta(path) == meta_of(1)

    loaded, loaded_optimizer = model_and_optimizer(seed=1)
    checkpoints.load(path, loaded, loaded_optimizer)
    assert same(loaded, then)
    take_step(loaded, loaded_optimizer)
    assert same(loaded, model)

    weights_only, fresh = model_and_optimizer(seed=1)
    checkpoints.load(path, weights_only, None)
    assert same(weights_only, then)
    assert not fresh.state
    load_weights(path, weights := model_and_optimizer(seed=2)[0])
    assert same(weights, then)


def test_a_step_right_after_the_call_is_not_in_it(tmp_path, group, monkeypatch):
    """The files are written later than the next step is taken, and have nothing of it."""
    model, optimizer = model_and_optimizer()
    take_step(model, optimizer)
    then = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moments = [state["exp_avg"].clone() for state in optimizer.state.values()]
    stepped, write = threading.Event(), CheckpointWriter.write_data

    def late(*arguments):
        assert stepped.wait(60)
        return write(*arguments)

    monkeypatch.setattr(CheckpointWriter, "write_data", late)
    checkpoints = CheckpointManager(tmp_path, keep=1)
    checkpoints.save(1, model, optimizer, {})
    take_step(model, optimizer)
    stepped.set()
    checkpoints.wait()
    loaded, loaded_optimizer = model_and_optimizer(seed=1)
    checkpoints.load(checkpoints.latest(), loaded, loaded_optimizer)
    for name, tensor in loaded.state_dict().items():
        assert torch.equal(tensor, then[name]), name
        assert not torch.equal(tensor, model.state_dict()[name]), name
    found = [state["exp_avg"] for state in loaded_optimizer.state.values()]
    assert all(torch.equal(*pair) for pair in zip(found, moments, strict=True))


def test_the_newest_are_kept_and_older_ones_go(tmp_path, group):
    model, optimizer = model_and_optimizer()
    checkpoints = CheckpointManager(tmp_path, keep=2)
    assert checkpoints.latest() is None
    for step in (5, 10, 100):
        checkpoints.save(step, model, optimizer, meta_of(step))
    checkpoints.wait()
    assert names(tmp_path) == ["step-00000010", "step-00000100"]
    assert checkpoints.latest() == tmp_path / "checkpoints" / "step-00000100"
    checkpoints.save(100, model, optimizer, meta_of(0), wait=True)
    assert read_meta(tmp_path / "checkpoints" / "step-00000100") == meta_of(100)
    with pytest.raises(ValueError, match="keep is 0"):
        CheckpointManager(tmp_path, keep=0)


def no_space(*_):
    raise OSError(28, "No space left on device")


def test_what_a_killed_run_has_left_goes(tmp_path, group):
    """It was killed while it removed the checkpoints before its last one."""
    model, optimizer = model_and_optimizer()
    take_step(model, optimizer)
    before = CheckpointManager(tmp_path, keep=2)
    for step in (1, 2):
        before.save(step, model, optimizer, meta_of(step), wait=True)
    (tmp_path / "checkpoints" / "step-00000000.partial").mkdir()
    CheckpointManager(tmp_path, keep=1).tidy()
    assert names(tmp_path) == ["step-00000002"]


@pytest.mark.parametrize("wait", [True, False])
def test_older_ones_stay_until_the_new_one_has_its_name(tmp_path, group, monkeypatch, wait):
    model, optimizer = model_and_optimizer()
    checkpoints = CheckpointManager(tmp_path, keep=1)
    checkpoints.save(1, model, optimizer, {}, wait=True)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", no_space)
        with pytest.raises(ExactcptError, match=r"on rank 0: .*No space left") as error:
            checkpoints.save(2, model, optimizer, {}, wait=wait)
            checkpoints.wait()
    assert error.value.where == str(tmp_path / "checkpoints")
    assert complete_checkpoints(tmp_path) == [tmp_path / "checkpoints" / "step-00000001"]
    checkpoints.save(3, model, optimizer, {}, wait=True)
    assert names(tmp_path) == ["step-00000003"]  # what was left of the other has gone too


def test_the_next_one_makes_up_for_one_that_could_not_be_written(tmp_path, group, monkeypatch):
    model, optimizer = model_and_optimizer()
    checkpoints = CheckpointManager(tmp_path, keep=1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", no_space)
        assert checkpoints.save(1, model, optimizer, {}) is None
        checkpoints.close()
    failure = checkpoints.save(2, model, optimizer, {}, wait=True)
    assert failure is not None
    assert "No space left" in failure.found
    assert names(tmp_path) == ["step-00000002"]
    assert checkpoints.save(3, model, optimizer, {}, wait=True) is None


def test_two_in_a_row_that_could_not_be_written(tmp_path, group, monkeypatch):
    model, optimizer = model_and_optimizer()
    checkpoints = CheckpointManager(tmp_path, keep=1)
    monkeypatch.setattr(Path, "rename", no_space)
    assert checkpoints.save(1, model, optimizer, {}) is None
    assert checkpoints.save(2, model, optimizer, {}) is not None
    with pytest.raises(ExactcptError, match="No space left"):
        checkpoints.save(3, model, optimizer, {})


@pytest.mark.parametrize(
    ("number", "fix"),
    [
        (errno.ENOSPC, "earlier checkpoints are intact; free some space or name another folder"),
        (errno.EDQUOT, "earlier checkpoints are intact; free some space or name another folder"),
        (errno.EACCES, "earlier checkpoints are intact"),
        (errno.EIO, "earlier checkpoints are intact"),
    ],
)
@pytest.mark.parametrize("place", ["begin", "write", "name"])
def test_what_a_person_can_do(tmp_path, group, monkeypatch, number, fix, place):
    """Room is asked for where there is none, and nowhere else."""

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    model, optimizer = model_and_optimizer()
    checkpoints = CheckpointManager(tmp_path, keep=1)
    checkpoints.save(1, model, optimizer, meta_of(1), wait=True)
    owner, name = {
        "begin": (Path, "mkdir"),
        "write": (CheckpointWriter, "write_data"),
        "name": (Path, "rename"),
    }[place]
    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(ExactcptError, match=os.strerror(number)) as caught:
        checkpoints.save(2, model, optimizer, meta_of(2), wait=True)
    assert caught.value.fix == fix
    assert names(tmp_path) == ["step-00000001"]  # what was written of the other gave its room back


@pytest.mark.parametrize("room", [10_000, 50_000, 300_000, 570_000])
def test_a_disk_that_is_full(tmp_path, group, room):
    """No file may be longer, wherever in the writing of a tensor that is."""
    model, optimizer = model_and_optimizer()
    checkpoints = CheckpointManager(tmp_path, keep=1)
    checkpoints.save(1, model, optimizer, meta_of(1), wait=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        with pytest.raises(ExactcptError) as caught:
            checkpoints.save(2, model, optimizer, meta_of(2), wait=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.fix == (
        "earlier checkpoints are intact; free some space or name another folder"
    )
    assert names(tmp_path) == ["step-00000001"]
    checkpoints.save(3, model, optimizer, meta_of(3), wait=True)
    assert names(tmp_path) == ["step-00000003"]


@pytest.mark.parametrize("seen", [None, -1])
def test_a_file_of_another_rank_that_is_not_seen(tmp_path, group, monkeypatch, seen):
    """It is on another machine's disk, or is not all there yet."""
    model, optimizer = model_and_optimizer()
    checkpoints = CheckpointManager(tmp_path, keep=1)
    gather = checkpoints._gather

    def with_another(value):
        found = gather(value)
        if value and isinstance(value, list):
            (partial,) = (tmp_path / "checkpoints").glob("*.partial")
            size = value[0]["bytes"]
            if seen is not None:
                (partial / "__1_0.distcp").write_bytes(b"a" * (size + seen))
            found.append([{"name": "__1_0.distcp", "bytes": size, "xxh3_128": ""}])
        return found

    monkeypatch.setattr(checkpoints, "_gather", with_another)
    monkeypatch.setattr(checkpoint, "PATIENCE", 0.3)
    with pytest.raises(ExactcptError) as caught:
        checkpoints.save(1, model, optimizer, meta_of(1), wait=True)
    assert caught.value.found == (
        "the checkpoint could not be written on rank 0: rank 1 has written __1_0.distcp, and rank "
        "0 does not see it"
    )
    assert caught.value.fix == (
        "earlier checkpoints are intact; all ranks need one run folder, on a disk that their "
        "machines share"
    )
    assert complete_checkpoints(tmp_path) == []


def test_a_file_that_no_rank_has_written(tmp_path, group, monkeypatch):
    model, optimizer = model_and_optimizer()
    checkpoints = CheckpointManager(tmp_path, keep=1)
    monkeypatch.setattr(checkpoints, "_written", lambda upload, _: (upload.result(), [[]])[1])
    with pytest.raises(ExactcptError, match=r"no rank has written __0_0\.distcp"):
        checkpoints.save(1, model, optimizer, meta_of(1), wait=True)
    assert complete_checkpoints(tmp_path) == []


def test_the_optimizer_keeps_its_settings(tmp_path, group):
    checkpoints = CheckpointManager(tmp_path, keep=1)
    checkpoints.save(1, *model_and_optimizer(), {}, wait=True)
    model, optimizer = model_and_optimizer()
    others = {"lr": 0.5, "weight_decay": 9.0, "betas": (0.1, 0.2), "eps": 1.0}
    for group_ in optimizer.param_groups:
        group_.update(others)
    checkpoints.load(checkpoints.latest(), model, optimizer)
    for group_ in optimizer.param_groups:
        assert {name: group_[name] for name in others} == others


def test_a_folder_that_cannot_be_made(tmp_path, group):
    (tmp_path / "checkpoints").write_text("a file")
    model, optimizer = model_and_optimizer()
    with pytest.raises(ExactcptError, match="the checkpoint could not be written on rank 0"):
        CheckpointManager(tmp_path, keep=1).save(1, model, optimizer, {})


@pytest.mark.parametrize("changes", [{"hidden_size": 64}, {"num_hidden_layers": 3}])
def test_a_checkpoint_of_another_model_is_refused(tmp_path, group, changes):
    checkpoints = CheckpointManager(tmp_path, keep=1)
    checkpoints.save(1, *model_and_optimizer(), {}, wait=True)
    path = checkpoints.latest()
    with pytest.raises(FormatError, match="the checkpoint cannot be loaded") as error:
        checkpoints.load(path, *model_and_optimizer(**changes))
    assert error.value.where == str(path)


def save_and_stop(connection: Connection, run: Path, where: str) -> None:
    """Saves step 1, changes the weights, and stops for good inside the saving of step 2."""
    dist.init_process_group("gloo", init_method=f"file://{run}/meeting", rank=0, world_size=1)
    model, optimizer = model_and_optimizer()
    checkpoints = CheckpointManager(run, keep=1)
    torch.save(model.state_dict(), run / "1.pt")
    checkpoints.save(1, model, optimizer, meta_of(1), wait=True)
    take_step(model, optimizer)
    torch.save(model.state_dict(), run / "2.pt")

    def stop(*_):
        connection.send("here")
        threading.Event().wait()

    def remove_half(path):
        next(Path(path).glob("*.distcp")).unlink()
        stop()

    if where == "data":  # some of the tensors are in the file
        os.fsync = stop
    elif where == "name":  # all is written, and has no name yet
        Path.rename = stop
    else:  # the older one is half removed
        shutil.rmtree = remove_half
    checkpoints.save(2, model, optimizer, meta_of(2))
    checkpoints.wait()


@pytest.mark.slow
@pytest.mark.parametrize(("where", "usable"), [("data", 1), ("name", 1), ("removal", 2)])
def test_killed_while_it_saves_the_one_before_is_usable(tmp_path, group, where, usable):
    run = tmp_path / "run"
    run.mkdir()
    process, connection = in_a_process(save_and_stop, run, where)
    assert connection.recv() == "here"
    process.kill()
    process.join()
    assert any(name.endswith(".partial") for name in names(run))
    path = newest_checkpoint(run)
    assert path is not None
    assert read_meta(path) == meta_of(usable)

    expected, _ = model_and_optimizer()
    expected.load_state_dict(torch.load(run / f"{usable}.pt"))
    checkpoints = CheckpointManager(run, keep=1)
    loaded, loaded_optimizer = model_and_optimizer(seed=1)
    checkpoints.load(path, loaded, loaded_optimizer)
    assert same(loaded, expected)
    checkpoints.save(3, loaded, loaded_optimizer, {}, wait=True)
    assert names(run) == ["step-00000003"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("[]", "it is not an object"),
        (None, "[Errno 2] No such file or directory: '{}'"),
        *(
            (json.dumps({n: v for n, v in meta_of(1).items() if n != name}), f"it has no {name}")
            for name in meta_of(1)
            if name != "skipped"  # which older versions do not have
        ),
        (json.dumps(meta_of(1) | {"skipped": None}), "skipped is null"),
        (json.dumps(meta_of(1) | {"step": "1"}), 'step is "1"'),
        (json.dumps(meta_of(1) | {"identity": []}), "identity is []"),
    ],
)
def test_a_damaged_meta_is_named(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "meta.json").write_text(text)
    with pytest.raises(FormatError) as caught:
        read_meta(tmp_path)
    reason = reason.format(tmp_path / "meta.json")
    assert caught.value.found == f"the checkpoint's meta.json cannot be read: {reason}"
    assert caught.value.fix == "remove it to continue from the one before"


def test_a_meta_of_another_step(tmp_path):
    path = tmp_path / "step-00000001"
    path.mkdir()
    (path / "meta.json").write_text(json.dumps(meta_of(1)))
    assert read_meta(path) == meta_of(1)
    for other in (meta_of(7), meta_of(1) | {"windows": -4}):
        (path / "meta.json").write_text(json.dumps(other))
        with pytest.raises(FormatError, match=r"it is of step \d after -?\d+ windows"):
            read_meta(path)


def test_what_has_become_complete(tmp_path, group, monkeypatch):
    model, optimizer = model_and_optimizer()
    checkpoints = CheckpointManager(tmp_path, keep=1)
    named = threading.Event()
    rename = Path.rename

    def late(*paths):
        assert named.wait(60)
        return rename(*paths)

    monkeypatch.setattr(Path, "rename", late)
    checkpoints.save(1, model, optimizer, meta_of(1))
    assert checkpoints.completed() == []
    named.set()
    checkpoints.wait()
    ((meta, seconds),) = checkpoints.completed()
    assert meta == meta_of(1)
    assert 0 < seconds < 60
    assert checkpoints.completed() == []
    checkpoints.save(1, model, optimizer, meta_of(1), wait=True)  # it is there
    assert checkpoints.completed() == []
