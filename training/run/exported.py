"""A checkpoint of a run as a Hugging Face folder, by what the run's folder says."""

from pathlib import Path

import torch

from ...schemas.errors import FormatError, UsageError
from ..windows.agreement import model_fingerprint
from .checkpoint_files import complete_checkpoints
from .export import export_checkpoint
from .log import read_run

__all__ = ["export_run"]

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def export_run(run: Path, out: Path, step: int | None = None, dtype: str = "fp32") -> int:
    """Writes a checkpoint of a run as a Hugging Face folder.

    Args:
        run: folder of the run.
        out: the folder to write; must not exist.
        step: of the checkpoint; None for the newest.
        dtype: of the weights in the files, "fp32" or "bf16".

    Returns:
        The step of the checkpoint.

    Raises:
        UsageError: there is no such run or checkpoint, or `out` exists.
        FormatError: the run or its checkpoint is damaged, or the folder of the model that it
            trained has another model now.
    """
    recorded = read_run(run)
    saved = {int(path.name.rpartition("-")[2]): path for path in complete_checkpoints(run)}
    if not saved or (step is not None and step not in saved):
        raise UsageError(
            f"the run has no checkpoint of step {step:,}"
            if saved
            else "the run has no checkpoint yet",
            where=str(run),
            expected=f"step {' or '.join(map(str, saved))}" if saved else None,
        )
    step = max(saved) if step is None else step
    source = Path(recorded["model_folder"])
    _check_trained(source, recorded["identity"].get("model"))
    settings = recorded["settings"]
    export_checkpoint(
        saved[step],
        out,
        source=source,
        window=recorded["longest_window"],
        rope_theta=settings["rope_theta"],
        yarn_factor=settings["yarn_factor"],
        end_token=recorded.get("end_token"),
        dtype=DTYPES[dtype],
    )
    return step


def _check_trained(model: Path, trained: str | None) -> None:
    """Checks that a folder still has the model that a run trained: an export copies its config."""
    found = model_fingerprint(model)
    if found != trained:
        raise FormatError(
            f"the folder has another model than the one that the run trained: {found}",
            where=str(model),
            expected=f"{trained}, the digest of config.json and the weights",
            fix="restore the folder",
        )
