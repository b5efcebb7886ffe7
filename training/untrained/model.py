"""An untrained model, drawn and written."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from ...schemas.errors import ExactcptError, FormatError, UsageError
from ...schemas.pointers import refuse_pointers
from ..models.folder import check_settings, json_object
from ..models.model import build
from ..models.saving import TOKENIZER, TOKENIZER_CONFIG, TOKENIZER_FILES, save_folder
from ..windows.tokenizer_file import read_tokenizer

__all__ = ["configuration", "init_model"]


def init_model(
    out: Path, *, described: Path | Mapping[str, Any], tokenizer: Path, seed: int
) -> dict[str, int]:
    """Writes a Hugging Face folder with random weights in fp32.

    The vocabulary and the end token are the tokenizer's, whatever the configuration says.

    Args:
        out: the folder; if it exists, it must be the same.
        described: a config.json of a model that can be trained, or what one would say.
        tokenizer: a tokenizer.json, or the folder that has one. The files of a tokenizer that are
            beside it belong to it.
        seed: of the weights. The same seed gives the same files, by the same versions of PyTorch
            and transformers.

    Returns:
        The number of `parameters`, and of tokens of the `vocabulary`.

    Raises:
        UsageError: `out` is something else, there is no tokenizer, or such a model cannot be
            trained.
        FormatError: the configuration or the tokenizer cannot be read, or makes no model.
        ExactcptError: one of these files is a pointer of Git LFS or git-annex.
    """
    config = configuration(described, tokenizer)
    beside = _beside(tokenizer)
    refuse_pointers(beside.values())
    model = _drawn(config, _file(described), seed)
    save_folder(out, model, model.state_dict(), beside, same=True)
    return {"parameters": model.num_parameters(), "vocabulary": config.vocab_size}


def configuration(described: Path | Mapping[str, Any], tokenizer: Path) -> PreTrainedConfig:
    """The configuration of the model that `init_model` makes; arguments and errors are the same."""
    file = _file_of(tokenizer)
    if not file.exists():
        raise UsageError(
            "there is no tokenizer",
            where=str(file),
            expected="a tokenizer.json, or the folder that has one",
        )
    refuse_pointers([file])
    vocabulary = read_tokenizer(file).get_vocab(True)
    settings = _settings(described) | {
        "vocab_size": max(vocabulary.values(), default=0) + 1,
        "bos_token_id": None,
        "eos_token_id": vocabulary.get(_end_token(file.with_name(TOKENIZER_CONFIG)) or ""),
        "pad_token_id": None,
    }
    where = _file(described)
    check_settings(settings, where or Path("config.json"))
    with _errors_of(where):
        return AutoConfig.for_model(**settings)


def _file(described: Path | Mapping[str, Any]) -> Path | None:
    return described if isinstance(described, Path) else None


def _file_of(tokenizer: Path) -> Path:
    return tokenizer / TOKENIZER if tokenizer.is_dir() else tokenizer


def _beside(tokenizer: Path) -> dict[str, Path]:
    """The files of a tokenizer by the names that a model's folder gives them."""
    file = _file_of(tokenizer)
    return {name: file.with_name(name) for name in TOKENIZER_FILES} | {TOKENIZER: file}


def _settings(described: Path | Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(described, Path):
        return dict(described)
    refuse_pointers([described])
    return json_object(described, "the configuration", expected="a config.json of Hugging Face")


def _end_token(file: Path) -> str | None:
    """The end token that a tokenizer_config.json names, by its text or by its description."""
    if not file.is_file():
        return None
    named = json_object(file, TOKENIZER_CONFIG, expected="an object of JSON").get("eos_token")
    text = named.get("content") if isinstance(named, dict) else named
    return text if isinstance(text, str) else None


def _drawn(config: PreTrainedConfig, where: Path | None, seed: int) -> PreTrainedModel:
    """The model of a configuration, with random weights."""
    with _errors_of(where):
        longest = config.max_position_embeddings
        model = build(config, window=longest, backend="exact", seed=seed).causal_lm
        _try(model)
        return model


@contextmanager
def _errors_of(where: Path | None) -> Iterator[None]:
    """Words what a library reports of a configuration; `where` is its file, if it has one."""
    try:
        yield
    except ExactcptError as error:
        error.where = where and str(where)
        raise
    except Exception as error:  # the library checks some values and trips over others
        raise FormatError(
            f"no model can be made of this configuration: {error or type(error).__name__}",
            where=where and str(where),
            expected="a configuration that transformers can make a model of",
        ) from error


def _try(model: PreTrainedModel) -> None:
    """Reads a token: sizes that do not go together may be noticed only here."""
    model.set_attn_implementation("eager")
    with torch.no_grad():
        model(input_ids=torch.zeros(1, 1, dtype=torch.int64))
