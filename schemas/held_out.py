"""Whether the validation documents of one shard set may be training documents of another.

Which documents are held out is decided by their content, the seed and the fraction. With one seed,
a larger fraction holds out all that a smaller one does. Sets that have read the same file with
other seeds train on each other's validation documents. Windows that were packed elsewhere do not
say which documents they have, so nothing is said of them.
"""

from collections.abc import Iterable, Iterator

from .shard import TRAIN, VALIDATION
from .shard_set import ShardSet

__all__ = ["leaks"]


def leaks(trained: Iterable[ShardSet], held: ShardSet, *, what: str) -> Iterator[str]:
    """Yields a caution for each set that may be trained on validation documents of another.

    Args:
        trained: sets that are trained on.
        held: the set whose validation documents are evaluated.
        what: what it is called, in a sentence.
    """
    for each in trained:
        mine, other = each.manifest["settings"], held.manifest["settings"]
        is_apart = (
            mine["seed"] == other["seed"]
            and mine["validation_fraction"] >= other["validation_fraction"]
        )
        if is_apart or not held.shards(VALIDATION) or not each.shards(TRAIN):
            continue
        if _read(each) & _read(held):
            yield (
                f"{what} holds out {_rule(held)} and {each.root} {_rule(each)}, of the same files: "
                "documents that the second did not hold out are trained on"
            )


def _read(shards: ShardSet) -> set[str]:
    """The checksums of the files that a set was made from."""
    return {file["xxh3_128"] for file in shards.manifest["inputs"] if file["xxh3_128"]}


def _rule(shards: ShardSet) -> str:
    settings = shards.manifest["settings"]
    return f"{settings['validation_fraction']:.2%} by seed {settings['seed']}"
