"""A Hugging Face folder as something that reads prompts: stock transformers, never training's code.

So one path serves the models of exactcpt and anybody's, and an export is checked by being used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, GenerationConfig
from transformers.utils import logging

from ...schemas.errors import FormatError, UsageError
from ..config import Precision
from ..models.folder import MODEL_TYPES, slides
from ..models.positions import rotates_by_position
from ..models.weight_files import check_weights

__all__ = ["FolderModel", "Model", "Writer", "device_of", "is_out_of_memory"]

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp64": torch.float64}

PADDING = 0
"""The token beside shorter prompts and behind shorter outputs; nothing sees it."""

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

    @property
    def pads(self) -> bool:
        """Whether padding behind a sequence changes nothing in it."""
        ...

    @property
    def pads_prompts(self) -> bool:
        """Whether that is so, too, where answers go on after the padding."""
        ...

    def logits(self, ids: Tensor) -> Tensor:
        """The logits at all positions of some sequences.

        Args:
            ids: int64 [B, L].

        Returns:
            [B, L, V].
        """
        ...

    def read(self, prompts: Tensor, lengths: Tensor) -> tuple[Tensor, Any]:
        """Reads prompts and remembers them.

        Args:
            prompts: int64 [B, L], with anything behind those that are shorter than L.
            lengths: of each, int64 [B]; all are L unless the model pads prompts.

        Returns:
            The logits after each prompt, [B, V], and the memory for `go_on`.
        """
        ...

    def go_on(self, memory: Any, ids: Tensor) -> Tensor:
        """Reads on after the prompts in several ways; the memory stays that of the prompts.

        Args:
            memory: from `read`.
            ids: int64 [B, R, t], R ways to go on after each prompt.

        Returns:
            The logits after each of these tokens, [B, R, t, V].
        """
        ...


class Writer(Protocol):
    """What `generate` asks of a model."""

    @property
    def pads(self) -> bool:
        """Whether padding beside a prompt changes nothing in it."""
        ...

    def write(self, prompts: Sequence[NDArray[np.int32]], most: int) -> list[list[int]]:
        """The likeliest next tokens after each prompt, one after the other.

        Args:
            prompts: of any lengths.
            most: tokens for each; fewer where the model ends its text.

        Returns:
            For each prompt its new tokens, without the one that ends a text.
        """
        ...


@dataclass(frozen=True)
class Memory:
    """What a model remembers of prompts.

    Attributes:
        cache: of B prompts, those that are shorter padded behind.
        lengths: of each prompt, int64 [B].
    """

    cache: DynamicCache
    lengths: Tensor


class FolderModel:
    """A model from a Hugging Face folder, with transformers' own attention.

    Args:
        folder: with config.json and weights.
        device: where to compute.
        precision: of weights and computation.

    Attributes:
        folder, device: as above.
        network: the model of transformers.
        pads: whether padding changes nothing: rotations depend on positions alone.
        takes_masks: whether all layers see whatever a mask lets them see. That is known of the
            models that are trained here, if they have no layers with sliding windows.

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
        self.network = cast(Any, model).to(device).eval()
        config = self.network.config
        self.pads = rotates_by_position(config)
        self.takes_masks = config.model_type in MODEL_TYPES and not slides(config)
        self.folder, self.device = folder, device
        ends = self.network.generation_config.eos_token_id
        self._ends: list[int] = ends if isinstance(ends, list) else [] if ends is None else [ends]
        # Greedy, whatever the folder recommends for its users.
        self.network.generation_config = GenerationConfig(
            do_sample=False, eos_token_id=self._ends or None, pad_token_id=PADDING
        )

    @property
    def pads_prompts(self) -> bool:
        """Whether prompts of different lengths can be read together and gone on from."""
        return self.pads and self.takes_masks

    @property
    def vocabulary(self) -> int:
        """Number of logits of a position."""
        return self.network.config.vocab_size

    @torch.no_grad()
    def logits(self, ids: Tensor) -> Tensor:
        """The logits at all positions, [B, L, V]."""
        return self.network(input_ids=ids, use_cache=False).logits

    @torch.no_grad()
    def read(self, prompts: Tensor, lengths: Tensor) -> tuple[Tensor, Memory]:
        """The logits after each prompt, [B, V], and what is remembered of the prompts."""
        # Made without the configuration: layers with sliding windows then keep all tokens, or else
        # they could not be cut back.
        cache = DynamicCache()
        shortest, longest = int(lengths.min()), prompts.shape[1]
        found = self.network(
            input_ids=prompts,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=longest - shortest + 1,
        )
        rows = torch.arange(len(prompts), device=prompts.device)
        return found.logits[rows, lengths - shortest], Memory(cache, lengths)

    @torch.no_grad()
    def go_on(self, memory: Memory, ids: Tensor) -> Tensor:
        """The logits after each of the tokens, [B, R, t, V]; the memory is cut back afterwards."""
        if self.takes_masks:
            return self._side_by_side(memory, ids)
        return torch.cat([self._after(memory.cache, way) for way in ids.split(1, dim=1)], dim=1)

    def _side_by_side(self, memory: Memory, ids: Tensor) -> Tensor:
        """All ways in one sequence, none of which sees another: the memory is gone through once."""
        _, ways, tokens = ids.shape
        follow = memory.lengths[:, None] + torch.arange(tokens, device=ids.device)
        mask = _mask(memory.lengths, memory.cache.get_seq_length(), ids)
        return self._after(
            memory.cache, ids, position_ids=follow.repeat(1, ways), attention_mask=mask
        )

    def _after(self, cache: DynamicCache, ids: Tensor, **how: Tensor) -> Tensor:
        found = self.network(
            input_ids=ids.flatten(1), past_key_values=cache, use_cache=True, **how
        ).logits
        cache.crop(-found.shape[1])
        return found.unflatten(1, ids.shape[1:])

    @torch.no_grad()
    def write(self, prompts: Sequence[NDArray[np.int32]], most: int) -> list[list[int]]:
        """The new tokens of each prompt; shorter prompts are padded before their beginning."""
        longest = max(map(len, prompts))
        ids = torch.full((len(prompts), longest), PADDING, dtype=torch.int64)
        mask = torch.zeros_like(ids)
        for row, seen, prompt in zip(ids, mask, prompts, strict=True):
            row[longest - len(prompt) :] = torch.from_numpy(prompt.astype(np.int64))
            seen[longest - len(prompt) :] = 1
        found = self.network.generate(
            input_ids=ids.to(self.device), attention_mask=mask.to(self.device), max_new_tokens=most
        )
        return [self._until_end(row) for row in found[:, longest:].tolist()]

    def _until_end(self, ids: list[int]) -> list[int]:
        return list(takewhile(lambda token: token not in self._ends, ids))


def _mask(lengths: Tensor, read: int, ids: Tensor) -> Tensor:
    """What R ways to go on see, bool [B, 1, R t, read + R t]: their prompt, and their own past.

    Args:
        lengths: of the prompts, int64 [B].
        read: how many tokens were read, padding included.
        ids: of the ways, [B, R, t].
    """
    count, ways, tokens = ids.shape
    past = torch.ones(tokens, tokens, dtype=torch.bool, device=ids.device).tril()
    own = torch.block_diag(*[past] * ways)
    prompt = torch.arange(read, device=ids.device) < lengths[:, None]
    sides = prompt[:, None], own[None]
    return torch.cat([side.expand(count, len(own), -1) for side in sides], dim=2)[:, None]


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
