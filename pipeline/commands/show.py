"""The command `show`."""

import io
import sys
from collections.abc import Mapping
from typing import Any

from ...schemas.errors import UsageError
from ...schemas.shard import TRAIN
from ..files.storage import Folder
from ..job.places import file_to_write
from ..shard_set.recognize import open_shard_set
from ..show.decoding import open_tokenizer
from ..show.views import document_view, heaviest_view, window_view

__all__ = ["run_show"]


def run_show(flags: Mapping[str, Any]) -> None:
    """The command."""
    from rich.console import Console

    from ..show.as_html import page
    from ..show.text import print_view

    asked = [name for name in ("window", "doc", "heaviest") if flags[name] is not None]
    if len(asked) > 1:
        raise UsageError(f"--{asked[0]} and --{asked[1]}", expected="one of them")
    target = file_to_write("--html", flags["html"]) if flags["html"] else None
    shards = Folder(flags["shards"].rstrip("/"))
    manifest = open_shard_set(shards)
    tokenizer = open_tokenizer(shards)
    split = flags["split"] or TRAIN
    if flags["doc"] is not None:
        view = document_view(shards, manifest, flags["doc"])
    elif flags["heaviest"] is not None:
        view = heaviest_view(shards, manifest, split, flags["heaviest"])
    else:
        view = window_view(shards, manifest, split, flags["window"] or 0)
    if target is not None:
        folder, name = target
        folder.write(name, page(view, tokenizer).encode())
    else:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        print_view(view, tokenizer, Console(highlight=False))
