"""Where the figures of a run are shown while it trains, beside its own log.

    tensorboard    event files in the run's folder
    wandb          Weights & Biases
    trackio        Trackio, whose calls are those of wandb

With wandb and trackio, the name of the run is that of its folder. A run that is continued goes on
under the same name: figures of steps that are repeated are the same, and those trackers keep the
first.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

import xxhash

from ...schemas.errors import ExactcptError, UsageError
from ...schemas.extras import install_line

__all__ = ["PROJECT", "Board", "open_boards"]

PROJECT = "exactcpt"
TRACKERS = {"wandb": "Weights & Biases", "trackio": "Trackio"}


class Board(Protocol):
    """Takes figures, and shows them somewhere."""

    def add(self, figures: Mapping[str, float], step: int) -> None:
        """Takes the figures of a step by name."""
        ...

    def close(self) -> None:
        """Waits until all figures are where they belong."""
        ...


def open_boards(
    run: Path, *, step: int, tensorboard: bool, tracker: str | None, settings: Mapping[str, Any]
) -> list[Board]:
    """Opens what is asked for.

    Args:
        run: the run's folder.
        step: the step that the run continues from; 0 for a new run.
        tensorboard: whether event files are written.
        tracker: "wandb", "trackio", or None.
        settings: of the run, for the tracker.

    Raises:
        UsageError: what is asked for is not installed.
        ExactcptError: the tracker cannot begin.
    """
    boards: list[Board] = []
    if tensorboard:
        boards.append(_TensorBoard(run / "tensorboard", step))
    if tracker is not None:
        boards.append(_Tracker(tracker, run, settings))
    return boards


class _TensorBoard:
    def __init__(self, folder: Path, step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError(
                "TensorBoard is not installed", fix=install_line("tensorboard")
            ) from None
        self._writer: Any = SummaryWriter(str(folder), purge_step=step + 1)

    def add(self, figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _Tracker:
    def __init__(self, name: str, run: Path, settings: Mapping[str, Any]) -> None:
        try:
            library: Any = import_module(name)
        except ImportError:
            raise UsageError(f"{TRACKERS[name]} is not installed", fix=install_line(name)) from None
        where = run.resolve()
        options = {"project": PROJECT, "name": where.name, "config": dict(settings)}
        options["resume"] = "allow"
        if name == "wandb":
            # Its runs have ids beside names; one that follows from the folder is found again.
            options |= {"id": xxhash.xxh3_64_hexdigest(str(where).encode()), "dir": str(where)}
        try:
            self._run = library.init(**options)
        except Exception as error:
            raise ExactcptError(
                f"{TRACKERS[name]} cannot begin: {error}",
                fix=f"log in to it, or train without --log-to {name}",
            ) from error

    def add(self, figures: Mapping[str, float], step: int) -> None:
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        self._run.finish()
