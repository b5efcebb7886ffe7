"""What is checked, and what was found.

All problems are counted, and the first few of each check are put into words: where, what was found
there, and what was expected from the format or from other files of the set.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .arrays import Array

__all__ = ["CHECKS", "KEPT", "TOLERANCE", "Check", "Finding", "Problems", "Report"]

CHECKS = {
    "files": "every file is there with its size and checksum, and there is no other",
    "schema": "shards have the format's names, columns, types and record batches, without nulls",
    "segments": "segments fill their windows, padding is at the end, and spans are in segments",
    "codes": "every position's code is that of its effective context, or 0 outside of the spans",
    "weights": "the weight table follows from the histogram, and the dictionaries from the table",
    "histogram": "the manifest's counts per split and source are those of the tokens",
    "tokens": "every id is in the vocabulary, and every document ends with EOS",
    "coverage": "every document's tokens are there as often as its copies say",
    "documents": "the documents table agrees with itself and the manifest",
    "dedup": "documents dropped as duplicates are duplicates, and all duplicates are dropped",
    "mixing": "every document has the copies that its source's mixing and the seed give it",
    "split": "every document is in the split that its content and the seed give it",
    "packing": "documents are cut only where the packing may cut them",
    "store": "tokens, ids, lengths, hashes and supervised spans are those of the token store",
}
"""What is checked, by the names of the checks."""

KEPT = 20
"""How many findings of a check are kept."""

TOLERANCE = 1e-6
"""How far, relatively, a float may be from what it should be; a float32 has 24 bits."""

Words = str | Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem. `check` is a key of CHECKS."""

    check: str
    where: str
    found: str
    expected: str | None = None


@dataclass(frozen=True, kw_only=True)
class Check:
    """One check: what it looked at or why it was skipped, in words, and how many problems."""

    name: str
    checked: str
    problems: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """What verification found.

    Attributes:
        checks: one for each of CHECKS, in that order.
        findings: at most KEPT of each check; `Check.problems` counts all.
        windows: windows read, over both splits.
        tokens: tokens read, without padding.
        documents: rows of the documents table.
        bytes: the size of all files read, those of the store included.
    """

    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    windows: int
    tokens: int
    documents: int
    bytes: int

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not any(check.problems for check in self.checks)


class Problems:
    """Counts every problem and keeps the first few of each check."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._counts: Counter[str] = Counter()
        self._checked: dict[str, str] = {}

    def add(self, check: str, where: str, found: object, expected: object = None) -> None:
        """Adds one problem."""
        if self._counts[check] < KEPT:
            wanted = None if expected is None else str(expected)
            finding = Finding(check=check, where=where, found=str(found), expected=wanted)
            self.findings.append(finding)
        self._counts[check] += 1

    def each(
        self, check: str, broken: Array, where: Callable[[int], str], found: Words, expected: Words
    ) -> None:
        """Adds a problem for every i where `broken` is true; its words may depend on i."""
        at = np.flatnonzero(broken)
        for i in at[:KEPT].tolist():
            self.add(check, where(i), _say(found, i), _say(expected, i))
        self._counts[check] += len(at[KEPT:])

    def compare(self, check: str, where: str, found: object, expected: object) -> None:
        """Adds a problem if two values differ."""
        if found != expected:
            self.add(check, where, found, expected)

    def claims(
        self, check: str, where: str, found: Mapping[str, object], expected: Mapping[str, object]
    ) -> None:
        """Adds a problem for each key of `expected` that has another value in `found`."""
        for key, value in expected.items():
            self.compare(check, f"{where}.{key}", found[key], value)

    def note(self, check: str, checked: str) -> None:
        """Notes what a check looked at, or why it was skipped; the first note stays."""
        self._checked.setdefault(check, checked)

    def merge(self, later: "Problems") -> None:
        """Adds what was found after this, as if it had been added here one by one."""
        for finding in later.findings:
            if self._counts[finding.check] < KEPT:
                self.findings.append(finding)
            self._counts[finding.check] += 1
        for check, count in later._counts.items():
            self._counts[check] += max(0, count - KEPT)
        for check, checked in later._checked.items():
            self.note(check, checked)

    def to_json(self) -> dict[str, Any]:
        """All of it, for `from_json`."""
        findings = [asdict(finding) for finding in self.findings]
        return {"findings": findings, "counts": {**self._counts}, "checked": self._checked}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> "Problems":
        """What `to_json` was called for."""
        problems = cls()
        problems.findings = [Finding(**finding) for finding in told["findings"]]
        problems._counts = Counter(told["counts"])
        problems._checked = dict(told["checked"])
        return problems

    def checks(self) -> tuple[Check, ...]:
        """All checks, in the order of CHECKS."""
        return tuple(
            Check(name=name, checked=self._checked.get(name, ""), problems=self._counts[name])
            for name in CHECKS
        )


def _say(words: Words, i: int) -> object:
    return words if isinstance(words, str) else words(i)
