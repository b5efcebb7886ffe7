"""Trained weights as a Hugging Face folder: safetensors in fp32, configuration, tokenizer.

The configuration states the rotary embedding twice. transformers 5 writes `rope_parameters` only;
version 4 and other programs do not know that name, and assume a theta of 10000 and no scaling
unless they find `rope_theta` and `rope_scaling`.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from transformers import PreTrainedConfig

from ...schemas.disk import make_folder, sync_file, sync_folder
from ...schemas.errors import UsageError
from ..models.model import TrainModel, build
from .checkpoint import PARTIAL, load_weights

__all__ = ["export_checkpoint", "export_model"]

PREFIX = "causal_lm."
HEAD = "lm_head.weight"

COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "generation_config.json",
)
"""Files of the model that training does not change; those that exist are copied."""


def export_model(model: TrainModel, source: Path, out: Path) -> None:
    """Writes a model in training; every rank calls this, rank 0 writes and returns last.

    Args:
        model: sharded or not.
        source: the folder that the model came from; its tokenizer is copied.
        out: the folder to write, whole or not at all; replaced if it exists.
    """
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    weights = get_model_state_dict(model, options=options)
    if not dist.is_initialized() or dist.get_rank() == 0:
        _write(weights, model, source, out)


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    source: Path,
    window: int,
    rope_theta: float | None = None,
    yarn_factor: float | None = None,
) -> None:
    """Writes the weights of a checkpoint, in one process.

    Args:
        checkpoint: a complete one.
        out: the folder to write; must not exist.
        source: the folder of the model that was trained.
        window, rope_theta, yarn_factor: the values that the model was built with.

    Raises:
        UsageError: `out` exists, or `source` is not a model that can be trained.
        FormatError: the checkpoint cannot be read, or is of another model.
    """
    if out.exists():
        raise UsageError(
            "the folder to write exists", where=str(out), fix="remove it or name another one"
        )
    model = build(
        source, window=window, backend="exact", rope_theta=rope_theta, yarn_factor=yarn_factor
    )
    load_weights(checkpoint, model)
    export_model(model, source, out)


def _write(weights: Mapping[str, Any], model: TrainModel, source: Path, out: Path) -> None:
    partial = out.with_name(out.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    make_folder(out.parent)
    partial.mkdir()
    try:
        _fill(partial, weights, model, source)
        for path in partial.iterdir():
            sync_file(path)
        sync_folder(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
    sync_folder(out.parent)


def _fill(folder: Path, weights: Mapping[str, Any], model: TrainModel, source: Path) -> None:
    config = model.causal_lm.config
    tensors = {name.removeprefix(PREFIX): tensor for name, tensor in weights.items()}
    if config.tie_word_embeddings:
        tensors.pop(HEAD, None)  # the same numbers as the input embedding
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    file = folder / "model.safetensors"
    try:
        save_file(contiguous, file, metadata={"format": "pt"})
    except SafetensorError as error:  # the library's own, also for a full disk
        raise _system_error(error, file) from error
    (folder / "config.json").write_text(_config_json(config, type(model.causal_lm).__name__))
    # Only the owner may read the file that safetensors makes; whoever may read the others may too.
    shutil.copymode(folder / "config.json", file)
    for name in COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def _system_error(error: SafetensorError, file: Path) -> OSError:
    """The error of the system that safetensors tells in words."""
    number = re.search(r"os error (\d+)", str(error))
    if number is None:
        return OSError(errno.EIO, str(error), str(file))
    return OSError(int(number[1]), os.strerror(int(number[1])), str(file))


def _config_json(config: PreTrainedConfig, architecture: str) -> str:
    settings = json.loads(config.to_json_string(use_diff=True))
    rope = dict(config.rope_parameters)
    settings["rope_parameters"] = dict(rope)
    settings["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        settings["rope_scaling"] = rope
    settings["architectures"] = [architecture]
    settings["dtype"] = "float32"
    return json.dumps(settings, indent=2, sort_keys=True) + "\n"
