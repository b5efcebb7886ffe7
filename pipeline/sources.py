"""Sources: the files a corpus is made of, how they are split into work, and their records.

    --source NAME=PATTERN[,text=FIELD][,id=FIELD][,tokens=FIELD][,format=F]

    files       what the pattern matches, in the order of their paths
    split       a unit of work: byte ranges of plain JSONL, row groups of Parquet, a whole
                compressed file, or several small files
    batch       records read together, a few MiB

Files and splits depend on the inputs and `split_bytes` alone.
"""

import glob
import json
import os
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ..schemas.errors import ExactcptError, UsageError
from . import hub
from .columns import batch_of_columns
from .formats import FORMATS, SUFFIXES, Choice, Compression, Format, choose, format_of
from .jsonl import Batch, Fields, Rejected, Strings, parse_block
from .storage import is_local_url, open_input, resolve

__all__ = [
    "BLOCK_BYTES",
    "BadFileError",
    "FileFacts",
    "InputFile",
    "Listing",
    "Member",
    "Source",
    "Split",
    "find_files",
    "identity",
    "join_small",
    "make_splits",
    "open_decompressed",
    "read_member",
    "record_batches",
    "scan",
]

BLOCK_BYTES = 8 << 20
"""Read at a time. A line or row that is longer is held whole."""

MAX_SPLITS = 1_000_000
"""Names of parts have six digits for the split, and their order is that of the store."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class BadFileError(ExactcptError):
    """A file that cannot be read to its end: truncated, corrupt, or not of its format."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One corpus of the job.

    Attributes:
        name: what tables and manifests call it.
        pattern: a file, folder or glob, local or as a URL; for `hub` the data set's name, as
            hub.py reads it.
        fields: what is read of a record.
        format: the format of all its files, or None to go by their names.
    """

    name: str
    pattern: str
    fields: Fields
    format: Format | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """A file, as it was when the job listed it.

    Attributes:
        source: its source's name.
        path: relative to the part of the source's pattern that has no wildcard.
        url: where it is read.
        bytes: its size, None for a data set of the hub.
        stamp: modification time, etag or revision: what changes when the file does.
        format: how it is read.
        compression: of the whole file, or None.
    """

    source: str
    path: str
    url: str
    bytes: int | None
    stamp: str
    format: Format
    compression: Compression | None

    @property
    def work(self) -> int:
        """Roughly how many bytes of text it holds, for dividing work."""
        return (self.bytes or 0) * (3 if self.compression else 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Member:
    """Bytes of plain JSONL, row groups of Parquet, a shard of the hub, or else a whole file."""

    file: InputFile
    start: int = 0
    stop: int | None = None
    work: int = 0


@dataclass(frozen=True, kw_only=True)
class Split:
    """A unit of work; its parts are named after its ordinal."""

    ordinal: int
    source: str
    members: tuple[Member, ...]

    @property
    def work(self) -> int:
        """Roughly how many bytes of text it holds."""
        return sum(member.work for member in self.members)


@dataclass(frozen=True)
class FileFacts:
    """What one pass over a file's bytes tells.

    Attributes:
        xxh3_128: its content digest.
        newlines: how many newlines precede each of the byte offsets asked for.
    """

    xxh3_128: str
    newlines: dict[int, int]


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The files of a source.

    Attributes:
        files: in the order of their paths.
        warning: which files beside them are not read, if any.
    """

    files: list[InputFile]
    warning: str | None = None


def find_files(source: Source) -> Listing:
    """The files of a source; formats.py says which of a folder are.

    Raises:
        ExactcptError: nothing matches, files of several formats do, or a file is of no known one.
    """
    if source.format == "hub":
        return Listing(files=[_hub_file(source)])
    fs, pattern = resolve(source.pattern)
    fs.invalidate_cache()
    if (info := _info(fs, pattern)) is not None and info["type"] == "file":
        name, by_name = PurePosixPath(pattern).name, format_of(pattern)[0]
        return Listing(
            files=[_describe(source.name, fs, name, pattern, info, source.format or by_name)]
        )
    root, found = _match(fs, pattern, info)
    names = {path: path[len(root) :].lstrip("/") for path in sorted(found)}
    choice = choose(list(names), source.format)
    if len(choice.formats) > 1:
        raise _several_formats(source, choice, names)
    if not choice.formats or not names:
        raise ExactcptError(
            f"source {source.name!r} matches no file",
            where=source.pattern,
            expected="a file, a folder with files of a known format, or a glob that matches some",
            fix=_what_is_there(fs, root),
        )
    [(chosen, paths)] = choice.formats.items()
    return Listing(
        files=[
            _describe(source.name, fs, names[p], p, found[p] or _info(fs, p), chosen)
            for p in sorted(paths)
        ],
        warning=_left_out(source, chosen, [names[path] for path in choice.left_out]),
    )


