"""The items of `nolima` of every length."""

from collections.abc import Callable, Sequence

import xxhash

from ....schemas.sizes import plural
from ..config import EvaluateConfig
from ..results import content_digest
from ..ruler.items import item_table
from ..ruler.sets import RulerSet
from ..vocabulary import Vocabulary
from .data import check_given, read_books, read_tests
from .items import nolima_items, shelf_of

__all__ = ["LENGTHS", "nolima_sets"]

VERSION = 1

LENGTHS = (250, 500, 1000, 2000, 4000, 8000, 16000, 32000)
"""Tokens of the haystack, as in the tables of the authors."""


def nolima_sets(
    config: EvaluateConfig,
    vocabulary: Vocabulary,
    longest: int | None,
    say: Callable[[str], None],
) -> list[RulerSet]:
    """Makes the items of every length.

    Args:
        config: the settings.
        vocabulary: the tokenizer of the models.
        longest: the longest haystack, if no lengths are given; None for the longest of `LENGTHS`.
        say: takes a line for a person.

    Raises:
        UsageError: no data are given, a needle set is not there, or a book is too short.
        FormatError: the data have another form.
    """
    folder = check_given(config.nolima)
    tasks = config.tasks["nolima"]
    sets = {task: read_tests(folder, task) for task in tasks}
    books = read_books(folder)
    lengths = sorted({*(config.lengths or _lengths(longest))})
    shelf = shelf_of(books, vocabulary, lengths[-1])
    shelf.check_holds(lengths[-1])
    digests = [books.digest, *(digest for _, digest in sets.values())]
    data = xxhash.xxh3_128_hexdigest(" ".join(digests).encode())
    found: list[RulerSet] = []
    for length in lengths:
        items = tuple(
            item
            for task, (tests, _) in sets.items()
            for item in nolima_items(
                task, tests, shelf, length=length, count=config.count, seed=config.seed
            )
        )
        table = item_table(items, length)
        say(f"nolima {length:,}: {plural(len(items), 'item')}")
        found.append(
            RulerSet(
                items=items,
                table=table,
                identity={
                    "suite": "nolima",
                    "suite_version": VERSION,
                    "length": length,
                    "tasks": list(tasks),
                    "seed": config.seed,
                    "ablation": None,
                    "haystack": data,
                    "tokenizer": vocabulary.digest,
                    "items": content_digest(table),
                },
            )
        )
    return found


def _lengths(longest: int | None) -> Sequence[int]:
    return [each for each in LENGTHS if longest is None or each <= longest] or LENGTHS[:1]
