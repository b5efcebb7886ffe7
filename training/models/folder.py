"""A model's folder, looked through before any library opens it.

Folders come from strangers. What is refused here is what a library would run (code beside the
model, pickles), load as other weights than the model's own (quantized ones, adapters), or report in
words of its own.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ...schemas.disk import is_file_name
from ...schemas.errors import FormatError, UsageError
from ...schemas.json_text import parse_json
from ...schemas.pointers import refuse_pointers
from ...schemas.regular import check_regular, read_regular

__all__ = [
    "CONFIG",
    "MODEL_TYPES",
    "WEIGHTS",
    "check_settings",
    "check_type",
    "check_weights",
    "json_object",
    "read_config",
]

MODEL_TYPES = ("llama", "qwen2", "qwen3")

CONFIG = "config.json"
ADAPTER = "adapter_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

SIZES: dict[str, tuple[int | None, int]] = {
    "vocab_size": (None, 1 << 31),
    "max_position_embeddings": (1, 1 << 40),
    "num_hidden_layers": (1, 10_000),
}
"""Numbers that must make sense before a library builds a model of them: what stands for one that is
missing, and the largest one."""

QUANTIZED_FIELDS = ("quantization_config", "compression_config")
QUANTIZED_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""Where GPTQ, AWQ and ModelOpt keep their settings if config.json does not have them."""

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
GGUF = "*.gguf"
NUMBERS = {"F64", "F32", "F16", "BF16"}
"""Types of weights, as safetensors names them, whose numbers are the weights themselves."""

EXPECTED = "a Hugging Face folder with config.json, tokenizer.json and weights"


def read_config(model: Path) -> dict[str, Any]:
    """Reads the config.json of a model that can be trained.

    Raises:
        UsageError: there is no such folder, or it has a model that cannot be trained: an adapter, a
            quantized model, one whose code comes with it, or one of another architecture.
        FormatError: there is no readable config.json, or it says too little.
    """
    if not model.is_dir():
        raise UsageError(
            "there is no such folder",
            where=str(model),
            expected=EXPECTED,
            fix="to get a model from the hub: hf download NAME --local-dir FOLDER",
        )
    if (model / ADAPTER).exists():
        raise UsageError(
            f"the folder has an adapter ({ADAPTER}), which changes another model's weights",
            where=str(model),
            expected="a whole model",
            fix="merge the adapter into its model and save the result: "
            "PeftModel.from_pretrained(...).merge_and_unload().save_pretrained(FOLDER)",
        )
    config = json_object(model / CONFIG, "the model's config.json")
    for name in QUANTIZED_FILES:
        if (model / name).exists():
            raise _quantized(f"the folder has {name}", model)
    check_settings(config, model / CONFIG)
    return config


def check_settings(config: Mapping[str, Any], file: Path) -> None:
    """Checks that a config.json describes a model that can be trained.

    Args:
        config: what it says.
        file: where it says so, for errors.

    Raises:
        UsageError: the model is quantized, its code comes with it, or it has another architecture.
        FormatError: it says too little, or numbers that make no sense.
    """
    for name in QUANTIZED_FIELDS:
        settings = config.get(name)
        if settings is not None:
            method = settings.get("quant_method") if isinstance(settings, dict) else None
            raise _quantized(f"config.json has {name}" + (f", {method}" if method else ""), file)
    if config.get("auto_map"):
        raise UsageError(
            "config.json names code that comes with the model (auto_map), which is never run",
            where=str(file),
            expected="a model whose code is in transformers: " + ", ".join(MODEL_TYPES),
            fix="if the model is one of these in every detail, remove auto_map from config.json",
        )
    check_type(config.get("model_type"), where=str(file))
    for name, (default, most) in SIZES.items():
        number = config.get(name, default)
        if not isinstance(number, int) or not 1 <= number <= most:
            raise FormatError(
                f"config.json has {name} {json.dumps(number)[:100]}",
                where=str(file),
                expected=f"a whole number from 1 to {most:,}",
            )


def check_type(model_type: Any, *, where: str | None) -> None:
    """Checks that models of a type can be trained.

    Raises:
        UsageError: they cannot.
    """
    if model_type not in MODEL_TYPES:
        raise UsageError(
            f"a model of type {model_type}" if model_type else "a model of no type",
            where=where,
            expected=", ".join(MODEL_TYPES),
        )


