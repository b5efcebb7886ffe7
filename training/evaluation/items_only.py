"""The items of probe, `ruler` and `latent` without a model, for scoring by another program.

DIR/probe-4096-<digest>/
    manifest.json     as of an evaluation, without a model
    items.parquet     the items
    prompts.jsonl     one line per item, and for the probe per condition: item, condition, ids, text
    questions.jsonl   for the probe, one line per made-up fact and place: id, fact, prompt, answer
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...schemas.disk import written_whole
from ...schemas.manifest import EVALUATION, MANIFEST, parse
from ...schemas.regular import read_regular
from .config import EvaluateConfig
from .inputs import Inputs, ItemSet, open_inputs
from .latent.sets import latent_sets
from .probe import ABLATED, CONDITIONS
from .questions import questions, refuse_shared_facts
from .results import ITEMS, PROMPTS, QUESTIONS, ResultFolder, versions
from .ruler.sets import RulerSet, ruler_sets

__all__ = ["write_items"]


def write_items(config: EvaluateConfig, say: Callable[[str], None]) -> list[Path]:
    """Writes the items of every suite and length.

    Args:
        config: the settings, with `items_only`.
        say: takes a line for a person.

    Returns:
        The folders, one for each suite and length.

    Raises:
        UsageError, FormatError, IncompleteError: something is missing or does not fit together.
        ExactcptError: items of another seed in the same folder have a fact in common.
    """
    inputs = open_inputs(config, [], say)
    written: list[Path] = []
    if "probe" in config.suites:
        for each in inputs.item_sets(say):
            files = {
                QUESTIONS: list(questions(inputs, each)),
                PROMPTS: _probe_prompts(inputs, each),
            }
            written.append(_write(inputs, inputs.identity(each), each.table, files, say))
    for suite, sets in (("ruler", ruler_sets), ("latent", latent_sets)):
        if suite in config.suites:
            for each in sets(inputs, say):
                files = {PROMPTS: _ruler_prompts(inputs, each)}
                written.append(_write(inputs, each.identity, each.table, files, say))
    return written


def _write(
    inputs: Inputs,
    of_items: Mapping[str, Any],
    items: pa.Table,
    files: Mapping[str, Iterable[dict[str, Any]]],
    say: Callable[[str], None],
) -> Path:
    assert inputs.config.out is not None
    identity = {
        **of_items,
        "model": None,
        "step": None,
        "tau": None,
        "window": None,
        "positions": None,
        "extrapolated": False,
        "precision": None,
    }
    folder = ResultFolder(Path(inputs.config.out), identity)
    with folder.held():
        if folder.finished() is None:
            if QUESTIONS in files:
                refuse_shared_facts(files[QUESTIONS], _of_other_seeds(folder.path, of_items))
            for name, records in files.items():
                with written_whole(folder.path / name) as scratch, scratch.open("wb") as file:
                    for record in records:
                        file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            more: dict[str, Any] = {
                "device": None,
                "versions": versions(),
                "seconds": 0,
                "tokens": 0,
            }
            folder.write({ITEMS: items}, more)
    say(f"{folder.path} is complete")
    return folder.path


def _of_other_seeds(folder: Path, of_items: Mapping[str, Any]) -> Iterator[Path]:
    """The questions of other seeds beside a folder of items, for the same tokenizer."""
    for path in sorted(folder.parent.glob(f"*/{QUESTIONS}")):
        manifest = path.with_name(MANIFEST)
        if path.parent != folder and manifest.is_file():
            other = parse(read_regular(manifest), str(manifest), EVALUATION)
            is_alike = other["tokenizer"] == of_items["tokenizer"]
            if is_alike and other["seed"] != of_items["seed"]:
                yield path


def _probe_prompts(inputs: Inputs, item_set: ItemSet) -> Iterator[dict[str, Any]]:
    for number, item in enumerate(item_set.items):
        for condition in CONDITIONS:
            ids = item.prompt.ids(ablated=condition == ABLATED).tolist()
            yield {"item": number, "condition": condition, **_prompt(inputs, ids)}


def _ruler_prompts(inputs: Inputs, item_set: RulerSet) -> Iterator[dict[str, Any]]:
    for number, item in enumerate(item_set.items):
        yield {"item": number, **_prompt(inputs, item.ids.tolist())}


def _prompt(inputs: Inputs, ids: list[int]) -> dict[str, Any]:
    return {"ids": ids, "text": inputs.vocabulary.tokenizer.decode(ids, skip_special_tokens=False)}
