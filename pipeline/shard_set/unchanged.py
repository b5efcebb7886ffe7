"""Whether a shard set is still the one that a reader began with.

A job that replaces a set removes its manifest first and writes the new one last. So if the manifest
is the old one after a file was opened, that file belongs to it.
"""

from ...schemas.errors import FormatError
from ...schemas.manifest import MANIFEST, SHARD_SET, Manifest, parse
from ..files.storage import Folder

__all__ = ["Unchanged"]


class Unchanged:
    """Compares the manifest of a set with the one that was read; reads it again only if need be.

    Args:
        shards: the shard set.
        manifest: as it was read.
    """

    def __init__(self, shards: Folder, manifest: Manifest) -> None:
        self._shards, self._manifest = shards, manifest
        self._stamp: str | None = None

    def check(self) -> None:
        """To be called after a file was opened, before what it has is used.

        Raises:
            FormatError: the set was replaced or removed.
        """
        try:
            stamp = self._shards.stamp(MANIFEST)
            if stamp != self._stamp:
                data = self._shards.read(MANIFEST)
                same = parse(data, self._shards.url_of(MANIFEST), SHARD_SET) == self._manifest
                self._stamp = stamp if same else None
        except FileNotFoundError:
            self._stamp = None
        if self._stamp is None:
            raise FormatError(
                "the shard set was replaced while it was read",
                where=self._shards.url,
                expected="the set that was there at the start",
                fix="run the command again when the job that writes it has finished",
            )
