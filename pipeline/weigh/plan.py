"""The plan of a job that weighs packed windows: what its rows are, found before any work."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import UsageError
from ...schemas.shard import GIVEN
from ...schemas.sizes import plural
from ..config import PackConfig, TokenizeConfig
from ..core.choices import BOUNDARIES, Boundaries
from ..files.storage import AT_ONCE
from ..job.folder import State
from ..pack.settings import shard_set_settings
from ..sources.listing import InputFile
from ..sources.reading import column_names, read_member
from ..sources.splits import Split, make_splits
from ..tokens.plan import TokenizePlan, plan_tokenize
from .agreement import refuse_contradictions

__all__ = ["WeighPlan", "plan_weigh"]

LABELS = "labels"
"""The column with which most trainers leave targets out."""
MASKS = ("supervised", "loss_mask", "completion_mask", "assistant_masks")
"""Columns with which others do; they are not read."""
OTHERS = ("segment_ids", "sequence_ids", "inputs_segmentation", "seq_start_id", "doc_ids")
"""Columns with which other packers tell segments apart."""
OURS = {"loss_weight", "doc_index"}
"""Columns of this program's own shards."""


@dataclass(frozen=True, kw_only=True)
class WeighPlan:
    """What a job will do.

    Attributes:
        tokens: the tokenizer, the input files, and the fields of a row.
        packing: the window, the parameters of the weights, and the size of shards.
        boundaries: how the rows of each source say where their segments are.
        pads: whether rows may be shorter than the window.
        validation: the sources whose windows are for validation.
        fill_id: the token that fills the rows, if it is not the tokenizer's padding.
        identity: what tells the inputs from others, if it is not their names and times.
    """

    tokens: TokenizePlan
    packing: PackConfig
    boundaries: Mapping[str, Boundaries]
    pads: bool
    validation: frozenset[str]
    fill_id: int | None
    identity: Mapping[str, Any] | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Every setting that changes content, as the manifest has them."""
        of_rows = {
            name: {
                **read,
                "boundaries": self.boundaries[name],
                "validates": name in self.validation,
                **({} if labels is None else {"labels": labels}),
            }
            for name, read in self.tokens.settings["sources"].items()
            for labels in [self.tokens.fields[name].labels]
        }
        how = {"sources": of_rows, "pads": self.pads, "fill_id": self.fill_id}
        of_sources = {**self.tokens.settings, **how}
        settings = shard_set_settings(self.packing, list(self.tokens.files), of_sources)
        return {**settings, "packing": GIVEN}

    @property
    def has_spans(self) -> bool:
        """Whether some rows have labels, so that the set has supervised spans."""
        return any(each.labels is not None for each in self.tokens.fields.values())

    @property
    def state(self) -> State:
        """What determines the shard set."""
        return State(settings=self.settings, inputs=self.identity or self.tokens.state.inputs)

    @property
    def splits(self) -> list[Split]:
        """The inputs as work units, each of about a shard's size."""
        files = [file for files in self.tokens.files.values() for file in files]
        return make_splits(files, self.tokens.config.split_bytes)


def plan_weigh(
    config: TokenizeConfig,
    *,
    boundaries: Literal["auto"] | Boundaries,
    window: int | None,
    weighting: Mapping[str, Any],
    validation: Sequence[str],
    fill_id: int | None = None,
) -> WeighPlan:
    """Looks at the inputs.

    Args:
        config: sources of token ids, and the tokenizer that these are of.
        boundaries: how rows say where their segments are; "auto" to go by their columns.
        window: its length in tokens, or None for that of the rows.
        weighting: what else `PackConfig` takes: tau, the parameters of the formula, shard_bytes.
        validation: the sources whose windows are for validation.
        fill_id: the token that fills the rows; None for the tokenizer's padding.

    Raises:
        UsageError: the rows do not say where their segments are, or say it in two ways; they are
            shards of this program, or there are none.
        ExactcptError: as `plan_tokenize`, and if the first rows cannot be read.
    """
    plan = plan_tokenize(config, packed=True)
    columns = {name: column_names(files[0]) for name, files in plan.files.items()}
    kinds: dict[str, Boundaries] = {
        name: _kind_of(name, files[0].url, columns[name], boundaries)
        for name, files in plan.files.items()
    }
    if boundaries == "auto":
        for name, found in columns.items():
            refuse_contradictions(plan, name, found, plan.pad_id if fill_id is None else fill_id)
    fields = {
        name: replace(
            read,
            boundaries=None if kinds[name] == "end_token" else kinds[name],
            labels=LABELS if LABELS in columns[name] else None,
        )
        for name, read in plan.fields.items()
    }
    for name, files in plan.files.items():
        if LABELS not in columns[name]:
            _refuse_labels_of_some(name, files)
    unread = [warning for name, found in columns.items() for warning in _unread(name, found)]
    plan = replace(plan, fields=fields, warnings=(*plan.warnings, *unread))
    length = _first_length(plan) if window is None else window
    packing = PackConfig(window=length, validation_fraction=0.0, **weighting)
    return WeighPlan(
        tokens=plan,
        packing=packing,
        boundaries=kinds,
        pads=window is not None,
        validation=frozenset(validation),
        fill_id=fill_id,
    )


