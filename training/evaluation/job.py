"""An evaluation from its settings to its results: every model, every suite, every length."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...schemas.manifest import Manifest
from ...schemas.sizes import plural
from ...schemas.status_line import clock
from ..config import Precision
from ..windows.agreement import model_fingerprint
from .config import FACTORS, IN_HAYSTACK, EvaluateConfig
from .inputs import Inputs, open_inputs
from .latent.sets import latent_sets
from .models import FolderModel, device_of
from .nolima.sets import nolima_sets
from .results import ITEMS, Journal, ResultFolder, content_digest, versions
from .ruler.sets import ruler_sets
from .ruler.suite import RulerSuite
from .standard.opening import open_standard
from .subjects import Subject, check_vocabulary, find_subjects, folder_of, read_config
from .suites import BucketsSuite, ProbeSuite, SuiteOfLength
from .vocabulary import read_vocabulary

__all__ = ["Evaluation", "evaluate"]

BATCH_TOKENS = {"cpu": 1 << 14, "cuda": 1 << 18}
PRECISIONS: dict[str, Precision] = {"cpu": "fp32", "cuda": "bf16"}
"""What suits each device."""

LINE_SECONDS = 1.0

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A finished evaluation of one model, suite and length.

    Attributes:
        model: the run or folder, as it was named.
        folder: where it is.
        manifest: what was evaluated, and how.
        items: the rows of `items.parquet`; None for the suite `buckets`.
        scores: the rows of `scores.parquet`.
    """

    model: str
    folder: Path
    manifest: Manifest
    items: pa.Table | None
    scores: pa.Table


def evaluate(config: EvaluateConfig, say: Say) -> list[Evaluation]:
    """Evaluates models; what is finished already is only read.

    Args:
        config: the settings.
        say: takes a line for a person.

    Returns:
        By model, suite and length.

    Raises:
        UsageError, FormatError, IncompleteError: something is missing or does not fit together.
        ExactcptError: the memory is too small, or another process makes the same evaluation.
    """
    device = device_of(config.device)
    precision = config.precision or PRECISIONS[device.type]
    subjects = find_subjects(config.models, config.out)
    batch_tokens = config.batch_tokens or BATCH_TOKENS[device.type]
    found: list[Evaluation] = []
    with ExitStack() as stack:
        suites = _suites(config, subjects, stack, say)
        for subject in subjects:
            with folder_of(subject) as (folder, step):
                evaluator = _Evaluator(
                    subject=subject,
                    folder=folder,
                    about=_about(subject, folder, step, precision),
                    load=lambda folder=folder: FolderModel(folder, device, precision),
                    batch_tokens=batch_tokens,
                    say=say,
                )
                found += evaluator.all_of(suites)
    return found


def _suites(
    config: EvaluateConfig, subjects: Sequence[Subject], stack: ExitStack, say: Say
) -> list[SuiteOfLength]:
    """Every suite and length, in the order in which they are scored.

    Args:
        config: the settings.
        subjects: what is evaluated; all must have the tokenizer of the items.
        stack: keeps the files of the suite `standard` until everything is scored.
        say: takes a line for a person.
    """
    has_haystack = bool({*IN_HAYSTACK} & {*config.suites})
    inputs = open_inputs(config, subjects, say) if has_haystack else None
    vocabulary = inputs.vocabulary if inputs else read_vocabulary(subjects[0].model_folder)
    for subject in subjects:
        check_vocabulary(subject, vocabulary)
    suites: list[SuiteOfLength] = []
    if inputs is not None:
        suites += _in_haystack(inputs, say)
    if "nolima" in config.suites:
        windows = [subject.window for subject in subjects if subject.window]
        sets = nolima_sets(config, vocabulary, max(FACTORS) * windows[0] if windows else None, say)
        suites += [RulerSuite(each, config.score, vocabulary.tokenizer) for each in sets]
    if "standard" in config.suites:
        suites += stack.enter_context(open_standard(config, subjects[0].model_folder))
    return suites


