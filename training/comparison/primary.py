"""Endpoints that were named before the runs were trained, of the probe, `ruler`, `standard`."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from rich.table import Table

from ...schemas.errors import UsageError
from .cells import borderless, signed
from .endpoints import PRIMARY_CONTEXT, SUMMARIES, Endpoint, Evaluation, Finding
from .intervals import holm
from .ruler_endpoints import RulerEndpoint, RulerEvaluation
from .ruler_scores import RULER
from .standard_endpoints import STANDARD, StandardEndpoint

__all__ = ["adjusted", "check_primary", "primary_table"]

Found = TypeVar("Found", Evaluation, RulerEvaluation)
Each = TypeVar("Each", Endpoint, RulerEndpoint, StandardEndpoint)


def check_primary(
    names: Collection[str],
    probed: Sequence[Evaluation],
    ruler: Sequence[RulerEvaluation],
    standard: Sequence[StandardEndpoint],
) -> None:
    """Checks that all endpoints that were named are there.

    Raises:
        UsageError: one is not.
    """
    there = {e.name for each in probed for e in each.endpoints if e.primary}
    there |= {RULER for each in ruler for e in each.endpoints if e.primary}
    there |= {STANDARD for each in standard if each.primary}
    for name in names:
        if name not in there:
            raise UsageError(
                f"there is no endpoint {name!r} to be primary",
                expected=f"one of {', '.join(SUMMARIES)}, in runs that were all evaluated with the "
                f"same items of the probe and its context {PRIMARY_CONTEXT}; or {RULER}, in runs "
                f"that were all evaluated with the same items of the suite {RULER}; or {STANDARD}, "
                f"with the same items of its six tasks",
            )


def adjusted(
    probed: Sequence[Evaluation],
    ruler: Sequence[RulerEvaluation],
    standard: Sequence[StandardEndpoint],
) -> tuple[list[Evaluation], list[RulerEvaluation], list[StandardEndpoint]]:
    """The evaluations with p adjusted by Holm over all primary endpoints and arms."""
    of_suites = [each.endpoints for each in (*probed, *ruler)]
    every = [found for endpoints in (*of_suites, standard) for found in _primary(endpoints)]
    corrected = iter(holm([finding.p for finding in every if finding.p is not None]))
    return (
        [_with_adjusted(each, corrected) for each in probed],
        [_with_adjusted(each, corrected) for each in ruler],
        [_endpoint(each, corrected) for each in standard],
    )


def _primary(
    endpoints: Sequence[Endpoint] | Sequence[RulerEndpoint] | Sequence[StandardEndpoint],
) -> Iterator[Finding]:
    for endpoint in endpoints:
        if endpoint.primary:
            yield from endpoint.arms.values()


def _with_adjusted(found: Found, corrected: Iterator[float]) -> Found:
    endpoints: list[Any] = [
        _endpoint(each, corrected) for each in cast("list[Any]", found.endpoints)
    ]
    return replace(found, endpoints=endpoints)


def _endpoint(endpoint: Each, corrected: Iterator[float]) -> Each:
    if not endpoint.primary:
        return endpoint
    return replace(endpoint, arms={n: _one(f, corrected) for n, f in endpoint.arms.items()})


def _one(finding: Finding, corrected: Iterator[float]) -> Finding:
    return finding if finding.p is None else replace(finding, adjusted=next(corrected))


def primary_table(
    probed: Sequence[Evaluation],
    ruler: Sequence[RulerEvaluation],
    standard: Sequence[StandardEndpoint],
) -> Table | None:
    """The endpoints that were named before, with their tests; None if there are none."""
    table = borderless(
        "Primary endpoints",
        "p: Student's test over seeds, adjusted by Holm over this table\n"
        "finds: the true difference that these seeds find with 80% power\n"
        "for half: seeds that find half of that",
        "endpoint",
    )
    table.columns[0].min_width = len("extrapolated")
    table.add_column("arm", overflow="fold")
    table.add_column("difference", justify="right", no_wrap=True)
    for heading in ("p", "unchanged", "finds", "for half"):
        table.add_column(heading, justify="right", min_width=len(heading))
    for each in probed:
        for endpoint in each.endpoints:
            _add(table, f"{endpoint.name}, {each.length:,}", endpoint.primary, endpoint.arms)
    for each in ruler:
        for endpoint in each.endpoints:
            _add(table, f"{RULER}, {endpoint.name}", endpoint.primary, endpoint.arms)
    for endpoint in standard:
        _add(table, f"{STANDARD}, {endpoint.name}", endpoint.primary, endpoint.arms)
    return table if table.rows else None


def _add(table: Table, label: str, primary: bool, arms: Mapping[str, Finding]) -> None:
    if primary:
        for arm, finding in arms.items():
            table.add_row(label, arm, *_tests(finding))


def _tests(found: Finding) -> Iterator[str]:
    """Yields the cells of a finding."""
    if found.over_seeds is None or found.detectable is None:
        yield from (signed(found.delta), "one seed", "", "", "")
        return
    yield f"{signed(found.delta)} ± {found.over_seeds:.4f}"
    yield "" if found.adjusted is None else f"{found.adjusted:.3f}"
    yield {True: "yes", False: "not shown", None: ""}[found.equivalent]
    yield f"{found.detectable:.4f}"
    yield "" if found.seeds_for_half is None else f"{found.seeds_for_half:,}"
