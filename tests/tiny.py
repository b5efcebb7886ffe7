"""Tiny shard sets to train from: written value by value, with the bundled tokenizer."""

import hashlib
import shutil
from pathlib import Path
from typing import Any

from handmade import Corpus, Document, edit_manifest, write_shards, write_store

DATA = Path(__file__).parent / "data"
LENGTHS = (40, 3, 1, 90, 64, 2, 17, 150, 9, 33, 65, 5, 128, 70, 21, 12)
VALIDATES = (33, 65)


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
    store = folder.with_name(f"{folder.name}.store")
    packed = corpus(times=times, **settings)
    write_store(store, packed)
    write_shards(folder, packed, store)
    shutil.copy(DATA / "tokenizer.json", folder / "tokenizer.json")
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()
    edit_manifest(folder, lambda manifest: manifest["tokenizer"].update(sha256=digest))
    return folder


def model_folder(folder: Path, **changes: Any) -> Path:
    """A Hugging Face folder with a tiny model of random weights and the bundled tokenizer."""
    import torch
    from models import tiny_config
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    config = tiny_config(**({"vocab_size": 4096} | changes))
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    shutil.copy(DATA / "tokenizer.json", folder / "tokenizer.json")
    return folder
