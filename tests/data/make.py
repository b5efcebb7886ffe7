"""Makes the corpus and the tokenizer beside this file. `python make.py FOLDER`; see README.md."""

import gzip
import json
import re
import string
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import xxhash
import zstandard
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = Path(__file__).parent
VOCABULARY = 4096
CRUDE = re.compile(r"fuck|\bshit|\brape", re.IGNORECASE)

Record = dict[str, str]


def novels(folder: Path) -> Iterator[Record]:
    """Northanger Abbey, from the lazy-load database of the R package `janeaustenr`."""
    name = "northangerabbey"
    yield record("novels", name, "\n".join(_r_strings(folder, name)))


def jargon(folder: Path) -> Iterator[Record]:
    """Entries of the Jargon File, from the dictionary files of the Debian package `dict-jargon`."""
    text = gzip.decompress((folder / "jargon.dict.dz").read_bytes())
    seen: set[int] = set()
    for line in (folder / "jargon.index").read_text("utf-8").splitlines():
        headword, offset, length = line.split("\t")
        start = _dict_number(offset)
        if headword.startswith("00database") or start in seen:
            continue
        seen.add(start)
        entry = text[start : start + _dict_number(length)].decode().strip()
        if not CRUDE.search(entry):
            yield record("jargon", headword, entry)


def poems(folder: Path) -> Iterator[Record]:
    """The Book of Odes and Three Hundred Tang Poems, from the npm package `chinese-poetry`."""
    for number, poem in enumerate(json.loads((folder / "shijing.json").read_text("utf-8"))):
        lines = [f"{poem['section']}・{poem['title']}", *poem["content"]]
        yield record("poems", f"shijing/{number}", "\n".join(lines))
    tang = json.loads((folder / "tangshisanbaishou.json").read_text("utf-8"))
    tang_poems = [poem for form in tang["content"] for poem in form["content"]]
    for number, poem in enumerate(tang_poems):
        lines = [poem["subchapter"] or poem["chapter"], poem["author"], *poem["paragraphs"]]
        yield record("poems", f"tang/{number}", "\n".join(lines))


def proposals(folder: Path) -> Iterator[Record]:
    """Ethereum Improvement Proposals in force, those that say that they are CC0."""
    data = (folder / "eips.jsonl.zst").read_bytes()
    text = zstandard.ZstdDecompressor().decompressobj().decompress(data).decode()
    for line in text.split("\n")[:-1]:
        source = json.loads(line)
        is_cc0 = "Copyright and related rights waived via [CC0]" in source["text"]
        if is_cc0 and re.search(r"^status: (Final|Living)$", source["text"], re.MULTILINE):
            yield record("proposals", Path(source["id"]).stem, source["text"])


def questions(entries: Iterable[Record]) -> Iterator[Record]:
    """Short entries of the Jargon File, each asked for by its headword."""
    for entry in entries:
        headword, _, rest = entry["text"].partition("\n")
        meaning = " ".join(rest.partition("\n\n")[2].split())
        if 80 <= len(meaning) <= 300:
            yield {
                "id": entry["id"].replace("jargon/", "questions/", 1),
                "question": f"What does {headword} mean?",
                "answer": meaning,
                "passage": "The Jargon File is a dictionary of what hackers say.",
            }


def record(source: str, name: str, text: str) -> Record:
    return {"id": f"{source}/{name}", "text": text, "source": source}


def sample(records: Iterable[Record], text_bytes: int) -> list[Record]:
    """About `text_bytes` of the records, chosen by the hash of their ids, in their own order."""
    chosen = list(records)
    total = 0
    kept: set[str] = set()
    for item in sorted(chosen, key=lambda item: xxhash.xxh3_64_hexdigest(item["id"].encode())):
        if total >= text_bytes:
            break
        kept.add(item["id"])
        total += len(item["text"].encode())
    return [item for item in chosen if item["id"] in kept]


def jsonl(records: Iterable[Record]) -> bytes:
    return "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in records).encode()


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """A byte-level BPE tokenizer of GPT-2's kind."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _r_strings(folder: Path, name: str) -> list[str]:
    """The character vector `name` of an R lazy-load database (`Rdata.rdx`, `Rdata.rdb`)."""
    # The index is a serialized R list of (offset, length) pairs, then their names. Reading R's
    # whole serialization would take a library: pairs and names are found by their type codes.
    index = gzip.decompress((folder / "Rdata.rdx").read_bytes())
    pairs = re.findall(rb"\x00\x00\x00\x0d\x00\x00\x00\x02(.{4})(.{4})", index, re.DOTALL)
    names = re.findall(rb"\x00\x04\x00\x09\x00\x00\x00.([a-z]+)", index)
    names = names[names.index(b"names") + 1 :]
    offset, length = (int.from_bytes(number) for number in pairs[names.index(name.encode())])

    chunk = (folder / "Rdata.rdb").read_bytes()[offset : offset + length]
    data = zlib.decompress(chunk[4:])
    (encoding_length,) = struct.unpack_from(">I", data, 14)
    at = 18 + encoding_length
    kind, count = struct.unpack_from(">II", data, at)
    if kind != 16:
        raise ValueError(f"{name} is no character vector: R type {kind}")
    at += 8
    strings: list[str] = []
    for _ in range(count):
        (length,) = struct.unpack_from(">I", data, at + 4)
        strings.append(data[at + 8 : at + 8 + length].decode())
        at += 8 + length
    return strings


def _dict_number(digits: str) -> int:
    """A number of a dictd index: base 64, most significant digit first."""
    alphabet = string.ascii_uppercase + string.ascii_lowercase + string.digits + "+/"
    number = 0
    for digit in digits:
        number = number * 64 + alphabet.index(digit)
    return number


def main(folder: Path) -> None:
    corpus = {
        "novels": list(novels(folder)),
        "jargon": sample(jargon(folder), 230_000),
        "poems": list(poems(folder)),
        "proposals": sample(proposals(folder), 300_000),
    }
    compressor = zstandard.ZstdCompressor(level=19)
    files = {
        "novels.jsonl.zst": compressor.compress(jsonl(corpus["novels"])),
        "jargon.jsonl.gz": gzip.compress(jsonl(corpus["jargon"]), mtime=0),
        "poems.jsonl": jsonl(corpus["poems"]),
        "proposals.jsonl": jsonl(corpus["proposals"]),
        "questions.jsonl": jsonl(questions(corpus["jargon"])),
    }
    for name, data in files.items():
        (HERE / name).write_bytes(data)
    texts = [item["text"] for records in corpus.values() for item in records]
    train_tokenizer(texts).save(str(HERE / "tokenizer.json"), pretty=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
