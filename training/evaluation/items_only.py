"""The items of probe, `ruler` and `latent` without a model, for scoring by another program.

DIR/probe-4096-<digest>/
    manifest.json     as of an evaluation, without a model
    items.parquet     the items
    prompts.jsonl     one line per item, and for the probe per condition: item, condition, ids, text
"""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...schemas.disk import written_whole
from .config import EvaluateConfig
from .inputs import Inputs, ItemSet, open_inputs
from .latent.sets import latent_sets
from .probe import ABLATED, CONDITIONS
from .results import ITEMS, PROMPTS, ResultFolder, versions
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
    """
    inputs = open_inputs(config, [], say)
    written: list[Path] = []
    if "probe" in config.suites:
        for each in inputs.item_sets(say):
            prompts = _probe_prompts(inputs, each)
            written.append(_write(inputs, inputs.identity(each), each.table, prompts, say))
    for suite, sets in (("ruler", ruler_sets), ("latent", latent_sets)):
        if suite in config.suites:
            for each in sets(inputs, say):
                prompts = _ruler_prompts(inputs, each)
                written.append(_write(inputs, each.identity, each.table, prompts, say))
    return written


def _write(
    inputs: Inputs,
    of_items: Mapping[str, Any],
    items: pa.Table,
    prompts: Iterator[dict[str, Any]],
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
            with written_whole(folder.path / PROMPTS) as scratch, scratch.open("wb") as file:
                for record in prompts:
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
