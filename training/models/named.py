"""The folder of a model that is named by its path, or as the Hugging Face hub has it."""

from pathlib import Path

from ...schemas.errors import UsageError
from ...schemas.hub import TOKENIZER_FILES, HubName, check_lacking, fetch, hub_name
from .folder import ADAPTER, CONFIG, QUANTIZED_FILES, read_config

__all__ = ["commit_of", "described_folder", "fetched_model", "model_folder"]

DESCRIPTION = (CONFIG, "generation_config.json", ADAPTER, *QUANTIZED_FILES)
WEIGHTS = ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json")
"""The names that transformers gives them. Pickles are not fetched, and neither is code."""


def model_folder(model: str, *, trained: bool = True) -> Path:
    """The folder of a model, fetched if the hub has it under this name.

    Args:
        model: a path, or a name on the hub.
        trained: as of `commit_of`.

    Raises:
        UsageError, FormatError, ExactcptError, OSError: as `commit_of` and `fetched_model`.
    """
    name = commit_of(model, trained=trained)
    return Path(model) if name is None else fetched_model(name)


def described_folder(model: str) -> Path:
    """The folder of a model, of which the description alone is fetched, and no weights.

    Raises:
        UsageError, FormatError, ExactcptError, OSError: as `commit_of`.
    """
    name = commit_of(model)
    return Path(model) if name is None else fetch(name, DESCRIPTION)


def commit_of(model: str, *, trained: bool = True) -> HubName | None:
    """The commit that a model's name means now; None for a path.

    Weights may be gigabytes: they are fetched once the rest shows that the model can be trained.

    Args:
        model: a path, or a name on the hub.
        trained: whether it must be a model that can be trained.

    Raises:
        UsageError: there is no such repository, it has no config.json, or its model cannot be
            trained.
        FormatError: its config.json says too little.
        ExactcptError: the hub cannot be reached, and the cache lacks some of the files.
        OSError: the disk failed.
    """
    name = hub_name(model)
    if name is None:
        return None
    folder = fetch(name, DESCRIPTION)
    if not (folder / CONFIG).is_file():
        check_lacking(name, folder, [CONFIG])
        raise UsageError(
            f"the repository {name} has no {CONFIG}", expected="a model of the transformers library"
        )
    if trained:
        read_config(folder)
    return name._replace(revision=folder.name)


def fetched_model(name: HubName) -> Path:
    """The folder of a model in the hub's cache, with all that a run reads.

    Raises:
        UsageError: there is no such commit, or it has no weights as safetensors.
        ExactcptError, OSError: as `commit_of`.
    """
    folder = fetch(name, [*DESCRIPTION, *TOKENIZER_FILES, *WEIGHTS])
    if not any((folder / weights).is_file() for weights in (WEIGHTS[0], WEIGHTS[-1])):
        check_lacking(name, folder, (WEIGHTS[0], WEIGHTS[-1]))
        raise UsageError(
            f"the repository {name.repository} has no weights as safetensors",
            expected=f"{WEIGHTS[0]}, or several files with {WEIGHTS[-1]}",
            fix="pickles are never loaded; if you trust its files, save them once as safetensors: "
            f"AutoModelForCausalLM.from_pretrained({name.repository!r}).save_pretrained(FOLDER)",
        )
    return folder
