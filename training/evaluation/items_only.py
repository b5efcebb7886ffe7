"""The items of the probe without a model, for scoring by another program.

DIR/probe-4096-<digest>/
    manifest.json     as of an evaluation, without a model
    items.parquet     the items
    prompts.jsonl     one line per item and condition: item, condition, ids, text
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ...schemas.disk import written_whole
from .config import EvaluateConfig
from .inputs import Inputs, ItemSet, open_inputs
from .probe import ABLATED, CONDITIONS
from .results import ITEMS, PROMPTS, ResultFolder, versions

__all__ = ["write_items"]


def write_items(config: EvaluateConfig, say: Callable[[str], None]) -> list[Path]:
    """Writes the items of every length.

    Args:
        config: the settings, with `items_only`.
        say: takes a line for a person.

    Returns:
        The folders, one for each length.

    Raises:
        UsageError, FormatError, IncompleteError: something is missing or does not fit together.
    """
    inputs = open_inputs(config, [])
    return [_write(inputs, item_set, say) for item_set in inputs.item_sets(say)]


def _write(inputs: Inputs, item_set: ItemSet, say: Callable[[str], None]) -> Path:
    assert inputs.config.out is not None
    identity = inputs.identity(item_set) | {
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
                for record in _prompts(inputs, item_set):
                    file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            more: dict[str, Any] = {
                "device": None,
                "versions": versions(),
                "seconds": 0,
                "tokens": 0,
            }
            folder.write({ITEMS: item_set.table}, more)
    say(f"{folder.path} is complete")
    return folder.path


def _prompts(inputs: Inputs, item_set: ItemSet) -> Iterator[dict[str, Any]]:
    decode = inputs.vocabulary.tokenizer.decode
    for number, item in enumerate(item_set.items):
        for condition in CONDITIONS:
            ids = item.prompt.ids(ablated=condition == ABLATED).tolist()
            text = decode(ids, skip_special_tokens=False)
            yield {"item": number, "condition": condition, "ids": ids, "text": text}
