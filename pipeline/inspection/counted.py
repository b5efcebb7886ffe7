"""The inspection of a token store or shard set: exact figures for any settings.

A token store answers for any window, packing and weights, from its index. A shard set is
already packed: it answers for any weights, from its manifest and the segment lengths of its
windows.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from ...schemas.errors import FormatError
from ...schemas.manifest import Manifest
from ...schemas.shard import GIVEN, PADDING, TRAIN
from ...schemas.sizes import plural
from ..config import PackConfig
from ..core.choices import PackingName
from ..core.weighting import weigh_by
from ..core.whatif import Counter, Exposure, SourceExposure, windows_by_largest_context
from ..files.storage import Folder
from ..pack.settings import Settings, pack_settings, settings_with, table_for
from ..pack.store_files import manifest_digest, refuse_replaced
from ..pack.task import PackTask, pack_task, store_parts
from ..shard_set.counts import SegmentCount
from ..shard_set.manifest import SEE_VERIFY, reading
from ..shard_set.windows import Segments, read_segments
from .command_lines import pack_command, reweigh_command
from .occurrences import index_reader, longest_document, training_groups
from .subject import Row, Subject

__all__ = ["inspect_shards", "inspect_store", "row_of"]

Packed = tuple[int, PackingName]
"""A window in tokens, and a packing."""


def inspect_store(
    store: Folder, path: str, manifest: Manifest, configs: Sequence[PackConfig]
) -> Subject:
    """Counts what packing a token store with each configuration would give.

    Args:
        store: the token store.
        path: its path as commands name it.
        manifest: its manifest.
        configs: alike but for window, packing, and the parameters of the weights.

    Raises:
        UsageError: a source that is mixed does not exist.
        FormatError: an index is missing or damaged.
        ExactcptError: the store has been replaced meanwhile.
    """
    names = [source["name"] for source in manifest["sources"]]
    settings = [pack_settings(config, names) for config in configs]
    packings: dict[Packed, None] = {(one.window, one.packing): None for one in configs}
    with refuse_replaced(store, manifest_digest(store)):
        parts = store_parts(manifest, store, kinds=("index",))
        task = pack_task(configs[0], manifest, parts, store, store)
        exposures, longest = _expose(task, list(packings), store, names)
    return Subject(
        path=path,
        kind="token store",
        manifest=manifest,
        longest_document=longest,
        rows=tuple(
            row_of(one, exposures[one["window"], one["packing"]], pack_command(path, one))
            for one in settings
        ),
    )


def _expose(
    task: PackTask,
    packings: Sequence[Packed],
    store: Folder,
    names: Sequence[str],
) -> tuple[dict[Packed, Exposure], int]:
    """The exposure of each window and packing, and the tokens of the longest document."""
    with index_reader(store, task) as read:
        longest = longest_document(task, read)
        counters: dict[Packed, Counter] = {
            (window, packing): Counter(window, packing, task.sources, longest)
            for window, packing in packings
        }
        for group in training_groups(task, read):
            for counter in counters.values():
                counter.add(group)
    return {key: _with(counter.exposure(), names) for key, counter in counters.items()}, longest


def _with(exposure: Exposure, names: Sequence[str]) -> Exposure:
    """Adds the sources without a stored document, in the order of the manifest."""
    none = SourceExposure(documents=0, tokens=0, histogram=np.zeros_like(exposure.histogram))
    return replace(exposure, sources={name: exposure.sources.get(name, none) for name in names})


def inspect_shards(
    shards: Folder,
    path: str,
    manifest: Manifest,
    weighings: Sequence[Mapping[str, Any]],
    store: str | None,
) -> Subject:
    """Counts what a shard set has, with each weighing.

    Args:
        shards: the shard set.
        path: its path as commands name it.
        manifest: its manifest.
        weighings: parameters of the weights that replace the set's own.
        store: the path of its token store, if it is known.

    Raises:
        ExactcptError: a file is missing or damaged.
    """
    own = {name: value for name, value in manifest["settings"].items() if name != "tokenize"}
    longest = _longest_row(shards, manifest)
    exposure = _packed_exposure(shards, manifest, longest)
    settings = [settings_with(own, weighing) for weighing in weighings]
    return Subject(
        path=path,
        kind="shard set",
        manifest=manifest,
        longest_document=longest,
        rows=tuple(row_of(one, exposure, _command(path, own, one, store)) for one in settings),
    )


def _command(shards: str, own: Settings, settings: Settings, store: str | None) -> str:
    """The command that makes a shard set with these settings, given those of its own."""
    if "table" in settings:
        return shlex.join(["exactcpt", "reweigh", shards, "--table", "FILE", "--out", "OUT"])
    if settings == own and settings["packing"] != GIVEN:
        return pack_command(store or "STORE", settings)
    return reweigh_command(shards, settings)


def _packed_exposure(shards: Folder, manifest: Manifest, longest_document: int) -> Exposure:
    window, split = manifest["settings"]["window"], manifest["splits"][TRAIN]
    longest = np.zeros(min(window, longest_document) + 1, np.int64)
    count = SegmentCount(window)
    for some in read_segments(shards, manifest, TRAIN):
        count.add(some)
        _add_longest_segments(some, longest, shards.url)
    count.check(manifest, TRAIN, shards)
    used = np.flatnonzero(longest)
    return Exposure(
        window=window,
        windows=split["windows"],
        segments=split["segments"],
        cut_documents=split["cut_documents"],
        largest_context=int(used[-1]) - 1 if len(used) else 0,
        windows_by_largest=windows_by_largest_context(longest, window),
        sources={
            source["name"]: SourceExposure(
                documents=source["splits"][TRAIN]["documents"],
                tokens=source["splits"][TRAIN]["tokens"],
                histogram=np.array(source["splits"][TRAIN]["histogram"], np.int64),
            )
            for source in manifest["sources"]
        },
    )


def _add_longest_segments(found: Segments, windows: NDArray[np.int64], where: str) -> None:
    """Counts windows by their largest effective context of a target + 1.

    That is the length of their longest segment, where all targets are supervised.

    Args:
        found: the segments of whole windows.
        windows: the counts, by lengths up to that of the longest document.
        where: the shard set's name in errors.

    Raises:
        FormatError: a segment is longer than the longest document.
    """
    is_padding = found.document == PADDING
    lengths = np.where(is_padding, 0, found.length)
    counted = lengths if found.spans is None else found.spans.largest_contexts() + 1
    if (longest := int(lengths.max(initial=0))) >= len(windows):
        raise FormatError(
            f"the shards have a segment of {plural(longest, 'token')}",
            where=where,
            expected=f"at most {len(windows) - 1:,}, the length of the longest document",
            fix=SEE_VERIFY,
        )
    first = np.flatnonzero(np.diff(found.window, prepend=-1))
    np.add.at(windows, np.maximum.reduceat(counted, first), 1)


def _longest_row(shards: Folder, manifest: Manifest) -> int:
    """The tokens of the longest document in the documents table."""
    longest = 0
    for file in manifest["documents"]:
        with reading(shards, file), shards.open_ranges(file["path"]) as source:
            table = pq.ParquetFile(source).read(columns=["n_tokens"])
            longest = max(longest, int(np.max(table["n_tokens"].to_numpy(), initial=0)))
    return longest


def row_of(settings: Settings, exposure: Exposure, command: str) -> Row:
    """The row of an exposure that was counted, with the weights of some settings."""
    return Row(
        settings=settings,
        exposure=exposure,
        weighting=weigh_by(
            table_for(exposure.histogram.tolist(), settings), exposure, settings["tau"]
        ),
        command=command,
    )
