"""Tiny runs: shard sets written value by value, models of random weights, and what came of them."""

import hashlib
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from handmade import EOS, Corpus, Document, edit_manifest, write_shards, write_store
from tokenizers import Tokenizer

from exactcpt.training.config import TrainConfig
from exactcpt.training.run.checkpoint_files import complete_checkpoints
from exactcpt.training.run.log import read_log

DATA = Path(__file__).parents[1] / "data"
END = Tokenizer.from_file(str(DATA / "tokenizer.json")).id_to_token(EOS)
"""What ends documents, by the tokenizer of the sets and the models."""
LENGTHS = (40, 3, 1, 90, 64, 2, 17, 150, 9, 33, 65, 5, 128, 70, 21, 12)
VALIDATES = (33, 65)
STEPS = 6


def corpus(*, times: int = 1, **settings: Any) -> Corpus:
    """Documents shorter and longer than a window, two of them for validation."""
    documents = [
        Document(length, split="validation" if length in VALIDATES else "train")
        for _ in range(times)
        for length in LENGTHS
    ]
    half = len(documents) // 2
    return Corpus([("a", documents[:half]), ("b", documents[half:])], **settings)


def shard_set(folder: Path, *, times: int = 1, **settings: Any) -> Path:
    """A shard set of tens of windows; its ids are below 100, its tokenizer has more."""
    return set_of(folder, corpus(times=times, **settings))


def set_of(folder: Path, packed: Corpus) -> Path:
    """The shard set of a corpus, with the bundled tokenizer."""
    store = folder.with_name(f"{folder.name}.store")
    write_store(store, packed)
    write_shards(folder, packed, store)
    shutil.copy(DATA / "tokenizer.json", folder / "tokenizer.json")
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    edit_manifest(
        folder, lambda manifest: manifest["tokenizer"].update(sha256=digest, eos_token=END)
    )
    return folder


def model_folder(folder: Path, **changes: Any) -> Path:
    """A Hugging Face folder with a tiny model of random weights and the bundled tokenizer."""
    from models import tiny_config
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = tiny_config(**({"vocab_size": 4096} | changes))
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    shutil.copy(DATA / "tokenizer.json", folder / "tokenizer.json")
    return folder


def shards_and_model(folder: Path) -> Path:
    """A folder with a shard set and a model for it."""
    shard_set(folder / "shards")
    model_folder(folder / "model")
    return folder


def config(made: Path, out: Path, **settings: Any) -> TrainConfig:
    """Settings for a few small steps with the shards and the model of a folder."""
    chosen = {
        "shards": str(made / "shards"),
        "model": str(made / "model"),
        "out": str(out),
        "steps": STEPS,
        "global_batch": 4,
        "micro_batch": 2,
        "learning_rate": 1e-2,
        "warmup_steps": 2,
        "precision": "fp32",
        "device": "cpu",
        "eval_every": 0,
    }
    return TrainConfig(**(chosen | settings))


def steps_of(out: Path) -> list[dict[str, Any]]:
    """The log's steps without what depends on time."""
    timed = ("tokens_per_second", "mfu", "memory")
    steps = [r for r in read_log(out) if r["kind"] == "step"]
    return [{n: v for n, v in record.items() if n not in timed} for record in steps]


def weights_of(out: Path) -> dict[str, Any]:
    """All tensors of the newest checkpoint, weights and optimizer."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    path = complete_checkpoints(out)[-1]
    dcp_to_torch_save(path, out / "whole.pt")
    return flat(torch.load(out / "whole.pt", weights_only=False))


def flat(tree: Any, name: str = "") -> dict[str, Any]:
    if isinstance(tree, dict):
        return {k: v for key, each in tree.items() for k, v in flat(each, f"{name}.{key}").items()}
    return {name: tree}


def stop_after(step: int) -> Callable[[str], None]:
    """Sends SIGTERM to this process when a step is reported."""

    def say(line: str) -> None:
        if line.startswith(f"step {step} of"):
            os.kill(os.getpid(), signal.SIGTERM)

    return say
