"""JSON Lines of any size out of a folder of corpora.

The documents of all corpora are shuffled, so every stretch of a file has the same mix, and a small
file is the beginning of a large one. They are repeated as often as it takes. From the second time
on, a running number stands before a document and after about every thousand characters, at the end
of a word, so that no cache meets the same text again.
"""

import hashlib
import io
import json
import random
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa

STRIDE = 1000  # characters between two numbers


class Corpus:
    """The corpora of a folder: *.jsonl, also .gz and .zst, with a field `text`; no others."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._files = sorted(folder.glob("*.jsonl*"))
        if not self._files:
            raise SystemExit(f"there is no .jsonl, .jsonl.gz or .jsonl.zst in {folder}")
        self._share = most_bytes // len(self._files)
        self._documents: list[tuple[Any, str]] = []

    @property
    def name(self) -> str:
        """Differs between corpora; names what is cached of this one."""
        files = [(file.name, file.stat().st_size) for file in self._files]
        return hashlib.sha256(repr((files, self._share)).encode()).hexdigest()[:8]

    def write(self, size: int, paths: Sequence[Path]) -> None:
        """Writes at least `size` bytes, spread evenly over the files, unless they are there."""
        if all(path.exists() for path in paths):
            return
        partial = [path.with_name(path.name + ".partial") for path in paths]
        files = [path.open("wb") for path in partial]
        written = [0] * len(files)
        for line in self._lines():
            smallest = written.index(min(written))
            written[smallest] += files[smallest].write(line)
            if sum(written) >= size:
                break
        for file, temporary, path in zip(files, partial, paths, strict=True):
            file.close()
            temporary.rename(path)

    def _lines(self) -> Iterator[bytes]:
        self._documents = self._documents or self._read()
        numbers = count(1)
        for repetition in count():
            order = random.Random(repetition).sample(self._documents, len(self._documents))
            for name, text in order:
                varied = vary(text, numbers) if repetition else text
                record = {"id": f"{name}/{repetition}", "text": varied}
                yield json.dumps(record, ensure_ascii=False).encode() + b"\n"

    def _read(self) -> list[tuple[Any, str]]:
        """Every file's documents: all of them, or up to an equal share of the largest input."""
        documents = []
        for file in self._files:
            read = 0
            with pa.input_stream(str(file), compression="detect") as stream:
                for number, line in enumerate(io.BufferedReader(stream)):
                    record = json.loads(line)
                    if "text" not in record:
                        break
                    documents.append((record.get("id", number), record["text"]))
                    read += len(line)
                    if read >= self._share:
                        break
        return documents


def vary(text: str, numbers: Iterator[int]) -> str:
    pieces = []
    start = 0
    while (space := text.find(" ", start + STRIDE)) >= 0:
        pieces.append(f"{next(numbers)} {text[start:space]}")
        start = space + 1
    pieces.append(f"{next(numbers)} {text[start:]}")
    return " ".join(pieces)
