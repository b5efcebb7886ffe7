"""The command `show`."""

import io
import sys
from collections.abc import Mapping
from typing import Any

from ...schemas.errors import UsageError
from ...schemas.manifest import Manifest
from ...schemas.settings import flag_of
from ...schemas.shard import TRAIN
from ...schemas.terminal import console
from ..files.storage import Folder
from ..job.places import file_to_write
from ..shard_set.recognize import open_shard_set
from ..show.decoding import open_tokenizer
from ..show.lines import View
from ..show.views import document_view, heaviest_view, window_view
from .invocation import folder_at

__all__ = ["run_show"]


def run_show(flags: Mapping[str, Any]) -> None:
    """Prints windows of a shard set, or writes them as a web page."""
    asked = [name for name in ("window", "doc", "heaviest") if flags[name] is not None]
    if len(asked) > 1:
        raise UsageError(
            f"both {flag_of(asked[0])} and {flag_of(asked[1])} are given", expected="one of them"
        )
    page = file_to_write("--html", flags["html"]) if flags["html"] else None
    shards = folder_at(flags["shards"])
    manifest = open_shard_set(shards)
    tokenizer = open_tokenizer(shards)
    view = _view(flags, shards, manifest)
    if page is not None:
        _write(view, tokenizer, *page)
    else:
        _print(view, tokenizer)


def _view(flags: Mapping[str, Any], shards: Folder, manifest: Manifest) -> View:
    """What was asked for: a document, the heaviest segments, or a window."""
    split = flags["split"] or TRAIN
    if flags["doc"] is not None:
        return document_view(shards, manifest, flags["doc"])
    if flags["heaviest"] is not None:
        return heaviest_view(shards, manifest, split, flags["heaviest"])
    return window_view(shards, manifest, split, flags["window"] or 0)


def _write(view: View, tokenizer: Any, folder: Folder, name: str) -> None:
    from ..show.as_html import page

    folder.write(name, page(view, tokenizer).encode())


def _print(view: View, tokenizer: Any) -> None:
    from ..show.text import print_view

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    print_view(view, tokenizer, console())
