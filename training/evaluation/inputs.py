"""What an evaluation reads besides the models: a tokenizer, a haystack, lengths, and the items."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...schemas.errors import ExactcptError, UsageError
from ...schemas.held_out import leaks
from ...schemas.hub import local_tokenizer
from ...schemas.manifest import MANIFEST
from ...schemas.shard_set import ShardSet, open_set
from ...schemas.sizes import plural
from .assemble import distances
from .config import FACTORS, EvaluateConfig, is_world
from .haystack import Haystack, of_file, of_shards
from .natural import NATURAL
from .probe import VERSION, Item, item_table, probe_items
from .recall.items import recall_items
from .recall.world import World
from .recall.world_file import TOKENIZER, check_tokenizer, read_world
from .results import content_digest
from .subjects import Subject
from .vocabulary import Vocabulary, read_vocabulary

__all__ = ["Inputs", "ItemSet", "open_inputs"]

LONG_TO_READ = 8 << 20
"""Bytes of text that take seconds to tokenize."""
ENOUGH = 10
"""Texts of the longest items that a haystack should have beside each other."""


@dataclass(frozen=True, kw_only=True)
class ItemSet:
    """The probe's items of one length.

    Attributes:
        length: tokens of the longest prompt with its answer.
        items: the items, by number.
    """

    length: int
    items: tuple[Item, ...]

    @cached_property
    def table(self) -> pa.Table:
        """The rows of `items.parquet`."""
        return item_table(self.items, self.length)

    @cached_property
    def digest(self) -> str:
        """Of the content of the table."""
        return content_digest(self.table)


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What an evaluation reads besides the models.

    Attributes:
        config: the settings.
        vocabulary: the tokenizer of the items, and of every model.
        shards: the shard set that `haystack` names, or None for a file.
        world: the recall world that it names, or None.
        place: what it names.
        lengths: of the probe.
    """

    config: EvaluateConfig
    vocabulary: Vocabulary
    shards: ShardSet | None
    world: World | None
    place: str
    lengths: tuple[int, ...]

    @cached_property
    def haystack(self) -> Haystack:
        """The filler of the probe.

        Raises:
            UsageError, FormatError: as `of_shards` and `of_file`.
        """
        if self.shards is not None:
            return of_shards(self.shards, self.vocabulary)
        return of_file(Path(self.place), self.vocabulary)

    def item_sets(self, say: Callable[[str], None]) -> list[ItemSet]:
        """Makes the items of every length.

        Raises:
            UsageError: the haystack is too small, or no item of a task fits.
        """
        if self.world is None:
            self._check_haystack(say)
        return [self._item_set(length, say) for length in self.lengths]

    def _check_haystack(self, say: Callable[[str], None]) -> None:
        self.haystack.check_holds(max(self.lengths))
        tokens = len(self.haystack.ids)
        if tokens < ENOUGH * max(self.lengths):
            say(
                f"caution: the haystack has only {plural(tokens, 'token')}, so items of "
                f"{max(self.lengths):,} tokens have much of their text in common"
            )

    def _item_set(self, length: int, say: Callable[[str], None]) -> ItemSet:
        made = ItemSet(length=length, items=tuple(self._items(length)))
        if NATURAL in self.config.tasks["probe"]:
            self._check_natural(made, say)
        say(f"probe {length:,}: {plural(len(made.items), 'item')}")
        return made

    def _items(self, length: int) -> Iterator[Item]:
        config = self.config
        count, seed, ablation = config.count, config.seed, config.ablation
        if self.world is not None:
            return recall_items(
                self.world, length=length, count=count, seed=seed, ablation=ablation
            )
        return probe_items(
            config.tasks["probe"], self.haystack, self.vocabulary.piece,
            length=length, count=count, seed=seed, ablation=ablation,
        )  # fmt: skip

    def _check_natural(self, made: ItemSet, say: Callable[[str], None]) -> None:
        """Says if the haystack has too few places for the task `natural`."""
        wanted = self.config.count * len(distances(made.length))
        found = sum(item.task == NATURAL for item in made.items)
        if not made.items:
            raise UsageError(
                f"no item of the task {NATURAL} can be made: no sequence of tokens comes back in "
                f"{made.length:,} tokens of a document and stands nowhere else",
                where=self.haystack.name,
                expected="documents in which rare names and words come back",
                fix="give longer --lengths, another --haystack, or other --tasks",
            )
        if found < wanted:
            say(
                f"caution: {NATURAL} has only {found:,} of {plural(wanted, 'item')} of "
                f"{made.length:,} tokens: the haystack has no more places where a rare sequence "
                "of tokens comes back at such distances"
            )

    def identity(self, item_set: ItemSet) -> dict[str, Any]:
        """The fields of a manifest that say which items of the probe they are."""
        return {
            "suite": "probe",
            "suite_version": VERSION,
            "length": item_set.length,
            "tasks": list(self.config.tasks["probe"]),
            "seed": self.config.seed,
            "ablation": self.config.ablation,
            "haystack": (self.world or self.haystack).digest,
            "tokenizer": self.vocabulary.digest,
            "items": item_set.digest,
        }


