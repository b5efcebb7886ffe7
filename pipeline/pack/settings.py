"""The settings of a shard set, as its manifest records them.

    PackConfig ──> pack_settings ──> settings ──> mixing_of, exact_of, table_for
                                     settings ── settings_with(change) ──> settings

A set whose weights were given, not computed, has them in `table`; then the parameters of the
formula are None.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ...schemas.errors import UsageError
from ..config import PackConfig
from ..core.exact import WeightTable, given_table, weight_table
from ..core.parameters import FORMULA, exact_of
from ..core.selection import Epochs, Mixing, Share

__all__ = [
    "Change",
    "Settings",
    "mixing_of",
    "pack_settings",
    "settings_with",
    "shard_set_settings",
    "table_for",
]

Settings = Mapping[str, Any]
Change = Mapping[str, Any]
"""New values for some of the parameters of the weights, or for tau and `table`, one weight per
bucket. Values that are not given stay."""


def pack_settings(config: PackConfig, sources: Sequence[str]) -> dict[str, Any]:
    """Every setting of packing that changes content, defaults filled in.

    Args:
        config: what was asked for.
        sources: names of all sources.

    Raises:
        UsageError: a source that is mixed does not exist.
    """
    unknown = [name for name in config.mixing if name not in sources]
    if unknown:
        raise UsageError(
            f"there is no source {unknown[0]!r} to mix",
            expected=f"one of {', '.join(sources)}",
        )
    return {
        "window": config.window,
        "packing": config.packing,
        **{name: getattr(config, name) for name in FORMULA},
        "validation_fraction": config.validation_fraction,
        "tau": config.tail_start,
        "token_budget": config.token_budget,
        "group_tokens": config.group_tokens,
        "shard_bytes": config.shard_bytes,
        "dedup": config.dedup,
        "seed": config.seed,
        "mixing": {name: dict(config.mixing.get(name, {"epochs": 1.0})) for name in sources},
    }


def shard_set_settings(
    config: PackConfig, sources: Sequence[str], tokenize: Settings
) -> dict[str, Any]:
    """`pack_settings`, and under `tokenize` the settings of the token store."""
    return {**pack_settings(config, sources), "tokenize": tokenize}


def settings_with(old: Settings, change: Change) -> dict[str, Any]:
    """A shard set's settings with other weights.

    Where the old weights were given and the new ones are computed, parameters that the change does
    not name have their defaults.

    Raises:
        UsageError: a parameter is out of its range.
    """
    tau = old["tau"] if change.get("tau") is None else change["tau"]
    asked = {name: change[name] for name in FORMULA if name in change}
    if "table" in change or ("table" in old and not asked):
        PackConfig(window=old["window"], tau=tau)  # checks tau
        table = change["table"] if "table" in change else old["table"]
        return {**old, "tau": tau, **dict.fromkeys(FORMULA), "table": list(table)}
    kept = {} if "table" in old else {name: old[name] for name in FORMULA}
    config = PackConfig(window=old["window"], tau=tau, **{**kept, **asked})
    computed = {name: value for name, value in old.items() if name != "table"}
    return {**computed, "tau": tau, **{name: getattr(config, name) for name in FORMULA}}


def mixing_of(settings: Settings) -> dict[str, Mixing]:
    """What each source asks for."""
    return {name: _mixing(asked) for name, asked in settings["mixing"].items()}


def _mixing(asked: Mapping[str, float]) -> Mixing:
    ((kind, value),) = asked.items()
    exact = Fraction(str(value))
    return Epochs(exact) if kind == "epochs" else Share(exact)


def table_for(counts: Sequence[int], settings: Settings) -> WeightTable:
    """The weight table of a histogram under a shard set's settings.

    Args:
        counts: supervised targets per bucket, shape [buckets].
        settings: the window, and the weights.
    """
    if "table" in settings:
        return given_table(counts, settings["window"], settings["tau"], settings["table"])
    return weight_table(counts, settings["window"], exact_of(settings))
