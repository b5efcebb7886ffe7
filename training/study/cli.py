"""The command `study`. Nothing heavy is imported before it runs."""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...schemas.errors import UsageError
from ...schemas.terminal import console, echo, echo_json
from ..config import Card
from ..options import check_installed, speaker
from ..run.forecast_options import forecast_options

if TYPE_CHECKING:
    from .config import Study
    from .forecasts import StepForecast
    from .makings import Making
    from .plan import Plan

__all__ = ["study"]

Say = Callable[[str], None]


@click.command()
@click.argument("file", metavar="FILE.toml")
@click.option("--out", required=True, metavar="DIR", help="Folder of the study.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the commands that are left, in order, with the memory and the hours of each "
    "training, and stop. With --json, print these forecasts.",
)
@forecast_options
@click.option(
    "--only",
    metavar="NAME",
    help="Run one step and stop: ARM:SEED:STAGE, ARM:BASE.SEED:STAGE with bases, or another name "
    "that --dry-run prints. Several steps may be run like this at the same time.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    metavar="N",
    help="Commands to run at a time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the results as JSON on stdout.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def study(
    context: click.Context,
    file: str,
    out: str,
    dry_run: bool,
    card: Card,
    gpus: tuple[int, ...],
    only: str | None,
    jobs: int,
    as_json: bool,
    quiet: bool,
    **_: Any,
) -> None:
    """Train, evaluate and compare many arms, seeds and stages.

    FILE.toml says what to make, to train and to compare, and which endpoints the study is about;
    they are registered before the first step. Every step is a command of exactcpt, run in DIR.
    What is done is not done again: to continue a study that was stopped, give the same command
    again. A step that fails is told in the results, and the others go on.

    \b
    exactcpt study study.toml --out study --dry-run
    exactcpt study study.toml --out study --jobs 2

    \b
    Exit codes:
      0   all steps are done, and the results are written
      1   a step failed, or too few bases passed; the results are of what there is
      2   wrong usage
    """
    from .reading import read_study

    found = read_study(file)
    makings = _makings(found, file, context)
    folder = Path(out)
    if dry_run:
        _list(found, folder, jobs, makings, card, gpus, as_json=as_json)
        return
    check_installed()
    say = speaker(quiet)
    if only is not None:
        sys.exit(_run_one(found, Path(file), folder, only, say))
    sys.exit(_run(found, Path(file), folder, jobs, say, as_json=as_json, quiet=quiet))


def _makings(found: "Study", file: str, context: click.Context) -> "list[Making]":
    """The commands that prepare something, as exactcpt itself parses them.

    Raises:
        UsageError: exactcpt has no such command, or it cannot be parsed.
    """
    from .makings import Making

    root = context.find_root().command
    makings: list[Making] = []
    for makes, (name, *arguments) in (
        (each.makes, run) for each in found.prepare for run in each.run
    ):
        where = f"{file}, [[prepare]] {makes}"
        command = root.get_command(context, name) if isinstance(root, click.Group) else None
        if command is None or command is context.command:
            raise UsageError(
                f"there is no command {name!r} to prepare something",
                where=where,
                expected="a command of exactcpt with its arguments",
            )
        try:
            given = command.make_context(name, arguments, context.find_root()).params
        except click.ClickException as error:
            raise UsageError(error.format_message(), where=where) from None
        makings.append(Making(makes=makes, command=name, parameters=given))
    return makings


def _list(
    found: "Study",
    folder: Path,
    jobs: int,
    makings: "list[Making]",
    card: Card,
    gpus: tuple[int, ...],
    *,
    as_json: bool,
) -> None:
    from .listing import listing
    from .plan import make_plan
    from .records import read_record
    from .registration import check_registered

    check_registered(found, folder)

    def record_of(step: Any) -> Any:
        return read_record(folder, step)

    plan = make_plan(found, record_of, hoped=True)
    try:
        check_installed()
    except UsageError as error:
        if as_json:
            raise
        foretold: dict[str, str | None] = {}
        notes: Iterable[str] = [f"Memory and hours are not known: {error.found}"]
    else:
        forecasts = _forecasts(plan, folder, makings, card, gpus)
        if as_json:
            echo_json(json.dumps(_as_json(forecasts, card)))
            return
        from .forecast_lines import forecast_lines, in_short
        from .forecasts import USUAL

        foretold = {each.step.name: in_short(each) for each in forecasts}
        notes = forecast_lines(forecasts, card, gpus or USUAL, found.differs)
    for line in listing(found, plan, record_of, folder, jobs, foretold, notes):
        echo(line)


def _forecasts(
    plan: "Plan",
    folder: Path,
    makings: "list[Making]",
    card: Card,
    gpus: tuple[int, ...],
) -> "list[StepForecast]":
    from .forecasts import USUAL, forecast_steps
    from .foreseen import Foreseen

    return forecast_steps(plan.steps, Foreseen(folder, makings), card, gpus or USUAL)


def _as_json(forecasts: "list[StepForecast]", card: Card) -> dict[str, Any]:
    from .forecasts import forecast_stages

    return {
        "card": card,
        "steps": [each.to_json() for each in forecasts],
        "stages": [each.to_json() for each in forecast_stages(forecasts)],
    }


def _run_one(found: "Study", file: Path, folder: Path, name: str, say: Say) -> int:
    from .registration import register
    from .running import PATIENCE, held, run_one

    with held(folder, patience=PATIENCE):
        register(found, file, folder)
    return 0 if run_one(found, folder, name, say) else 1


def _run(
    found: "Study", file: Path, folder: Path, jobs: int, say: Say, *, as_json: bool, quiet: bool
) -> int:
    from .registration import register
    from .running import held, run_steps

    with held(folder):
        registered = register(found, file, folder)
        plan, record_of = run_steps(found, folder, jobs, say)

        from .results import results_of
        from .tables import result_tables
        from .writing import write_results

        results = results_of(found, plan, record_of, folder, registered)
        write_results(results, folder)
    if as_json:
        echo_json(json.dumps(results.to_json()))
    elif not quiet:
        printer = console(soft_wrap=True)
        for table in result_tables(results, printer):
            printer.print(table)
    return 0 if results.is_whole else 1
