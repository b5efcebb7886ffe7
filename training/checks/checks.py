"""The checks of a trainer: what is changed, and what that must do to the gradient.

Most look at a few targets alone. Everything else has the label -100 and the weight 0, so that the
gradient is that of these targets' losses. What must not matter to them is changed, and the gradient
must stay; what must matter is changed, and it must not.

Others are about sums. With g_i the gradient of the targets i alone and w_i their weights, the
gradient of several is, up to one factor,

    g = sum_i w_i g_i

Two measurements say how exact that can be (`Noise`). The gradient of the same step again says what
is not repeatable in it. The gradient of three copies of the window, which has the same direction
but is added up from other numbers, says what rounding does to sums, in whatever precision they are
made.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ...schemas.sizes import plural
from .gradients import Gradient, change, check_shapes, is_zero, misfit, resolution, shares
from .windows import FIRST, Tried, Window, batch_of, other_ids

__all__ = ["CHECKS", "Bench", "Check", "Noise", "Result", "percent", "run_checks"]

Outcome = Literal["holds", "fails", "not asked"]

REPEATABLE = 0.01
"""The largest change of a step that is done again with which anything can be told."""

SPARE = 8
"""How many times the measured noise a change must be to count."""

ROUNDED = 64
"""How many units in the last place may change for other reasons, such as the order in which a
device adds up."""

HALF_OF_FP32 = 2.0**-11.5
"""The square root of fp32's resolution: half of its digits. Weights and positions are fp32 whatever
the model is, and a sum of many targets loses some."""

COARSEST = 0.1
"""The largest change of a sum that may count as rounding. What is looked for changes it more."""

HEAVY = 3.0
"""The larger weight."""

ONE_HALF = 0.75
"""Two halves of a mean count 1/2 each; two parts of a sum 1. This is between them."""

BACK = 4
"""How many tokens before a target are tried."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How far two gradients that should be equal may be apart, relative to their norm.

    Attributes:
        repeated: change of the same step, done again.
        tripled: how far that of three copies of the window is from a multiple of that of one.
        unit: the resolution of the numbers.
    """

    repeated: float
    tripled: float
    unit: float

    @property
    def exact(self) -> float:
        """A larger change is one."""
        return max(SPARE * self.repeated, min(ROUNDED * self.unit, HALF_OF_FP32))

    @property
    def sums(self) -> float:
        """The same where sums are compared with what they should be made of."""
        return min(COARSEST, max(SPARE * self.tripled, self.exact, HALF_OF_FP32))

    @property
    def felt(self) -> float:
        """A larger change shows that something matters."""
        return SPARE * self.repeated


class Bench:
    """A trainer and the windows that it is tried with.

    Args:
        step: the gradient of a step on the micro-batches that are given.
        tried: the windows.
    """

    def __init__(self, step: Callable[[list[dict[str, Any]]], Gradient], tried: Tried) -> None:
        self._step = step
        self.tried = tried
        self.others = other_ids(tried)
        self.steps = 0
        self._shapes: dict[str, Any] = {}
        self.noise = Noise(repeated=0.0, tripled=0.0, unit=0.0)
        self.early_a: Gradient = {}
        self.early_b: Gradient = {}
        self.joined = 0.0

    def gradient(self, *micro_batches: Sequence[Window]) -> Gradient:
        """The gradient of a step on micro-batches of windows."""
        self.steps += 1
        found = self._step([batch_of(windows) for windows in micro_batches])
        check_shapes(found, self._shapes)
        return found

    def of(self, weights: Mapping[range, float], window: Window | None = None) -> Gradient:
        """The gradient of some targets of a window, alone in a step."""
        return self.gradient([(window or self.tried.window).only(weights)])

    def changes(self, before: Gradient, after: Gradient) -> tuple[bool, str]:
        """Whether a gradient is another one, and in words by how much."""
        found = change(before, after)
        return found > self.noise.exact, _changed(found)


@dataclass(frozen=True)
class Found:
    """What a check has found: whether it holds, and what was seen."""

    holds: bool
    seen: str


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: a word.
        says: what holds if it holds.
        run: tries it.
        needs: checks without which its result would say nothing.
    """

    name: str
    says: str
    run: Callable[[Bench], Found]
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a check: its name and what it says, the outcome, what was seen or why not."""

    check: str
    says: str
    outcome: Outcome
    seen: str

    def to_json(self) -> dict[str, str]:
        """As JSON values."""
        return asdict(self)


def run_checks(bench: Bench) -> list[Result]:
    """Runs all checks, in order; one whose result would say nothing is not asked."""
    results: dict[str, Result] = {}
    for check in CHECKS:
        failed = [n for n in (*check.needs, REPEAT) if n in results and _fails(results[n])]
        if failed:
            reason = f'"{results[failed[0]].says}" fails'
            outcome, seen = "not asked", reason
        else:
            found = check.run(bench)
            outcome, seen = "holds" if found.holds else "fails", found.seen
        results[check.name] = Result(check=check.name, says=check.says, outcome=outcome, seen=seen)
    return [*results.values(), RANKS]


def _fails(result: Result) -> bool:
    return result.outcome == "fails"


def percent(part: float) -> str:
    """A part of a whole, with as many digits as matter."""
    return f"{part:.1%}" if part >= 0.001 else f"{100 * part:.1g}%"


def _changed(part: float) -> str:
    return f"changed by {percent(part)}" if part else "unchanged"


REPEAT = "repeat"


def _repeat(bench: Bench) -> Found:
    window = bench.tried.window
    first = bench.gradient([window])
    repeated = change(first, bench.gradient([window]))
    tripled, _ = misfit(bench.gradient([window] * 3), ((1.0, first),))
    bench.noise = Noise(repeated=repeated, tripled=tripled, unit=resolution(first))
    if is_zero(first):
        return Found(False, "the gradient is zero")
    if repeated > REPEATABLE:
        return Found(
            False,
            f"{_changed(repeated)}: dropout, gradients that were not reset, or weights "
            "that the step has changed",
        )
    return Found(True, _changed(repeated))


def _padding(bench: Bench) -> Found:
    window = bench.tried.window
    changed = window.with_ids(window.padding, bench.others)
    differs, seen = bench.changes(bench.gradient([window]), bench.gradient([changed]))
    if differs:
        return Found(False, f"{seen} with other tokens there: it is trained on")
    return Found(True, f"{seen} with other tokens there")


def _targets(bench: Bench) -> Found:
    a, b = bench.tried.a.early, bench.tried.b.early
    bench.early_a, bench.early_b = bench.of({a: 1.0}), bench.of({b: 1.0})
    both = bench.of({a: 1.0, b: 1.0})
    if is_zero(bench.early_a) or is_zero(bench.early_b):
        return Found(False, "2 targets with labels and weights have no gradient")
    if shares(both, bench.early_a, bench.early_b) is None:
        return Found(False, "the gradient is the same, whatever targets have labels and weights")
    rest, bench.joined = misfit(both, ((1.0, bench.early_a), (1.0, bench.early_b)))
    if rest > bench.noise.sums:
        return Found(
            False,
            f"{percent(rest)} of the gradient of 4 targets is not that of 2 and 2: tokens "
            "without a label, such as the first ones of documents, are trained on",
        )
    return Found(True, "2 targets and 2 have the gradient of 4")


def _labels(bench: Bench) -> Found:
    b = bench.tried.b.early
    window = bench.tried.window.only({b: 1.0})
    after = bench.gradient([window.with_labels(b, bench.others)])
    found = change(bench.early_b, after)
    if found <= bench.noise.felt:
        return Found(False, "unchanged with other labels: they are made from the tokens")
    return Found(True, f"changed by {percent(found)} with other labels")


def _weights(bench: Bench) -> Found:
    """Weights of 1 and 3 on targets of two documents."""
    a, b = bench.tried.a.early, bench.tried.b.early
    return _weighted(bench, bench.of({a: 1.0, b: HEAVY}), bench.early_a, bench.early_b)


def _weighted(bench: Bench, found: Gradient, light: Gradient, heavy: Gradient) -> Found:
    rest, _ = misfit(found, ((1.0, light), (HEAVY, heavy)))
    parts = shares(found, light, heavy)
    counts = "" if parts is None or not parts[0] else f" counts {parts[1] / parts[0]:.2f} times"
    seen = f"weight {HEAVY:g}{counts} weight 1"
    return Found(rest <= bench.noise.sums, seen)


def _alignment(bench: Bench) -> Found:
    """Weights of 1 and 3 on neighbours: a weight that moves by one place is on another target."""
    b = bench.tried.b
    light, heavy = b.block(FIRST), b.block(FIRST + 2)
    found = bench.of({light: 1.0, heavy: HEAVY})
    fits = _weighted(bench, found, bench.early_b, bench.of({heavy: 1.0}))
    if not fits.holds:
        return Found(False, "neighbours have each other's weights: labels are shifted, weights not")
    return Found(True, f"of neighbours, {fits.seen}")


def _causality(bench: Bench) -> Found:
    b = bench.tried.b
    window = bench.tried.window.only({b.early: 1.0})
    later = range(b.early.stop, b.stop)
    after = bench.gradient([window.with_ids(later, bench.others)])
    differs, seen = bench.changes(bench.early_b, after)
    return Found(not differs, f"{seen} with other tokens after them")


def _shift(bench: Bench) -> Found:
    """Which is the last token whose value matters to a target?"""
    early = bench.tried.b.early
    window = bench.tried.window.only({early: 1.0})
    for back in range(BACK + 1):
        place = early.stop - 1 - back
        after = bench.gradient([window.with_ids([place], bench.others)])
        if change(bench.early_b, after) > bench.noise.exact:
            break
    else:
        return Found(False, f"none of the {BACK} tokens before a target matters to it")
    if back == 0:
        return Found(False, "a target is predicted from itself: labels are not shifted")
    if back > 1:
        return Found(False, f"labels are shifted by {back}: twice, for example")
    return Found(True, "labels are shifted by 1")


def _documents(bench: Bench) -> Found:
    tried = bench.tried
    window = tried.window.only({tried.b.counted: 1.0})
    before = bench.gradient([window])
    rest = [i for i in range(len(window.ids)) if not tried.b.start <= i < tried.b.stop]
    differs, seen = bench.changes(before, bench.gradient([window.with_ids(rest, bench.others)]))
    seen = f"{seen} with others around it"
    if not differs:
        return Found(True, seen)
    inner = [i for i in rest if int(window.ids[i]) not in tried.special]
    differs, _ = bench.changes(before, bench.gradient([window.with_ids(inner, bench.others)]))
    if not differs:
        seen += ", by end tokens alone: boundaries are off by one, or found by end tokens"
    return Found(False, seen)


def _windows(bench: Bench) -> Found:
    tried = bench.tried
    first = tried.window.only({tried.a.early: 1.0})
    second = tried.second.only({tried.second.documents[0].counted: 1.0})
    other = first.with_ids(range(tried.a.early.stop, len(first.ids)), bench.others)
    differs, seen = bench.changes(bench.gradient([first, second]), bench.gradient([other, second]))
    return Found(not differs, f"{seen} with another window before")


def _reach(bench: Bench) -> Found:
    b = bench.tried.b
    last = range(b.stop - 2, b.stop)
    window = bench.tried.window.only({last: 1.0})
    after = bench.gradient([window.with_ids([b.start], bench.others)])
    found = change(bench.gradient([window]), after)
    seen = f"{_changed(found)} with another first token"
    return Found(found > bench.noise.felt, seen)


def _place(bench: Bench) -> Found:
    b = bench.tried.b
    window = bench.tried.window.only({b.counted: 1.0})
    found = change(bench.gradient([window]), bench.gradient([window.with_first(b)]))
    seen = f"{_changed(found)} at the window's beginning"
    return Found(found <= bench.noise.sums, seen)


def _denominator(bench: Bench) -> Found:
    """2 targets of weight 1 and many of weight 3, as one micro-batch and as two."""
    tried = bench.tried
    counted = tried.second.documents[0].counted
    few = tried.window.only({tried.a.early: 1.0})
    many = tried.second.only({counted: HEAVY})
    alone, other = bench.gradient([few]), bench.gradient([many])
    joint, apart = bench.gradient([few, many]), bench.gradient([few], [many])
    numbers = len(tried.a.early), len(counted)
    of_all = f"{plural(numbers[0], 'target')} of {sum(numbers):,}"
    moved = change(joint, apart)
    divisor = _divisor(bench, joint, alone, other, numbers)
    if moved > bench.noise.sums:
        parts = [shares(each, alone, other) for each in (joint, apart)]
        told = ", ".join(
            f"{part[0] / sum(part):.0%} in {how}"
            for how, part in zip(("one micro-batch", "two"), parts, strict=True)
            if part is not None and sum(part)
        )
        return Found(False, f"{of_all} count {told}" if told else _changed(moved))
    if divisor is None:
        return Found(False, "each window is divided by a number of its own")
    return Found(True, divisor)


def _divisor(
    bench: Bench, joint: Gradient, one: Gradient, other: Gradient, targets: tuple[int, int]
) -> str | None:
    """What a step divides by, from what two windows have alone and together."""
    few, many = targets
    heavy = HEAVY * many
    candidates = {
        "the number of targets": (few / (few + many), many / (few + many)),
        "the sum of the weights": (few / (few + heavy), heavy / (few + heavy)),
    }
    if bench.joined > ONE_HALF:
        candidates = {"a number that does not depend on the targets": (1.0, 1.0)}
    fits = {}
    for name, (a, b) in candidates.items():
        rest, multiple = misfit(joint, ((a, one), (b, other)))
        fits[name] = max(rest, abs(multiple - 1))
    best = min(fits, key=lambda name: fits[name])
    return best if fits[best] <= bench.noise.sums else None


CHECKS = (
    Check(REPEAT, "a step can be repeated", _repeat),
    Check("padding", "padding does not matter", _padding),
    Check("targets", "only targets are trained on", _targets),
    Check("labels", "labels arrive", _labels, ("targets",)),
    Check("weights", "weights arrive", _weights, ("targets",)),
    Check("alignment", "weights go with their labels", _alignment, ("targets", "weights")),
    Check("causality", "targets do not see what follows", _causality, ("targets",)),
    Check(
        "shift",
        "labels are shifted once",
        _shift,
        ("targets", "labels", "alignment", "causality"),
    ),
    Check("documents", "documents do not see each other", _documents, ("targets",)),
    Check(
        "windows", "windows do not see each other", _windows, ("targets", "causality")
    ),
    Check("reach", "targets see their whole document", _reach, ("targets",)),
    Check(
        "place",
        "a document's place does not matter",
        _place,
        ("targets", "documents"),
    ),
    Check(
        "denominator",
        "a step has one denominator",
        _denominator,
        ("targets", "windows"),
    ),
)  # fmt: skip

RANKS = Result(
    check="ranks",
    says="all ranks have one denominator",
    outcome="not asked",
    seen="there is one process here",
)
