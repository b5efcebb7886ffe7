"""A model's Hugging Face folder, written: safetensors in fp32 or bf16, configuration, tokenizer.

Weights of more than 5 GB are several files and an index, as transformers writes and reads them.

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

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers import PreTrainedConfig, PreTrainedModel

from ...schemas.disk import folder_written_whole
from ...schemas.errors import UsageError
from .folder import CONFIG
from .weight_files import INDEX

__all__ = ["TOKENIZER", "TOKENIZER_CONFIG", "TOKENIZER_FILES", "check_new", "save_folder"]

HEAD = "lm_head.weight"
LARGEST_FILE = 5 * 10**9
"""Bytes of tensors in a file of weights: 5 GB, what transformers takes and the hub recommends."""

TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_FILES = (
    TOKENIZER,
    TOKENIZER_CONFIG,
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""Files that a folder may have of its tokenizer."""


def check_new(out: Path) -> None:
    """Checks that a folder can be written without replacing anything.

    Raises:
        UsageError: there is something.
    """
    if out.exists():
        raise UsageError(
            "the folder to write exists", where=str(out), fix="remove it or name another one"
        )


def save_folder(
    out: Path,
    model: PreTrainedModel,
    weights: Mapping[str, Any],
    copied: Mapping[str, Path],
    *,
    end_token: str | None = None,
    same: bool = False,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Writes a folder, whole or not at all; it is replaced if it exists.

    Args:
        out: the folder.
        model: its configuration is written.
        weights: all of its tensors, on the host, by the model's own names.
        copied: other files by their names in the folder; those that exist are copied.
        end_token: what ends documents; written down if no file says how the tokenizer is used.
            Programs that generate text need to know it.
        dtype: of the weights in the files.
        same: whether a folder that exists is not replaced but kept, if its files are the same.

    Raises:
        UsageError: with `same`, the folder exists and is another one.
    """
    with folder_written_whole(out, replace=not same, same=same) as scratch:
        _fill(scratch, model, weights, copied, dtype)
        if end_token is not None and not (scratch / TOKENIZER_CONFIG).exists():
            (scratch / TOKENIZER_CONFIG).write_text(_tokenizer_json(end_token))


def _fill(
    folder: Path,
    model: PreTrainedModel,
    weights: Mapping[str, Any],
    copied: Mapping[str, Path],
    dtype: torch.dtype,
) -> None:
    (folder / CONFIG).write_text(_config_json(model.config, type(model).__name__, dtype))
    tied = model.config.tie_word_embeddings  # then the head has the numbers of the embedding
    _save_weights(folder, {n: t for n, t in weights.items() if not (tied and n == HEAD)}, dtype)
    for name, path in copied.items():
        if path.is_file():
            shutil.copyfile(path, folder / name)


def _save_weights(folder: Path, weights: Mapping[str, Any], dtype: torch.dtype) -> None:
    from huggingface_hub import split_torch_state_dict_into_shards

    tensors = {name: tensor.to(dtype).contiguous() for name, tensor in weights.items()}
    plan = split_torch_state_dict_into_shards(tensors, max_shard_size=LARGEST_FILE)
    for name, members in plan.filename_to_tensors.items():
        file = folder / name
        try:
            save_file({each: tensors[each] for each in members}, file, metadata={"format": "pt"})
        except SafetensorError as error:  # the library's own, also for a full disk
            raise _system_error(error, file) from error
        # Only the owner may read the file that safetensors makes; the others are for more.
        shutil.copymode(folder / CONFIG, file)
    if plan.is_sharded:
        index = {"metadata": plan.metadata, "weight_map": plan.tensor_to_filename}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def _system_error(error: SafetensorError, file: Path) -> OSError:
    """The error of the system that safetensors tells in words."""
    number = re.search(r"os error (\d+)", str(error))
    if number is None:
        return OSError(errno.EIO, str(error), str(file))
    return OSError(int(number[1]), os.strerror(int(number[1])), str(file))


def _config_json(config: PreTrainedConfig, architecture: str, dtype: torch.dtype) -> str:
    settings = json.loads(config.to_json_string(use_diff=True))
    rope = dict(config.rope_parameters)
    settings["rope_parameters"] = dict(rope)
    settings["rope_theta"] = rope.pop("rope_theta")
    if rope.get("rope_type", "default") != "default":
        settings["rope_scaling"] = rope
    settings["architectures"] = [architecture]
    settings["dtype"] = str(dtype).removeprefix("torch.")
    return json.dumps(settings, indent=2, sort_keys=True) + "\n"


def _tokenizer_json(end_token: str) -> str:
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end_token}
    return json.dumps(settings, indent=2, sort_keys=True) + "\n"
