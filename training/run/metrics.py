"""The log's record of a step, from the figures of all ranks.

While a step runs, its figures stay on the device (`LocalStep`). Now and then, those of several
steps are brought to the host together (`Share`), exchanged among all ranks in one call, and turned
into one record per step.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from torch import Tensor, nn

from ...schemas.errors import ExactcptError
from ..config import Precision, TrainConfig

__all__ = [
    "CE",
    "TARGETS",
    "WEIGHTED_CE",
    "Flops",
    "LocalStep",
    "Share",
    "bucket_losses",
    "digest",
    "found_not_finite",
    "known_peak",
    "memory_held",
    "step_record",
]

CE, TARGETS, WEIGHT, WEIGHTED_CE = range(4)
"""Rows of the sums by bucket that the model returns."""

PEAK_TFLOPS: dict[str, tuple[float, float, float]] = {
    r"B200\b": (2250.0, 75.0, 37.0),
    r"H200 NVL\b": (835.0, 60.0, 60.0),
    r"H200$": (989.4, 66.9, 66.9),
    r"H100 NVL\b": (835.0, 60.0, 60.0),
    r"H100 PCIe\b": (756.0, 51.2, 51.2),
    r"H100( \d+GB)? HBM3\b": (989.4, 66.9, 66.9),
    r"A100\b": (312.0, 19.5, 19.5),
}
"""Peak TFLOPS in dense bf16, in fp32 and in fp64, by the name that CUDA gives a device. From
NVIDIA's data sheets, whose figures with sparsity are twice as high. fp32 is without TensorFloat-32,
which PyTorch leaves off unless it is told. SXM modules and PCIe cards of one name differ. The peak
of any other device is unknown, and so is that of a part of a device (MIG)."""

Sums = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LocalStep:
    """A rank's figures of a step; tensors are still on the device.

    Attributes:
        step: number of the step, from 1.
        sums: float64 [4, buckets], over the rank's micro-batches.
        per_window: sum of cross-entropies of each of the rank's windows.
        gradient_norm: norm of the gradient of all weights, before scaling and clipping.
        scaled_to: norm that it was scaled to before clipping; None if it was not.
        windows, digests: number and digest of each of the rank's windows, in order.
        tokens: number of tokens, without padding.
        visible: how many tokens each token attends to, itself included, summed over all tokens.
        denominator: D of the step.
        learning_rate: of the step.
    """

    step: int
    sums: Tensor
    per_window: Tensor
    gradient_norm: Tensor
    scaled_to: float | None
    windows: tuple[int, ...]
    digests: tuple[int, ...]
    tokens: int
    visible: int
    denominator: float
    learning_rate: float

    def share(self) -> "Share":
        """The same figures on the host; waits for the device, once."""
        figures = (self.sums.flatten(), self.per_window.double(), self.gradient_norm.double()[None])
        host = torch.cat(figures).cpu()
        sums, per_window, norm = host.split([each.numel() for each in figures])
        finite = torch.isfinite(per_window).tolist()
        return Share(
            step=self.step,
            sums=sums.view_as(self.sums).numpy(),
            not_finite=tuple(w for w, ok in zip(self.windows, finite, strict=True) if not ok),
            gradient_norm=norm.item(),
            scaled_to=self.scaled_to,
            windows=self.windows,
            digests=self.digests,
            tokens=self.tokens,
            visible=self.visible,
            denominator=self.denominator,
            learning_rate=self.learning_rate,
        )


@dataclass(frozen=True, kw_only=True)
class Share:
    """A rank's figures of a step on the host; see `LocalStep`.

    Attributes:
        not_finite: numbers of the windows whose loss is not finite.
    """

    step: int
    sums: Sums
    not_finite: tuple[int, ...]
    gradient_norm: float
    scaled_to: float | None
    windows: tuple[int, ...]
    digests: tuple[int, ...]
    tokens: int
    visible: int
    denominator: float
    learning_rate: float


@dataclass(frozen=True, kw_only=True)
class Flops:
    """Floating-point operations of training, for model FLOPs utilization (MFU).

    MFU is the share of the devices' peak that is used. A weight matrix of n entries costs 2n
    operations per token in the forward pass (one multiplication and one addition per entry) and
    twice that in the backward pass, for the gradients of its input and of itself: 6n. The embedding
    is a look-up and counts nothing; the output head counts, tied or not.

    Attention: the query of a token that sees v tokens of its own segment, itself included, is
    multiplied with v keys, and v values are added up: 2 * 2 v d operations in a layer with d =
    heads x head size, and twice that in the backward pass: 12 v d. So the work of a step is

        6 N * tokens + 12 * layers * d * (sum of v over its tokens)

    Padding, masked positions, norms and recomputation count nothing.

    Attributes:
        weights: N, the entries of all weights except the embedding; includes the head.
        attention: 12 * layers * d.
        peak: operations per second of all devices together; None if unknown.
    """

    weights: int
    attention: int
    peak: float | None

    @classmethod
    def of(cls, model: nn.Module, device: torch.device, world: int, config: TrainConfig) -> "Flops":
        """Counts the work of a model.

        Args:
            model: a `TrainModel`.
            device: of this rank; all ranks have devices of one kind.
            world: number of ranks.
            config: gives the peak, if it is set.
        """
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
        tflops = config.peak_tflops or known_peak(name, config.precision)
        return cls.of_model(getattr(model, "causal_lm"), tflops, world)  # noqa: B009

    @classmethod
    def of_model(cls, causal_lm: Any, tflops: float | None, world: int) -> "Flops":
        """Counts the work of a Hugging Face model, whose tensors need no memory.

        Args:
            causal_lm: the model.
            tflops: peak of one device; None if unknown.
            world: number of devices.
        """
        embedding = causal_lm.get_input_embeddings().weight
        head = causal_lm.get_output_embeddings().weight
        entries = sum(p.numel() for p in causal_lm.parameters()) - embedding.numel()
        entries += head.numel() if head is embedding else 0
        hf = causal_lm.config
        size = getattr(hf, "head_dim", None) or hf.hidden_size // hf.num_attention_heads
        return cls(
            weights=entries,
            attention=12 * hf.num_hidden_layers * hf.num_attention_heads * size,
            peak=tflops * 1e12 * world if tflops else None,
        )

    def used(self, tokens: int, visible: int, seconds: float) -> float | None:
        """MFU of the work on some tokens in some seconds; None if the peak is unknown."""
        if self.peak is None or seconds <= 0:
            return None
        return self._work(tokens, visible) / (seconds * self.peak)

    def tokens_per_second(self, context: float, mfu: float) -> float | None:
        """The speed at an MFU, with so many tokens that each attends to; None without a peak."""
        return None if self.peak is None else mfu * self.peak / self._work(1, context)

    def _work(self, tokens: float, visible: float) -> float:
        return 6 * self.weights * tokens + self.attention * visible


def memory_held(device: torch.device) -> int | None:
    """The most bytes of a GPU that PyTorch has held so far; None for another device."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def known_peak(name: str, precision: Precision) -> float | None:
    """Peak TFLOPS of a device in a precision, by the device's name; None if unknown."""
    if " MIG " in name:
        return None
    peaks = (each for pattern, each in PEAK_TFLOPS.items() if re.search(rf"\b{pattern}", name))
    found = next(peaks, None)
    return None if found is None else found[("bf16", "fp32", "fp64").index(precision)]


