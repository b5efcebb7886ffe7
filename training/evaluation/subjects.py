"""The models that are evaluated: runs, by one of their checkpoints, and Hugging Face folders."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...schemas.errors import UsageError
from ...schemas.hub import hub_name, origin_of
from ...schemas.sizes import plural
from ..models.folder import json_object
from ..models.named import model_folder
from ..run.log import RUN, read_run
from .vocabulary import Vocabulary, read_vocabulary

__all__ = ["EVAL", "Subject", "check_vocabulary", "find_subjects", "folder_of", "read_config"]

EVAL = "eval"
"""The folder of a run with its evaluations."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model that is evaluated.

    Attributes:
        path: of the run or the Hugging Face folder.
        step: of the run's checkpoint; None for the newest, or for a folder.
        recorded: what the run's folder says of it; None for a Hugging Face folder.
        results: the folder for its evaluations.
    """

    path: Path
    step: int | None
    recorded: dict[str, Any] | None
    results: Path

    @property
    def name(self) -> str:
        """What it is called in tables and folders."""
        return _name(self.path)

    @property
    def model_folder(self) -> Path:
        """The Hugging Face folder with its tokenizer: its own, or that of the model trained."""
        return self.path if self.recorded is None else Path(self.recorded["model_folder"])

    @property
    def window(self) -> int | None:
        """Its trained window in tokens, or None for a folder without a run."""
        return None if self.recorded is None else self.recorded["buckets"][-1]["high"] + 1

    @property
    def tau(self) -> int | None:
        """Where the tail of its shards begins; a quarter of the window if they have no tail."""
        if self.recorded is None:
            return None
        tail = [row["low"] for row in self.recorded["buckets"] if row["in_tail"]]
        return min(tail) if tail else (self.window or 0) // 4


def find_subjects(models: Sequence[str], out: str | None) -> list[Subject]:
    """Finds the models of a command line.

    Args:
        models: each RUN, RUN@STEP, FOLDER, or OWNER/NAME[@REVISION] of the Hugging Face hub.
        out: folder for all results; None for the folder `eval` of each run.

    Raises:
        UsageError: there is no such folder, a folder without a run has no place for its results, or
            two models would write into one folder.
        FormatError: a run is damaged.
    """
    subjects = [_subject(model, out) for model in models]
    places: dict[tuple[Path, int | None], str] = {}
    for model, subject in zip(models, subjects, strict=True):
        key = (subject.results.resolve(), subject.step)
        if key in places:
            raise UsageError(
                f"two models have the same name: {places[key]}, {model}",
                fix="name each model once; rename one of the folders, or use another --out",
            )
        places[key] = model
    return subjects


def _subject(model: str, out: str | None) -> Subject:
    path, step = _place(model, out)
    if not path.is_dir():
        raise UsageError(
            "there is no such folder",
            where=str(path),
            expected="a run, a Hugging Face folder, or OWNER/NAME[@REVISION] of the hub",
        )
    recorded = read_run(path) if (path / RUN).is_file() else None
    if recorded is None and step is not None:
        raise UsageError(
            f"only a run has a step {step:,}; this folder is not a run", where=str(path)
        )
    if recorded is None and out is None:
        raise _no_place(str(path))
    results = path / EVAL if out is None else Path(out) / _name(path)
    return Subject(path=path, step=step, recorded=recorded, results=results)


def _place(model: str, out: str | None) -> tuple[Path, int | None]:
    """The folder of a model, and the step of a run's checkpoint that is named."""
    base, at, number = model.rpartition("@")
    is_step = at and number.isdigit() and not Path(model).exists()
    if is_step and (Path(base).exists() or hub_name(model) is None):
        return Path(base), int(number)
    if out is None and hub_name(model) is not None:
        raise _no_place(model)
    return model_folder(model, trained=False), None


def _no_place(model: str) -> UsageError:
    return UsageError(
        "a folder without a run has no place for results", where=model, fix="give --out DIR"
    )


def _name(path: Path) -> str:
    """The name of its folder; of a model of the hub, the last part of its name there."""
    origin = origin_of(path)
    if origin is not None:
        return origin.partition("@")[0].rpartition("/")[2]
    return path.resolve().name


def check_vocabulary(subject: Subject, vocabulary: Vocabulary) -> None:
    """Checks that a model has the tokenizer of the items and embeds all of its ids.

    Raises:
        UsageError: it has another tokenizer, or lacks some ids.
        FormatError: its tokenizer or its config.json cannot be read.
    """
    theirs = read_vocabulary(subject.model_folder)
    if theirs.digest != vocabulary.digest:
        raise UsageError(
            "the model has another tokenizer than the items",
            where=f"{theirs.path}, {vocabulary.path}",
            expected="models of one tokenizer, and a shard set that was made with it",
            fix="evaluate the models of each tokenizer by a command and a --haystack of their own",
        )
    rows = read_config(subject.model_folder).get("vocab_size", 0)
    if vocabulary.largest_id >= rows:
        raise UsageError(
            f"the tokenizer has ids up to {vocabulary.largest_id:,}, but the model embeds only "
            f"{plural(rows, 'token')}",
            where=f"{vocabulary.path}, {subject.model_folder}",
            fix="use the model that the tokenizer belongs to",
        )


def read_config(folder: Path) -> dict[str, Any]:
    """A model's config.json.

    Raises:
        FormatError: it cannot be read.
    """
    return json_object(folder / "config.json", "the model's config.json")


@contextmanager
def folder_of(subject: Subject) -> Iterator[tuple[Path, int | None]]:
    """The Hugging Face folder of a model, and its step; a run's checkpoint is exported for it.

    Raises:
        UsageError, FormatError: as `export_run`.
    """
    if subject.recorded is None:
        yield subject.path, None
        return
    from ..run.exported import export_run  # imports torch, which items do not need

    with TemporaryDirectory(prefix="exactcpt-") as scratch:
        folder = Path(scratch) / subject.name
        yield folder, export_run(subject.path, folder, subject.step)