def _hub_file(source: Source) -> InputFile:
    pinned = hub.pin(source.pattern)
    return InputFile(
        source=source.name,
        path=pinned.label,
        url=pinned.pattern,
        bytes=None,
        stamp=pinned.stamp,
        format="hub",
        compression=None,
    )


def _several_formats(source: Source, choice: Choice, names: Mapping[str, str]) -> ExactcptError:
    found = [
        f"{len(some):,} {kind} ({_shown([names[path] for path in some])})"
        for kind, some in sorted(choice.formats.items())
    ]
    return ExactcptError(
        f"source {source.name!r} has files of several formats: {', '.join(found)}",
        where=source.pattern,
        expected="one format a source",
        fix="add ,format=F for those of one format, or a source for each with a glob such as *.txt",
    )


def _left_out(source: Source, chosen: Format, names: Sequence[str]) -> str | None:
    if not names:
        return None
    files = "1 file is" if len(names) == 1 else f"{len(names):,} files are"
    return f"source {source.name!r} is read as {chosen}; {files} left out: {_shown(names)}"


def _shown(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


Found = dict[str, dict[str, Any] | None]
"""What fsspec tells of each file; None where it is not known yet."""


def _match(fs: Any, pattern: str, info: dict[str, Any] | None) -> tuple[str, Found]:
    """The folder that paths are relative to, and the files that match."""
    parts = pattern.split("/")
    wild = [i for i, part in enumerate(parts) if any(c in part for c in "*?[")]
    if info is not None:
        return pattern, _without_hidden(_files_below(fs, pattern), pattern)
    if wild:
        root = "/".join(parts[: wild[0]])
        return root, _without_hidden(_glob(fs, pattern), root)
    return "/".join(parts[:-1]), {}


def _info(fs: Any, path: str) -> dict[str, Any] | None:
    """What fsspec tells of a path, or of what it links to; None where there is nothing."""
    try:
        return fs.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _glob(fs: Any, pattern: str) -> Found:
    # fsspec does not follow links to folders.
    if _is_local(fs):
        found = glob.iglob(pattern, recursive=True)  # noqa: PTH207 (nor does pathlib)
        return dict.fromkeys(path for path in found if not Path(path).is_dir())
    return {p: info for p, info in fs.glob(pattern, detail=True).items() if info["type"] == "file"}


def _files_below(fs: Any, folder: str) -> Found:
    """All files of a folder; of a data set that `datasets` saved, its data files."""
    if fs.exists(f"{folder}/dataset_dict.json"):
        splits = sorted(PurePosixPath(p).name for p in fs.ls(folder, detail=False) if fs.isdir(p))
        raise ExactcptError(
            "this folder is a saved DatasetDict of several splits",
            where=folder,
            fix=f"name one of its folders: {', '.join(splits)}",
        )
    if fs.exists(f"{folder}/state.json") and fs.exists(f"{folder}/dataset_info.json"):
        state = json.loads(fs.cat_file(f"{folder}/state.json"))
        return dict.fromkeys(f"{folder}/{file['filename']}" for file in state["_data_files"])
    return dict.fromkeys(_walk(folder)) if _is_local(fs) else fs.find(folder, detail=True)


def _walk(folder: str) -> Iterator[str]:
    """Files of a local folder and of the folders that links in it lead to, each folder once."""
    seen: set[str] = set()
    for at, folders, files in os.walk(folder, followlinks=True):
        folders.sort()
        if os.path.realpath(at) in seen:
            folders.clear()
        else:
            seen.add(os.path.realpath(at))
            yield from (f"{at}/{file}" for file in files)


def _is_local(fs: Any) -> bool:
    return "file" in fs.protocol


def _without_hidden(found: Found, root: str) -> Found:
    return {p: info for p, info in found.items() if "/." not in f"/{p[len(root) :]}"}


def _what_is_there(fs: Any, folder: str) -> str:
    try:
        names = sorted(PurePosixPath(path).name for path in fs.ls(folder, detail=False))
    except (OSError, ValueError):
        return f"{folder or '.'} does not exist: check the path"
    return f"{folder or '.'} has: {_shown(names, 10) or 'nothing'}"


def _describe(
    source: str,
    fs: Any,
    name: str,
    path: str,
    info: dict[str, Any] | None,
    file_format: Format | None,
) -> InputFile:
    if file_format is None:
        raise ExactcptError(
            f"source {source!r}: cannot tell the format of a file by its name",
            where=path,
            expected=f"a name that ends in {', '.join(SUFFIXES)} (.gz or .zst after it)",
            fix=f"add ,format=F to the source, F one of {', '.join(FORMATS)}",
        )
    if info is None:
        raise ExactcptError(
            "a link leads to no file", where=path, fix="mend the link, or remove it"
        )
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ExactcptError(
            "the name of a file is not UTF-8", where=ascii(path), fix="rename it"
        ) from None
    stamp = next(
        info[key]
        for key in ("mtime", "ETag", "etag", "LastModified", "created", "size")
        if key in info
    )
    return InputFile(
        source=source,
        path=name,
        url=path if _is_local(fs) else fs.unstrip_protocol(path),
        bytes=int(info["size"]) if info["size"] is not None else None,
        stamp=str(stamp),
        format=file_format,
        compression=format_of(path)[1],
    )


def make_splits(files: Iterable[InputFile], split_bytes: int) -> list[Split]:
    """Divides files into units of work of about `split_bytes` bytes of text.

    Raises:
        UsageError: there would be more than MAX_SPLITS.
    """
    members = _members(files, split_bytes)
    groups: list[list[Member]] = []
    filled = 0
    for member in members:
        fits = groups and groups[-1][-1].file.source == member.file.source
        if fits and filled + member.work <= split_bytes and _is_whole(member, groups[-1][-1]):
            groups[-1].append(member)
            filled += member.work
        else:
            groups.append([member])
            filled = member.work
    if len(groups) > MAX_SPLITS:
        raise UsageError(
            f"the input would be divided into {len(groups):,} splits",
            expected=f"at most {MAX_SPLITS:,}",
            fix="give a larger --split-bytes",
        )
    return [
        Split(ordinal=i, source=group[0].file.source, members=tuple(group))
        for i, group in enumerate(groups)
    ]


def _is_whole(*members: Member) -> bool:
    """Whether the members are whole files, not ranges of one."""
    return all(member.start == 0 and member.stop is None for member in members)


def _members(files: Iterable[InputFile], split_bytes: int) -> Iterator[Member]:
    with ThreadPoolExecutor(16) as pool:  # footers of many remote files
        for ranges in pool.map(lambda file: _ranges(file, split_bytes), files):
            yield from ranges


def _ranges(file: InputFile, split_bytes: int) -> list[Member]:
    if file.format == "jsonl" and file.compression is None and file.work > split_bytes:
        starts = range(0, file.work, split_bytes)
        stops = [*starts[1:], file.work]
        return [
            Member(file=file, start=a, stop=b, work=b - a)
            for a, b in zip(starts, stops, strict=True)
        ]
    if file.format == "parquet" and file.work > split_bytes:
        return _row_group_ranges(file, split_bytes)
    if file.format == "hub":
        shards = hub.shard_count(file.url)
        return [Member(file=file, start=i, stop=i + 1, work=split_bytes) for i in range(shards)]
    return [Member(file=file, work=file.work)]


def _row_group_ranges(file: InputFile, split_bytes: int) -> list[Member]:
    """Consecutive row groups of together about split_bytes; the whole file if its footer is broken.

    Whoever reads the file then meets the same error, and knows what to do about bad files.
    """
    try:
        with open_input(file.url) as stream:
            metadata = pq.ParquetFile(stream).metadata
            sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    except (pa.ArrowException, OSError):
        return [Member(file=file, work=file.work)]
    ranges: list[Member] = []
    for i, size in enumerate(sizes):
        if ranges and ranges[-1].work + size <= split_bytes:
            ranges[-1] = replace(ranges[-1], stop=i + 1, work=ranges[-1].work + size)
        else:
            ranges.append(Member(file=file, start=i, stop=i + 1, work=size))
    return ranges or [Member(file=file, work=file.work)]


def scan(file: InputFile, offsets: Iterable[int]) -> FileFacts:
    """Reads a file's bytes once: its digest, and the newlines before each offset (rising)."""
    digest = xxhash.xxh3_128()
    newlines: dict[int, int] = {}
    wanted = sorted(set(offsets))
    position = count = 0
    with open_input(file.url) as stream:
        for target in [*wanted, None]:
            while target is None or position < target:
                size = BLOCK_BYTES if target is None else min(BLOCK_BYTES, target - position)
                block = stream.read(size)
                if not block:
                    break
                digest.update(block)
                position += len(block)
                if target is not None:
                    count += int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n")))
            if target is not None:
                newlines[target] = count
    return FileFacts(digest.hexdigest(), newlines)


def read_member(member: Member, fields: Fields, newlines_before: int = 0) -> Iterator[Batch]:
    """The records of a member, in order.

    Args:
        member: the file, or the range of it.
        fields: what to read of a record.
        newlines_before: how many newlines of the file precede a byte range.

    Raises:
        BadFileError: the file is truncated, corrupt, or not of its format.
    """
    file = member.file
    try:
        yield from _READERS[file.format](member, fields, newlines_before)
    except (pa.ArrowException, EOFError, UnicodeDecodeError) as error:
        _refuse_changed(file)
        raise _bad_file(file, error) from None
    except OSError as error:
        # Arrow's own errors are plain ones; all others are about the disk or the network.
        if type(error) is not OSError or error.errno is not None:
            raise
        _refuse_changed(file)
        raise _bad_file(file, error) from None
    _refuse_changed(file)


def _refuse_changed(file: InputFile) -> None:
    if not is_unchanged(file):
        raise ExactcptError(
            "an input file changed while it was read",
            where=file.url,
            fix="run the job again when it rests",
        )


def identity(file: InputFile) -> Hashable:
    """What two names of one file have in common: device and inode, or the URL."""
    if file.format == "hub" or not is_local_url(file.url):
        return file.url
    status = Path(file.url).stat()
    return status.st_dev, status.st_ino


def is_unchanged(file: InputFile) -> bool:
    """Whether a local file still has the size and time it was listed with."""
    if file.format == "hub" or not is_local_url(file.url):
        return True
    now = Path(file.url).stat()
    return now.st_size == file.bytes and str(now.st_mtime) == file.stamp


def _bad_file(file: InputFile, error: Exception) -> BadFileError:
    what = " ".join(str(error).split())[:200]
    kind = f"{file.compression} " if file.compression else ""
    return BadFileError(
        f"a file cannot be read to its end: {what}",
        where=file.url,
        expected=f"{kind}{file.format}",
        fix="restore the file, or leave such files out with --on-bad-file skip",
    )


def join_small(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The same records in fewer batches: those of many small files come together."""
    waiting: list[Batch] = []
    filled = 0
    for batch in batches:
        if waiting and filled + batch.content.data.nbytes > BLOCK_BYTES:
            yield Batch.join(waiting)
            waiting, filled = [], 0
        waiting.append(batch)
        filled += batch.content.data.nbytes
    if waiting:
        yield waiting[0] if len(waiting) == 1 else Batch.join(waiting)


def _read_jsonl(member: Member, fields: Fields, newlines_before: int) -> Iterator[Batch]:
    with open_decompressed(member.file) as stream:
        line = 1
        if member.start:
            line += newlines_before + _skip_begun_line(stream, member.start)
        remaining = None if member.stop is None else member.stop - stream.tell()
        for i, block in enumerate(_blocks_of_lines(stream, remaining)):
            data = block.removeprefix(BYTE_ORDER_MARK) if i == member.start == 0 else block
            yield parse_block(data, line, member.file.path, fields)
            line += int(np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n")))


def _skip_begun_line(stream: Any, start: int) -> int:
    """Goes to the first line that begins at `start` or later; how many newlines lie between."""
    stream.seek(start - 1)
    return int(len(stream.readline()) > 1)


def _blocks_of_lines(stream: Any, remaining: int | None) -> Iterator[bytes]:
    """Blocks of whole lines, until `remaining` bytes are read and the last line is complete."""
    pending: list[bytes] = []
    while remaining is None or remaining > 0:
        chunk = stream.read(BLOCK_BYTES if remaining is None else min(BLOCK_BYTES, remaining))
        if not chunk:
            break
        remaining = None if remaining is None else remaining - len(chunk)
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield b"".join([*pending, chunk[:cut]])
            pending = []
        pending.append(chunk[cut:])
    rest = b"".join(pending)
    if rest:
        yield rest if remaining is None else rest + stream.readline()


@contextmanager
def open_decompressed(file: InputFile) -> Iterator[Any]:
    """A file's bytes as they were before compression."""
    with open_input(file.url) as raw:
        if file.compression is None:
            yield raw
        elif file.bytes == 0:
            raise EOFError("it has no bytes, not even a header")
        else:
            with pa.CompressedInputStream(pa.PythonFile(raw, "r"), file.compression) as stream:
                yield stream


def _read_parquet(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    with open_input(member.file.url) as stream:
        parquet = pq.ParquetFile(stream)
        metadata = parquet.metadata
        groups = range(
            member.start, metadata.num_row_groups if member.stop is None else member.stop
        )
        first_row = 1 + sum(metadata.row_group(i).num_rows for i in range(member.start))
        rows = sum(metadata.row_group(i).num_rows for i in groups)
        size = sum(metadata.row_group(i).total_byte_size for i in groups)
        names = set(parquet.schema_arrow.names)
        batches = parquet.iter_batches(
            batch_size=max(1, min(1 << 16, rows * BLOCK_BYTES // max(1, size))),
            row_groups=list(groups),
            columns=[name for name in (fields.id, fields.content) if name in names]
            if fields.content in names
            else None,
            use_threads=False,
        )
        yield from _column_batches(batches, member.file, fields, first_row)


def _read_arrow(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    with open_input(member.file.url) as stream:
        yield from _column_batches(record_batches(stream), member.file, fields, 1)


def record_batches(stream: Any) -> Iterable[Any]:
    """The record batches of an Arrow IPC file or stream."""
    try:
        reader = pa.ipc.open_file(stream)
    except pa.ArrowInvalid:
        stream.seek(0)
        return pa.ipc.open_stream(stream)
    return (reader.get_batch(i) for i in range(reader.num_record_batches))


def _column_batches(
    batches: Iterable[Any], file: InputFile, fields: Fields, first_row: int
) -> Iterator[Batch]:
    for whole in batches:
        step = max(1, whole.num_rows * BLOCK_BYTES // max(1, whole.nbytes))
        for start in range(0, whole.num_rows, step):
            rows = whole.slice(start, step)
            try:
                batch = batch_of_columns(rows, file.path, fields, first_row)
            except ExactcptError as error:
                raise ExactcptError(
                    f"source {file.source!r}: {error.found}",
                    where=file.url,
                    expected=error.expected,
                    fix=error.fix,
                ) from None
            yield batch
            first_row += rows.num_rows


def _read_text(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    with open_decompressed(member.file) as stream:
        data = stream.read()
    path = member.file.path
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        yield Batch(
            ids=pa.array([], pa.string()),
            content=Strings.of_texts([]),
            rejected=[Rejected(path, "line", line, "invalid UTF-8")],
        )
        return
    yield Batch(
        ids=pa.array([path]), content=Strings.of_texts([data.removeprefix(BYTE_ORDER_MARK)])
    )


def _read_hub(member: Member, fields: Fields, _: int) -> Iterator[Batch]:
    tables = hub.read_shard(member.file.url, member.start)
    # Rows are counted from 1 in each shard; ids must differ between them.
    shard = replace(member.file, path=f"{member.file.path}#{member.start}")
    yield from _column_batches(tables, shard, fields, 1)


_READERS = {
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
    "arrow": _read_arrow,
    "text": _read_text,
    "hub": _read_hub,
}
