"""What the README.md of a data set's clone declares about its files.

    ---
    configs:
    - config_name: default
      data_files:
      - split: train
        path: data/train-*
    ---

The `datasets` library reads what the default configuration lists and nothing else: other
configurations are often samples of the same data.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fsspec.utils import glob_translate

from .named_splits import TRAIN, split_by_name

__all__ = ["NOT_LISTED", "Declared", "read_card"]

BORDER = "---"
NOT_LISTED = "not listed"
"""In place of the split of a file that the default configuration does not list."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What a README.md says.

    Attributes:
        configs: the names of all configurations.
        default: the name of the one that is read, or None if none is the default.
        folder: the folder that it is limited to, with a slash at the end, or empty.
        files: split -> patterns of the files that belong to it; None to go by their names.
    """

    configs: Sequence[str]
    default: str | None
    folder: str = ""
    files: dict[str, list[re.Pattern[str]]] | None = None

    def split_of(self, name: str) -> str | None:
        """The split of a file, None if nothing tells it, or NOT_LISTED."""
        if not name.startswith(self.folder):
            return NOT_LISTED
        inside = name[len(self.folder) :]
        if self.files is None:
            return split_by_name(inside)
        for split, patterns in self.files.items():
            if any(pattern.match(inside) for pattern in patterns):
                return split
        return NOT_LISTED


def read_card(text: str) -> Declared | None:
    """Reads the configurations that a README.md declares; None if it declares none.

    Raises:
        ValueError: they are not what the `datasets` library understands.
    """
    metadata = _metadata(text)
    if not any(line.startswith("configs:") for line in metadata):
        return None
    if any("<<" in line for line in metadata):
        raise ValueError("they have keys to merge (<<), of which few lines can become gigabytes")
    from huggingface_hub import DatasetCard

    card = "\n".join([BORDER, *metadata, BORDER])
    try:
        configs: Any = DatasetCard(card, ignore_metadata_errors=True).data.get("configs")
        return _declared(configs) if configs else None
    except Exception as error:  # of YAML, or whatever a stranger's file leads to
        raise ValueError(" ".join(str(error).split())) from error


def _metadata(text: str) -> list[str]:
    """The lines of YAML at the beginning, between two borders, but for blank ones; or none.

    A search by a regular expression, such as the library's own, takes for ever if a stranger's file
    has a million blank lines.
    """
    first, *lines = (line.rstrip() for line in text.lstrip().split("\n"))
    ends = [i for i, line in enumerate(lines) if line.startswith(BORDER)]
    return [line for line in lines[: ends[0]] if line] if first == BORDER and ends else []


def _declared(configs: Sequence[dict[str, Any]]) -> Declared:
    names = [_name(config["config_name"]) for config in configs]
    defaults = [
        config
        for config, name in zip(configs, names, strict=True)
        if len(names) == 1 or name == "default" or config.get("default")
    ]
    if not defaults:
        return Declared(configs=names, default=None)
    config = defaults[0]
    folder = _name(config.get("data_dir") or "").removeprefix("./").strip("/")
    listed = config.get("data_files")
    return Declared(
        configs=names,
        default=_name(config["config_name"]),
        folder=f"{folder}/" if folder else "",
        files=None if listed is None else _patterns(listed),
    )


def _name(value: Any) -> str:
    """A name that YAML may take for a number or a date; lists of lists could be endless as text."""
    if isinstance(value, list | dict):
        raise ValueError("a name is a list or a mapping")
    return str(value)


def _patterns(listed: Any) -> dict[str, list[re.Pattern[str]]]:
    """The patterns by split: of a text, of a list of texts, or of a list of splits with paths."""
    entries = [listed] if isinstance(listed, str) else listed
    found: dict[str, list[re.Pattern[str]]] = {}
    for entry in entries:
        split, paths = (TRAIN, entry) if isinstance(entry, str) else (entry["split"], entry["path"])
        for path in [paths] if isinstance(paths, str) else paths:
            found.setdefault(split, []).append(re.compile(glob_translate(path.removeprefix("./"))))
    return found
