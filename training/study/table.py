"""One table of the file of a study, whose values are taken one by one."""

from collections.abc import Collection
from typing import Any, NoReturn, cast, get_args

from ...schemas.errors import UsageError
from ...schemas.settings import Kind, check_range, suggestion, typed
from ..config import KINDS

__all__ = ["Table", "Values"]

DECIDED = ("out", "init_from", "seed", "arm")
"""Settings of `train` that the study sets itself."""
SEED = 1 << 64

Values = dict[str, Any]
MISSING: Any = object()


class Table:
    """A table of the file: its values are taken one by one, and what is left over is unknown."""

    def __init__(self, values: Any, label: str, path: str) -> None:
        self.where = f"{path}, {label}"
        if not isinstance(values, dict):
            raise UsageError(f"{label} is no table", where=path, expected=label)
        self._values = dict(cast(Values, values))
        self._known: list[str] = []

    def take(self, name: str, kind: Kind, default: Any = MISSING) -> Any:
        """The value of a name, of a kind."""
        self._known.append(name)
        if name not in self._values:
            if default is MISSING:
                self.refuse(f"{name} is missing")
            return default
        return typed(name, self._values.pop(name), kind, self.where)

    def text(self, name: str, default: Any = MISSING) -> Any:
        """A string."""
        return self.take(name, Kind(type=str), default)

    def choice(self, name: str, of: Any, default: Any = MISSING) -> Any:
        """One of the strings of a Literal."""
        return self.take(name, Kind(type=str, choices=get_args(of)), default)

    def texts(self, name: str, default: Any = MISSING) -> Any:
        """A list of strings."""
        found = self.take(name, Kind(type=list), default)
        return found if found is default else tuple(found)

    def text_or_texts(self, name: str) -> tuple[str, ...]:
        """A string, or a list of strings."""
        several = isinstance(self._values.get(name), list)
        return self.texts(name) if several else (self.text(name),)

    def whole(self, name: str, low: int, default: Any = MISSING) -> Any:
        """A whole number of at least `low`."""
        found = self.take(name, Kind(type=int), default)
        if found is not default:
            check_range(name, found, low, None, where=self.where)
        return found

    def number(self, name: str, low: float, default: Any = MISSING) -> Any:
        """A number of at least `low`."""
        found = self.take(name, Kind(type=float), default)
        if found is not default:
            check_range(name, found, low, None, where=self.where)
        return found

    def seeds(self) -> tuple[int, ...]:
        """Seeds: 0 to N - 1 for a number N, or those of a list."""
        self._known.append("seeds")
        found = self._values.pop("seeds", None)
        if type(found) is int and 0 < found <= 1 << 20:
            return tuple(range(found))
        if isinstance(found, list):
            each = cast("list[Any]", found)
            are_seeds = all(type(seed) is int and 0 <= seed < SEED for seed in each)
            if each and are_seeds and len({*each}) == len(each):
                return tuple(each)
        return self.refuse(
            f"seeds is {found!r}", expected="a number of seeds, or a list with each seed once"
        )

    def table(self, name: str) -> "Table | None":
        """A table in this one, or None."""
        self._known.append(name)
        if name not in self._values:
            return None
        path, _, label = self.where.rpartition(", ")
        return Table(self._values.pop(name), f"{label[:-1]}.{name}]", path)

    def settings(self, not_here: Collection[str] = ()) -> Values:
        """All that is left, as settings of `train`, without some that belong elsewhere."""
        for name in self._values:
            if name in not_here:
                self.refuse(f"{name} does not belong here", fix="give it to an [[arm]]")
            if name in DECIDED:
                self.refuse(f"the study itself decides {name}", fix=f"leave {name} out")
            if name not in KINDS:
                self.refuse(
                    f"unknown setting {name!r}", fix=suggestion(name, [*self._known, *KINDS])
                )
        found = {n: typed(n, value, KINDS[n], self.where) for n, value in self._values.items()}
        self._values = {}
        if found.get("mix"):
            found.setdefault("shards", next(iter(found["mix"])))
        return found

    def rest(self) -> Values:
        """All that is left."""
        found, self._values = self._values, {}
        return found

    def end(self) -> None:
        """Refuses what is left."""
        for name in self._values:
            self.refuse(f"unknown setting {name!r}", fix=suggestion(name, self._known))

    def refuse(
        self, found: str, *, expected: str | None = None, fix: str | None = None
    ) -> NoReturn:
        """Raises a UsageError about this table."""
        raise UsageError(found, where=self.where, expected=expected, fix=fix)
