"""A Hugging Face folder as something that reads prompts: stock transformers, never training's code.

So one path serves the models of exactcpt and anybody's, and an export is checked by being used.
"""

from pathlib import Path
from typing import Any, Protocol, cast

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging

from ...schemas.errors import FormatError, UsageError
from ..config import Precision
from ..models.weight_files import check_weights

__all__ = ["FolderModel", "Model", "device_of", "is_out_of_memory"]

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}

ALLOCATION = ("can't allocate memory", "not enough memory")
"""What PyTorch says when the memory of the host is spent."""


class Model(Protocol):
    """What the suites ask of a model. Logits may have any floating type."""

    @property
    def vocabulary(self) -> int:
        """Number of logits of a position."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its inputs have to be."""
        ...

    def logits(self, ids: Tensor) -> Tensor:
        """The logits at all positions of some sequences.

        Args:
            ids: int64 [B, L].

        Returns:
            [B, L, V].
        """
        ...

    def read(self, prompts: Tensor) -> tuple[Tensor, Any]:
        """Reads prompts and remembers them.

        Args:
            prompts: int64 [B, L].

        Returns:
            The logits after each prompt, [B, V], and the memory for `go_on`.
        """
        ...

    def go_on(self, memory: Any, ids: Tensor) -> Tensor:
        """Reads on after the prompts; the memory stays that of the prompts.

        Args:
            memory: from `read`.
            ids: int64 [B, t].

        Returns:
            The logits after each of these tokens, [B, t, V].
        """
        ...


class FolderModel:
    """A model from a Hugging Face folder, with transformers' own attention.

    Args:
        folder: with config.json and weights.
        device: where to compute.
        precision: of weights and computation.

    Raises:
        UsageError: its weights are pickles, quantized, or of another program's format.
        FormatError: the folder has no model, or its weights do not match its configuration.
    """

    def __init__(self, folder: Path, device: torch.device, precision: Precision) -> None:
        check_weights(folder)
        logging.disable_progress_bar()
        try:
            model, info = AutoModelForCausalLM.from_pretrained(  # pyright: ignore[reportGeneralTypeIssues]
                folder,
                dtype=DTYPES[precision],
                attn_implementation="sdpa",
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,  # reported in `info`, and refused below
                output_loading_info=True,
            )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise FormatError(
                f"the model cannot be loaded: {str(error).strip().splitlines()[0]}",
                where=str(folder),
                expected="a Hugging Face folder with config.json, tokenizer.json and weights",
            ) from error
        lacking = [*info["missing_keys"], *(name for name, _, _ in info["mismatched_keys"])]
        if lacking:
            raise FormatError(
                f"the weights lack {sorted(lacking)[0]}, which config.json describes",
                where=str(folder),
                fix="use the config.json and the weights of one model",
            )
        self._model = cast(Any, model).to(device).eval()
        self.device = device

    @property
    def vocabulary(self) -> int:
        """Number of logits of a position."""
        return self._model.config.vocab_size

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """The logits at all positions, [B, L, V]."""
        return self._model(input_ids=ids, use_cache=False).logits

    @torch.no_grad()
    def read(self, prompts: Tensor) -> tuple[Tensor, DynamicCache]:
        """The logits after each prompt, [B, V], and the cache of the prompts."""
        # Made without the configuration: layers with sliding windows then keep all tokens, or else
        # they could not be cut back.
        cache = DynamicCache()
        found = self._model(
            input_ids=prompts, past_key_values=cache, use_cache=True, logits_to_keep=1
        )
        return found.logits[:, -1], cache

    @torch.no_grad()
    def go_on(self, memory: DynamicCache, ids: Tensor) -> Tensor:
        """The logits after each of the tokens, [B, t, V]; the cache is cut back to the prompts."""
        found = self._model(input_ids=ids, past_key_values=memory, use_cache=True)
        memory.crop(-ids.shape[1])
        return found.logits


def device_of(device: str) -> torch.device:
    """The device of a setting: "cpu", "cuda", or "auto" for CUDA where there is one.

    Raises:
        UsageError: there is no CUDA device.
    """
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise UsageError("there is no CUDA device", fix="evaluate with --device cpu")
    return torch.device("cuda" if has_cuda and device != "cpu" else "cpu")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a smaller batch might do."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in ALLOCATION)