def _refuse_labels_of_some(source: str, files: Sequence[InputFile]) -> None:
    """Refuses labels in the later files of a source, which would not be read.

    Raises:
        UsageError: some have them.
    """
    with ThreadPoolExecutor(AT_ONCE) as pool:  # to read the footers of many remote files
        of_files = zip(files[1:], pool.map(column_names, files[1:]), strict=True)
        with_labels = next((file.path for file, found in of_files if LABELS in found), None)
    if with_labels is not None:
        raise UsageError(
            f"some files of source {source!r} have a column {LABELS!r}, and others have none",
            where=f"{with_labels} has one, {files[0].path} has none",
            fix="give the column to all of them, or make two sources of them",
        )


def _kind_of(
    source: str, url: str, columns: Sequence[str], asked: Literal["auto"] | Boundaries
) -> Boundaries:
    if {*columns} >= OURS:
        raise UsageError(
            f"source {source!r} has shards of exactcpt, which have weights",
            where=url,
            fix="give them other weights with `exactcpt reweigh`",
        )
    if asked == "end_token":
        return asked
    for kind in BOUNDARIES if asked == "auto" else (asked,):
        if kind in columns:
            return kind
    if asked != "auto":
        raise UsageError(
            f"source {source!r} has no column {asked!r}",
            where=url,
            expected=f"one of its columns: {', '.join(columns)}"
            if columns
            else "a file with columns, Parquet or Arrow",
            fix="name the boundaries that the rows have with --boundaries",
        )
    raise UsageError(
        f"source {source!r} does not say where the documents in its windows begin and end",
        where=url,
        expected="a column seq_lengths (the lengths of a window's segments), cu_seqlens (their "
        "sums, from 0) or position_ids (counted from 0 in every segment)"
        + (f"; it has {', '.join(columns)}" if columns else ""),
        fix="add one of them, made from what the packer knows"
        + "".join(f" (such as {name!r})" for name in OTHERS if name in columns)
        + ", or say --boundaries end_token if every document ends with the end token; without "
        "boundaries, documents see each other and no weight is right",
    )


def _unread(source: str, columns: Sequence[str]) -> list[str]:
    """A warning about columns that say which targets count."""
    found = [name for name in MASKS if name in columns]
    return [
        f"source {source!r}: the column {name!r} is not read: "
        + (
            f"targets are those of {LABELS!r}, whatever it leaves out"
            if LABELS in columns
            else "all targets are trained on, whatever it leaves out"
        )
        for name in found[:1]
    ]


def _first_length(plan: TokenizePlan) -> int:
    """The tokens of the first row."""
    for name, files in plan.files.items():
        for split in make_splits(files, plan.config.split_bytes):
            for member in split.members:
                for batch in read_member(member, plan.fields[name]):
                    if len(batch.content):
                        return _checked(batch.content.lengths, member.file)
    raise UsageError("there are no windows", expected="files with at least one row of tokens")


def _checked(lengths: NDArray[np.int64], file: InputFile) -> int:
    """The tokens of the first of some rows. If they differ, no folder has been begun yet."""
    length, longest = int(lengths[0]), int(lengths.max())
    if lengths.min() != longest:
        raise UsageError(
            f"the rows have {lengths.min():,} to {longest:,} tokens",
            where=file.url,
            expected="rows of one length, or a window that shorter rows are padded to",
            fix=f"give the window that they were packed for, such as --window {longest}",
        )
    if length < 2:
        raise UsageError(
            f"the first row has {plural(length, 'token')}",
            where=file.url,
            expected="a window of at least 2",
            fix="name the column of token ids with ,tokens=FIELD in the source",
        )
    return length
