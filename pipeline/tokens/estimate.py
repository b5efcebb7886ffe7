"""How large a job's output will be, from the beginning of every source."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...schemas.errors import BackendDifferenceError
from ..config import PackConfig
from ..sources.records import Fields
from .backend import fast_encoder
from .documents import unencodable
from .encoders import Encoder, UnencodableTextError
from .parity import quoted
from .plan import TokenizePlan
from .probe import Probe, probe_sources

__all__ = ["SHARD_BYTES_PER_TOKEN", "Estimate", "estimate", "estimate_job"]

SHARD_BYTES_PER_TOKEN = 5.1
STORE_BYTES_PER_TOKEN = 4.2
TOKENS_PER_BYTE = 0.25
"""Assumed for text of which nothing was read."""


@dataclass(frozen=True)
class Estimate:
    """The size of a job's output, roughly.

    Attributes:
        tokens: by source; None where a source's size is unknown before it is read.
        windows: of training and validation together.
        store_bytes, shard_bytes: on disk.
    """

    tokens: Mapping[str, int | None]
    windows: int
    store_bytes: int
    shard_bytes: int

    @property
    def all_tokens(self) -> int | None:
        """Tokens of all sources; None if the size of one is unknown."""
        known = [count for count in self.tokens.values() if count is not None]
        return sum(known) if len(known) == len(self.tokens) else None


def estimate_job(
    plan: TokenizePlan, packing: PackConfig | None
) -> tuple[Estimate, dict[str, Probe]]:
    """Reads the beginning of every source and extrapolates from it; returns both.

    Args:
        plan: what to tokenize.
        packing: how the store will be packed, or None where it will not be.

    Raises:
        ExactcptError: a source has no documents with the field that is to be read.
    """
    probes = probe_sources(plan)
    encoder, _ = fast_encoder(plan)
    return estimate(plan, probes, encoder, packing), probes


def estimate(
    plan: TokenizePlan, probes: Mapping[str, Probe], encoder: Encoder, packing: PackConfig | None
) -> Estimate:
    """Extrapolates from the beginning of every source.

    Args:
        plan: what to tokenize.
        probes: the beginnings, by source.
        encoder: counts their tokens; either backend will do.
        packing: how the store will be packed, or None where it will not be.
    """
    tokens = {name: _tokens(plan, name, probe, encoder) for name, probe in probes.items()}
    known = {name: count for name, count in tokens.items() if count is not None}
    store_bytes = int(sum(known.values()) * STORE_BYTES_PER_TOKEN)
    if packing is None:
        return Estimate(tokens=tokens, windows=0, store_bytes=store_bytes, shard_bytes=0)
    packed = packing.token_budget
    if packed is None:
        epochs = {s.name: s.epochs for s in plan.config.sources if s.epochs is not None}
        packed = sum(int(count * epochs.get(name, 1.0)) for name, count in known.items())
    return Estimate(
        tokens=tokens,
        windows=-(-packed // packing.window),
        store_bytes=store_bytes,
        shard_bytes=int(packed * SHARD_BYTES_PER_TOKEN),
    )


def _tokens(plan: TokenizePlan, source: str, probe: Probe, encoder: Encoder) -> int | None:
    """The tokens of a source; None if the size of one of its files is unknown."""
    sizes = [file.bytes for file in plan.files[source]]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    try:
        per_item = _tokens_per_item(probe, encoder, plan.fields[source])
    except UnencodableTextError as error:
        document = f"a document of source {source!r}: {quoted(probe.documents, error.at)}"
        raise unencodable(error, document, plan.tokenizer.where) from None
    except BackendDifferenceError:  # the job will meet it too, and choose the other backend
        per_item = TOKENS_PER_BYTE
    return int(sum(known) * probe.density * per_item)


def _tokens_per_item(probe: Probe, encoder: Encoder, fields: Fields) -> float:
    """Tokens per byte of text; 1 for documents that are already token ids."""
    if fields.tokens is not None:
        return 1.0
    size = len(probe.documents.data)
    return len(encoder.encode(probe.documents).data) / size if size else TOKENS_PER_BYTE
