"""A forecast as tables for a person."""

from collections.abc import Callable, Iterator

from rich.table import Table
from rich.text import Text

from ...schemas.sizes import plural
from .forecast import LEAST_MFU, MOST_MFU, Forecast, OnCards

__all__ = ["forecast_tables"]

KINDS = {
    "parameters": "weights",
    "gradients": "gradients",
    "optimizer": "optimizer",
    "gathered": "weights of other ranks, for a moment",
    "activations": "activations",
    "loss": "loss",
    "other": "CUDA and its libraries, assumed",
}


def forecast_tables(found: Forecast) -> Iterator[Table | Text]:
    """Yields the run in numbers, its memory, its speed, and what the figures are worth."""
    yield Text(
        f"{found.parameters:,} weights in {plural(found.layers, 'layer')}; "
        f"{plural(found.steps, 'step')}, {found.tokens:,} tokens in windows of {found.window:,}; "
        f"a token attends to {'at most' if found.is_bound else 'about'} {found.context:,.0f}"
    )
    yield _memory(found)
    yield _speed(found)
    yield Text(
        f"Memory is counted from config.json; hours are those of an MFU of {LEAST_MFU:.0%} to "
        f"{MOST_MFU:.0%} of {found.peak:,.4g} TFLOPS in {found.precision}, without evaluation and "
        "checkpoints. Neither was measured on a GPU."
    )


def _memory(found: Forecast) -> Table:
    table = _with_columns("memory of a GPU, GB", found)
    for kind, label in KINDS.items():
        _row(table, label, found, lambda on, kind=kind: _gb(getattr(on.memory, kind)))
    table.add_section()
    _row(table, "together", found, lambda on: _gb(on.memory.total))
    room = f"{found.card} has {found.card_memory / 1e9:.0f} GB"
    _row(table, room, found, lambda on: "fits" if on.fits else "too little")
    _row(table, "host, for a checkpoint", found, lambda on: _gb(on.memory.staging))
    return table


def _speed(found: Forecast) -> Table:
    table = _with_columns("speed", found)
    _row(table, "tokens/s", found, lambda on: _range(on.tokens_per_second, ",.0f"))
    _row(table, "hours", found, lambda on: _range(on.hours, ",.2g" if on.hours[1] < 10 else ",.0f"))
    return table


def _with_columns(title: str, found: Forecast) -> Table:
    table = Table()
    table.add_column(title, overflow="fold")
    for each in found.on:
        table.add_column(plural(each.ranks, "GPU"), justify="right", overflow="fold")
    return table


def _row(table: Table, label: str, found: Forecast, cell: Callable[[OnCards], str]) -> None:
    table.add_row(label, *map(cell, found.on))


def _gb(amount: int) -> str:
    return f"{amount / 1e9:,.1f}"


def _range(both: tuple[float, float], form: str) -> str:
    return " to ".join(f"{each:{form}}" for each in both)