def check_weights(model: Path) -> None:
    """Checks that a folder has all files of its weights, and that nothing else passes for them.

    Reads the headers of the files and none of the weights.

    Raises:
        UsageError: the weights are pickles, of a format of other programs, or quantized.
        FormatError: a file is missing, damaged or no ordinary one, or two files have one tensor.
        ExactcptError: a file is a pointer of Git LFS or git-annex.
    """
    refuse_pointers(model.glob("*.safetensors"))
    seen: dict[str, Path] = {}
    for path in _weight_files(model):
        for name, kind in _tensors(path):
            if name in seen:
                raise FormatError(
                    f"two files have the tensor {name}: {seen[name].name} and {path.name}",
                    where=str(model),
                    fix="keep the files of one model",
                )
            seen[name] = path
            if kind not in NUMBERS:
                raise _quantized(f"{name} is stored as {kind}", path)


def _quantized(told: str, where: Path) -> UsageError:
    return UsageError(
        f"the model's weights are quantized: {told}",
        where=str(where),
        expected="weights in fp32, bf16 or fp16",
        fix="take the model that this one was made from",
    )


def _weight_files(model: Path) -> list[Path]:
    """The files that have the weights: one, or those that an index names."""
    if "transformers_weights" in json_object(model / CONFIG, "the model's config.json"):
        raise UsageError(
            "config.json says in transformers_weights which file has the weights",
            where=str(model / CONFIG),
            expected=f"{WEIGHTS}, or several files with {INDEX}",
            fix=f"give the file that name, and remove transformers_weights from {CONFIG}",
        )
    if (model / WEIGHTS).exists():
        return [model / WEIGHTS]
    if (model / INDEX).exists():
        return _indexed(model)
    pickles = sorted(path.name for pattern in PICKLES for path in model.glob(pattern))
    if pickles:
        raise UsageError(
            f"the model's weights are pickles, which can run code: {pickles[0]}",
            where=str(model),
            expected=f"{WEIGHTS}, or several files with {INDEX}",
            fix="if you trust them, save them once as safetensors: "
            "AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER)",
        )
    if any(model.glob(GGUF)):
        raise UsageError(
            "the model's weights are in the GGUF format",
            where=str(model),
            expected=f"{WEIGHTS}, or several files with {INDEX}",
            fix="take the model that this one was made from",
        )
    raise FormatError(
        "the folder has no weights",
        where=str(model),
        expected=f"{WEIGHTS}, or several files with {INDEX}",
        fix="download the model again",
    )


def _indexed(model: Path) -> list[Path]:
    places = json_object(model / INDEX, "the index of the model's weights").get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(n, str) for n in places.values()):
        raise FormatError(
            "the index of the model's weights does not say which file has which tensor",
            where=str(model / INDEX),
            expected="weight_map, from the names of tensors to names of files",
            fix="download the model again",
        )
    names = sorted(set(places.values()))
    for name in names:
        if not is_file_name(name):
            raise FormatError(
                f"the index of the model's weights names {name!r}, which is not in the folder",
                where=str(model / INDEX),
                expected="names of files beside it",
            )
    missing = [name for name in names if not (model / name).is_file()]
    if missing:
        raise FormatError(
            f"{len(missing):,} of {len(names):,} files of the model's weights are missing, the "
            f"first is {missing[0]}",
            where=str(model),
            fix="download the model again",
        )
    return [model / name for name in names]


def _tensors(path: Path) -> Iterator[tuple[str, str]]:
    """Yields the name and the type of each tensor in a file."""
    check_regular(path)
    try:
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  # it is no mapping
                yield name, file.get_slice(name).get_dtype()
    except (OSError, SafetensorError) as error:
        raise FormatError(
            f"the model's weights cannot be read: {error}",
            where=str(path),
            expected=f"{WEIGHTS}, or several files with an index",
            fix="download the model again",
        ) from None


def json_object(path: Path, what: str, *, expected: str = EXPECTED) -> dict[str, Any]:
    """Reads a JSON file of a model's folder; `what` is what errors call it.

    Raises:
        FormatError: it is missing, cannot be read, or is not an object.
    """
    try:
        found = parse_json(read_regular(path))
        if not isinstance(found, dict):
            raise ValueError("it is not an object")
    except (OSError, ValueError) as error:
        raise FormatError(
            f"{what} cannot be read: {error}", where=str(path), expected=expected
        ) from None
    return found
