"""The gradient of a step, as a trainer returns it, and how much two of them differ.

A gradient is all that a check looks at: it is what the optimizer gets. Where labels and weights are
0 everywhere but at some targets, it is a function of these targets' predictions alone.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from ...schemas.errors import ExactcptError

__all__ = [
    "Gradient",
    "change",
    "check_shapes",
    "is_zero",
    "misfit",
    "read_gradient",
    "resolution",
    "shares",
]

Gradient = Mapping[str, Tensor]
"""Tensors by the names of their parameters, of any shapes; one that is not there is zero."""

EXPECTED = (
    "the model whose parameters have the gradients of the step, or a mapping from names to tensors"
)

PARALLEL = 1e-3
"""Sine of the angle below which two gradients have one direction."""


def read_gradient(returned: Any, where: str) -> Gradient:
    """A copy of the gradient in what a step has returned.

    Args:
        returned: a module whose parameters have gradients, or a mapping from names to tensors.
        where: the step, for errors.

    Raises:
        ExactcptError: it is something else, there is no gradient in it, or one is not finite.
    """
    if isinstance(returned, nn.Module):
        found: Mapping[Any, Any] = {n: p.grad for n, p in returned.named_parameters()}
    elif isinstance(returned, Mapping):
        found = returned
    else:
        raise ExactcptError(f"the step returned {_kind(returned)}", where=where, expected=EXPECTED)
    gradient = {}
    for name, tensor in found.items():
        if tensor is None:
            continue
        if not isinstance(name, str) or not isinstance(tensor, Tensor):
            raise ExactcptError(
                f"the step returned a mapping that has {_kind(tensor)} at {name!r}",
                where=where,
                expected=EXPECTED,
            )
        if not tensor.is_floating_point():
            raise ExactcptError(
                f"the gradient of {name} is of type {tensor.dtype}",
                where=where,
                expected="floating-point numbers",
            )
        if not tensor.isfinite().all():
            raise ExactcptError(
                f"the gradient of {name} is not finite",
                where=where,
                expected="finite numbers; every micro-batch of the check has targets",
                fix="look for a division by zero, or for a scaled loss that overflows",
            )
        gradient[name] = tensor.detach().to_dense().clone()
    if not gradient:
        raise ExactcptError(
            "the step returned no gradient",
            where=where,
            expected=EXPECTED,
            fix="call backward for every micro-batch, and return before the gradients are reset",
        )
    return gradient


def _kind(value: Any) -> str:
    return "None" if value is None else f"an object of type {type(value).__name__}"


def check_shapes(gradient: Gradient, known: dict[str, torch.Size]) -> None:
    """Checks that tensors have the shapes that they had before; adds those that are new.

    Raises:
        ExactcptError: one has another shape.
    """
    for name, tensor in gradient.items():
        if known.setdefault(name, tensor.shape) != tensor.shape:
            raise ExactcptError(
                f"the gradient of {name} has the shape {list(tensor.shape)}",
                expected=f"{list(known[name])}, as in the steps before",
            )


def is_zero(gradient: Gradient) -> bool:
    """Whether all its numbers are 0."""
    return not any(tensor.any() for tensor in gradient.values())


def change(one: Gradient, other: Gradient) -> float:
    """The norm of the difference, divided by the larger norm; 0 if both are zero."""
    scale = max(_norm((1, one)), _norm((1, other)))
    return _norm((1, one), (-1, other)) / scale if scale else 0.0


def misfit(gradient: Gradient, asked: tuple[tuple[float, Gradient], ...]) -> tuple[float, float]:
    """How far a gradient is from a multiple of a weighted sum of others.

    Args:
        gradient: what was found.
        asked: factors and gradients of the sum.

    Returns:
        The norm of what remains beside the nearest multiple, divided by the gradient's norm, and
        that multiple; 1 and 0 if either of them is zero.
    """
    scale, size = _norm((1, gradient)), _norm(*asked)
    if not scale or not size:
        return 1.0, 0.0
    multiple = sum(factor * _dot(gradient, each) for factor, each in asked) / size**2
    nearest = [(-multiple * factor, each) for factor, each in asked]
    return _norm((1, gradient), *nearest) / scale, multiple


def shares(gradient: Gradient, one: Gradient, other: Gradient) -> tuple[float, float] | None:
    """The factors a and b for which a * one + b * other is nearest; None if they are parallel."""
    squares = _dot(one, one), _dot(other, other)
    product = _dot(one, other)
    determinant = squares[0] * squares[1] - product**2
    if determinant <= PARALLEL**2 * squares[0] * squares[1]:
        return None
    along = _dot(gradient, one), _dot(gradient, other)
    return (
        (along[0] * squares[1] - along[1] * product) / determinant,
        (along[1] * squares[0] - along[0] * product) / determinant,
    )


def resolution(gradient: Gradient) -> float:
    """The distance from 1 to the next larger number, in the coarsest type of the tensors."""
    return max(torch.finfo(tensor.dtype).eps for tensor in gradient.values())


def _norm(*terms: tuple[float, Gradient]) -> float:
    """The norm of a weighted sum of gradients, of which one tensor exists at a time."""
    squares = 0.0
    for name in dict.fromkeys(name for _, gradient in terms for name in gradient):
        present = [(factor, gradient[name]) for factor, gradient in terms if name in gradient]
        total = sum(factor * _fine(tensor) for factor, tensor in present)
        squares += torch.linalg.vector_norm(total, dtype=torch.float64).item() ** 2
    return squares**0.5


def _dot(one: Gradient, other: Gradient) -> float:
    return sum(
        (_fine(one[name]) * _fine(other[name])).sum(dtype=torch.float64).item()
        for name in one
        if name in other
    )


def _fine(tensor: Tensor) -> Tensor:
    """In fp32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
