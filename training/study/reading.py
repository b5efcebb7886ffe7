"""The TOML file of a study as a `Study`. Every mistake that can be seen in it is told here."""

import copy
import re
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast, get_args

import click

from ...schemas.disk import is_file_name
from ...schemas.errors import ExactcptError, UsageError
from ...schemas.hub import hub_name
from ...schemas.settings import Kind, read_toml, suggestion
from ..config import TrainConfig, WeightingName
from ..evaluation.assemble import CONTEXTS, DOCUMENT, Context
from ..evaluation.config import chosen_suites, chosen_tasks
from ..evaluation.natural import NATURAL
from .commands import evaluate_arguments, evaluate_flags, parsed
from .config import (
    MARGINS,
    Arm,
    Base,
    Claim,
    Endpoint,
    Gate,
    Prepare,
    Primary,
    Stage,
    Study,
    merged,
)
from .places import OWN
from .table import Table, Values

__all__ = ["read_study"]

SECTIONS = ("study", "prepare", "train", "base", "stage", "arm", "evaluate", "primary")
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
COMMIT = re.compile("[0-9a-f]{40}")
RESERVED = ("base", "prepare")
"""What no stage may be called: it would have the names of other steps."""
WEIGHTINGS: tuple[str, ...] = get_args(WeightingName)
OF_ARMS = ("weighting", "weight_table", "grad_norm_from")
"""Settings in which arms differ."""
FREE = {
    "study": ("name", "differs"),
    "evaluate": (
        "after", "suite", "score", "squad", "hotpotqa", "nolima", "data", "shots", "batch_tokens",
        "device",
    ),
}  # fmt: skip
"""Settings that change no figure that a gate or a primary endpoint looks at."""


def read_study(path: str) -> Study:
    """Reads a study.

    Raises:
        UsageError: the file cannot be read, or asks for something impossible.
    """
    raw = read_toml(path, SECTIONS)
    return _Reader(path, _with_here(copy.deepcopy(raw), str(Path(path).resolve().parent))).study(
        raw
    )


def _with_here(value: Any, here: str) -> Any:
    """A value with the folder of the file in the place of `{here}`."""
    if isinstance(value, dict):
        table = cast(Values, value)
        return {_with_here(n, here): _with_here(each, here) for n, each in table.items()}
    if isinstance(value, list):
        return [_with_here(each, here) for each in cast("list[Any]", value)]
    return value.replace("{here}", here) if isinstance(value, str) else value


def _registered(raw: Values, primaries: tuple[Primary, ...]) -> tuple[Values, Values]:
    """What may change of a file, and what must not; each endpoint with the stage that it is of."""
    free: Values = {}
    registered = dict(raw)
    for section, names in FREE.items():
        values: Values = raw.get(section, {})
        free[section] = {n: value for n, value in values.items() if n in names}
        registered[section] = {n: value for n, value in values.items() if n not in names}
    if primaries:
        registered["primary"] = [
            values | {"stage": primary.stage}
            for values, primary in zip(raw["primary"], primaries, strict=True)
        ]
    return free, registered


def _contexts(asked: Values, table: Table) -> tuple[Context, ...]:
    """The contexts of the prompts that a probe has, by the options of its `evaluate`."""
    try:
        chosen = chosen_tasks(asked["tasks"], chosen_suites(asked["suite"]), asked["haystack"])
    except UsageError as error:
        table.refuse(error.found, expected=error.expected, fix=error.fix)
    tasks = chosen["probe"]
    placed = CONTEXTS if any(task != NATURAL for task in tasks) else ()
    return (*placed, DOCUMENT) if NATURAL in tasks else placed