def digest(shares: Sequence[Sequence[int]]) -> str:
    """The digest of a step's windows in global order.

    Args:
        shares: digests of the windows of each rank, in rank order.
    """
    together = np.array([d for share in shares for d in share], "<u8")
    return xxhash.xxh3_128_hexdigest(together.tobytes())


def bucket_losses(sums: Sums) -> list[float | None]:
    """The unweighted loss of each bucket; None for one without targets, or if it is not finite."""
    pairs = zip(*sums[[CE, TARGETS]].tolist(), strict=True)
    return [_finite(ce / n) if n else None for ce, n in pairs]


def _finite(figure: float) -> float | None:
    """The figure; None if it is not finite, for JSON has no such numbers."""
    return figure if math.isfinite(figure) else None


def step_record(shares: Sequence[Share], tail: Sequence[bool], clip_norm: float) -> dict[str, Any]:
    """The log's record of a step, without the figures that depend on time.

    A figure that is not finite is None. The step was skipped then, and the record says so.

    Args:
        shares: one per rank, in rank order.
        tail: whether each bucket is in the tail.
        clip_norm: norm that gradients are clipped to; 0 for no clipping.
    """
    first = shares[0]
    sums: Sums = np.sum([share.sums for share in shares], axis=0)
    ce, targets, weight, weighted_ce = sums.sum(axis=1).tolist()
    to_clip = first.gradient_norm if first.scaled_to is None else first.scaled_to
    return {
        "kind": "step",
        "step": first.step,
        "loss": _finite(weighted_ce / first.denominator),
        "unweighted_loss": _finite(ce / targets) if targets else None,
        "targets": int(targets),
        "sum_w": weight,
        "denominator": first.denominator,
        "tail_share": float(sums[TARGETS][list(tail)].sum() / targets) if targets else 0.0,
        "gradient_norm": _finite(first.gradient_norm),
        "scaled_to": first.scaled_to,
        "clipped": bool(clip_norm) and to_clip > clip_norm,
        "skipped": not _is_finite(shares),
        "learning_rate": first.learning_rate,
        "tokens": sum(share.tokens for share in shares),
        "digest": digest([share.digests for share in shares]),
        "bucket_loss": bucket_losses(sums),
        "bucket_targets": sums[TARGETS].astype(np.int64).tolist(),
    }


def _is_finite(shares: Sequence[Share]) -> bool:
    """Whether the step was taken: `optim.gradient_of_loss` says why the norm alone tells it."""
    return math.isfinite(shares[0].gradient_norm)


def found_not_finite(shares: Sequence[Share], where: Callable[[int], str]) -> ExactcptError | None:
    """The error of a step whose loss or gradient is not finite; None if both are finite.

    Args:
        shares: one per rank, in rank order.
        where: names the shard of a window and its place there.
    """
    if _is_finite(shares):
        return None
    step = shares[0].step
    for rank, share in enumerate(shares):
        if share.not_finite:
            window = share.not_finite[0]
            return ExactcptError(
                f"step {step}: the loss is not finite",
                where=f"rank {rank}, {where(window)} (window {window:,} of the run's windows)",
            )
    windows = [window for share in shares for window in share.windows]
    named = ", ".join(where(window) for window in windows[:8])
    more = f" and {len(windows) - 8} more" if len(windows) > 8 else ""
    return ExactcptError(
        f"step {step}: the gradient is not finite, though every loss is", where=f"{named}{more}"
    )
