"""lm-evaluation-harness: which tasks it has, and what it finds of a model, item by item.

Everything that knows the library `lm_eval` is here.
"""

import io
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ....schemas.errors import ExactcptError, UsageError
from ....schemas.extras import install_line
from ..models import FolderModel
from .local import LocalTask, task_file

__all__ = ["Harness", "Leaf", "Sample", "harness_version", "open_harness"]

EXTRA = "evaluate"
SEED = 1234
"""What lm-eval draws examples with; so seed 0 has those of everybody else."""
NOT_MEASURED = -1
"""What lm-eval's ruler gives an item at the lengths that it is not of."""

TOKENS_OF_PROMPT = 2048
"""More than nearly all prompts of the six benchmarks have."""
WRITTEN = 2000
"""Characters of an output that are kept."""

Leaf = Any
"""A task of lm-eval without tasks below it, with its data."""


class Sample(NamedTuple):
    """What was found of an item; JSON keeps it as a list.

    Attributes:
        number: of the item in its task.
        doc, prompt: SHA-256 of the item's data, and of its first prompt with the examples.
        target: the right answer.
        output: what the model wrote, the first 2,000 characters; None where answers were chosen.
        scores: name of a score, with its filter if there are several -> its value.
    """

    number: int
    doc: str
    prompt: str
    target: str
    output: str | None
    scores: dict[str, float]


def harness_version() -> str:
    """The version of lm-eval.

    Raises:
        UsageError: it is not installed.
    """
    if find_spec("lm_eval") is None:
        raise UsageError(
            "the suite standard needs lm-evaluation-harness, which is not installed",
            fix=install_line(EXTRA),
        )
    return version("lm_eval")


class Harness:
    """The tasks of lm-eval.

    Args:
        tokenizer: folder of a model, for tasks that make their prompts by its tokens.
        lengths: of these prompts; None for those of the tasks.
    """

    def __init__(self, tokenizer: Path, lengths: Sequence[int] | None) -> None:
        tasks: Any = import_module("lm_eval.tasks")
        metadata: dict[str, Any] = {"pretrained": str(tokenizer), "tokenizer": str(tokenizer)}
        if lengths is not None:
            metadata["max_seq_lengths"] = list(lengths)
        with _silent():
            self._manager: Any = tasks.TaskManager(metadata=metadata)

    def check_has(self, task: str) -> None:
        """Checks that there is a task.

        Raises:
            UsageError: there is none of this name.
        """
        if task not in self._manager.task_index:
            raise UsageError(
                f"there is no task {task!r}, neither here nor in lm-eval {harness_version()}",
                fix="`lm-eval ls tasks` lists its tasks",
            )

    def load(self, task: str) -> dict[str, Leaf]:
        """The leaves of a task, with their data from the hub or from its cache, by name.

        Raises:
            ExactcptError: the data cannot be had.
        """
        return self._load(task, task)

    def load_local(self, task: LocalTask, folder: Path) -> dict[str, Leaf]:
        """A task with local data.

        Args:
            task: its data.
            folder: for the files of lm-eval and of `datasets`.

        Raises:
            UsageError: lm-eval has no such task.
            ExactcptError: it cannot read the data.
        """
        self.check_has(task.name)
        theirs = self._manager.task_index[task.name].yaml_path
        return self._load(task.name, str(task_file(task, theirs, folder)))

    def _load(self, task: str, named: str) -> dict[str, Leaf]:
        try:
            with _silent():
                return self._manager.load([named])["tasks"]
        except Exception as error:  # of many libraries: of the hub, of data sets, of the tasks
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise ExactcptError(
                f"the data of {task} cannot be loaded: {type(error).__name__}: {lines[0]}",
                expected="the Hugging Face hub, its cache, or --data DIR",
                fix="load them once where there is a network (then HF_HUB_OFFLINE=1 finds them in "
                f"the cache), give --data DIR with {task}.jsonl, or leave the task out of --tasks",
            ) from error

    def evaluate(
        self, lm: Any, leaf: Leaf, *, shots: int | None, limit: int | None, seed: int
    ) -> list[Sample]:
        """What lm-eval finds of every item.

        Args:
            lm: from `open_harness`.
            leaf: the task.
            shots: solved examples before each item; None for what the task has.
            limit: number of items, the first ones; None for all.
            seed: of the examples.

        Raises:
            ExactcptError: it fails, or scores no items one by one.
        """
        evaluator: Any = import_module("lm_eval.evaluator")
        if shots is not None:
            leaf.set_config(key="num_fewshot", value=shots)
        leaf.set_fewshot_seed(seed=SEED + seed)
        tasks: Any = {"tasks": {leaf.task_name: leaf}}
        try:
            with _silent():
                found: Any = evaluator.evaluate(
                    lm, tasks, limit=limit, log_samples=True, bootstrap_iters=0
                )
        except Exception as error:
            raise ExactcptError(
                f"lm-eval fails at {leaf.task_name}: {type(error).__name__}: {error}",
                fix="leave the task out of --tasks, or try another version of lm-eval",
            ) from error
        return list(_samples(found["samples"][leaf.task_name], leaf.task_name))


def open_harness(model: FolderModel, batch_tokens: int) -> Any:
    """A model as lm-eval reads it: the same weights, with the same attention.

    Args:
        model: the model.
        batch_tokens: tokens in memory at once on the CPU. On CUDA, lm-eval tries what fits.

    Raises:
        UsageError: the model's tokenizer does not say what ends a text.
    """
    from transformers import AutoTokenizer

    models: Any = import_module("lm_eval.models.huggingface")
    tokenizer: Any = AutoTokenizer.from_pretrained(model.folder, local_files_only=True)
    if tokenizer.eos_token_id is None:
        raise UsageError(
            "the model's tokenizer does not say which token ends a text, which lm-eval needs",
            where=str(model.folder),
            expected='a tokenizer_config.json with "eos_token"',
            fix="add one, or evaluate a run: exactcpt knows the token from its shards",
        )
    on_cuda = model.device.type == "cuda"
    with _silent():
        return models.HFLM(
            pretrained=model.network,
            tokenizer=tokenizer,
            batch_size="auto" if on_cuda else max(1, batch_tokens // TOKENS_OF_PROMPT),
        )


def _samples(records: Sequence[dict[str, Any]], task: str) -> Iterator[Sample]:
    """Yields the items in their order; lm-eval has a record of an item for each filter."""
    several = len({record["filter"] for record in records}) > 1
    by_item: dict[int, list[dict[str, Any]]] = {}
    for record in records:
        by_item.setdefault(record["doc_id"], []).append(record)
    for number in sorted(by_item):
        scores: dict[str, float] = {}
        for record in by_item[number]:
            of_filter = f",{record['filter']}" if several else ""
            for metric in record["metrics"]:
                value = record[metric]
                if isinstance(value, int | float) and value != NOT_MEASURED:
                    scores[metric + of_filter] = float(value)
        if not scores:
            raise ExactcptError(
                f"lm-eval gives the items of {task} no scores of their own",
                expected="a task whose score is a mean over its items",
                fix="leave it out of --tasks",
            )
        first = by_item[number][0]
        output = first["resps"][0][0]
        yield Sample(
            number=number,
            doc=first["doc_hash"],
            prompt=first["prompt_hash"],
            target=str(first["target"]),
            output=output[:WRITTEN] if isinstance(output, str) else None,
            scores=scores,
        )


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps the libraries' bars, tables and remarks from the terminal."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
