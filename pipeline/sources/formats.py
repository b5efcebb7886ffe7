"""Chooses the files of a source among those of a folder or glob, by their names.

A source has one format:

    without format=    the files whose names show a known format; it must be the same for all
    with format=F      the files whose names show F; if there are none, those whose names show no
                       format (such as `part-00000`); if there are none again, all files
    about it           files that accompany a data set: README*, LICENSE*, *.md, and JSON files
                       that libraries write. They count only if there is nothing else; but those
                       that are text do belong to a source of text
    companions         the index of a file with tokens comes with it, see companions.py. Many
                       programs call their files .bin: it is Megatron's where an .idx is too, or
                       where there is nothing else

A warning names the files that are left out, except for hidden ones, which are never read.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ..core.choices import Format
from .companions import BESIDE_DS, BIN, IDX, without_companions

__all__ = ["SUFFIXES", "Choice", "Compression", "choose", "format_of", "formats_of"]

Compression = Literal["gzip", "zstd", "bzip2", "xz"]
SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tar": "webdataset",
    ".wet": "wet",
    BIN: "megatron",
    IDX: "megatron",
    ".ds": "datatrove",
    ".mds": "mds",
    ".npy": "npy",
}
COMPRESSED: tuple[Format, ...] = ("jsonl", "text", "csv", "tsv", "webdataset", "wet", "mds")
"""Formats whose files may be compressed as a whole."""
COMPRESSIONS: dict[str, Compression] = {
    ".gz": "gzip",
    ".zst": "zstd",
    ".zstd": "zstd",
    ".bz2": "bzip2",
    ".xz": "xz",
}
TEXTS_ABOUT = ("readme", "license", "licence", "notice", "citation", "changelog")
FILES_ABOUT = (
    "dataset_info.json",
    "dataset_infos.json",
    "dataset_dict.json",
    "state.json",
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)


def format_of(path: str) -> tuple[Format | None, Compression | None]:
    """Format and compression by a file's name; None for a format that the name does not show.

    Parquet and Arrow files compress their content, so there is no format `.parquet.gz`; of files of
    token ids, ranges are read.
    """
    if path.endswith(BESIDE_DS):
        return "datatrove", None
    stem, suffix = _split(path.rpartition("/")[2])
    compression = COMPRESSIONS.get(suffix)
    if compression:
        suffix = _split(stem)[1]
    by_name = SUFFIXES.get(suffix)
    return (None if compression and by_name not in COMPRESSED else by_name), compression


def formats_of(paths: Iterable[str]) -> dict[str, Format | None]:
    """The format of each of some files that are together; None where none shows it."""
    found: dict[str, Format | None] = {path: format_of(path)[0] for path in paths}
    is_megatron = any(path.endswith(IDX) for path in found) or set(found.values()) == {"megatron"}
    if not is_megatron:
        found |= {path: None for path, kind in found.items() if kind == "megatron"}
    return found


def _split(name: str) -> tuple[str, str]:
    """A name without its suffix, and the suffix in lower case; a listing asks it of every file."""
    stem, dot, suffix = name.rpartition(".")
    return (stem, f"{dot}{suffix}".lower()) if stem else (name, "")


def _is_about(path: str) -> bool:
    name = path.rpartition("/")[2].lower()
    if format_of(path)[0] == "text":
        return name.partition(".")[0] in TEXTS_ABOUT or "md" in name.split(".")[1:]
    return name in FILES_ABOUT


def _grouped(
    formats: Mapping[str, Format | None], *, about: bool
) -> dict[Format | None, list[str]]:
    """Either the files about the data set or all others, by format."""
    groups: dict[Format | None, list[str]] = {}
    for path, kind in formats.items():
        if _is_about(path) == about:
            groups.setdefault(kind, []).append(path)
    return groups


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The files that are read, and those that are left out.

    Attributes:
        formats: the files by format; more than one format is an error.
        left_out: the files that are not read.
    """

    formats: Mapping[Format, Sequence[str]]
    left_out: Sequence[str]


def choose(paths: Sequence[str], wanted: Format | None) -> Choice:
    """Chooses among files by their names, as the module's docstring says.

    Args:
        paths: the files.
        wanted: the format asked for, or None to go by their names.
    """
    shown = formats_of(paths)
    data_files = without_companions(paths)
    by_name: dict[str, Format | None] = {path: shown[path] for path in data_files}
    data, about = _grouped(by_name, about=False), _grouped(by_name, about=True)
    if wanted is not None:
        mine = data.get(wanted) or data.get(None) or about.get(wanted) or data_files
        formats: dict[Format, list[str]] = {wanted: mine}
    else:
        formats = _named(data) or _named(about)
    if "text" in formats:
        formats["text"] = sorted({*formats["text"], *about.get("text", [])})
    read = {path for some in formats.values() for path in some}
    return Choice(formats=formats, left_out=[path for path in data_files if path not in read])


def _named(groups: Mapping[Format | None, list[str]]) -> dict[Format, list[str]]:
    return {of: paths for of, paths in groups.items() if of is not None}
