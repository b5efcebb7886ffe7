"""Steps whose loss or gradient is not finite, made to order."""

import math
from collections.abc import Mapping
from typing import Any

import pytest

from exactcpt.training import train as module
from exactcpt.training.models.model import TrainModel
from exactcpt.training.run.metrics import CE, WEIGHTED_CE

__all__ = ["GRADIENT", "LOSS", "TOLD", "spoil"]

LOSS = "the loss is not a number, and so the gradient is not"
GRADIENT = "the gradient is infinite, though every loss is a number"
TOLD = "the loss that is told is not a number, though the gradient is"


def spoil(patch: pytest.MonkeyPatch, steps: Mapping[int, str]) -> None:
    """Spoils steps of every run, each as one of the words above says."""
    now: list[int] = [0]
    take, forward = module._Loop._step, TrainModel.forward

    def step(self: Any, number: int, *arguments: Any) -> Any:
        now[0] = number
        return take(self, number, *arguments)

    def spoiled(self: TrainModel, *arguments: Any) -> Any:
        loss, by_bucket, by_window = forward(self, *arguments)
        how = steps.get(now[0]) if self.training else None
        if how == LOSS:
            by_bucket[[CE, WEIGHTED_CE]] = math.nan
            return loss * math.nan, by_bucket, by_window * math.nan
        if how == GRADIENT:
            return loss * math.inf, by_bucket, by_window
        return loss, by_bucket, by_window * math.nan if how == TOLD else by_window

    patch.setattr(module._Loop, "_step", step)
    patch.setattr(TrainModel, "forward", spoiled)
