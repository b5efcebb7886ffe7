"""Labels that have loss weights beside them, for trainers that are not ours.

A trainer that knows no weights would compute its own loss from such labels, and nobody would
notice. So they are no tensor. They can be moved, cut, stacked and compared, and that is all:
whatever makes a loss of them, or copies them into lists and other arrays, raises an error that says
what to call instead.

    labels = WeightedLabels(tensor)
    labels != -100                    a tensor: which positions are targets
    shift(labels, weights)            what a loss needs, as tensors
    labels.plain                      the tensor itself, for code that uses the weights too

Torch asks an argument that has `__torch_function__` to compute the function itself ("Extending
torch with a tensor-like type"), so the error also comes from a function deep inside of a model.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import torch
from torch import Tensor

from ...schemas.errors import UsageError

__all__ = ["WeightedLabels", "plain"]

FIX = (
    "collate with exactcpt.training.adapters.flatten, and compute the loss with weighted_loss from"
    " there; code of your own that multiplies by loss_weights takes the tensor `labels.plain`"
)
CUTS = (int, slice, type(...), type(None))
COMPARISONS = (torch.eq, torch.ne, Tensor.eq, Tensor.ne)


class WeightedLabels:
    """int64 labels of any shape, -100 where there is no target, unshifted.

    Attributes:
        plain: the labels as a tensor.

    Raises:
        UsageError: when they are used for anything that would lose their weights.
    """

    plain: Tensor

    def __init__(self, plain: Tensor) -> None:
        self.plain = plain

    @property
    def shape(self) -> torch.Size:
        """Their shape."""
        return self.plain.shape

    @property
    def dtype(self) -> torch.dtype:
        """torch.int64."""
        return self.plain.dtype

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self.plain.device

    def to(self, *args: Any, **options: Any) -> "WeightedLabels":
        """The same labels on another device."""
        return WeightedLabels(self.plain.to(*args, **options))

    def pin_memory(self, *args: Any) -> "WeightedLabels":
        """The same labels in page-locked memory; called by a DataLoader."""
        return WeightedLabels(self.plain.pin_memory(*args))

    def ne(self, value: int | Tensor) -> Tensor:
        """Where they are not the value."""
        return self.plain != value

    def __eq__(self, value: Any) -> Tensor:  # type: ignore[override]
        return self.plain == plain(value)

    def __ne__(self, value: Any) -> Tensor:  # type: ignore[override]
        return self.plain != plain(value)

    __hash__ = None  # type: ignore[assignment]

    def __getitem__(self, place: Any) -> "WeightedLabels":
        """Cuts them; a tensor as an index would choose targets for a loss."""
        parts = place if isinstance(place, tuple) else (place,)
        if not all(isinstance(part, CUTS) for part in parts):
            _refuse("a choice of labels by a tensor")
        return WeightedLabels(self.plain[place])

    def __len__(self) -> int:
        # torch.tensor(...) would read the numbers one by one, and ends here.
        return len(self.plain) if self.plain.ndim else _refuse("torch.tensor")

    def __iter__(self) -> NoReturn:
        _refuse("iteration")

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        _refuse("an array of NumPy")

    def __repr__(self) -> str:
        return f"WeightedLabels({self.plain})"

    def tolist(self) -> NoReturn:
        """Raises an error: lists have no weights."""
        _refuse("tolist")

    def __getattr__(self, name: str) -> NoReturn:
        # Only called for what is not above. hasattr() and pickle want this class of error.
        if name.startswith("__"):
            raise AttributeError(name)
        raise AttributeError(str(_refusal(name)))

    @classmethod
    def __torch_function__(
        cls,
        function: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Stacks and compares; refuses all other functions of torch."""
        if function is torch.stack:
            return WeightedLabels(torch.stack([plain(one) for one in args[0]], *args[1:]))
        if function is torch.equal:
            return torch.equal(plain(args[0]), plain(args[1]))
        if function in COMPARISONS:  # with a tensor on the left
            return function(plain(args[0]), plain(args[1]))
        return _refuse(getattr(function, "__name__", str(function)))


def plain(labels: Any) -> Any:
    """The tensor of `WeightedLabels`; anything else as it is."""
    return labels.plain if isinstance(labels, WeightedLabels) else labels


def _refuse(use: str) -> NoReturn:
    raise _refusal(use)


def _refusal(use: str) -> UsageError:
    return UsageError(f"these labels have loss weights, which `{use}` would leave behind", fix=FIX)
