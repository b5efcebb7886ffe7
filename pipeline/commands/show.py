"""The command `show`."""

import io
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import xxhash

from ...schemas.errors import UsageError
from ...schemas.manifest import MANIFEST, Manifest
from ...schemas.settings import flag_of
from ...schemas.shard import TRAIN
from ...schemas.terminal import console
from ..files.storage import Folder
from ..job.places import file_to_write
from ..shard_set.recognize import open_shard_set
from ..show.decoding import open_tokenizer
from ..show.lines import View
from ..show.views import document_view, first_view, heaviest_view, step_view, window_view
from .invocation import folder_at

__all__ = ["run_show"]


def run_show(flags: Mapping[str, Any]) -> None:
    """Prints windows of a shard set, or writes them as a web page."""
    _check_choice(flags)
    page = file_to_write("--html", flags["html"]) if flags["html"] else None
    order: Any = None if flags["run"] is None else _order(Path(flags["run"]))
    shards = folder_at(flags["shards"] or order.shards)
    manifest = open_shard_set(shards)
    if order is not None:
        _require_same(shards, order, str(flags["run"]))
    tokenizer = open_tokenizer(shards)
    view = _view(flags, shards, manifest, order)
    if page is not None:
        _write(view, tokenizer, *page)
    else:
        _print(view, tokenizer)


def _check_choice(flags: Mapping[str, Any]) -> None:
    """Checks that one thing is asked for, and all that it needs is there."""
    asked = [name for name in ("window", "doc", "heaviest", "step") if flags[name] is not None]
    if len(asked) > 1:
        raise UsageError(
            f"both {flag_of(asked[0])} and {flag_of(asked[1])} are given", expected="one of them"
        )
    if (flags["run"] is None) != (flags["step"] is None):
        given, missing = ("step", "run") if flags["run"] is None else ("run", "step")
        raise UsageError(f"{flag_of(given)} is given without {flag_of(missing)}", expected="both")
    if flags["run"] is not None and flags["split"] is not None:
        raise UsageError("a step has training windows alone", fix="leave --split out")
    if flags["shards"] is None and flags["run"] is None:
        raise UsageError("SHARDS is missing", expected="the folder of a shard set")


def _order(run: Path) -> Any:
    """The order of a run, as its half of the program reads it."""
    (entry,) = entry_points(group="exactcpt.answers", name="run-order")
    return entry.load()(run)


def _require_same(shards: Folder, order: Any, run: str) -> None:
    """Checks that the run trained on these shards: with others, its steps took other windows."""
    if xxhash.xxh3_128_hexdigest(shards.read(MANIFEST)) != order.fingerprint:
        raise UsageError(
            "these are not the shards of the run",
            where=shards.url,
            expected=f"the shard set that {run} trained on: {order.shards} when it began",
        )


def _view(flags: Mapping[str, Any], shards: Folder, manifest: Manifest, order: Any) -> View:
    """What was asked for: a document, the heaviest segments, a step, a window, or a first look."""
    split = flags["split"] or TRAIN
    if flags["doc"] is not None:
        return document_view(shards, manifest, flags["doc"])
    if flags["heaviest"] is not None:
        return heaviest_view(shards, manifest, split, flags["heaviest"])
    if order is not None:
        step, total = flags["step"], manifest["splits"][TRAIN]["windows"]
        taken = "" if step <= order.taken else ", which is not taken yet"
        title = f"step {step:,} of {flags['run']}{taken}"
        return step_view(shards, manifest, title, order.windows_of(step, total))
    if flags["window"] is not None:
        return window_view(shards, manifest, split, flags["window"])
    return first_view(shards, manifest, split)


def _write(view: View, tokenizer: Any, folder: Folder, name: str) -> None:
    from ..show.as_html import page

    folder.write(name, page(view, tokenizer).encode())


def _print(view: View, tokenizer: Any) -> None:
    from ..show.text import print_view

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    print_view(view, tokenizer, console())
