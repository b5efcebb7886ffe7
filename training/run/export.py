"""The weights of a run as a Hugging Face folder."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

from ..models.model import TrainModel, build
from ..models.saving import TOKENIZER_FILES, check_new, save_folder
from .checkpoint import load_weights

__all__ = ["export_checkpoint", "export_model"]

PREFIX = "causal_lm."

COPIED = (*TOKENIZER_FILES, "generation_config.json")
"""Files of the model that training does not change; those that exist are copied."""


def export_model(
    model: TrainModel,
    source: Path,
    out: Path,
    *,
    end_token: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes a model in training; every rank calls this, rank 0 writes and returns last.

    Args:
        model: sharded or not.
        source: the folder that the model came from; its tokenizer is copied.
        out: the folder to write, whole or not at all; replaced if it exists.
        end_token: what ends documents, for a `source` that does not say it.
        dtype: of the weights in the files.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=options)
    if not dist.is_initialized() or dist.get_rank() == 0:
        tensors = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
        copied = {name: source / name for name in COPIED}
        save_folder(out, model.causal_lm, tensors, copied, end_token=end_token, dtype=dtype)


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    source: Path,
    window: int,
    rope_theta: float | None = None,
    yarn_factor: float | None = None,
    end_token: str | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes the weights of a checkpoint, in one process.

    Args:
        checkpoint: a complete one.
        out: the folder to write; must not exist.
        source: the folder of the model that was trained.
        window, rope_theta, yarn_factor: the values that the model was built with.
        end_token, dtype: as for `export_model`.

    Raises:
        UsageError: `out` exists, or `source` is not a model that can be trained.
        FormatError: the checkpoint cannot be read, or is of another model.
    """
    check_new(out)
    model = build(
        source, window=window, backend="exact", rope_theta=rope_theta, yarn_factor=yarn_factor
    )
    load_weights(checkpoint, model)
    export_model(model, source, out, end_token=end_token, dtype=dtype)
