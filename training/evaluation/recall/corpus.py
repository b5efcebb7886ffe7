"""A world with its corpora, as a folder.

world.json             the language, and the corpora
tokenizer/             tokenizer.json, with a word for every token; tokenizer_config.json
short.jsonl            documents of at most tau tokens
mixed.jsonl            some of the documents are longer
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers

from ....schemas.disk import folder_written_whole
from ....schemas.sizes import plural
from ..draws import Draws
from .config import WorldConfig
from .ideal import Ideal, ideal_loss
from .lengths import Lengths
from .stream import Stream
from .world import END, UNKNOWN, World, draw_world
from .world_file import TOKENIZER, WORLD, world_record

__all__ = ["Corpus", "documents", "write_world"]

SHORT, MIXED = "short", "mixed"


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus that has been written.

    Attributes:
        name: of the corpus, and of its file.
        lengths: how long its documents are.
        documents: how many it has.
        tokens: of all documents, with end tokens.
        ideal: what a model that knows the world would lose.
        xxh3_128: checksum of the file.
    """

    name: str
    lengths: Lengths
    documents: int
    tokens: int
    ideal: Ideal
    xxh3_128: str

    def summary(self) -> dict[str, Any]:
        """What there is to say of it, as JSON values."""
        tail = self.ideal.share_from(self.lengths.tau)
        return self.record() | {"tail_share": tail, "ideal_loss": self.ideal.loss}

    def record(self) -> dict[str, Any]:
        """What world.json says of it."""
        return {
            "path": f"{self.name}.jsonl",
            "documents": self.documents,
            "tokens": self.tokens,
            "long_share": self.lengths.long_share,
            "xxh3_128": self.xxh3_128,
        }


def write_world(out: Path, config: WorldConfig, say: Callable[[str], None]) -> list[Corpus]:
    """Writes a world and its corpora.

    Args:
        out: the folder; if it exists, it must be the same.
        config: the settings.
        say: takes a line for a person.

    Raises:
        UsageError: `out` is something else, or there is no such world.
    """
    lengths = {
        name: Lengths(tau=config.tau, window=config.window, long_share=share)
        for name, share in ((SHORT, 0.0), (MIXED, config.long_share))
    }
    world = draw_world(
        fillers=config.fillers, keys=config.keys, values=config.values, seed=config.seed
    )
    with folder_written_whole(out, same=True) as folder:
        _write_tokenizer(folder / TOKENIZER, world)
        corpora = [
            _write_corpus(folder, world, lengths[name], name, tokens, config.seed, say)
            for name, tokens in ((SHORT, config.short), (MIXED, config.mixed))
        ]
        record = world_record(world, config, [corpus.record() for corpus in corpora])
        (folder / WORLD).write_bytes(record)
    return corpora


def _write_tokenizer(folder: Path, world: World) -> None:
    ids = {word: i for i, word in enumerate(world.words)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    making: Any = pre_tokenizers
    tokenizer.pre_tokenizer = making.WhitespaceSplit()
    tokenizer.add_special_tokens([AddedToken(w, special=True) for w in (END, UNKNOWN)])
    folder.mkdir()
    (folder / "tokenizer.json").write_text(tokenizer.to_str(pretty=True) + "\n")
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "unk_token": UNKNOWN}
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n")


def _write_corpus(
    folder: Path,
    world: World,
    lengths: Lengths,
    name: str,
    wanted: int,
    seed: int,
    say: Callable[[str], None],
) -> Corpus:
    words = world.words
    count = tokens = 0
    digest = xxhash.xxh3_128()
    with (folder / f"{name}.jsonl").open("wb") as file:
        for ids in documents(world, lengths, tokens=wanted, seed=seed, corpus=name):
            text = " ".join(words[i] for i in ids)
            line = json.dumps({"text": text}).encode() + b"\n"
            file.write(line)
            digest.update(line)
            count += 1
            tokens += len(ids) + 1
    say(f"{name}: {plural(count, 'document')}, {plural(tokens, 'token')}")
    return Corpus(
        name=name,
        lengths=lengths,
        documents=count,
        tokens=tokens,
        ideal=ideal_loss(world, lengths),
        xxh3_128=digest.hexdigest(),
    )


def documents(
    world: World, lengths: Lengths, *, tokens: int, seed: int, corpus: str
) -> Iterator[list[int]]:
    """Yields documents as ids, without the end token.

    Document number n is the same however many there are.

    Args:
        world: the language.
        lengths: of the documents.
        tokens: of all documents, with end tokens; the last one may go beyond.
        seed: of the draws.
        corpus: its name, which tells its draws from those of others.
    """
    made = number = 0
    while made < tokens:
        draws = Draws(seed, corpus, number)
        wanted = lengths.draw(draws)
        stream = Stream(world, draws)
        ids: list[int] = []
        while len(ids) < wanted:
            ids += stream.slot()
        yield ids
        made += len(ids) + 1
        number += 1
