"""The settings of a shard set: of packing, of mixing, of weighting."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from ...schemas.errors import UsageError
from ...schemas.manifest import Manifest
from ..config import PackConfig
from ..core.exact import Exact, WeightTable, given_table, weight_table
from ..core.selection import Epochs, Mixing, Share

__all__ = [
    "PARAMETERS",
    "WEIGHING",
    "Change",
    "Settings",
    "exact_of",
    "mixing_of",
    "pack_settings",
    "settings_of",
    "settings_with",
    "table_for",
]

WEIGHING = ("tau", "alpha", "gamma", "epsilon", "max_weight")
"""The settings that change weights alone."""
Settings = Mapping[str, Any]


def exact_of(settings: Settings) -> Exact:
    """The parameters of the weights among settings."""
    return Exact(**{name: settings[name] for name in WEIGHING})


def pack_settings(config: PackConfig, sources: Sequence[str]) -> dict[str, Any]:
    """Every setting of packing that changes content, defaults filled in.

    Raises:
        UsageError: a source that is mixed does not exist.
    """
    unknown = [name for name in config.mixing if name not in sources]
    if unknown:
        raise UsageError(
            f"there is no source {unknown[0]!r} to mix",
            expected=f"one of {', '.join(sources)}",
        )
    plain = ("window", "packing", "alpha", "gamma", "epsilon", "max_weight", "validation_fraction")
    counts = ("token_budget", "group_tokens", "shard_bytes", "dedup", "seed")
    return {
        **{name: getattr(config, name) for name in plain},
        "tau": config.tail_start,
        **{name: getattr(config, name) for name in counts},
        "mixing": {name: dict(config.mixing.get(name, {"epochs": 1.0})) for name in sources},
    }


def settings_of(config: PackConfig, store_manifest: Manifest) -> dict[str, Any]:
    """The settings of a shard set, those of its token store included."""
    names = [source["name"] for source in store_manifest["sources"]]
    return {**pack_settings(config, names), "tokenize": store_manifest["settings"]}


def mixing_of(config: PackConfig, sources: Sequence[str]) -> dict[str, Mixing]:
    """What each source asks for."""
    asked = pack_settings(config, sources)["mixing"]
    return {name: _mixing(one) for name, one in asked.items()}


def _mixing(asked: Mapping[str, float]) -> Mixing:
    ((kind, value),) = asked.items()
    exact = Fraction(str(value))
    return Epochs(exact) if kind == "epochs" else Share(exact)


PARAMETERS = ("alpha", "gamma", "epsilon", "max_weight")
Change = Mapping[str, Any]
"""New values for some of tau, alpha, gamma, epsilon and max_weight; or for tau and `table`, a
weight a bucket. What is not named stays as it is in the set."""


def settings_with(old: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """A shard set's settings with other weights; what a given table lacks has its default.

    Raises:
        UsageError: a parameter is out of its range.
    """
    tau = old["tau"] if change.get("tau") is None else change["tau"]
    if "table" in change or ("table" in old and not any(name in change for name in PARAMETERS)):
        PackConfig(window=old["window"], tau=tau)
        given = {"table": list(change.get("table", old.get("table")))}
        return {**old, "tau": tau, **dict.fromkeys(PARAMETERS), **given}
    kept = {} if "table" in old else {name: old[name] for name in PARAMETERS}
    asked = {name: change[name] for name in PARAMETERS if name in change}
    config = PackConfig(window=old["window"], tau=tau, **{**kept, **asked})
    plain = {name: value for name, value in old.items() if name != "table"}
    return {**plain, "tau": tau, **{name: getattr(config, name) for name in PARAMETERS}}


def table_for(counts: Sequence[int], settings: Mapping[str, Any]) -> WeightTable:
    """The weight table of a histogram under a shard set's settings."""
    window, tau = settings["window"], settings["tau"]
    if "table" in settings:
        return given_table(counts, window, tau, settings["table"])
    exact = Exact(tau=tau, **{name: settings[name] for name in PARAMETERS})
    return weight_table(counts, window, exact)
