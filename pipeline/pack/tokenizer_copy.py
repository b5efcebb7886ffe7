"""The tokenizer's copy in a token store or a shard set, on its way into another shard set."""

import hashlib

from ...schemas.errors import FormatError, IncompleteError
from ...schemas.manifest import TOKENIZER, Manifest
from ..files.storage import Folder

__all__ = ["read_tokenizer"]


def read_tokenizer(folder: Folder, manifest: Manifest, kind: str) -> bytes:
    """The bytes of a folder's tokenizer.

    Args:
        folder: a token store or shard set.
        manifest: its manifest.
        kind: what errors call the folder.

    Raises:
        IncompleteError: there is none.
        FormatError: it is not the tokenizer that the manifest names.
    """
    try:
        data = folder.read(TOKENIZER)
    except FileNotFoundError:
        raise IncompleteError(
            f"the {kind} has no {TOKENIZER}",
            where=folder.url_of(TOKENIZER),
            fix=f"copy the tokenizer that the {kind} was made with to this path",
        ) from None
    found, expected = hashlib.sha256(data).hexdigest(), manifest["tokenizer"]["sha256"]
    if found != expected:
        raise FormatError(
            f"the {kind}'s tokenizer is not the one that its manifest names",
            where=folder.url_of(TOKENIZER),
            expected=f"sha256 {expected}, not {found}",
            fix="restore the file, or write the folder again",
        )
    return data