def _in_haystack(inputs: Inputs, say: Say) -> Iterator[SuiteOfLength]:
    """Yields the suites that read a haystack."""
    config = inputs.config
    if "probe" in config.suites:
        yield from (ProbeSuite(inputs, item_set) for item_set in inputs.item_sets(say))
    if "buckets" in config.suites:
        yield BucketsSuite(inputs)
    for suite, sets in (("ruler", ruler_sets), ("latent", latent_sets)):
        if suite in config.suites:
            decoder = inputs.vocabulary.tokenizer
            yield from (RulerSuite(each, config.score, decoder) for each in sets(inputs, say))


def _about(
    subject: Subject, folder: Path, step: int | None, precision: Precision
) -> dict[str, Any]:
    """The fields of the manifest that depend on the model and not on the suite."""
    return {
        "model": model_fingerprint(folder),
        "step": step,
        "tau": subject.tau,
        "window": subject.window,
        "positions": read_config(folder).get("max_position_embeddings"),
        "precision": precision,
    }


@dataclass(frozen=True, kw_only=True)
class _Evaluator:
    """Evaluates one model, which is loaded when it is first needed."""

    subject: Subject
    folder: Path
    about: dict[str, Any]
    load: Callable[[], FolderModel]
    batch_tokens: int
    say: Say

    def all_of(self, suites: Sequence[SuiteOfLength]) -> Iterator[Evaluation]:
        model: FolderModel | None = None
        for suite in suites:
            folder = ResultFolder(self.subject.results, self._identity(suite))
            manifest = folder.finished()
            if manifest is None:
                model = model or self.load()
                manifest = self._score(model, suite, folder)
            else:
                self.say(f"{self._title(suite)}: finished already, in {folder.path}")
            yield Evaluation(
                model=self._name,
                folder=folder.path,
                manifest=manifest,
                items=folder.items(),
                scores=folder.scores(),
            )

    @property
    def _name(self) -> str:
        step = self.subject.step
        return str(self.subject.path) + (f"@{step}" if step is not None else "")

    def _title(self, suite: SuiteOfLength) -> str:
        return f"{self._name}  {suite.identity['suite']} {_which(suite)}"

    def _identity(self, suite: SuiteOfLength) -> dict[str, Any]:
        positions = self.about["positions"]
        length = suite.identity["length"]
        beyond = positions is not None and length is not None and length > positions
        return suite.identity | self.about | {"extrapolated": beyond}

    def _score(self, model: FolderModel, suite: SuiteOfLength, folder: ResultFolder) -> Manifest:
        with folder.held():
            with folder.journal() as journal:
                progress = _Progress(self.say, self._title(suite), suite, journal)
                suite.score(model, self.batch_tokens, journal, progress)
                seconds = journal.seconds
                tables = suite.tables(journal.scores)
            made = {} if "items" in suite.identity else {"items": content_digest(tables[ITEMS])}
            return folder.write(
                tables,
                {
                    **made,
                    "device": model.device.type,
                    "versions": versions("torch", "transformers"),
                    "seconds": round(seconds, 3),
                    "tokens": suite.tokens,
                },
            )


def _which(suite: SuiteOfLength) -> str:
    """Which one of its suite it is: its length, or its task where others make the prompts."""
    length = suite.identity["length"]
    return ", ".join(suite.identity["tasks"]) if length is None else f"{length:,}"


class _Progress:
    """Tells a person how the scoring goes, at most once per second."""

    def __init__(self, say: Say, title: str, suite: SuiteOfLength, journal: Journal) -> None:
        self._say, self._title, self._suite, self._journal = say, title, suite, journal
        self._done = 0
        self._said = time.monotonic()

    def __call__(self, rows: int) -> None:
        self._done += rows
        now = time.monotonic()
        if now - self._said < LINE_SECONDS and self._done < self._suite.rows:
            return
        self._said = now
        speed = self._done / max(self._journal.seconds, 1e-9)  # what was done before counts, too
        left = (self._suite.rows - self._done) / speed
        pace = f"{speed:,.1f} a second" if speed >= 1 else f"{60 * speed:,.1f} a minute"
        self._say(
            f"{self._title}: {self._done:,} of {plural(self._suite.rows, self._suite.noun)}"
            f"  {pace}" + (f", {clock(left)} left" if left >= 1 else "")
        )
