"""The evaluations that a study asks for, among those that its runs have.

Anybody may evaluate a run again, with more items or of another seed. Such figures stand in tables,
but no gate and no verdict looks at them. So a step notes the evaluations that it has made.
"""

from collections.abc import Collection
from pathlib import Path

from ...schemas.manifest import Manifest
from ..comparison.evaluated import ItemsKey, Probed, read_probed
from ..evaluation.config import FACTORS, ITEMS, chosen_suites, chosen_tasks
from .commands import parsed
from .config import Study

__all__ = ["asked_evaluations", "asked_probes", "facts_of"]

PROBE = "probe"


def asked_probes(
    study: Study, run: Path, evaluations: Collection[str] | None
) -> dict[ItemsKey, Probed]:
    """What the probe found of a run with the items of the study.

    Args:
        study: the study.
        run: folder of the run.
        evaluations: names of the folders of evaluations that count; None for all that are as the
            study asks for them.

    Raises:
        FormatError: an evaluation is damaged.
    """
    if evaluations is not None:
        return read_probed(run, lambda folder, _: folder.name in evaluations)
    asked = parsed(("RUN", *study.evaluate))
    suites = chosen_suites(asked["suite"])
    tasks = chosen_tasks(asked["tasks"], suites, asked["haystack"])[PROBE]
    lengths, precision = asked["lengths"], asked["precision"]

    def is_asked(_: Path, manifest: Manifest) -> bool:
        window = manifest["window"]
        wanted = lengths or (window and [window * factor for factor in FACTORS])
        return (
            manifest["seed"] == asked["seed"]
            and manifest["ablation"] == asked["ablation"]
            and [*manifest["tasks"]] == [*tasks]
            and (wanted is None or manifest["length"] in wanted)
            and precision in (None, manifest["precision"])
        )

    found = read_probed(run, is_asked)
    most = ITEMS if asked["items"] is None else asked["items"]
    return {key: probed for key, probed in found.items() if probed.numbered <= most}


def asked_evaluations(study: Study, run: Path) -> tuple[str, ...]:
    """Names of the folders of a run's evaluations that are as the study asks for them.

    With several of one length, it is the one with most facts.

    Raises:
        FormatError: an evaluation is damaged.
    """
    best: dict[int, tuple[int, str]] = {}
    for (length, _, _), probed in asked_probes(study, run, None).items():
        this = facts_of(probed), probed.folder
        best[length] = max(this, best.get(length, this))
    return tuple(name for _, (_, name) in sorted(best.items()))


def facts_of(probed: Probed) -> int:
    """Number of facts of an evaluation, in the context that has most."""
    return max(len(gains.values) for gains in probed.gains.values())
