"""What all work units of a packing job have in common, read from its token store."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import xxhash

from ...schemas.errors import ExactcptError, IncompleteError
from ...schemas.manifest import MANIFEST, TOKEN_STORE, Manifest, parse
from ..config import PackConfig
from ..core.parameters import Exact
from ..core.selection import Epochs, Mixing
from ..files.storage import Folder
from ..job.folder import JOB
from .plan import PartRef, PlanSettings
from .settings import mixing_of, pack_settings

__all__ = ["PackTask", "pack_task", "read_store", "store_parts"]


@dataclass(frozen=True, kw_only=True)
class PackTask:
    """What all units of a packing job have in common.

    Attributes:
        store, out: paths or URLs of the token store and the shard set.
        parts: of the store, in its order.
        settings: of the plan.
        exact: of the weights.
        mixing: what each source asks for.
        token_budget: tokens to train on, or None.
        dedup: whether repeated documents are dropped.
        group_tokens: stored tokens of a group.
        shard_bytes: size of a shard.
        pad_id: the id of padding.
    """

    store: str
    out: str
    parts: tuple[PartRef, ...]
    settings: PlanSettings
    exact: Exact
    mixing: Mapping[str, Mixing]
    token_budget: int | None
    dedup: bool
    group_tokens: int
    shard_bytes: int
    pad_id: int

    @property
    def sources(self) -> list[str]:
        """Names of the sources: of all that have documents, then of others that are mixed."""
        return list(dict.fromkeys([*(part.source for part in self.parts), *self.mixing]))

    @property
    def mixes(self) -> bool:
        """Whether any source is to be seen other than once."""
        return self.token_budget is not None or any(
            mixing != Epochs(Fraction(1)) for mixing in self.mixing.values()
        )


def read_store(store: Folder) -> tuple[Manifest, str]:
    """The manifest of a token store and its digest.

    Raises:
        IncompleteError: there is none.
        FormatError: it is no manifest of a token store.
    """
    if not store.exists(MANIFEST):
        begun = store.exists(f"{JOB}/state.json")
        raise IncompleteError(
            "this token store is not finished" if begun else "this is no token store",
            where=store.url,
            expected="a folder that `exactcpt tokenize` has completed",
            fix="run `exactcpt tokenize` (or `prepare`) again; it goes on where it stopped",
        )
    data = store.read(MANIFEST)
    manifest = parse(data, store.url_of(MANIFEST), TOKEN_STORE)
    return manifest, xxhash.xxh3_128_hexdigest(data)


def store_parts(
    manifest: Manifest, store: Folder, kinds: Sequence[str] = ("file", "index")
) -> tuple[PartRef, ...]:
    """The parts of a store, in its order.

    Args:
        manifest: of the store.
        store: where it is.
        kinds: the files of a part that have to be there in their full size.

    Raises:
        ExactcptError: a file has another size, or there are no documents.
    """
    parts: list[PartRef] = []
    first = 0
    for part in manifest["parts"]:
        for kind in kinds:
            found, expected = store.size(part[kind]["path"]), part[kind]["bytes"]
            if found != expected:
                raise ExactcptError(
                    "a part of the token store is damaged",
                    where=store.url_of(part[kind]["path"]),
                    expected=f"{expected:,} bytes, not {found or 0:,}",
                    fix="write the store again with `exactcpt tokenize --overwrite`",
                )
        parts.append(
            PartRef(
                part=part["part"],
                source=part["source"],
                first_document=first,
                documents=part["documents"],
                tokens=part["tokens"],
            )
        )
        first += part["documents"]
    if not parts:
        raise ExactcptError(
            "the token store has no documents",
            where=store.url,
            fix="look at what was rejected and dropped: exactcpt tokenize prints it",
        )
    return tuple(parts)


def pack_task(
    config: PackConfig, manifest: Manifest, parts: tuple[PartRef, ...], store: Folder, out: Folder
) -> PackTask:
    """What the units of a job have in common."""
    names = [source["name"] for source in manifest["sources"]]
    return PackTask(
        store=store.url,
        out=out.url,
        parts=parts,
        settings=PlanSettings(
            window=config.window,
            packing=config.packing,
            validation_fraction=Fraction(str(config.validation_fraction)),
            seed=config.seed,
        ),
        exact=config.exact,
        mixing=mixing_of(pack_settings(config, names)),
        token_budget=config.token_budget,
        dedup=config.dedup == "exact",
        group_tokens=config.group_tokens,
        shard_bytes=config.shard_bytes,
        pad_id=manifest["tokenizer"]["pad_id"],
    )
