"""What all work units of a job that weighs windows share."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...schemas.shard import TRAIN, VALIDATION
from ..core.choices import Boundaries
from ..core.parameters import Exact
from ..files.storage import Folder
from ..sources.records import Fields
from .plan import WeighPlan

__all__ = ["WeighTask", "weigh_task"]


@dataclass(frozen=True, kw_only=True)
class WeighTask:
    """What every work unit is given.

    Attributes:
        out: path or URL of the shard set.
        fields: which fields of a row are read, by source.
        boundaries: how the rows of each source say where their segments are.
        validation: the sources whose windows are for validation.
        window: window length in tokens.
        pads: whether rows may be shorter.
        exact: the parameters of the weights.
        shard_bytes: about the size of a shard.
        end_id, pad_id: the tokens that end a document and that fill windows.
        fill_id: the token that fills the rows that are read.
        unk_id: stands for what the vocabulary lacks; None if there is none.
    """

    out: str
    fields: Mapping[str, Fields]
    boundaries: Mapping[str, Boundaries]
    validation: frozenset[str]
    window: int
    pads: bool
    exact: Exact
    shard_bytes: int
    end_id: int
    pad_id: int
    fill_id: int
    unk_id: int | None

    @property
    def has_spans(self) -> bool:
        """Whether some rows have labels, so that the set has supervised spans."""
        return any(each.labels is not None for each in self.fields.values())

    def split_of(self, source: str) -> str:
        """The split of a source's windows."""
        return VALIDATION if source in self.validation else TRAIN


def weigh_task(plan: WeighPlan, out: Folder) -> WeighTask:
    """The task of a plan."""
    return WeighTask(
        out=out.url,
        fields=plan.tokens.fields,
        boundaries=plan.boundaries,
        validation=plan.validation,
        window=plan.packing.window,
        pads=plan.pads,
        exact=plan.packing.exact,
        shard_bytes=plan.packing.shard_bytes,
        end_id=plan.tokens.eos_id,
        pad_id=plan.tokens.pad_id,
        fill_id=plan.tokens.pad_id if plan.fill_id is None else plan.fill_id,
        unk_id=plan.tokens.unk_id,
    )
