"""What a run will take, before a weight or a token is read.

Memory is that of `models.costs`. Time is by the arithmetic of MFU: the work of a token (`Flops`),
divided by a share of the card's peak that trainings reach, in the precision of the run. Which share
is not known before; of trainings of this kind it is between `LEAST_MFU` and `MOST_MFU`.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from transformers import PreTrainedConfig

from ...schemas.errors import UsageError
from ...schemas.shard_set import open_set
from ..config import Card, TrainConfig
from ..models.costs import Memory, memory_of, outline
from ..models.model import check_config, open_config
from ..models.named import described_folder
from .inputs import mixed
from .metrics import Flops, known_peak
from .opening import DTYPES
from .windows_ahead import WindowsAhead

__all__ = ["CARDS", "LEAST_MFU", "MOST_MFU", "Forecast", "OnCards", "forecast", "forecast_of"]

CARDS: dict[Card, tuple[str, int]] = {
    "a100": ("NVIDIA A100-SXM4-80GB", 80 * 10**9),
    "h100": ("NVIDIA H100 80GB HBM3", 80 * 10**9),
    "h200": ("NVIDIA H200", 141 * 10**9),
    "b200": ("NVIDIA B200", 180 * 10**9),
}
"""The name that CUDA gives a card, and its memory in bytes, by NVIDIA's data sheets."""

LEAST_MFU, MOST_MFU = 0.25, 0.45
"""Shares of the peak, from 0.5 to 3 billion weights in bf16: an estimate by counted bytes and
operations, and by what other trainers report. Nothing of it was measured with this one."""

PER_MACHINE = 8
"""Cards of a machine, as most have."""


@dataclass(frozen=True, kw_only=True)
class OnCards:
    """What a run takes on so many cards.

    Attributes:
        ranks: number of cards.
        memory: of each rank.
        fits: whether that is less than a card has.
        tokens_per_second: least and most.
        hours: least and most, of all steps of the run.
    """

    ranks: int
    memory: Memory
    fits: bool
    tokens_per_second: tuple[float, float]
    hours: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a run will take.

    Attributes:
        parameters: number of the model's weights.
        layers: number of its blocks.
        window: tokens of a window.
        steps: number of steps.
        tokens: of all steps, padding included.
        context: tokens that a token attends to, itself included, on average.
        is_bound: whether it attends to that many at most, because the windows are not there yet.
        precision: of the computation.
        peak: TFLOPS of one card in that precision.
        card: name of the card.
        card_memory: its bytes.
        on: one entry for each number of cards.
    """

    parameters: int
    layers: int
    window: int
    steps: int
    tokens: int
    context: float
    is_bound: bool
    precision: str
    peak: float
    card: str
    card_memory: int
    on: list[OnCards]

    def to_json(self) -> dict[str, Any]:
        """All of it as values that JSON can hold; memory in bytes, with its sum as `total`."""
        found = asdict(self)
        for shown, each in zip(found["on"], self.on, strict=True):
            shown["memory"]["total"] = each.memory.total
        return found


def forecast(config: TrainConfig, card: Card, ranks: list[int]) -> Forecast:
    """Works out what a run will take.

    With `keep_products`, activations are counted as if nothing were computed again: they take at
    most that.

    Args:
        config: its settings. The folder of the run is not looked at.
        card: where it is to run.
        ranks: numbers of cards. Empty for 1, and 8 if these can share the global batch.

    Raises:
        UsageError, FormatError, IncompleteError: the shards or the model's configuration are
            missing or no good, or the ranks cannot share the global batch.
    """
    folder = described_folder(config.model)
    described = open_config(folder)
    check_config(described, where=str(folder))
    sets = [open_set(path) for path in config.mix or (config.shards,)]
    mixed(config, sets)  # refuses sets that do not go together
    for each in ranks:
        config.check_world(each)
    windows = WindowsAhead.of(sets, config.shares)
    return forecast_of(config, described, windows, card, ranks or list(_usual(config)))


def forecast_of(
    config: TrainConfig,
    described: PreTrainedConfig,
    windows: WindowsAhead,
    card: Card,
    ranks: list[int],
) -> Forecast:
    """The same for a model and windows that may not be there yet.

    Args:
        config: the settings of the run; the paths in it are not looked at.
        described: the configuration of the model.
        windows: what is known of those to train on.
        card: where it is to run.
        ranks: numbers of cards, each of which can share the global batch.

    Raises:
        UsageError: the windows are too few for a step, or as many as nobody knows yet.
    """
    name, room = CARDS[card]
    steps = windows.steps(config)
    model = outline(described)
    tflops = config.peak_tflops or known_peak(name, config.precision)
    assert tflops is not None  # the peak of every card is known
    tokens = steps * config.global_batch * windows.length

    def on(count: int) -> OnCards:
        memory = memory_of(
            model,
            windows=config.micro_batch,
            length=windows.length,
            ranks=min(count, PER_MACHINE) if config.shard_over == "node" else count,
            dtype=DTYPES[config.precision],
            checkpointing=config.checkpoint_activations and not config.keep_products,
            compiled=config.compile is not False,
            whole_gradient=config.reduce_once,
        )
        flops = Flops.of_model(model, tflops, count)
        least, most = (
            flops.tokens_per_second(windows.context, mfu) for mfu in (LEAST_MFU, MOST_MFU)
        )
        assert least is not None and most is not None
        return OnCards(
            ranks=count,
            memory=memory,
            fits=memory.total <= room,
            tokens_per_second=(least, most),
            hours=(tokens / most / 3600, tokens / least / 3600),
        )

    return Forecast(
        parameters=sum(p.numel() for p in model.parameters()),
        layers=described.num_hidden_layers,
        window=windows.length,
        steps=steps,
        tokens=tokens,
        context=windows.context,
        is_bound=windows.is_bound,
        precision=config.precision,
        peak=tflops,
        card=card,
        card_memory=room,
        on=[on(count) for count in ranks],
    )


def _usual(config: TrainConfig) -> Iterator[int]:
    """Yields 1 and, if they can share the global batch, 8."""
    for ranks in (1, 8):
        try:
            config.check_world(ranks)
        except UsageError:
            continue
        yield ranks
