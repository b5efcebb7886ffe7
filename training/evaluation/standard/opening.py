"""The tasks of `standard`, with their data: what cannot be had is told before a model is read."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ....schemas.errors import ExactcptError
from ..config import EvaluateConfig
from ..vocabulary import read_vocabulary
from .harness import Harness, Leaf, harness_version
from .local import local_tasks
from .suite import VERSION, StandardSuite
from .tasks import SIX

__all__ = ["open_standard"]


@contextmanager
def open_standard(config: EvaluateConfig, model: Path) -> Iterator[list[StandardSuite]]:
    """Opens every task; their files are there until the block ends.

    Args:
        config: the settings.
        model: folder with the tokenizer that all models have.

    Raises:
        UsageError: lm-eval is not installed, or has no such task; a file is missing.
        FormatError: a local file is something else.
        ExactcptError: the data of some tasks cannot be had.
    """
    installed = harness_version()
    digest = read_vocabulary(model).digest
    harness = Harness(model, config.lengths)
    tasks = config.tasks["standard"]
    for task in tasks:
        harness.check_has(task)
    with ExitStack() as stack:
        suites: list[StandardSuite] = []
        failed: list[tuple[str, ExactcptError]] = []
        for task in tasks:
            shots = _shots(config, task)
            try:
                leaves, data = _load(harness, config, task, shots, stack)
            except ExactcptError as error:
                failed.append((task, error))
                continue
            identity = {
                "suite": "standard",
                "suite_version": VERSION,
                "length": None,
                "tasks": [task],
                "seed": config.seed,
                "ablation": None,
                "haystack": data,
                "tokenizer": digest,
                "harness": installed,
                "shots": shots,
                "asked": config.items,
                "lengths": None if task in SIX else config.lengths and list(config.lengths),
            }
            suites.append(StandardSuite(harness, leaves, identity))
        _refuse(failed, tasks)
        yield suites


def _shots(config: EvaluateConfig, task: str) -> int | None:
    if config.shots is not None or task not in SIX:
        return config.shots
    return SIX[task].shots


def _load(
    harness: Harness, config: EvaluateConfig, task: str, shots: int | None, stack: ExitStack
) -> tuple[dict[str, Leaf], str | None]:
    """The leaves of a task, and the digest of the local files that they are from."""
    if config.data is None:
        return harness.load(task), None
    local, digest = local_tasks(Path(config.data), task, shots or 0)
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="exactcpt-")))
    leaves = {
        name: leaf for each in local for name, leaf in harness.load_local(each, folder).items()
    }
    return leaves, digest


def _refuse(failed: Sequence[tuple[str, ExactcptError]], tasks: Sequence[str]) -> None:
    """Raises what went wrong: the error itself, or one for all of them."""
    if not failed:
        return
    task, first = failed[0]
    if len(failed) > 1:
        names = ", ".join(name for name, _ in failed)
        first.found = (
            f"{len(failed)} of {len(tasks)} tasks cannot be evaluated: {names}. The first, {task}: "
            f"{first.found}"
        )
    raise first
