"""A model's folder, looked through before any library opens it.

Folders come from strangers. What is refused here is what a library would run (code beside the
model, pickles), load as other weights than the model's own (quantized ones, adapters), or report in
words of its own.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...schemas.errors import FormatError, UsageError
from ...schemas.json_text import parse_json
from ...schemas.regular import read_regular

__all__ = [
    "ADAPTER",
    "CONFIG",
    "MODEL_TYPES",
    "QUANTIZED_FILES",
    "check_settings",
    "check_type",
    "head_size",
    "json_object",
    "quantized",
    "read_config",
    "slides",
]

MODEL_TYPES = ("llama", "qwen2", "qwen3", "mistral", "olmo2", "smollm3")
"""Each is tested: a packed window gives the gradient of its documents, run one by one."""

WHOLE = "full_attention"

CONFIG = "config.json"
ADAPTER = "adapter_config.json"

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
            fix="a model of the Hugging Face hub is named OWNER/NAME[@REVISION]",
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
            raise quantized(f"the folder has {name}", model)
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
            raise quantized(f"config.json has {name}" + (f", {method}" if method else ""), file)
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
            fix="in other models documents might see each other; train it with a loop of your own, "
            "and let `exactcpt check-trainer` find out whether they do",
        )


def head_size(config: Mapping[str, Any]) -> int | None:
    """The size of an attention head by a config.json; None if it does not say."""
    size, hidden, heads = (
        config.get(name) for name in ("head_dim", "hidden_size", "num_attention_heads")
    )
    if isinstance(size, int):
        return size
    return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads else None


def slides(config: Any) -> bool:
    """Whether some layers of a model see a sliding window alone, by its configuration."""
    layers = getattr(config, "layer_types", None) or [WHOLE]
    # Mistral has no switch: where there is a window, every layer has it.
    has_window = getattr(config, "sliding_window", None) is not None
    return getattr(config, "use_sliding_window", has_window) or {*layers} != {WHOLE}


def quantized(told: str, where: Path) -> UsageError:
    """The error that refuses a quantized model; `told` is what shows that it is one."""
    return UsageError(
        f"the model's weights are quantized: {told}",
        where=str(where),
        expected="weights in fp32, bf16 or fp16",
        fix="take the model that this one was made from",
    )


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
