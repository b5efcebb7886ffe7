"""The token store beside a shard set."""

import xxhash

from ...schemas.manifest import MANIFEST, SHARD_SET, parse
from ..files.storage import Folder

__all__ = ["store_beside", "store_place"]


def store_place(shards: Folder) -> Folder:
    """The folder where the token store of a shard set is kept by default: SHARDS.store."""
    return Folder(f"{shards.url.rstrip('/')}.store")


def store_beside(shards: Folder) -> Folder | None:
    """The token store at `store_place`, if the shard set was packed from it.

    Raises:
        FormatError: the manifest of the shard set is not one.
    """
    store = store_place(shards)
    if not (shards.exists(MANIFEST) and store.exists(MANIFEST)):
        return None
    manifest = parse(shards.read(MANIFEST), shards.url_of(MANIFEST), SHARD_SET)
    digest = xxhash.xxh3_128_hexdigest(store.read(MANIFEST))
    return store if manifest["store"] == {"manifest_xxh3_128": digest} else None
