"""Folders that the `datasets` library saved, with a list of the files that belong to them."""

from pathlib import PurePosixPath
from typing import Any

from ...schemas.errors import ExactcptError, FormatError
from ...schemas.json_text import parse_json

__all__ = ["saved_files"]


def saved_files(fs: Any, folder: str) -> list[str] | None:
    """The paths of the data files of a saved `Dataset`; None if the folder is none.

    Raises:
        ExactcptError: the folder is a saved `DatasetDict`.
        FormatError: the folder's state.json does not list its files.
    """
    if fs.exists(f"{folder}/dataset_dict.json"):
        splits = sorted(PurePosixPath(p).name for p in fs.ls(folder, detail=False) if fs.isdir(p))
        raise ExactcptError(
            "this folder is a saved DatasetDict of several splits",
            where=folder,
            fix=f"name one of its folders: {', '.join(splits)}",
        )
    state = f"{folder}/state.json"
    if not fs.exists(state) or not fs.exists(f"{folder}/dataset_info.json"):
        return None
    try:
        names = [file["filename"] for file in parse_json(fs.cat_file(state))["_data_files"]]
        if any(PurePosixPath(name).name != name for name in names):
            raise ValueError("a file of another folder")
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(
            f"a saved data set does not say which files it has: {error!r}",
            where=state,
            expected="_data_files: a list of files in this folder, as Dataset.save_to_disk writes",
            fix="save the data set again, or name its files with a glob such as DIR/*.arrow",
        ) from None
    return [f"{folder}/{name}" for name in names]
