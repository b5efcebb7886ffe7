"""Nothing that is in a checkpoint runs code, whoever made it."""

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch.distributed as dist
from checkpoints import EVIL, meta_of, model_and_optimizer, reseal, same, take_step
from torch.distributed.checkpoint.filesystem import FileSystemReader

from exactcpt.schemas.errors import FormatError
from exactcpt.training.run.checkpoint import CheckpointManager, load_weights
from exactcpt.training.run.checkpoint_files import newest_checkpoint
from exactcpt.training.run.checkpoint_reader import CheckpointReader


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run with one checkpoint; the process group is open."""
    run = tmp_path_factory.mktemp("run")
    dist.init_process_group("gloo", init_method=f"file://{run}/meeting", rank=0, world_size=1)
    model, optimizer = model_and_optimizer()
    take_step(model, optimizer)
    CheckpointManager(run, keep=1).save(1, model, optimizer, meta_of(1), wait=True)
    yield run
    dist.destroy_process_group()


@pytest.fixture
def checkpoint(saved, tmp_path) -> Path:
    """A copy of it."""
    shutil.copytree(saved / "checkpoints", tmp_path / "checkpoints")
    path = newest_checkpoint(tmp_path)
    assert path is not None
    return path


def resume(path: Path) -> None:
    CheckpointManager(path.parents[1], keep=1).load(path, *model_and_optimizer())


def init_from(path: Path) -> None:
    CheckpointManager(path.parents[1], keep=1).load(path, model_and_optimizer()[0], None)


def export(path: Path) -> None:
    load_weights(path, model_and_optimizer()[0])


@pytest.mark.parametrize("load", [resume, init_from, export])
@pytest.mark.parametrize("evil", EVIL)
def test_no_code_of_a_checkpoint_runs(checkpoint, tmp_path, load, evil):
    marker = tmp_path / "marker"
    EVIL[evil](checkpoint, marker)
    reseal(checkpoint)
    if evil == "evil_value" and load is not resume:
        load(checkpoint)  # it asks for weights alone
    else:
        with pytest.raises(FormatError, match="the checkpoint cannot be loaded"):
            load(checkpoint)
    assert not marker.exists()


@pytest.mark.parametrize("evil", ["evil_index", "evil_in_the_index"])
def test_the_pickles_of_these_tests_do_run_code(checkpoint, tmp_path, evil):
    """Unpickled as torch would, they make the file."""
    EVIL[evil](checkpoint, tmp_path / "marker")
    with (checkpoint / ".metadata").open("rb") as file:
        pickle.load(file)
    assert (tmp_path / "marker").exists()


def test_what_is_named_is_told(checkpoint, tmp_path):
    EVIL["evil_index"](checkpoint, tmp_path / "marker")
    with pytest.raises(FormatError) as caught:
        CheckpointReader(checkpoint)
    assert caught.value.found == (
        "the checkpoint cannot be loaded: .metadata is not its index: it names posix.system, "
        "which no checkpoint needs"
    )
    assert caught.value.where == str(checkpoint)
    assert caught.value.fix == (
        "remove it to continue from the one before; if it is not your own, do not use it"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda info: setattr(info, "relative_path", "../secret"), "'../secret' is not the name"),
        (lambda info: setattr(info, "relative_path", "/etc/secret"), "'/etc/secret' is not the"),
        (lambda info: setattr(info, "relative_path", ""), "'' is not the name"),
        (lambda info: setattr(info, "relative_path", 1), "."),
        (lambda info: setattr(info, "transform_descriptors", ("zstd",)), "is compressed"),
    ],
)
def test_an_index_that_leads_elsewhere(checkpoint, change, reason):
    index = FileSystemReader(checkpoint).read_metadata()
    change(next(iter(index.storage_data.values())))
    (checkpoint / ".metadata").write_bytes(pickle.dumps(index))
    with pytest.raises(FormatError, match=r"\.metadata is not its index") as caught:
        CheckpointReader(checkpoint)
    assert reason in caught.value.found


@pytest.mark.parametrize("value", [None, [], {"state_dict_metadata": {}}])
def test_a_pickle_of_something_else(checkpoint, value):
    (checkpoint / ".metadata").write_bytes(pickle.dumps(value))
    with pytest.raises(FormatError, match=f"it holds a {type(value).__name__}"):
        CheckpointReader(checkpoint)


def test_a_pickle_that_claims_a_huge_memo(checkpoint):
    """The unpickler in C would fill gigabytes with zeros for these nine bytes."""
    (checkpoint / ".metadata").write_bytes(b"\x80\x04Nr\xff\xff\xff\x7f.")
    with pytest.raises(FormatError, match="it holds a NoneType"):
        CheckpointReader(checkpoint)


@pytest.mark.parametrize("length", [0, 40])
def test_an_index_that_is_cut_off(checkpoint, length):
    data = (checkpoint / ".metadata").read_bytes()
    (checkpoint / ".metadata").write_bytes(data[:length])
    with pytest.raises(FormatError, match="the checkpoint cannot be loaded"):
        CheckpointReader(checkpoint)


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp"])
@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_pipe_makes_nobody_wait(checkpoint, name, is_sealed):
    """Checkpoints of older versions have no list of files."""
    if not is_sealed:
        (checkpoint / "meta.json").write_text(json.dumps(meta_of(1)))
    (checkpoint / name).unlink()
    os.mkfifo(checkpoint / name)
    with pytest.raises(FormatError, match="this is a named pipe"):
        export(checkpoint)


@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
def test_an_index_of_another_python(checkpoint, module):
    """Python 3.13 names another module for the class of a path."""
    data = (checkpoint / ".metadata").read_bytes()
    plain = pickle.dumps(pickle.loads(data), protocol=2)  # names stand there as lines
    old, new = (f"c{name}\nPosixPath".encode() for name in (Path.__module__, module))
    assert old in plain
    (checkpoint / ".metadata").write_bytes(plain.replace(old, new))
    assert CheckpointReader(checkpoint).names == {"__0_0.distcp"}


def test_weights_are_as_saved(checkpoint):
    model, _ = model_and_optimizer(seed=1)
    load_weights(checkpoint, model)
    expected, optimizer = model_and_optimizer()
    take_step(expected, optimizer)
    assert same(model, expected)
