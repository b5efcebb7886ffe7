"""Windows that a program has in memory, as a shard set."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from ...schemas.errors import UsageError
from ..beam.runner import RunSettings
from ..config import SourceConfig, TokenizeConfig
from ..files.arrow import write_batches
from ..files.storage import Folder
from ..terminal import Console
from .job import weigh
from .plan import plan_weigh

__all__ = ["write_shards"]

TOKENS_PER_BATCH = 1 << 20
NAME = "windows"
COLUMNS = pa.schema(
    [("input_ids", pa.large_list(pa.int32())), ("seq_lengths", pa.large_list(pa.int32()))]
)


def write_shards(
    out: str | Path,
    windows: Iterable[tuple[ArrayLike, ArrayLike]],
    *,
    tokenizer: str | Path,
    window: int | None = None,
    validation: Iterable[tuple[ArrayLike, ArrayLike]] = (),
    eos_token: str | None = None,
    overwrite: bool = False,
    **weighting: Any,
) -> None:
    """Writes windows that you have packed as a shard set, weighted by their own statistics.

    The windows are gone through once, and kept in a temporary folder meanwhile. It is what
    `exactcpt weigh` does with files.

    Args:
        out: the new folder, on a disk or a URL.
        windows: pairs of the token ids of a window, integers [L], and the lengths of its segments,
            integers [segments]. What follows the last segment is padding.
        tokenizer: the tokenizer.json of the ids, or a folder that contains one.
        window: L; shorter windows are padded. None for the length of the windows.
        validation: the same for validation, with all weights 1.
        eos_token: the token that ends documents; None to find it in the vocabulary.
        overwrite: whether a shard set in the folder is replaced.
        weighting: tau, alpha, gamma, epsilon and max_weight as in `weight_table`, and shard_bytes.

    Raises:
        ExactcptError: a window cannot be used; the message names it by its number, counted from 1.
        UsageError: there are no windows, or the folder holds something else.
    """
    with TemporaryDirectory(prefix="exactcpt-windows-") as folder:
        scratch = Folder(folder)
        validating = _write(scratch, "validation", validation)
        training = _write(scratch, NAME, windows)
        if training is None:
            raise UsageError("there are no windows", expected="pairs of token ids and seq_lengths")
        checksums = {NAME: training}
        if validating is not None:
            checksums["validation"] = validating
        sources = [
            SourceConfig(name=name, pattern=f"{folder}/{name}.arrow", tokens="input_ids")
            for name in checksums
        ]
        plan = plan_weigh(
            TokenizeConfig(sources=tuple(sources), tokenizer=str(tokenizer), eos_token=eos_token),
            boundaries="seq_lengths",
            window=window,
            weighting=weighting,
            validation=list(checksums)[1:],
        )
        console = Console(quiet=True)
        plan = replace(plan, identity=checksums)
        weigh(plan, Folder(str(out)), RunSettings(workers=1), console, overwrite=overwrite)


def _write(folder: Folder, name: str, windows: Iterable[tuple[ArrayLike, ArrayLike]]) -> str | None:
    """Writes windows to a file, if there are some; returns its checksum."""
    batches = _batches(windows)
    first = next(batches, None)
    if first is None:
        return None

    def all_batches() -> Iterator[pa.RecordBatch]:
        yield first
        yield from batches

    return write_batches(folder, f"{name}.arrow", COLUMNS, all_batches())["xxh3_128"]


def _batches(windows: Iterable[tuple[ArrayLike, ArrayLike]]) -> Iterator[pa.RecordBatch]:
    columns: tuple[list[Any], list[Any]] = ([], [])
    tokens = 0
    for number, (ids, lengths) in enumerate(windows, 1):
        columns[0].append(_row(ids, "token ids", number))
        columns[1].append(_row(lengths, "seq_lengths", number))
        tokens += len(columns[0][-1])
        if tokens >= TOKENS_PER_BATCH:
            yield _batch(columns)
            columns, tokens = ([], []), 0
    if columns[0]:
        yield _batch(columns)


def _row(values: ArrayLike, what: str, number: int) -> np.ndarray:
    found = np.asarray(values)
    if found.ndim != 1 or not np.issubdtype(found.dtype, np.integer):
        raise UsageError(
            f"window {number:,}: {what} of type {found.dtype} and shape {list(found.shape)}",
            expected="integers in one dimension",
        )
    if len(found) and not -(1 << 31) <= int(found.min()) <= int(found.max()) < 1 << 31:
        raise UsageError(
            f"window {number:,}: {what} do not fit into int32", expected="smaller ones"
        )
    return found.astype(np.int32)


def _batch(columns: tuple[list[Any], list[Any]]) -> pa.RecordBatch:
    lists = [
        pa.LargeListArray.from_arrays(
            pa.array(np.cumsum([0, *map(len, rows)]), pa.int64()), pa.array(np.concatenate(rows))
        )
        for rows in columns
    ]
    return pa.RecordBatch.from_arrays(lists, schema=COLUMNS)
