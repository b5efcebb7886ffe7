"""The trainer to be checked, as one function: a step, without its optimizer.

    step(batches) -> model, or {name: gradient}

The batches are the micro-batches of one step on one process, each a dictionary as `collate` makes
it. The step computes the loss of all of them and goes backward. It returns the model whose
parameters have the gradients now, or the gradients by name: all of them, or always the same ones.
It begins with gradients of zero and leaves the weights as they are. There is no dropout.
"""

import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...schemas.errors import ExactcptError, UsageError
from ...schemas.shard_set import ShardSet
from ..models.attention import default_backend
from ..models.folder import CONFIG
from ..models.loss import IGNORE
from ..models.model import TrainModel, build
from ..windows.agreement import check_agreement
from .gradients import Gradient, read_gradient

__all__ = ["Step", "importing_here", "run_step", "step_of_folder", "step_of_function"]

Batch = dict[str, Any]
Step = Callable[[list[Batch]], Any]

STOCK = "sdpa"
"""What transformers takes for these models if nothing else is asked for."""


@contextmanager
def importing_here() -> Iterator[None]:
    """Modules of the current folder can be imported, as `python -m` would."""
    path = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path[:] = path


def step_of_function(name: str) -> Step:
    """The function of a name such as `module:function`.

    Raises:
        UsageError: there is none, or its module cannot be imported.
    """
    module_name, _, path = name.partition(":")
    try:
        found: Any = import_module(module_name)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"{module_name or 'a module of no name'} cannot be imported: {_told(error)}",
            where=_where(error) or name,
            expected="module:function, of a module in this folder or of an installed one",
        ) from error
    for each in path.split("."):
        if not hasattr(found, each):
            raise UsageError(
                f"{module_name} has no {path or 'function that is named'}",
                where=getattr(found, "__file__", None) or name,
                expected="module:function",
            )
        found = getattr(found, each)
    if not callable(found):
        raise UsageError(
            f"{name} is no function, but an object of type {type(found).__name__}",
            expected="a function that takes a list of micro-batches",
        )
    return found


def step_of_folder(model: Path, shards: ShardSet, loop: str) -> Step:
    """A step with a Hugging Face model, in fp32 on the CPU.

    Args:
        model: its folder.
        shards: what it is trained on.
        loop: one of `LOOPS`.

    Raises:
        UsageError, FormatError: the model cannot be trained, or not on these shards.
    """
    if not (model / CONFIG).exists() and not model.is_dir():
        raise UsageError(
            "there is neither such a folder nor such a function",
            where=str(model),
            expected="a Hugging Face folder, or module:function",
        )
    check_agreement(shards, model)
    built = build(model, window=shards.window, backend=default_backend("cpu"))
    if loop == "exactcpt":
        return partial(_exactcpt_step, built)
    built.causal_lm.set_attn_implementation(STOCK)
    return partial(_plain_step if loop == "plain" else _positions_step, built.causal_lm)


def _plain_step(model: nn.Module, batches: list[Batch]) -> nn.Module:
    model.zero_grad()
    for batch in batches:
        loss = model(input_ids=batch["input_ids"], labels=batch["labels"]).loss
        (loss / len(batches)).backward()
    return model


def _positions_step(model: nn.Module, batches: list[Batch]) -> nn.Module:
    model.zero_grad()
    names = ("input_ids", "position_ids", "labels")
    for batch in batches:
        # With a cache, which is the default, transformers looks for no documents in the positions.
        loss = model(**{name: batch[name] for name in names}, use_cache=False).loss
        (loss / len(batches)).backward()
    return model


def _exactcpt_step(model: TrainModel, batches: list[Batch]) -> nn.Module:
    model.zero_grad()
    targets = torch.stack([(batch["labels"] != IGNORE).sum() for batch in batches]).sum()
    for batch in batches:
        given = {name: value for name, value in batch.items() if name != "max_seqlen"}
        loss, _, _ = model(**given, denominator=targets)
        loss.backward()
    return model


def run_step(step: Step, name: str, batches: list[Batch]) -> Gradient:
    """Runs a step; its gradient.

    Args:
        step: what to call.
        name: what errors call it.
        batches: its micro-batches.

    Raises:
        ExactcptError: it raises an error or returns something else.
    """
    try:
        returned = step(batches)
    except (Exception, SystemExit) as error:
        raise ExactcptError(
            f"the step ended with an error: {_told(error)}",
            where=_where(error) or name,
            expected="step(batches), where batches is a list of dictionaries with "
            + ", ".join(sorted(batches[0])),
            fix="--debug shows the traceback",
        ) from error
    return read_gradient(returned, name)


def _told(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _where(error: BaseException) -> str | None:
    """The last line of a person's own code that led to an error."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename != __file__ and not _is_library(f.filename)]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else None


def _is_library(file: str) -> bool:
    return file.startswith(("<frozen", sysconfig.get_path("stdlib"))) or "site-packages" in file
