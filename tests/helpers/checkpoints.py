"""What checkpoints are made of, and checkpoints as a stranger could make them.

Those of strangers have pickles that run code, and right checksums.
"""

import io
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from models import packed, tiny_config
from torch.distributed.checkpoint.filesystem import FileSystemReader

from exactcpt.training.models.model import TrainModel, build
from exactcpt.training.run.checkpoint_files import describe, read_meta, write_meta

__all__ = ["EVIL", "meta_of", "model_and_optimizer", "reseal", "same", "take_step"]


def model_and_optimizer(seed: int = 0, **changes: Any) -> tuple[TrainModel, torch.optim.Optimizer]:
    """A tiny model, and what trains it."""
    model = build(tiny_config(**changes), window=64, backend="exact", seed=seed)
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2)


def take_step(model: TrainModel, optimizer: torch.optim.Optimizer) -> None:
    """Changes the weights."""
    loss, _, _ = model(**packed([[64]]), denominator=torch.tensor(63.0))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def meta_of(step: int) -> dict[str, Any]:
    """The meta that the loop writes."""
    return {
        "step": step, "windows": 4 * step, "identity": {}, "settings": {}, "stretches": [],
        "earlier": None, "skipped": 0,
    }  # fmt: skip


def same(one: TrainModel, other: TrainModel) -> bool:
    """Whether two models have the same weights."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.equal(*pair) for pair in pairs)


class Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch '{self.marker}'",)


def evil_index(checkpoint: Path, marker: Path) -> None:
    """The index is a pickle that runs code."""
    (checkpoint / ".metadata").write_bytes(pickle.dumps(Touch(marker)))


def evil_in_the_index(checkpoint: Path, marker: Path) -> None:
    """The index is right, and one of its fields runs code."""
    index = FileSystemReader(checkpoint).read_metadata()
    index.planner_data = Touch(marker)
    (checkpoint / ".metadata").write_bytes(pickle.dumps(index))


def evil_value(checkpoint: Path, marker: Path) -> None:
    """A value that is not a tensor runs code."""
    saved = io.BytesIO()
    torch.save(Touch(marker), saved)
    _replace(checkpoint, "optimizer.param_groups.0.lr", saved.getvalue())


def evil_tensor(checkpoint: Path, marker: Path) -> None:
    """A tensor runs code."""
    saved = io.BytesIO()
    torch.save({"weights": Touch(marker)}, saved)
    assert zipfile.is_zipfile(saved)
    _replace(checkpoint, "model.causal_lm.lm_head.weight", saved.getvalue())


EVIL: dict[str, Callable[[Path, Path], None]] = {
    function.__name__: function
    for function in (evil_index, evil_in_the_index, evil_value, evil_tensor)
}
"""Name -> puts a pickle into a checkpoint that makes a file, the marker."""


def reseal(checkpoint: Path) -> None:
    """Gives a checkpoint the sizes and checksums that its files have."""
    meta = read_meta(checkpoint)
    (checkpoint / "meta.json").unlink()
    write_meta(checkpoint, meta, [describe(path) for path in checkpoint.iterdir()])


def _replace(checkpoint: Path, name: str, data: bytes) -> None:
    """Appends the data to the checkpoint's file, and has the index say that a tensor is there."""
    index = FileSystemReader(checkpoint).read_metadata()
    (info,) = (info for key, info in index.storage_data.items() if key.fqn == name)
    file = checkpoint / info.relative_path
    info.offset, info.length = file.stat().st_size, len(data)
    with file.open("ab") as stream:
        stream.write(data)
    (checkpoint / ".metadata").write_bytes(pickle.dumps(index))