def open_inputs(
    config: EvaluateConfig, subjects: Sequence[Subject], say: Callable[[str], None]
) -> Inputs:
    """Opens the tokenizer and the haystack.

    Args:
        config: the settings.
        subjects: what is evaluated.
        say: is told what is copied from a server, and what takes long to read.

    Raises:
        UsageError: no haystack or no length is given, or what is given is not there.
        IncompleteError, FormatError: the shard set or the tokenizer cannot be read.
    """
    place = config.haystack or _shards_of(subjects)
    is_remote = "://" in place
    if not is_remote and not Path(place).exists():
        raise UsageError(
            "there is no such haystack",
            where=place,
            expected="a shard set, a file named *.txt or *.jsonl, or a world.json",
            fix="name one with --haystack",
        )
    shards = open_set(place, say) if is_remote or Path(place).is_dir() else None
    world, longest = read_world(Path(place)) if is_world(place) else (None, None)
    if shards is None and "buckets" in config.suites:
        raise UsageError(
            "the suite buckets reads the validation windows of a shard set",
            where=place,
            expected="--haystack SHARDS",
        )
    trained = [subject.window for subject in subjects if subject.window]
    window = next(iter(trained), shards.window if shards else longest)
    lengths = config.lengths or (window and tuple(f * window for f in FACTORS))
    if not lengths:
        raise UsageError(
            "neither a run nor a shard set tells a trained window",
            fix="say how long the items are: --lengths 4096,8192",
        )
    if shards is not None:
        for line in _leaks(shards, subjects):
            say(f"caution: {line}")
    vocabulary = read_vocabulary(_tokenizer(config, subjects, shards, world, place))
    if world is not None:
        check_tokenizer(world, vocabulary.tokenizer, vocabulary.path)
    elif shards is None and (size := Path(place).stat().st_size) >= LONG_TO_READ:
        say(f"reading a haystack of {size / 1e6:,.1f} MB of text")
    return Inputs(
        config=config,
        vocabulary=vocabulary,
        shards=shards,
        world=world,
        place=place,
        lengths=tuple(sorted({*lengths})),
    )


def _leaks(haystack: ShardSet, subjects: Sequence[Subject]) -> Iterator[str]:
    """A caution for each set that a run was trained on and that may share its documents.

    Sets that are elsewhere, or not there any more, are not looked at.
    """
    runs = [subject.recorded["settings"] for subject in subjects if subject.recorded is not None]
    paths = {path for run in runs for path in run.get("mix") or (run["shards"],)}
    trained: list[ShardSet] = []
    for path in sorted(path for path in paths if (Path(path) / MANIFEST).is_file()):
        with suppress(ExactcptError):  # the evaluation does not need it
            trained.append(open_set(path))
    return leaks(trained, haystack, what="the haystack")


def _shards_of(subjects: Sequence[Subject]) -> str:
    """The shards of the first run."""
    for subject in subjects:
        if subject.recorded is not None:
            return subject.recorded["settings"]["shards"]
    raise UsageError(
        "no haystack is given, and no run whose shards could be one",
        expected="--haystack SHARDS, or a file named *.txt or *.jsonl",
    )


def _tokenizer(
    config: EvaluateConfig,
    subjects: Sequence[Subject],
    shards: ShardSet | None,
    world: World | None,
    place: str,
) -> Path:
    if shards is not None:
        return shards.tokenizer
    if world is not None:
        return Path(place).parent / TOKENIZER
    if config.tokenizer is not None:
        return Path(local_tokenizer(config.tokenizer))
    if subjects:
        return subjects[0].model_folder
    raise UsageError(
        "a text file has no tokenizer",
        where=config.haystack,
        fix="name a folder or a tokenizer.json with --tokenizer",
    )
