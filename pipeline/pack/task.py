"""What all work units of a packing job share: the task, and the store that it reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import xxhash

from ...schemas import store as store_format
from ...schemas.errors import ExactcptError, IncompleteError
from ...schemas.manifest import MANIFEST, TOKEN_STORE, Manifest, PartFile, parse
from ...schemas.sizes import plural
from ..config import PackConfig
from ..core.parameters import Exact
from ..core.selection import Epochs, Mixing
from ..files.storage import Folder
from ..job.folder import STATE
from ..tokens.store import PartIndex, read_index
from .documents import PartRef, PlanSettings
from .settings import mixing_of, pack_settings

__all__ = ["PackTask", "pack_task", "part_index", "read_store", "store_parts"]


@dataclass(frozen=True, kw_only=True)
class PackTask:
    """What all work units of a packing job share.

    Attributes:
        store, out: paths or URLs of the token store and the shard set.
        parts: all parts of the store, in order.
        settings: what selection and plans depend on.
        exact: the parameters of the weights.
        mixing: the epochs or share of each source.
        token_budget: tokens to train on, or None.
        dedup: whether repeated documents are dropped.
        group_tokens: most stored tokens of a group.
        shard_bytes: about the size of a shard.
        pad_id: the token id of padding.
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
        """Names of the sources: first those with documents, then others that are mixed."""
        return list(dict.fromkeys([*(part.source for part in self.parts), *self.mixing]))

    @property
    def mixes(self) -> bool:
        """Whether sources are mixed: some source may be seen more or less than once."""
        return self.token_budget is not None or any(
            mixing != Epochs(Fraction(1)) for mixing in self.mixing.values()
        )


def read_store(store: Folder) -> tuple[Manifest, str]:
    """The manifest of a token store and its digest.

    Raises:
        IncompleteError: it is missing.
        FormatError: it is not the manifest of a token store.
    """
    if not store.exists(MANIFEST):
        begun = store.exists(STATE)
        raise IncompleteError(
            "this token store is not finished" if begun else "this is not a token store",
            where=store.url,
            expected="a folder that `exactcpt tokenize` has completed",
            fix="run `exactcpt tokenize` (or `prepare`) again; it continues where it stopped",
        )
    data = store.read(MANIFEST)
    manifest = parse(data, store.url_of(MANIFEST), TOKEN_STORE)
    return manifest, xxhash.xxh3_128_hexdigest(data)


def store_parts(
    manifest: Manifest, store: Folder, kinds: Sequence[str] = ("file", "index")
) -> tuple[PartRef, ...]:
    """All parts of a store, in order.

    Args:
        manifest: the store's manifest.
        store: the store.
        kinds: which files of each part must be there, in full size.

    Raises:
        ExactcptError: a file is missing or has another size, or the store has no documents.
    """
    parts: list[PartRef] = []
    first = 0
    for part in manifest["parts"]:
        for kind in kinds:
            _check_size(store, part[kind])
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
            fix="see what was rejected and dropped: `exactcpt tokenize` prints it",
        )
    return tuple(parts)


def _check_size(store: Folder, file: PartFile) -> None:
    found, expected = store.size(file["path"]), file["bytes"]
    if found != expected:
        raise ExactcptError(
            "a part of the token store is damaged",
            where=store.url_of(file["path"]),
            expected=f"{plural(expected, 'byte')}, not {found or 0:,}",
            fix="write the store again with `exactcpt tokenize --overwrite`",
        )


def pack_task(
    config: PackConfig, manifest: Manifest, parts: tuple[PartRef, ...], store: Folder, out: Folder
) -> PackTask:
    """The task of a packing job, from its configuration and its store."""
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


def part_index(part: PartRef, task: PackTask) -> PartIndex:
    """The index of a part."""
    name = store_format.index_name(part.part)
    with Folder(task.store).local_copies([name]) as local:
        return read_index(local[name])