class _Reader:
    """Reads the sections of a file in the order in which they need each other."""

    def __init__(self, path: str, values: Values) -> None:
        self.path = path
        self.values = values

    def study(self, raw: Values) -> Study:
        """The whole study.

        Args:
            raw: the file's values, as they are registered.
        """
        study = self._one("study")
        name = study.text("name")
        baseline, floor = study.text("baseline", "uniform"), study.text("floor", None)
        seeds, differs = study.seeds(), study.texts("differs", ())
        study.end()
        common = self._one("train", {}).settings(not_here=OF_ARMS)
        base = self._base(common)
        stages, arms = self._stages(common, base), self._arms()
        for arm in arms.values():
            self._check_norms(arm, arms)
        for setting, value in (("baseline", baseline), ("floor", floor)):
            if value is not None and value not in arms:
                study.refuse(f"{setting} is {value!r}", expected=f"an arm: {', '.join(arms)}")
        matched = (name for name, arm in arms.items() if arm.settings["weighting"] == "matched")
        floor = floor or next(matched, None)
        prepares = self._prepares()
        made = {each.makes for each in prepares}
        self._check_trainings(base, stages, arms, made)
        arguments, evaluated, lengths, contexts = self._evaluate(stages)
        if base is not None and base.gate is not None and contexts == (DOCUMENT,):
            raise UsageError(
                f"the gate has no facts to look at: the probe has the task {NATURAL} alone",
                where=f"{self.path}, [base.gate]",
                expected="another task of the probe in [evaluate], or no gate",
            )
        primaries = tuple(
            self._primary(each, arms, evaluated, lengths, contexts)
            for each in self._many("primary", "endpoint")
        )
        free, registered = _registered(raw, primaries)
        return Study(
            name=name,
            baseline=baseline,
            floor=floor,
            seeds=seeds,
            differs=differs,
            prepare=prepares,
            base=base,
            stages=stages,
            arms=arms,
            evaluate=arguments,
            evaluated=evaluated,
            primaries=primaries,
            free=free,
            registered=registered,
        )

    def _one(self, section: str, default: Any = None) -> Table:
        if section not in self.values and default is None:
            raise UsageError(f"[{section}] is missing", where=self.path, expected=f"[{section}]")
        return Table(self.values.get(section, default), f"[{section}]", self.path)

    def _many(self, section: str, name: str) -> list[Table]:
        """The tables of a section, each labelled by one of its values."""
        found = self.values.get(section, [])
        if not isinstance(found, list):
            raise UsageError(
                f"[{section}] is one table", where=self.path, expected=f"[[{section}]] for each"
            )
        tables: list[Table] = []
        for number, values in enumerate(cast("list[Any]", found), 1):
            has_name = isinstance(values, dict) and name in values
            which = cast(Values, values)[name] if has_name else number
            tables.append(Table(values, f"[[{section}]] {which}", self.path))
        return tables

    def _prepares(self) -> tuple[Prepare, ...]:
        found: dict[str, Prepare] = {}
        for table in self._many("prepare", "makes"):
            each = self._prepare(table)
            if each.makes in found:
                table.refuse(f"two commands make {each.makes}", expected="a name of its own")
            found[each.makes] = each
        return tuple(found.values())

    def _prepare(self, table: Table) -> Prepare:
        makes, commands = table.text("makes"), table.text_or_texts("run")
        table.end()
        if not is_file_name(makes) or makes in OWN or not NAME.fullmatch(makes):
            table.refuse(
                f"makes is {makes!r}",
                expected=f"the name of a file or folder in the study's own, not {', '.join(OWN)}",
            )
        run = tuple(self._words(text, table) for text in commands)
        if not run or () in run:
            table.refuse("run is empty", expected="a command of exactcpt with its arguments")
        return Prepare(makes=makes, run=run)

    def _words(self, command: str, table: Table) -> tuple[str, ...]:
        try:
            words = shlex.split(command)
        except ValueError as error:
            table.refuse(f"run cannot be split into words: {error}", expected="quotes in pairs")
        return tuple(words[1:] if words[:1] == ["exactcpt"] else words)

    def _base(self, common: Values) -> Base | None:
        if "base" not in self.values:
            return None
        table = self._one("base")
        seeds = table.seeds()
        wanted = table.whole("wanted", 1, 1)
        if wanted > len(seeds):
            table.refuse(
                f"wanted is {wanted}, with {len(seeds)} candidates", expected="no more than seeds"
            )
        gate = table.table("gate")
        settings = merged(
            {"weighting": "uniform"}, common, table.settings(not_here=("grad_norm_from",))
        )
        if gate is not None and "steps" not in settings and "max_tokens" not in settings:
            table.refuse("neither steps nor max_tokens is given", expected="how long to train")
        return Base(seeds=seeds, wanted=wanted, gate=gate and self._gate(gate), settings=settings)

    def _gate(self, table: Table) -> Gate:
        gate = Gate(
            up_to=table.whole("up_to", 1),
            gain=table.take("gain", Kind(type=float)),
            extend=table.whole("extend", 1, 1),
        )
        table.end()
        return gate

    def _stages(self, common: Values, base: Base | None) -> tuple[Stage, ...]:
        stages: dict[str, Stage] = {}
        for table in self._many("stage", "name"):
            name = self._name(table, {*stages, *RESERVED})
            last = next(reversed(stages), None)
            after = table.texts("after", None)
            for start in after or ():
                if start not in stages:
                    table.refuse(
                        f"after has {start!r}", expected=f"stages before: {', '.join(stages)}"
                    )
            model = {} if base is None else {"model": base.settings.get("model")}
            settings = merged(model, common, table.settings(not_here=("grad_norm_from",)))
            for start in after or (last,):
                each = f"{name}-after-{start}" if after and len(after) > 1 else name
                stages[each] = Stage(name=each, start=start, settings=settings)
        if not stages:
            raise UsageError("there is no stage", where=self.path, expected="[[stage]]")
        return tuple(stages.values())

    def _name(self, table: Table, taken: Collection[str]) -> str:
        name = table.text("name")
        if not NAME.fullmatch(name):
            table.refuse(f"name is {name!r}", expected="letters, digits and any of _ . + -")
        if name in taken:
            table.refuse(f"the name {name!r} is taken", fix="choose another")
        return name

    def _arms(self) -> dict[str, Arm]:
        arms: dict[str, Arm] = {}
        for table in self._many("arm", "name"):
            name = self._name(table, arms)
            norms = table.text("grad_norm_from", None)
            settings = table.settings()
            if "weighting" not in settings:
                if name not in WEIGHTINGS:
                    table.refuse(
                        "weighting is missing",
                        expected=f"one of {', '.join(WEIGHTINGS)}; an arm of such a name has it",
                    )
                settings["weighting"] = name
            arms[name] = Arm(name=name, settings=settings, grad_norm_from=norms)
        if len(arms) < 2:
            raise UsageError(
                f"{len(arms)} of the two arms that a comparison needs",
                where=self.path,
                expected="two or more [[arm]]",
            )
        return arms

    def _check_norms(self, arm: Arm, arms: Mapping[str, Arm]) -> None:
        norms = arm.grad_norm_from
        if norms is None:
            return
        where = f"{self.path}, [[arm]] {arm.name}"
        others = [name for name in arms if arms[name].grad_norm_from is None]
        if norms not in others:
            raise UsageError(
                f"grad_norm_from is {norms!r}",
                where=where,
                expected=f"an arm with norms of its own: {', '.join(others)}",
            )

    def _check_trainings(
        self,
        base: Base | None,
        stages: tuple[Stage, ...],
        arms: Mapping[str, Arm],
        made: Collection[str],
    ) -> None:
        """Checks the settings of every training as `train` would; `made` is what commands make."""
        if base is not None:
            self._check_training(base.settings, "[base]", made)
        for stage in stages:
            for arm in arms.values():
                of_arm = "" if stage.is_alike else f", [[arm]] {arm.name}"
                label = f"[[stage]] {stage.name}{of_arm}"
                self._check_training(stage.settings_of(arm), label, made)

    def _check_training(
        self, settings: Mapping[str, Any], label: str, made: Collection[str]
    ) -> None:
        where = f"{self.path}, {label}"
        for name in ("shards", "model"):
            if settings.get(name) is None:
                raise UsageError(f"{name} is missing", where=where, expected=f'{name} = "..."')
        try:
            TrainConfig(out="run", **settings)
        except ExactcptError as error:
            error.where = where
            raise
        self._check_model(settings["model"], made, where)

    def _check_model(self, model: str, made: Collection[str], where: str) -> None:
        """Checks that a model of the hub is named by its commit: all runs must start alike."""
        name = hub_name(model)
        if name is None or model.partition("/")[0] in made or COMMIT.fullmatch(name.revision or ""):
            return
        raise UsageError(
            f"model is {model!r}, which may mean other weights tomorrow",
            where=where,
            expected="a folder, or OWNER/NAME@COMMIT of the Hugging Face hub",
            fix="the hub shows the hash of each commit at "
            f"https://huggingface.co/{name.repository}/commits/main",
        )

    def _evaluate(
        self, stages: tuple[Stage, ...]
    ) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...] | None, tuple[Context, ...]]:
        """The arguments of `evaluate`, and what it runs on.

        Returns:
            The arguments, the stages after which it runs, the lengths, and the contexts of the
            probe's prompts.
        """
        table = self._one("evaluate")
        names = [stage.name for stage in stages]
        after = table.texts("after", tuple(names))
        for name in after:
            if name not in names:
                table.refuse(f"after has {name!r}", expected=f"stages: {', '.join(names)}")
        values = table.rest()
        flags = evaluate_flags()
        for name in values:
            if name not in flags:
                table.refuse(f"unknown setting {name!r}", fix=suggestion(name, ["after", *flags]))
        arguments = evaluate_arguments(values)
        try:
            found = parsed(("RUN", *arguments))
        except click.ClickException as error:
            table.refuse(error.format_message())
        if "probe" not in found["suite"].split(","):
            table.refuse(f"suite is {found['suite']!r}", expected="the suite probe, among others")
        evaluated = tuple(name for name in names if name in after)
        return arguments, evaluated, found["lengths"], _contexts(found, table)

    def _primary(
        self,
        table: Table,
        arms: Mapping[str, Arm],
        evaluated: tuple[str, ...],
        lengths: tuple[int, ...] | None,
        contexts: tuple[Context, ...],
    ) -> Primary:
        endpoint: Endpoint = table.choice("endpoint", Endpoint)
        arm, against = table.text("arm"), table.texts("against")
        claim: Claim = table.choice("claim", Claim)
        stage = table.text("stage", evaluated[-1] if evaluated else None)
        length = table.whole("length", 1, None)
        context: Context = table.choice("context", Context, contexts[0])
        margin = table.number("margin", 0, MARGINS.get(endpoint))
        table.end()
        for each in (arm, *against):
            if each not in arms:
                table.refuse(f"there is no arm {each!r}", expected=f"one of {', '.join(arms)}")
        if not against or arm in against:
            table.refuse(f"against is {list(against)}", expected="other arms than arm itself")
        if stage not in evaluated:
            table.refuse(f"stage is {stage!r}", expected=f"evaluated: {', '.join(evaluated)}")
        if context not in contexts:
            table.refuse(
                f"context is {context!r}", expected=f"one that is evaluated: {', '.join(contexts)}"
            )
        if length is None and (lengths is None or len(lengths) > 1):
            table.refuse("length is missing", expected="length = N: there are several lengths")
        if length is not None and lengths is not None and length not in lengths:
            table.refuse(f"length is {length}", expected=f"one that is evaluated: {[*lengths]}")
        if claim == "equivalent" and margin is None:
            table.refuse("margin is missing", expected="margin, in nats, for this endpoint")
        return Primary(
            endpoint=endpoint,
            arm=arm,
            against=against,
            claim=claim,
            stage=stage,
            length=length,
            context=context,
            margin=margin if claim == "equivalent" else None,
        )
