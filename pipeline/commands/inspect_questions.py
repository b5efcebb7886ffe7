"""What `inspect` is asked: combinations of settings, and what cannot be asked of its input.

--window 4096,8192 --alpha 0.1,0.3      4 combinations, in the order in which they are shown
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from ...schemas.errors import UsageError
from ...schemas.settings import flag_of
from ..config import PackConfig, TokenizeConfig
from ..core.parameters import PARAMETERS
from ..files.storage import Folder
from ..pack.settings import Change, Settings, settings_with
from .invocation import no_tokenizer
from .options import ONE_VALUE

__all__ = [
    "TOKENIZING",
    "packings_asked_for",
    "refuse_for_corpora",
    "refuse_for_packed",
    "refuse_for_paths",
    "refuse_for_shards",
    "weights_asked_for",
]

TOKENIZING = tuple(name for name in TokenizeConfig.__dataclass_fields__ if name != "sources")
"""Settings that apply to raw corpora only."""
PACKING = ("window", "packing")
Flags = Mapping[str, Any]


def packings_asked_for(flags: Flags, mixing: Mapping[str, Any]) -> list[PackConfig]:
    """The configuration of packing for every combination.

    Args:
        flags: of the command.
        mixing: how the sources are mixed, as in `PackConfig`.

    Raises:
        UsageError: a value is out of its range; names the combination.
    """
    fixed = {name: flags[name] for name in ONE_VALUE if flags[name] is not None}
    found: list[PackConfig] = []
    for asked in _combinations(flags, (*PACKING, *PARAMETERS)):
        with _naming(asked):
            found.append(PackConfig(**fixed, **asked, mixing=mixing))
    return found


def weights_asked_for(flags: Flags, settings: Settings) -> Sequence[Change]:
    """The new parameters of the weights for every combination; the others keep their values.

    Args:
        flags: of the command.
        settings: of the shard set.

    Raises:
        UsageError: a value is out of its range; names the combination.
    """
    found = list(_combinations(flags, PARAMETERS))
    for asked in found:
        with _naming(asked):
            settings_with(settings, asked)
    return found


def _combinations(flags: Flags, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    """Every combination of the values that are given."""
    asked = {name: flags[name] for name in names if flags[name] is not None}
    if "max_weight" in asked:
        asked["max_weight"] = [None if most == math.inf else most for most in asked["max_weight"]]
    for values in itertools.product(*asked.values()):
        yield dict(zip(asked, values, strict=True))


@contextmanager
def _naming(asked: Mapping[str, Any]) -> Iterator[None]:
    """Adds the combination to an error that is raised inside."""
    try:
        yield
    except UsageError as error:
        where = " ".join(f"{flag_of(name)} {value}" for name, value in asked.items()) or None
        raise UsageError(error.found, expected=error.expected, where=where, fix=error.fix) from None


def refuse_for_paths(flags: Flags) -> None:
    """Refuses options for raw corpora where token stores or shard sets are inspected.

    Raises:
        UsageError: such an option is given, or no path.
    """
    paths = flags["paths"]
    if not paths or not all(paths):
        raise UsageError(
            "there is nothing to inspect",
            expected="the path of a token store or shard set, or corpora named with --source",
        )
    given = _given(flags, (*TOKENIZING, "sample"))
    if given:
        raise UsageError(
            f"{given} is for raw corpora, and {paths[0]} is already tokenized",
            fix="name corpora with --source, or leave it out",
        )


def refuse_for_shards(flags: Flags, store: Folder | None) -> None:
    """Refuses questions that shards cannot answer: about other windows.

    Args:
        flags: of the command.
        store: the token store that the shards were packed from, if it is known.

    Raises:
        UsageError: such a question is asked.
    """
    given = _given(flags, (*PACKING, *ONE_VALUE, "epochs", "share"))
    if given:
        where = store.url if store else "the one they were packed from"
        raise UsageError(
            f"{given} asks about another packing, and these shards are already packed",
            expected="a token store, or only " + ", ".join(map(flag_of, PARAMETERS)),
            fix=f"inspect their token store: {where}",
        )


def refuse_for_packed(flags: Flags) -> None:
    """Refuses questions that packed windows cannot answer: about other windows, or other text.

    Raises:
        UsageError: such a question is asked.
    """
    names = ("sources", "packing", *ONE_VALUE, "epochs", "share", *TOKENIZING, "sample")
    read = ("tokenizer", "eos_token", "max_record_bytes")
    given = _given(flags, tuple(name for name in names if name not in read))
    if given == "--sources":
        given = "--source"
    if given:
        raise UsageError(
            f"{given} does not fit --packed, whose windows are as they are",
            expected="only "
            + ", ".join(map(flag_of, ("window", *PARAMETERS, *read, "boundaries"))),
        )
    if flags["window"] and len(flags["window"]) > 1:
        raise UsageError("packed windows have one length", expected="one value for --window")


def refuse_for_corpora(flags: Flags) -> None:
    """Refuses what a sample of raw corpora cannot answer.

    Raises:
        UsageError: such a question is asked, a path is given besides, or no tokenizer is.
    """
    if flags["paths"]:
        raise UsageError(
            f"both --source and the path {flags['paths'][0]} are given", expected="one of the two"
        )
    if flags["epochs"] or flags["share"]:
        raise UsageError(
            "--epochs and --share are for token stores",
            fix="put them into the source: --source NAME=PATTERN,epochs=X",
        )
    if flags["dedup"] == "exact":
        raise UsageError(
            "a sample does not show which documents of the corpus are repeated",
            fix="tokenize the corpora, and inspect the token store",
        )
    if not flags["tokenizer"]:
        raise no_tokenizer()


def _given(flags: Flags, names: tuple[str, ...]) -> str | None:
    """The flag of the first of these settings that is given."""
    return next((flag_of(name) for name in names if flags[name] not in (None, ())), None)
