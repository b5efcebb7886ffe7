"""The evaluations that a study asks for, among those that its runs have.

Anybody may evaluate a run again, with more items or of another seed. Such figures stand in tables,
but no gate and no verdict looks at them.
"""

from pathlib import Path

from ...schemas.manifest import Manifest
from ..comparison.evaluated import ItemsKey, Probed, read_probed
from ..evaluation.config import chosen_suites, chosen_tasks
from .commands import parsed
from .config import Study

__all__ = ["asked_probes"]

PROBE = "probe"


def asked_probes(study: Study, run: Path) -> dict[ItemsKey, Probed]:
    """What the probe found of a run with the items of the study.

    There are fewer items than asked for where the haystack holds no more.

    Raises:
        FormatError: an evaluation is damaged.
    """
    asked = parsed(("RUN", *study.evaluate))
    suites = chosen_suites(asked["suite"])
    tasks = chosen_tasks(asked["tasks"], suites, asked["haystack"])[PROBE]
    lengths, precision = asked["lengths"], asked["precision"]

    def is_asked(manifest: Manifest) -> bool:
        return (
            manifest["seed"] == asked["seed"]
            and manifest["ablation"] == asked["ablation"]
            and [*manifest["tasks"]] == [*tasks]
            and (lengths is None or manifest["length"] in lengths)
            and (precision is None or manifest["precision"] == precision)
        )

    found = read_probed(run, is_asked)
    return {key: probed for key, probed in found.items() if probed.numbered <= asked["items"]}
