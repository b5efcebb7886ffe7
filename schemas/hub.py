"""Tokenizers and models by their name on the Hugging Face hub: OWNER/NAME or OWNER/NAME@REVISION.

A path that exists is never a name, and neither is what looks like a path: `./x`, `/x`, `x.json`, or
more than one slash. Only files that are read are fetched, into the hub's own cache, and taken from
there without a network. None of them is ever run.

    OWNER/NAME@REVISION ── fetch ── the folder of a commit in the cache ── origin_of
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .errors import ExactcptError, UsageError

__all__ = [
    "TOKENIZER_FILES",
    "HubName",
    "check_lacking",
    "fetch",
    "hub_name",
    "local_tokenizer",
    "origin_of",
]

TOKENIZER = "tokenizer.json"
TOKENIZER_FILES = (
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
)
"""What is fetched of a tokenizer; files of other libraries are not read."""

NAME = re.compile(
    r"(?P<repository>\w[\w.-]*/[\w.-]+)(@(?P<revision>(?!.*\.\.)\w[\w./-]*))?", re.ASCII
)
"""No branch has `..` in its name, and the client would write outside of its cache."""
SNAPSHOT = re.compile(r"(?:^|/)models--([^/]+?)--([^/]+)/snapshots/([0-9a-f]{40})(?:/|$)")
"""Where the cache has the files of a commit."""
SHOWN = 5
"""Files of the cache that an error names."""
LOG_IN = "if it is private, log in with an account that may read it: hf auth login"


class HubName(NamedTuple):
    """A repository of models on the hub, and the revision that is asked for; None for `main`."""

    repository: str
    revision: str | None

    def __str__(self) -> str:
        return self.repository + (f"@{self.revision}" if self.revision else "")


def hub_name(text: str) -> HubName | None:
    """A name on the hub; None for what is a path, or looks like one."""
    found = NAME.fullmatch(text)
    if found is None or text.endswith(".json") or Path(text).exists():
        return None
    return HubName(found["repository"], found["revision"])


def local_tokenizer(path: str) -> str:
    """The folder of a tokenizer that is named as on the hub; any other path as it is.

    Raises:
        UsageError, ExactcptError: as `fetch`; or the repository has no tokenizer.json.
    """
    name = hub_name(path)
    if name is None:
        return path
    folder = fetch(name, TOKENIZER_FILES)
    if not (folder / TOKENIZER).is_file():
        check_lacking(name, folder, [TOKENIZER])
        raise UsageError(
            f"the repository {name} has no {TOKENIZER}",
            expected="a tokenizer of the tokenizers library",
            fix="convert it with transformers: AutoTokenizer.from_pretrained"
            f"({name.repository!r}).save_pretrained(FOLDER) writes one; then name FOLDER",
        )
    return str(folder)


def fetch(name: HubName, files: Sequence[str]) -> Path:
    """The folder of a repository's commit in the hub's cache, with some of its files.

    Args:
        name: of the repository.
        files: the names of the files, or patterns of `fnmatch`; those that the repository lacks are
            left out.

    Raises:
        UsageError: there is no such repository or revision, or it cannot be read without logging
            in.
        ExactcptError: the hub cannot be reached, and the cache lacks some of the files.
        OSError: the disk failed.
    """
    import huggingface_hub
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # its handler writes to stderr
    library: Any = huggingface_hub  # its types are not complete
    try:
        return Path(
            library.snapshot_download(
                name.repository, revision=name.revision, allow_patterns=list(files)
            )
        )
    except Exception as error:  # of the hub's client, of its HTTP library, of the disk
        told = _told(name, error)
        if told is None:
            raise
        raise told from error


def check_lacking(name: HubName, folder: Path, files: Sequence[str]) -> None:
    """Asks the hub whether a repository really lacks what the cache lacks.

    Without the hub nobody knows: the cache may have been filled by a program that needed less.

    Args:
        name: of the repository.
        folder: its commit in the cache, as `fetch` returns it.
        files: names of files that the folder does not have.

    Raises:
        ExactcptError: the hub has one of them, or cannot be asked.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        there = [
            file for file in files if api.file_exists(name.repository, file, revision=folder.name)
        ]
    except Exception as error:  # of the hub's client, of its HTTP library
        raise _partly_cached(name, folder, _why_unasked(error)) from error
    if there:
        raise _partly_cached(name, folder, f"{there[0]} is one of the files that it lacks")


def _told(name: HubName, error: Exception) -> ExactcptError | None:
    """The error of the hub's client in words; None for an error of the disk."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return UsageError(
            f"the repository {name} may be read only by those who accept its conditions",
            where=f"https://huggingface.co/{name.repository}",
            fix="accept them on that page, and log in: hf auth login",
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return UsageError(
            f"there is no such file or folder, and no such repository on the hub: "
            f"{name.repository}",
            expected="a path, or OWNER/NAME as the Hugging Face hub has it",
            fix=f"check the spelling; {LOG_IN}",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return UsageError(
            f"the repository {name.repository} has no revision {name.revision!r}",
            expected="a branch, a tag or a whole commit hash",
        )
    if isinstance(error, errors.LocalEntryNotFoundError):
        return _not_cached(name, error)
    if isinstance(error, errors.HFValidationError):
        return UsageError(f"there is no such file or folder: {name}")
    if isinstance(error, OSError) and error.errno is not None:
        return None
    return ExactcptError(
        f"the files of {name} cannot be fetched from the hub: {_line(error)}",
        fix="run the same command again; what has arrived is kept",
    )


def _not_cached(name: HubName, error: Any) -> ExactcptError:
    why = _why_unasked(error.__cause__ or error)
    if (folder := getattr(error, "snapshot_path", None)) is not None:
        return _partly_cached(name, Path(folder), why)
    return ExactcptError(
        f"there is no such file or folder: {name}; it may be a repository of the Hugging Face hub, "
        f"but {why}",
        expected="a path, or a repository that is in the cache",
        fix="check the path, or run the command once with access to the hub",
    )


def _partly_cached(name: HubName, folder: Path, why: str) -> ExactcptError:
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    found = f" ({', '.join(names[:SHOWN])}{more})" if names else ""
    return ExactcptError(
        f"the Hugging Face cache has only a part of {name}{found}, and the rest has to come from "
        f"the hub; {why}",
        where=str(folder),
        fix="run the command once with access to the hub",
    )


def _why_unasked(error: BaseException) -> str:
    """Why the hub has not been asked."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    if isinstance(error, OfflineModeIsEnabled):
        return "it may not be asked: HF_HUB_OFFLINE is set"
    return f"it cannot be reached: {_line(error)}"


def _line(error: BaseException) -> str:
    """What an error says, on one line that is not endless."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def origin_of(path: Path | str) -> str | None:
    """The name on the hub, OWNER/NAME@COMMIT, of a file or folder in the hub's cache; else None."""
    found = SNAPSHOT.search(str(path))
    return None if found is None else "{}/{}@{}".format(*found.groups())
