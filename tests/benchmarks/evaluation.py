"""How fast the probe is: what alternatives cost beside their prompt, and how items are made.

    python tests/benchmarks/evaluation.py [--quick]

Answers: a prompt of 2,048 tokens, eight answers of four tokens (the right one and seven others), a
model of 4 layers, 128 wide, 4,096 ids, fp32 on one core. Each way reads the prompt and scores all
answers; beside it the prompt alone.

    side by side        exactcpt: one call with all answers, none of which sees another
    one after another   a call for each answer, the memory of the prompt cut back after each
    repeated memory     `DynamicCache.batch_repeat_interleave`: a batch of answers, each with a copy

Times are medians of interleaved runs, in seconds of the process' own time. Memory is what a process
of its own has at its peak beyond the model, for eight prompts.

Items: of every task, at 4,096 and 16,384 tokens, from the texts of `tests/data`: everything that
`evaluate --items-only` does before it writes, from reading the haystack to the digest of the items.
The figure is tokens of the prompts in items.parquet, per second of the process' own time, and so
one core's. The tables, then JSON in the last line.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import Any

import numpy as np
import torch
from common import machine, peak, run, start_peak
from corpus import Corpus
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from exactcpt.training.evaluation.config import TASKS
from exactcpt.training.evaluation.facts import ALTERNATIVES
from exactcpt.training.evaluation.haystack import Haystack, of_file
from exactcpt.training.evaluation.models import FolderModel
from exactcpt.training.evaluation.probe import item_table, probe_items
from exactcpt.training.evaluation.results import content_digest
from exactcpt.training.evaluation.scoring import answer_scores
from exactcpt.training.evaluation.vocabulary import Vocabulary, read_vocabulary

DATA = Path(__file__).resolve().parents[1] / "data"

RUNS = 7
PROMPT, ANSWER = 2048, 4
PROMPTS_AT_ONCE = 8  # where memory is measured
HAYSTACK_BYTES = 1_200_000
LENGTHS, ITEMS = (4096, 16384), 100
QUICK_LENGTHS, QUICK_ITEMS = (512,), 5

COST = 1.3  # of the prompt alone
SPEED = 5.0  # million tokens per second

Rows = NDArray[np.float64]
Inputs = tuple[list[NDArray[np.int32]], list[list[list[int]]]]


def tiny_model(folder: Path) -> FolderModel:
    config = LlamaConfig(
        vocab_size=4096,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=PROMPT + ANSWER,
        tie_word_embeddings=True,
    )
    logging.disable_progress_bar()
    LlamaForCausalLM(config).save_pretrained(folder)
    return FolderModel(folder, torch.device("cpu"), "fp32")


def inputs(prompts: int) -> Inputs:
    draw = np.random.default_rng(0)
    ids = [draw.integers(0, 4096, PROMPT).astype(np.int32) for _ in range(prompts)]
    return ids, draw.integers(0, 4096, (prompts, 1 + ALTERNATIVES, ANSWER)).tolist()


def prompt_alone(model: FolderModel, given: Inputs) -> None:
    model.read(torch.from_numpy(np.stack(given[0]).astype(np.int64)))


def side_by_side(model: FolderModel, given: Inputs) -> Rows:
    return answer_scores(model, *given)


def one_after_another(model: FolderModel, given: Inputs) -> Rows:
    return answer_scores(_Alone(model), *given)


def repeated_memory(model: FolderModel, given: Inputs) -> Rows:
    return answer_scores(_Repeating(model), *given)


class _Alone:
    """A model that reads on after the prompts in one way at a time."""

    def __init__(self, model: FolderModel) -> None:
        self._model = model
        self.vocabulary, self.device = model.vocabulary, model.device
        self.logits, self.read = model.logits, model.read

    def go_on(self, memory: DynamicCache, ids: Tensor) -> Tensor:
        ways = [self._model.go_on(memory, way) for way in ids.split(1, dim=1)]
        return torch.cat(ways, dim=1)


class _Repeating(_Alone):
    """A model that repeats the memory for every way to go on."""

    def go_on(self, memory: DynamicCache, ids: Tensor) -> Tensor:
        count, ways = ids.shape[:2]
        memory.batch_repeat_interleave(ways)
        return self._model.go_on(memory, ids.flatten(0, 1)[:, None]).view(
            count, ways, ANSWER - 1, -1
        )


WAYS: dict[str, Callable[[FolderModel, Inputs], Any]] = {
    "prompt alone": prompt_alone,
    "side by side": side_by_side,
    "one after another": one_after_another,
    "repeated memory": repeated_memory,
}


def times(model: FolderModel) -> dict[str, float]:
    """Seconds of each way."""
    given = inputs(1)
    found: dict[str, list[float]] = {name: [] for name in WAYS}
    for repetition in range(RUNS + 1):
        for name, way in WAYS.items():
            began = process_time()
            way(model, given)
            if repetition:  # the first one warms up
                found[name].append(process_time() - began)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def bytes_beyond(model: FolderModel, name: str) -> int:
    """Measures one way in this process."""
    WAYS[name](model, inputs(1))  # libraries load
    given = inputs(PROMPTS_AT_ONCE)
    before = start_peak("cpu")
    WAYS[name](model, given)
    return peak("cpu") - before


def items_per_second(path: Path, lengths: tuple[int, ...], count: int) -> dict[str, float]:
    """Million tokens per second, by task; the haystack is read for each anew."""
    found: dict[str, float] = {}
    for task in TASKS["probe"]:
        vocabulary = read_vocabulary(DATA / "tokenizer.json")
        began = process_time()
        haystack = of_file(path, vocabulary)
        tokens = sum(
            made(task, haystack, vocabulary, length=length, count=count) for length in lengths
        )
        found[task] = tokens / (process_time() - began) / 1e6
    return found


def made(task: str, haystack: Haystack, vocabulary: Vocabulary, *, length: int, count: int) -> int:
    """Makes the items of one task; returns how many tokens their prompts have."""
    items = list(
        probe_items(
            [task],
            haystack,
            vocabulary.piece,
            length=length,
            count=count,
            seed=0,
            ablation="replace",
        )
    )
    table = item_table(items, length)
    content_digest(table)
    return sum(item.prompt.n_tokens for item in items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few items: shows that it works")
    parser.add_argument("--memory-of", metavar="WAY", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with TemporaryDirectory(prefix="exactcpt-evaluation-") as folder:
        model = tiny_model(Path(folder) / "model")
        if options.memory_of:
            found = bytes_beyond(model, options.memory_of)
            sys.stdout.write(json.dumps({"bytes": found}) + "\n")
            return
        memory = {
            name: run([sys.executable, __file__, "--memory-of", name]).report["bytes"]
            for name in WAYS
        }
        seconds = times(model)
        haystack = Path(folder) / "haystack.jsonl"
        Corpus(DATA, HAYSTACK_BYTES).write(HAYSTACK_BYTES, [haystack])
        lengths, count = (QUICK_LENGTHS, QUICK_ITEMS) if options.quick else (LENGTHS, ITEMS)
        speeds = items_per_second(haystack, lengths, count)
    report(seconds, memory, speeds)


def report(seconds: dict[str, float], memory: dict[str, int], speeds: dict[str, float]) -> None:
    write = sys.stdout.write
    write(f"a prompt of {PROMPT:,} tokens, {1 + ALTERNATIVES} answers of {ANSWER}; memory: ")
    write(f"{PROMPTS_AT_ONCE} prompts\n")
    for name, taken in seconds.items():
        cost = taken / seconds["prompt alone"]
        write(f"  {name:<18}{taken * 1e3:>10,.1f} ms{cost:>8.3f} of the prompt alone")
        write(f"{memory[name] / 2**20:>10,.0f} MiB")
        write(f", at most {COST}\n" if name == "side by side" else "\n")
    write(f"items, million tokens per second; at least {SPEED}\n")
    for task, speed in speeds.items():
        write(f"  {task:<18}{speed:>10,.1f}\n")
    found = {
        "seconds": seconds,
        "bytes": memory,
        "items_mtokens_per_second": speeds,
        "machine": machine(("exactcpt", "torch", "transformers", "tokenizers")),
    }
    write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
