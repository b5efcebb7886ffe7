"""The file world.json; the format is in schemas/README.md."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ....schemas.errors import FormatError, UsageError
from ....schemas.manifest import FORMAT_VERSION, RECALL_WORLD, dump, parse
from ....schemas.regular import read_regular
from .config import WorldConfig
from .world import UNKNOWN, World

__all__ = ["TOKENIZER", "WORLD", "check_tokenizer", "read_world", "world_record"]

WORLD = "world.json"
TOKENIZER = "tokenizer"
"""Name of the folder with the tokenizer, beside the file."""

MOST_BYTES = 1 << 26


def world_record(world: World, config: WorldConfig, corpora: Sequence[dict[str, Any]]) -> bytes:
    """The bytes of world.json.

    Args:
        world: the language.
        config: the settings that it and its corpora were made from.
        corpora: what the file says of each corpus.
    """
    return dump(
        {
            "format": RECALL_WORLD,
            "format_version": FORMAT_VERSION,
            "fillers": world.fillers,
            "keys": world.keys,
            "values": world.values,
            "successors": [list(row) for row in world.successors],
            "digest": world.digest,
            "window": config.window,
            "tau": config.tau,
            "seed": config.seed,
            "corpora": list(corpora),
        }
    )


def read_world(path: Path) -> tuple[World, int]:
    """The language of a world.json, and the longest documents of its corpora, in tokens.

    Raises:
        UsageError: the file cannot be opened.
        FormatError: it is not what `recall-world` writes.
    """
    try:
        data = read_regular(path, MOST_BYTES)
    except OSError as error:
        raise UsageError(
            f"the recall world cannot be read: {error.strerror}", where=str(path)
        ) from None
    record = parse(data, str(path), RECALL_WORLD)
    world = World(
        fillers=record["fillers"],
        keys=record["keys"],
        values=record["values"],
        successors=tuple(tuple(row) for row in record["successors"]),
    )
    if record["digest"] != world.digest or not _is_whole(world):
        raise FormatError(
            "the recall world is not what was written: its digest is another one",
            where=str(path),
            fix="restore the file, or write the world again with `exactcpt recall-world`",
        )
    return world, record["window"]


def check_tokenizer(world: World, tokenizer: Tokenizer, path: Path) -> None:
    """Checks that the token ids are those of a world.

    Args:
        world: the language.
        tokenizer: beside it.
        path: its file, for errors.

    Raises:
        FormatError: they are not.
    """
    if tokenizer.get_vocab(True) != {word: i for i, word in enumerate(world.words)}:
        raise FormatError(
            "the tokenizer is not that of the recall world beside it",
            where=str(path),
            expected=f"{len(world.words):,} words: an end token, fillers, keys, values, {UNKNOWN}",
            fix="write the world again with `exactcpt recall-world`",
        )


def _is_whole(world: World) -> bool:
    """Whether every filler and key has successors, and these are fillers."""
    return len(world.successors) == world.fillers + world.keys and all(
        filler < world.fillers for row in world.successors for filler in row
    )
