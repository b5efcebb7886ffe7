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
from ..tokens.manifest import refuse_contradiction
from ..tokens.store import StoredFile, damaged
from .documents import PartRef, PlanSettings
from .settings import mixing_of, pack_settings

__all__ = ["PackTask", "pack_task", "read_store", "store_parts"]


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
        FormatError: a file is missing, has another size or is elsewhere, or the manifest gives it
            another name or is not what the summaries of the parts say.
        ExactcptError: the store has no documents.
    """
    refuse_contradiction(manifest, store)
    sizes = store.sizes("parts")
    parts: list[PartRef] = []
    first = 0
    for part in manifest["parts"]:
        name = part["part"]
        files = {
            "file": _named(store, part["file"], store_format.part_name(name)),
            "index": _named(store, part["index"], store_format.index_name(name)),
        }
        for kind in kinds:
            _check_size(store, files[kind], sizes)
        parts.append(
            PartRef(
                part=name,
                source=part["source"],
                first_document=first,
                documents=part["documents"],
                tokens=part["tokens"],
                **files,
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


def _named(store: Folder, file: PartFile, expected: str) -> StoredFile:
    if file["path"] != expected:
        where = store.url_of(MANIFEST)
        raise damaged(where, f"the path {expected} of a part's file, not {file['path']}")
    return StoredFile(**file)


def _check_size(store: Folder, file: StoredFile, sizes: Mapping[str, int]) -> None:
    found = sizes.get(file.path)
    if found != file.bytes:
        size = plural(file.bytes, "byte")
        what = "the file is missing" if found is None else f"not {found:,}"
        raise damaged(store.url_of(file.path), f"{size}, {what}")
    store.check_own(file.path)


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
