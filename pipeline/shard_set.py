"""A finished shard set, as those read it who do not verify it."""

from ..schemas.errors import IncompleteError
from ..schemas.manifest import MANIFEST, SHARD_SET, Manifest, parse
from .job import JOB
from .storage import Folder

__all__ = ["read_shard_set"]


def read_shard_set(shards: Folder) -> Manifest:
    """The manifest of a shard set.

    Raises:
        IncompleteError: there is none.
        FormatError: it is no manifest of a shard set, or of a newer version.
    """
    if not shards.exists(MANIFEST):
        begun = shards.exists(f"{JOB}/state.json")
        raise IncompleteError(
            "this shard set is not finished" if begun else "this is no shard set",
            where=shards.url,
            expected="a folder that `exactcpt prepare` or `pack` has completed",
            fix="run the job again; it goes on where it stopped" if begun else None,
        )
    return parse(shards.read(MANIFEST), shards.url_of(MANIFEST), SHARD_SET)
