"""What trainings will read, as far as it can be told before it is there.

shard set    its windows; before they are written, their length, by the command that makes them
model        its config.json, here or on the hub; of a model that `init-model` will make, what
             that would say
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from transformers import PreTrainedConfig

from ...schemas.errors import ExactcptError, UsageError
from ...schemas.hub import hub_name, local_tokenizer
from ...schemas.manifest import MANIFEST
from ...schemas.remote import is_local_url, resolve
from ...schemas.shard_set import open_set
from ..config import TrainConfig
from ..models.model import check_config, open_config
from ..models.named import described_folder
from ..run.windows_ahead import WindowsAhead
from ..untrained.model import configuration
from ..untrained.shape import SIZES, Shape
from .makings import Making

__all__ = ["Foreseen", "ForeseenSet"]

ARE_FORESEEN = ("init-model", "pack", "prepare", "reweigh", "weigh")
"""The commands that make what trainings read. Others may look at it."""


@dataclass(frozen=True, kw_only=True)
class ForeseenSet:
    """A shard set, or several that are mixed.

    Attributes:
        windows: what is known of its windows.
        tau: where the tail begins, in tokens; None if the command that makes it does not say.
    """

    windows: WindowsAhead
    tau: int | None


class Foreseen:
    """Finds what trainings will read.

    Args:
        folder: of the study, in which its commands are run.
        makings: the commands that make something.
    """

    def __init__(self, folder: Path, makings: Iterable[Making]) -> None:
        self._folder = folder.absolute()
        self._by_place = {
            self._made_at(each): each for each in makings if each.command in ARE_FORESEEN
        }
        self._sets: dict[Path, ForeseenSet] = {}
        self._asked: list[Path] = []

    def shards(self, config: TrainConfig) -> ForeseenSet:
        """What a training is fed with.

        Raises:
            UsageError: it is not there, and no command says how long its windows will be; or sets
                of a mix have windows of different lengths.
            ExactcptError: it is there, and damaged.
        """
        parts = [self._set(path) for path in config.mix or (config.shards,)]
        lengths = {part.windows.length for part in parts}
        if len(lengths) > 1:
            raise UsageError(
                f"the sets of a mix have windows of {' and '.join(map(str, sorted(lengths)))} "
                "tokens",
                where=", ".join(config.mix or ()),
                expected="one length",
            )
        together = WindowsAhead.together([part.windows for part in parts], config.shares)
        return ForeseenSet(windows=together, tau=parts[0].tau)

    def model(self, name: str) -> PreTrainedConfig:
        """The configuration of a model, which can be trained.

        Raises:
            UsageError: it is not there, and no command makes it; or it cannot be trained.
            ExactcptError: its description is damaged, or is on the hub, which cannot be reached.
        """
        place = self._place(name)
        making = self._by_place.get(place)
        if not place.exists() and making is not None and making.command == "init-model":
            config = self._untrained(making)
        elif place.exists() or hub_name(name) is None:
            config = open_config(place)
        else:
            config = open_config(described_folder(name))
        check_config(config, where=name)
        return config

    def _place(self, path: str) -> Path:
        bare = resolve(path)[1] if "://" in path and is_local_url(path) else path
        return Path(os.path.normpath(self._folder / bare))

    def _made_at(self, making: Making) -> Path:
        """Where a command writes: most have --out, `init-model` has FOLDER."""
        named = making.parameters.get("out") or making.parameters.get("folder") or making.makes
        return self._place(str(named))

    def _set(self, path: str) -> ForeseenSet:
        if not is_local_url(path):
            raise UsageError(
                "the shards are on a server",
                where=path,
                fix="`exactcpt train --dry-run` copies them to this disk, and tells",
            )
        place = self._place(path)
        if place not in self._sets:
            self._sets[place] = self._written(place) or self._unwritten(place)
        return self._sets[place]

    def _written(self, place: Path) -> ForeseenSet | None:
        if not (place / MANIFEST).exists():
            return None
        found = open_set(place)
        return ForeseenSet(
            windows=WindowsAhead.of([found], (Fraction(1),)), tau=found.manifest["settings"]["tau"]
        )

    def _unwritten(self, place: Path) -> ForeseenSet:
        making = self._by_place.get(place)
        if making is None:
            raise UsageError(
                "there are no shards, and no command of the study makes them",
                where=str(place),
                fix="make them first, or name a command that does in [[prepare]]",
            )
        given = making.parameters
        if making.command == "reweigh":  # the same windows
            if place in self._asked:
                raise UsageError(
                    f"the command that makes {making.makes} needs it",
                    where=str(place),
                    fix="name the set that it is a copy of, and another folder with --out",
                )
            self._asked.append(place)
            before = self._set(given["shards"])
            return ForeseenSet(windows=before.windows, tau=given["tau"] or before.tau)
        if given.get("window") is None:
            raise UsageError(
                f"the command that makes {making.makes} does not say how long its windows are",
                fix="give it --window N, or make the shards first",
            )
        windows = WindowsAhead.unwritten(given["window"])
        return ForeseenSet(windows=windows, tau=given.get("tau"))

    def _untrained(self, making: Making) -> PreTrainedConfig:
        given = making.parameters
        named = str(given["tokenizer"])
        tokenizer = self._place(named)
        if not tokenizer.exists() and hub_name(named) is not None:
            tokenizer = Path(local_tokenizer(named))
        sizes = {name: given[name] for name in SIZES if given[name] is not None}
        file = given["config"]
        described = Shape(**sizes).config() if file is None else self._place(file)
        try:
            return configuration(described, tokenizer)
        except ExactcptError as error:
            error.fix = error.fix or f"run the command that makes {making.makes} first"
            raise
